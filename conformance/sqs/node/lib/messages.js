// Messages: what is sent comes so, batches, waiting, visibility. The SDK itself
// compares the digests of bodies, on sending and receiving.
'use strict'

const { createHash } = require('node:crypto')
const { assert, until, refused, bodies } = require('./scope')

const ATTRIBUTES = {
  text: { DataType: 'String', StringValue: 'a <&> "b" é世😀\n\ttab' },
  labelled: { DataType: 'String.mine', StringValue: 'x' },
  number: { DataType: 'Number', StringValue: '12345678901234567890.5' },
  float: { DataType: 'Number.float', StringValue: '1.50' },
  bytes: { DataType: 'Binary', BinaryValue: Uint8Array.from({ length: 256 }, (_, n) => n) },
  picture: { DataType: 'Binary.png', BinaryValue: Uint8Array.of(0x89, 0x50, 0x4e, 0x47) },
}

/** The digest of attributes as AWS documents it. */
function digest(attributes) {
  const hash = createHash('md5')
  const part = (value) => {
    const bytes = Buffer.from(value)
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.length)
    hash.update(length).update(bytes)
  }
  for (const name of Object.keys(attributes).sort()) {
    const { DataType, StringValue, BinaryValue } = attributes[name]
    part(name)
    part(DataType)
    hash.update(Buffer.of(BinaryValue ? 2 : 1))
    part(BinaryValue ?? StringValue)
  }
  return hash.digest('hex')
}

const plain = (attributes) =>
  Object.fromEntries(
    Object.entries(attributes).map(([name, a]) => [name, [a.DataType, a.StringValue, a.BinaryValue && Buffer.from(a.BinaryValue).toString('hex')]]),
  )

const checks = [
  {
    name: 'bodies come as they were sent, with the digests that the SDK compares',
    async run(scope) {
      const url = await scope.queue()
      for (const body of ['plain', 'a <&> "b" \'c\'', 'é世😀\n\t', '{"json": [1, "\\u0041"]}', ' ', 'x'.repeat(200_000)]) {
        const { MessageId } = await scope.send(url, body)
        const got = await scope.take(url)
        assert.deepEqual([got[0].Body, got[0].MessageId], [body, MessageId])
        await scope.settle(url, got)
      }
    },
  },
  {
    name: 'attributes of every type come as they were sent, with their digest',
    async run(scope) {
      const url = await scope.queue()
      const sent = await scope.send(url, 'x', { MessageAttributes: ATTRIBUTES })
      const [got] = await scope.take(url, 1, { MessageAttributeNames: ['All'] })
      assert.deepEqual(plain(got.MessageAttributes), plain(ATTRIBUTES))
      assert.deepEqual([sent.MD5OfMessageAttributes, got.MD5OfMessageAttributes], [digest(ATTRIBUTES), digest(ATTRIBUTES)])
    },
  },
  {
    // ElasticMQ knows no prefixes.
    name: 'only the attributes come that are asked for',
    peer: 'millstream',
    async run(scope) {
      const url = await scope.queue({ VisibilityTimeout: '0' })
      const text = (StringValue) => ({ DataType: 'String', StringValue })
      await scope.send(url, 'x', { MessageAttributes: { 'app.one': text('1'), 'app.two': text('2'), other: text('3') } })
      for (const [asked, come] of [[[], []], [['other'], ['other']], [['app.*'], ['app.one', 'app.two']], [['.*'], ['app.one', 'app.two', 'other']]]) {
        const [got] = await scope.take(url, 1, { MessageAttributeNames: asked })
        assert.deepEqual(Object.keys(got.MessageAttributes ?? {}).sort(), come)
      }
      const [got] = await scope.take(url, 1, { MessageSystemAttributeNames: ['SentTimestamp', 'ApproximateReceiveCount'] })
      assert.deepEqual(Object.keys(got.Attributes).sort(), ['ApproximateReceiveCount', 'SentTimestamp'])
    },
  },
  {
    // ElasticMQ: InvalidAttributeValue for both.
    name: 'of a batch the entries fail one by one',
    peer: 'millstream',
    async run(scope) {
      const url = await scope.queue()
      const Entries = [
        { Id: 'good', MessageBody: 'good' },
        { Id: 'late', MessageBody: 'late', DelaySeconds: 901 },
        { Id: 'bad', MessageBody: 'a\u0000b' },
      ]
      const { Successful, Failed } = await scope.call('SendMessageBatch', { QueueUrl: url, Entries })
      assert.deepEqual(Successful.map(({ Id }) => Id), ['good'])
      assert.deepEqual(Failed.map(({ Id, Code, SenderFault }) => [Id, Code, SenderFault]), [
        ['late', 'InvalidParameterValue', true],
        ['bad', 'InvalidMessageContents', true],
      ])
      const [{ ReceiptHandle }] = await scope.take(url)
      const deleted = await scope.call('DeleteMessageBatch', {
        QueueUrl: url,
        Entries: [{ Id: 'a', ReceiptHandle }, { Id: 'b', ReceiptHandle: 'nobody' }],
      })
      assert.deepEqual(deleted.Successful.map(({ Id }) => Id), ['a'])
      assert.deepEqual(deleted.Failed.map(({ Id, Code }) => [Id, Code]), [['b', 'ReceiptHandleIsInvalid']])
    },
  },
  {
    name: 'a batch is sent, put off and deleted as a whole',
    async run(scope) {
      const url = await scope.queue()
      const Entries = Array.from({ length: 10 }, (_, n) => ({ Id: `${n}`, MessageBody: `${n}`, MessageAttributes: ATTRIBUTES }))
      const sent = await scope.call('SendMessageBatch', { QueueUrl: url, Entries })
      assert.equal(sent.Successful.length, 10)
      const got = await scope.take(url, 10)
      const handles = got.map(({ ReceiptHandle }, n) => ({ Id: `${n}`, ReceiptHandle }))
      const off = handles.map((entry) => ({ ...entry, VisibilityTimeout: 60 }))
      assert.equal((await scope.call('ChangeMessageVisibilityBatch', { QueueUrl: url, Entries: off })).Successful.length, 10)
      assert.deepEqual(await scope.counts(url), [0, 10, 0])
      assert.equal((await scope.call('DeleteMessageBatch', { QueueUrl: url, Entries: handles })).Successful.length, 10)
      assert.deepEqual(await scope.counts(url), [0, 0, 0])
    },
  },
  {
    // ElasticMQ takes an empty batch.
    name: 'batches that cannot be are errors of their own classes',
    peer: 'millstream',
    async run(scope) {
      const QueueUrl = await scope.queue()
      const entries = (n, body = 'x') => Array.from({ length: n }, (_, i) => ({ Id: `${i}`, MessageBody: body }))
      const batch = (Entries) => scope.call('SendMessageBatch', { QueueUrl, Entries })
      await refused('EmptyBatchRequest', batch([]))
      await refused('TooManyEntriesInBatchRequest', batch(entries(11)))
      await refused('BatchEntryIdsNotDistinct', batch([...entries(1), ...entries(1)]))
      await refused('InvalidBatchEntryId', batch([{ Id: 'a b', MessageBody: 'x' }]))
      await refused('BatchRequestTooLong', batch(entries(10, 'x'.repeat(110_000))))
      assert.deepEqual(await scope.counts(QueueUrl), [0, 0, 0])
    },
  },
  {
    name: 'a waiting receive gets what is sent meanwhile',
    async run(scope) {
      const url = await scope.queue()
      const [got] = await Promise.all([scope.take(url, 3, { WaitTimeSeconds: 10 }), ...['a', 'b', 'c'].map((body) => scope.send(url, body))])
      assert.deepEqual(bodies(got).sort(), ['a', 'b', 'c'])
    },
  },
  {
    name: 'a receive that waits in vain gives nothing',
    async run(scope) {
      assert.deepEqual(await scope.receive(await scope.queue(), { WaitTimeSeconds: 1 }), [])
    },
  },
  {
    name: 'a receive given up by its client takes nothing along',
    async run(scope) {
      const url = await scope.queue({ VisibilityTimeout: '1' })
      const client = scope.connect({ maxAttempts: 1 })
      const { ReceiveMessageCommand } = require('@aws-sdk/client-sqs')
      const abort = new AbortController()
      const waiting = client.send(new ReceiveMessageCommand({ QueueUrl: url, WaitTimeSeconds: 15 }), { abortSignal: abort.signal })
      abort.abort()
      await refused('AbortError', waiting)
      await scope.send(url, 'x')
      assert.deepEqual(bodies(await scope.take(url)), ['x'])
    },
  },
  {
    name: 'a message comes again when its time is over, and counts its receives',
    async run(scope) {
      const url = await scope.queue({ VisibilityTimeout: '1' })
      await scope.send(url, 'x')
      for (const times of ['1', '2']) {
        const [got] = await scope.take(url, 1, { AttributeNames: ['All'] })
        assert.equal(got.Attributes.ApproximateReceiveCount, times)
      }
    },
  },
  {
    name: 'visibility is lengthened and ended by the handle',
    async run(scope) {
      const url = await scope.queue({ VisibilityTimeout: '1' })
      await scope.send(url, 'x')
      const [{ ReceiptHandle }] = await scope.take(url)
      await scope.call('ChangeMessageVisibility', { QueueUrl: url, ReceiptHandle, VisibilityTimeout: 60 })
      assert.deepEqual(await scope.receive(url, { WaitTimeSeconds: 2 }), [])
      await scope.call('ChangeMessageVisibility', { QueueUrl: url, ReceiptHandle, VisibilityTimeout: 0 })
      assert.deepEqual(bodies(await scope.take(url)), ['x'])
    },
  },
  {
    name: 'a handle of a message that nobody took since still deletes it',
    async run(scope) {
      const url = await scope.queue({ VisibilityTimeout: '1' })
      await scope.send(url, 'x')
      const got = await scope.take(url)
      await until('its time is over', async () => (await scope.counts(url))[0] === 1)
      await scope.settle(url, got)
      assert.deepEqual(await scope.counts(url), [0, 0, 0])
    },
  },
  {
    // ElasticMQ: ReceiptHandleIsInvalid.
    name: 'a handle from before another receive deletes nothing',
    peer: 'millstream',
    async run(scope) {
      const url = await scope.queue({ VisibilityTimeout: '1' })
      await scope.send(url, 'x')
      const old = await scope.take(url)
      const [{ ReceiptHandle }] = await scope.take(url, 1, { VisibilityTimeout: 60 })
      await scope.settle(url, old)
      assert.deepEqual(await scope.counts(url), [0, 1, 0])
      await scope.call('DeleteMessage', { QueueUrl: url, ReceiptHandle })
      assert.deepEqual(await scope.counts(url), [0, 0, 0])
    },
  },
  {
    // ElasticMQ: InvalidAttributeValue for the content.
    name: 'what cannot be is an error of its own class',
    peer: 'millstream',
    async run(scope) {
      const QueueUrl = await scope.queue()
      await scope.send(QueueUrl, 'x')
      const [{ ReceiptHandle }] = await scope.take(QueueUrl)
      await refused('ReceiptHandleIsInvalid', scope.call('DeleteMessage', { QueueUrl, ReceiptHandle: 'nobody' }))
      await refused('InvalidMessageContents', scope.send(QueueUrl, 'a\u0000b'))
      await refused('InvalidAttributeName', scope.attributes(QueueUrl, 'Colour'))
      await refused('InvalidAttributeValue', scope.call('SetQueueAttributes', { QueueUrl, Attributes: { DelaySeconds: '901' } }))
      const change = (VisibilityTimeout) => scope.call('ChangeMessageVisibility', { QueueUrl, ReceiptHandle, VisibilityTimeout })
      await change(0)
      await refused('MessageNotInflight', change(1))
      await scope.call('DeleteMessage', { QueueUrl, ReceiptHandle })
      await refused('InvalidParameterValue', change(1))
    },
  },
]

module.exports = { checks }
