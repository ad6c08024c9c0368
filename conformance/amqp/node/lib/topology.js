// Queues and exchanges: asserting, checking, binding, deleting.
'use strict'

const { unique, bodies, get, event, refused, until, assert } = require('./scope')

const checks = [
  {
    name: 'asserting a queue otherwise is refused with 406, and the connection goes on',
    async run(scope) {
      const connection = await scope.connect()
      const channel = await connection.createChannel()
      const queue = await scope.queue(channel, 'assert', { maxLength: 5 })
      const failed = event(channel, 'error')
      await refused(406, channel.assertQueue(queue, { durable: true, maxLength: 6 }))
      assert.match((await failed).message, /inequivalent arg 'x-max-length'/)
      const other = await connection.createChannel()
      assert.deepEqual(await other.assertQueue(queue, { durable: true, maxLength: 5 }), { queue, messageCount: 0, consumerCount: 0 })
    },
  },
  {
    name: 'checkQueue and checkExchange of what is not there close the channel with 404',
    async run(scope) {
      const first = await scope.channel()
      const closed = event(first, 'close')
      await refused(404, first.checkQueue(unique('absent')))
      await closed
      const second = await scope.channel()
      await refused(404, second.checkExchange(unique('absent')))
    },
  },
  {
    name: 'a server names a queue, and an exclusive one is locked for others',
    async run(scope) {
      const channel = await scope.channel()
      const { queue } = await channel.assertQueue('', { exclusive: true })
      assert.match(queue, /^amq\.gen-/)
      const other = await scope.channel()
      await refused(405, other.consume(queue, () => {}))
    },
  },
  {
    name: 'exchanges of all types route, and one bound to another passes on',
    async run(scope) {
      const channel = await scope.channel()
      const queue = await scope.queue(channel, 'routes')
      const [direct, topic, fanout] = [unique('direct'), unique('topic'), unique('fanout')]
      await channel.assertExchange(direct, 'direct', { autoDelete: true })
      await channel.assertExchange(topic, 'topic', { autoDelete: true })
      await channel.assertExchange(fanout, 'fanout', { autoDelete: true })
      await channel.bindQueue(queue, direct, 'k')
      await channel.bindQueue(queue, topic, 'a.#')
      await channel.bindQueue(queue, topic, 'kept')
      await channel.bindExchange(topic, fanout, '')
      channel.publish(direct, 'other', Buffer.from('no'))
      channel.publish(direct, 'k', Buffer.from('direct'))
      channel.publish(topic, 'a', Buffer.from('topic'))
      channel.publish(fanout, 'a.b', Buffer.from('both'))
      assert.deepEqual(await bodies(channel, queue, 3), ['direct', 'topic', 'both'])
      await channel.unbindQueue(queue, topic, 'a.#')
      channel.publish(fanout, 'a.b', Buffer.from('no more'))
      assert.equal(await channel.get(queue), false)
    },
  },
  {
    name: 'what is routed nowhere goes to the alternate exchange',
    async run(scope) {
      const channel = await scope.channel()
      const queue = await scope.queue(channel, 'alternate')
      const [main, alternate] = [unique('main'), unique('alternate')]
      await channel.assertExchange(alternate, 'fanout', { autoDelete: true })
      await channel.assertExchange(main, 'direct', { autoDelete: false, alternateExchange: alternate })
      await channel.bindQueue(queue, alternate, '')
      channel.publish(main, 'nobody', Buffer.from('x'))
      const message = await get(channel, queue)
      assert.equal(message.fields.exchange, main)
      await channel.deleteExchange(main)
    },
  },
  {
    name: 'purging and deleting tell how many messages went',
    async run(scope) {
      const channel = await scope.channel('createConfirmChannel')
      const queue = await scope.queue(channel, 'purge')
      const fill = async () => {
        for (let n = 0; n < 3; n += 1) channel.sendToQueue(queue, Buffer.from('x'))
        await channel.waitForConfirms()
      }
      await fill()
      assert.deepEqual(await channel.purgeQueue(queue), { messageCount: 3 })
      await fill()
      assert.deepEqual(await channel.deleteQueue(queue), { messageCount: 3 })
      assert.deepEqual(await channel.deleteQueue(queue), { messageCount: 0 })
    },
  },
  {
    name: 'an unused queue expires',
    async run(scope) {
      const channel = await scope.channel('createConfirmChannel')
      const queue = await scope.queue(channel, 'expires', { expires: 200 })
      let returned = false
      channel.on('return', () => {
        returned = true
      })
      await until('it is gone', async () => {
        channel.sendToQueue(queue, Buffer.from('x'), { mandatory: true })
        await channel.waitForConfirms()
        return returned
      })
    },
  },
]

module.exports = { checks }
