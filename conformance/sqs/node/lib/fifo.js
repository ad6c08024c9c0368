// FIFO queues: groups, deduplication, handles.
'use strict'

const { assert, unique, until, refused, bodies } = require('./scope')

const sendIn = (scope, url, body, MessageGroupId = 'g', MessageDeduplicationId = unique('d')) =>
  scope.send(url, body, { MessageGroupId, MessageDeduplicationId })

const checks = [
  {
    name: 'a group comes in its order, and waits for what is in flight',
    async run(scope) {
      const url = await scope.fifo()
      for (const body of ['0', '1', '2']) await sendIn(scope, url, body)
      const got = await scope.take(url)
      assert.deepEqual(bodies(got), ['0'])
      await sendIn(scope, url, 'other', 'h')
      assert.deepEqual(bodies(await scope.receive(url, { MaxNumberOfMessages: 10 })), ['other'])
      await scope.settle(url, got)
      assert.deepEqual(bodies(await scope.take(url, 2)), ['1', '2'])
    },
  },
  {
    name: 'a deduplication id is taken once',
    async run(scope) {
      const url = await scope.fifo()
      const one = await sendIn(scope, url, 'first', 'g', 'same')
      const two = await sendIn(scope, url, 'second', 'g', 'same')
      assert.deepEqual([two.MessageId, two.SequenceNumber], [one.MessageId, one.SequenceNumber])
      assert.deepEqual(bodies(await scope.take(url)), ['first'])
      assert.deepEqual(await scope.counts(url), [0, 1, 0])
    },
  },
  {
    name: 'the content is the id where the queue says so',
    async run(scope) {
      const url = await scope.fifo({ ContentBasedDeduplication: 'true' })
      const Entries = ['a', 'b', 'a'].map((MessageBody, n) => ({ Id: `${n}`, MessageBody, MessageGroupId: 'g' }))
      const { Successful } = await scope.call('SendMessageBatch', { QueueUrl: url, Entries })
      assert.equal(Successful.length, 3)
      assert.deepEqual(bodies(await scope.take(url, 2)), ['a', 'b'])
      assert.deepEqual(await scope.counts(url), [0, 2, 0])
    },
  },
  {
    // ElasticMQ knows ids by the queue alone.
    name: 'ids may be each group’s own',
    peer: 'millstream',
    async run(scope) {
      const url = await scope.fifo({ DeduplicationScope: 'messageGroup', FifoThroughputLimit: 'perMessageGroupId' })
      for (const group of ['a', 'b', 'a']) await sendIn(scope, url, group, group, 'same')
      assert.deepEqual(bodies(await scope.take(url, 2)).sort(), ['a', 'b'])
      assert.deepEqual(await scope.counts(url), [0, 2, 0])
    },
  },
  {
    // ElasticMQ takes it.
    name: 'a handle whose time is over is refused',
    peer: 'millstream',
    async run(scope) {
      const QueueUrl = await scope.fifo({ VisibilityTimeout: '1' })
      await sendIn(scope, QueueUrl, 'x')
      const [{ ReceiptHandle }] = await scope.take(QueueUrl)
      await until('its time is over', async () => (await scope.counts(QueueUrl))[0] === 1)
      const error = await refused('InvalidParameterValue', scope.call('DeleteMessage', { QueueUrl, ReceiptHandle }))
      assert.match(error.message, /The receipt handle has expired/)
    },
  },
  {
    // ElasticMQ: InvalidAttributeName for the name.
    name: 'what a FIFO queue needs and what it has not is said',
    peer: 'millstream',
    async run(scope) {
      const url = await scope.fifo()
      await refused('MissingParameter', scope.send(url, 'x', { MessageDeduplicationId: 'd' }))
      await refused('InvalidParameterValue', scope.send(url, 'x', { MessageGroupId: 'g' }))
      await refused('InvalidParameterValue', scope.send(url, 'x', { MessageGroupId: 'g', MessageDeduplicationId: 'd', DelaySeconds: 1 }))
      await refused('InvalidParameterValue', scope.queue({ FifoQueue: 'true' }))
    },
  },
]

module.exports = { checks }
