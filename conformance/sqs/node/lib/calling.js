// How the SDK calls: where to, with which digests compared, again after which answers.
'use strict'

const { assert, unique, refused, bodies } = require('./scope')

const FAULT = { status: 500, body: JSON.stringify({ __type: 'com.amazonaws.sqs#InternalError', message: 'told by the check' }) }
const THROTTLED = { status: 400, body: JSON.stringify({ __type: 'com.amazonaws.sqs#RequestThrottled', message: 'told by the check' }) }

const checks = [
  {
    // Without an endpoint of its own the SDK calls the host of the URL, not that of the region.
    name: 'a URL that the broker gave is all that a client needs',
    async run(scope) {
      const url = await scope.queue()
      const warnings = []
      const quiet = () => {}
      const logger = { trace: quiet, debug: quiet, info: quiet, error: quiet, warn: (text) => warnings.push(text) }
      const client = scope.connect({ endpoint: undefined, maxAttempts: 1, logger })
      await scope.call('SendMessage', { QueueUrl: url, MessageBody: 'x' }, client)
      assert.match(String(warnings[0]), /using QueueUrl host as endpoint/)
      assert.deepEqual(bodies(await scope.take(url)), ['x'])
    },
  },
  {
    // ElasticMQ gives the host it was told of.
    name: 'a URL names the host by which the broker was called',
    peer: 'millstream',
    async run(scope) {
      const front = await scope.front(() => undefined)
      const client = scope.connect({ endpoint: `http://${front.address}` })
      const QueueName = unique('host')
      const { QueueUrl } = await scope.call('CreateQueue', { QueueName }, client)
      scope.queues.push(QueueUrl.replace(front.address, scope.address))
      assert.equal(new URL(QueueUrl).host, front.address)
      await scope.call('SendMessage', { QueueUrl, MessageBody: 'x' }, client)
      assert.equal(front.requests(), 2)
    },
  },
  {
    name: 'a call is repeated after a fault and a throttling, and its message is there once',
    async run(scope) {
      const url = await scope.fifo()
      const front = await scope.front((number) => [, FAULT, THROTTLED][number])
      const client = scope.connect({ endpoint: `http://${front.address}`, useQueueUrlAsEndpoint: false, maxAttempts: 4 })
      const input = { QueueUrl: url, MessageBody: 'x', MessageGroupId: 'g', MessageDeduplicationId: 'd' }
      const { MessageId, $metadata } = await scope.call('SendMessage', input, client)
      assert.deepEqual([$metadata.attempts, front.requests()], [3, 3])
      assert.deepEqual((await scope.take(url)).map((got) => got.MessageId), [MessageId])
      assert.deepEqual(await scope.counts(url), [0, 1, 0])
    },
  },
  {
    name: 'a body changed on its way is found out by its digest',
    async run(scope) {
      const url = await scope.queue()
      await scope.send(url, 'honest')
      const front = await scope.front((_, body) => ({ status: 200, body: body.toString().replace('honest', 'forged') }))
      const client = scope.connect({ endpoint: `http://${front.address}`, useQueueUrlAsEndpoint: false, maxAttempts: 1 })
      await assert.rejects(scope.call('ReceiveMessage', { QueueUrl: url, WaitTimeSeconds: 5 }, client), /Invalid MD5 checksum/)
    },
  },
  {
    // ElasticMQ gives no request id.
    name: 'an error has its class, the code of the Query form, status and request id',
    peer: 'millstream',
    async run(scope) {
      const error = await refused('QueueDoesNotExist', scope.call('GetQueueUrl', { QueueName: unique('none') }))
      const { httpStatusCode, requestId } = error.$metadata
      assert.equal(httpStatusCode, 400)
      assert.ok(requestId)
      assert.deepEqual([error.Code ?? error.Error?.Code, error.$fault], ['AWS.SimpleQueueService.NonExistentQueue', 'client'])
    },
  },
]

module.exports = { checks }
