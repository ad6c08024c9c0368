// Queues: making, finding, listing in pages, tags, dead-letter sources.
'use strict'

const { sqs, assert, unique, until, refused, bodies } = require('./scope')

const redrive = (deadLetterTargetArn, maxReceiveCount) => ({
  RedrivePolicy: JSON.stringify({ deadLetterTargetArn, maxReceiveCount }),
})

/** Everything that a paginator gives, and the sizes of its pages. */
async function paged(pages, field) {
  const [all, sizes] = [[], []]
  for await (const page of pages) {
    all.push(...(page[field] ?? []))
    sizes.push((page[field] ?? []).length)
  }
  return { all, sizes }
}

const checks = [
  {
    name: 'a queue is made, found by its name, described and deleted',
    async run(scope) {
      const name = unique('made')
      const url = await scope.queue({ VisibilityTimeout: '7' }, name)
      assert.equal((await scope.call('GetQueueUrl', { QueueName: name })).QueueUrl, url)
      assert.equal((await scope.attributes(url)).VisibilityTimeout, '7')
      await scope.call('SetQueueAttributes', { QueueUrl: url, Attributes: { VisibilityTimeout: '8', DelaySeconds: '1' } })
      const { VisibilityTimeout, DelaySeconds } = await scope.attributes(url)
      assert.deepEqual([VisibilityTimeout, DelaySeconds], ['8', '1'])
      await scope.call('DeleteQueue', { QueueUrl: url })
      await refused('QueueDoesNotExist', scope.call('GetQueueUrl', { QueueName: name }))
    },
  },
  {
    name: 'a URL of any host and account finds the queue by its last part',
    async run(scope) {
      const url = await scope.queue()
      const client = scope.connect({ useQueueUrlAsEndpoint: false, maxAttempts: 1 })
      const other = `https://sqs.eu-west-1.amazonaws.com/123456789012/${url.split('/').at(-1)}`
      await scope.call('SendMessage', { QueueUrl: other, MessageBody: 'x' }, client)
      assert.deepEqual(bodies(await scope.take(url)), ['x'])
    },
  },
  {
    name: 'a queue with other attributes exists already',
    async run(scope) {
      const name = unique('again')
      const url = await scope.queue({ VisibilityTimeout: '40' }, name)
      assert.equal(await scope.queue({ VisibilityTimeout: '40' }, name), url)
      await refused('QueueNameExists', scope.queue({ VisibilityTimeout: '41' }, name))
    },
  },
  {
    // ElasticMQ gives all in one page.
    name: 'the paginator of queues gives each once',
    peer: 'millstream',
    async run(scope) {
      const prefix = unique('page')
      const made = []
      for (let n = 0; n < 5; n += 1) made.push(await scope.queue({}, `${prefix}-${n}`))
      const pages = sqs.paginateListQueues({ client: scope.client, pageSize: 2 }, { QueueNamePrefix: prefix })
      assert.deepEqual(await paged(pages, 'QueueUrls'), { all: made, sizes: [2, 2, 1] })
    },
  },
  {
    // ElasticMQ gives all in one page.
    name: 'the paginator of dead-letter sources gives each once',
    peer: 'millstream',
    async run(scope) {
      const dead = await scope.queue()
      const arn = await scope.arn(dead)
      const sources = []
      for (let n = 0; n < 3; n += 1) sources.push(await scope.queue(redrive(arn, 3)))
      const pages = sqs.paginateListDeadLetterSourceQueues({ client: scope.client, pageSize: 2 }, { QueueUrl: dead })
      const { all, sizes } = await paged(pages, 'queueUrls')
      assert.deepEqual([all.sort(), sizes], [sources.sort(), [2, 1]])
    },
  },
  {
    // ElasticMQ forgets tasks that are over.
    name: 'what was received too often goes to the dead letters, and back by a task',
    peer: 'millstream',
    async run(scope) {
      const dead = await scope.queue()
      const url = await scope.queue(redrive(await scope.arn(dead), 1))
      const { MessageId } = await scope.send(url, 'poison', { MessageAttributes: { a: { DataType: 'String', StringValue: 'kept' } } })
      const [{ ReceiptHandle }] = await scope.take(url)
      await scope.call('ChangeMessageVisibility', { QueueUrl: url, ReceiptHandle, VisibilityTimeout: 0 })
      await until('it is dead', async () => (await scope.receive(url)).length === 0 && (await scope.counts(dead))[0] === 1)
      const { TaskHandle } = await scope.call('StartMessageMoveTask', { SourceArn: await scope.arn(dead) })
      assert.ok(TaskHandle)
      const [back] = await scope.take(url, 1, { MessageAttributeNames: ['All'] })
      assert.deepEqual([back.MessageId, back.Body, back.MessageAttributes.a.StringValue], [MessageId, 'poison', 'kept'])
      await until('the task is over', async () => {
        const { Results } = await scope.call('ListMessageMoveTasks', { SourceArn: await scope.arn(dead) })
        return Results[0].Status === 'COMPLETED' && Results[0].ApproximateNumberOfMessagesMoved === 1
      })
      await refused('InvalidParameterValue', scope.call('CancelMessageMoveTask', { TaskHandle }))
      await refused('ResourceNotFoundException', scope.call('CancelMessageMoveTask', { TaskHandle: 'nobody' }))
    },
  },
  {
    name: 'tags are set, listed and removed',
    async run(scope) {
      const QueueUrl = await scope.queue()
      await scope.call('TagQueue', { QueueUrl, Tags: { team: 'red', env: 'test' } })
      await scope.call('UntagQueue', { QueueUrl, TagKeys: ['env', 'absent'] })
      assert.deepEqual((await scope.call('ListQueueTags', { QueueUrl })).Tags, { team: 'red' })
    },
  },
  {
    // ElasticMQ lets a second follow at once.
    name: 'a purge leaves nothing, and a second has to wait',
    peer: 'millstream',
    async run(scope) {
      const QueueUrl = await scope.queue()
      for (let n = 0; n < 3; n += 1) await scope.send(QueueUrl, `${n}`)
      await scope.take(QueueUrl)
      await scope.call('PurgeQueue', { QueueUrl })
      assert.deepEqual(await scope.counts(QueueUrl), [0, 0, 0])
      const error = await refused('PurgeQueueInProgress', scope.call('PurgeQueue', { QueueUrl }))
      assert.equal(error.$metadata.httpStatusCode, 403)
    },
  },
]

module.exports = { checks }
