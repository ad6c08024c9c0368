// Publishing: confirms, nacks, returns, headers, errors.
'use strict'

const { unique, bodies, get, event, refused, assert } = require('./scope')

/** Publishes and gives the error of its confirm, or null. */
const confirmed = (channel, queue, body, options) =>
  new Promise((resolve) => channel.sendToQueue(queue, Buffer.from(body), options, (error) => resolve(error ?? null)))

const checks = [
  {
    name: 'waitForConfirms comes when all are there',
    async run(scope) {
      const channel = await scope.channel('createConfirmChannel')
      const queue = await scope.queue(channel, 'confirms')
      for (let n = 0; n < 1_000; n += 1) channel.sendToQueue(queue, Buffer.from(`${n}`), { persistent: true })
      await channel.waitForConfirms()
      assert.equal((await channel.checkQueue(queue)).messageCount, 1_000)
    },
  },
  {
    name: 'a full queue’s nack is the callback’s error',
    async run(scope) {
      const channel = await scope.channel('createConfirmChannel')
      const queue = await scope.queue(channel, 'full', { maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } })
      assert.equal(await confirmed(channel, queue, 'first'), null)
      assert.match((await confirmed(channel, queue, 'second')).message, /nacked/)
      assert.deepEqual(await bodies(channel, queue, 1), ['first'])
    },
  },
  {
    name: 'a mandatory message comes back before its confirm',
    async run(scope) {
      const channel = await scope.channel('createConfirmChannel')
      const seen = []
      channel.on('return', (message) => seen.push(message))
      const key = unique('nowhere')
      assert.equal(await confirmed(channel, key, 'x', { mandatory: true, messageId: 'm' }), null)
      assert.equal(seen.length, 1)
      const { fields, properties } = seen[0]
      assert.deepEqual([fields.replyCode, fields.replyText, fields.routingKey, properties.messageId], [312, 'NO_ROUTE', key, 'm'])
    },
  },
  {
    name: 'headers of all kinds come back',
    async run(scope) {
      const channel = await scope.channel()
      const queue = await scope.queue(channel, 'headers')
      const headers = {
        text: 'x', yes: true, no: false, small: 5, large: 2 ** 40, negative: -70_000, half: 0.5, nothing: null, list: [1, 'two', { three: 3 }],
        table: { inner: { most: 'deep' } }, bytes: Buffer.from([0, 255]), when: { '!': 'timestamp', value: 1_700_000_000 },
      }
      channel.sendToQueue(queue, Buffer.from('x'), { headers, contentType: 'text/plain', type: 't', appId: 'a', timestamp: 1_700_000_001, CC: ['nobody'] })
      const { properties } = await get(channel, queue)
      assert.deepEqual({ ...properties.headers, CC: undefined }, { ...headers, CC: undefined })
      assert.deepEqual([properties.contentType, properties.type, properties.appId, properties.timestamp], ['text/plain', 't', 'a', 1_700_000_001])
    },
  },
  {
    name: 'CC and BCC go to their queues, and BCC is taken off',
    async run(scope) {
      const channel = await scope.channel()
      const [to, cc, bcc] = [await scope.queue(channel, 'to'), await scope.queue(channel, 'cc'), await scope.queue(channel, 'bcc')]
      channel.sendToQueue(to, Buffer.from('x'), { CC: [cc], BCC: [bcc] })
      for (const queue of [to, cc, bcc]) {
        const { properties } = await get(channel, queue)
        assert.deepEqual([properties.headers.CC, properties.headers.BCC], [[cc], undefined])
      }
    },
  },
  {
    name: 'large and empty bodies come back whole',
    async run(scope) {
      const channel = await scope.channel()
      const queue = await scope.queue(channel, 'sizes')
      for (const size of [0, 1, 4_088, 131_072, 5_000_000]) {
        channel.sendToQueue(queue, Buffer.alloc(size, size % 251))
        const message = await get(channel, queue)
        assert(message.content.equals(Buffer.alloc(size, size % 251)), `a body of ${size} bytes, not ${message.content.length}`)
        channel.ack(message)
      }
    },
  },
  {
    name: 'publishing to an exchange that is not there closes the channel, and only that',
    async run(scope) {
      const connection = await scope.connect()
      const channel = await connection.createChannel()
      const failed = event(channel, 'error')
      channel.publish(unique('absent'), 'k', Buffer.from('x'))
      assert.equal((await failed).code, 404)
      const other = await connection.createChannel()
      await other.assertQueue('', { exclusive: true })
    },
  },
  {
    name: 'a consumer tag that is taken closes the connection',
    async run(scope) {
      const connection = await scope.connect()
      const channel = await connection.createChannel()
      channel.on('error', () => {})
      const failed = event(connection, 'error')
      const { queue } = await channel.assertQueue('', { exclusive: true })
      await channel.consume(queue, () => {}, { consumerTag: 'taken' })
      await assert.rejects(channel.consume(queue, () => {}, { consumerTag: 'taken' }))
      assert.equal((await failed).code, 530)
    },
  },
  {
    name: 'a wrong expiration is refused',
    async run(scope) {
      const channel = await scope.channel()
      const queue = await scope.queue(channel, 'expiration')
      const failed = event(channel, 'error')
      channel.sendToQueue(queue, Buffer.from('x'), { expiration: 'soon' })
      assert.equal((await failed).code, 406)
      await refused(406, (await scope.channel()).assertQueue(unique('ttl'), { messageTtl: -1 }))
    },
  },
]

module.exports = { checks }
