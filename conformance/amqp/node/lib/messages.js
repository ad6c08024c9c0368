// Taking messages: consumers, prefetch, get, acknowledging, giving back, dead letters.
'use strict'

const { Inbox, unique, bodies, get, event, until, assert } = require('./scope')

async function filled(scope, channel, prefix, n, options) {
  const queue = await scope.queue(channel, prefix, options)
  for (let i = 0; i < n; i += 1) channel.sendToQueue(queue, Buffer.from(`${i}`), { persistent: true })
  await until('all are there', async () => (await channel.checkQueue(queue)).messageCount === n)
  return queue
}

const checks = [
  {
    name: 'prefetch is per consumer; a global one is the channel’s',
    async run(scope) {
      const channel = await scope.channel()
      const queue = await filled(scope, channel, 'prefetch', 10)
      await channel.prefetch(2)
      const [a, b] = [new Inbox(), new Inbox()]
      await channel.consume(queue, a.take)
      await channel.consume(queue, b.take)
      await a.atLeast(2)
      await b.atLeast(2)
      await a.only(2)
      assert.equal(b.messages.length, 2)
      channel.ackAll()
      await a.atLeast(4)
      await channel.close()
      const other = await scope.channel()
      await other.prefetch(3, true)
      const [c, d] = [new Inbox(), new Inbox()]
      await other.consume(queue, c.take)
      await other.consume(queue, d.take)
      await until('three', () => c.messages.length + d.messages.length === 3)
      await c.only(c.messages.length)
      assert.equal(c.messages.length + d.messages.length, 3)
    },
  },
  {
    name: 'a consumer gets null when its queue is deleted',
    async run(scope) {
      const [channel, other] = [await scope.channel(), await scope.channel()]
      const queue = await scope.queue(channel, 'cancel')
      const inbox = new Inbox()
      await channel.consume(queue, inbox.take)
      await other.deleteQueue(queue)
      assert.deepEqual(await inbox.atLeast(1), [null])
    },
  },
  {
    name: 'a cancelled consumer gets nothing more, and its messages can be acknowledged',
    async run(scope) {
      const channel = await scope.channel()
      const queue = await filled(scope, channel, 'cancelled', 3)
      await channel.prefetch(1)
      const inbox = new Inbox()
      const { consumerTag } = await channel.consume(queue, inbox.take)
      await inbox.atLeast(1)
      await channel.cancel(consumerTag)
      channel.ack(inbox.messages[0])
      await inbox.only(1)
      assert.deepEqual(await bodies(channel, queue, 2), ['1', '2'])
    },
  },
  {
    name: 'nackAll and recover give everything back, marked',
    async run(scope) {
      const channel = await scope.channel()
      const queue = await filled(scope, channel, 'back', 3)
      for (const giveBack of [() => channel.nackAll(), () => channel.recover()]) {
        for (let n = 0; n < 3; n += 1) await get(channel, queue)
        await giveBack()
        await until('all are back', async () => (await channel.checkQueue(queue)).messageCount === 3)
      }
      const message = await get(channel, queue)
      assert.deepEqual([message.content.toString(), message.fields.redelivered], ['0', true])
    },
  },
  {
    name: 'nack with allUpTo settles those before it too',
    async run(scope) {
      const channel = await scope.channel()
      const queue = await filled(scope, channel, 'upto', 4)
      const got = []
      for (let n = 0; n < 4; n += 1) got.push(await get(channel, queue))
      channel.nack(got[1], true, false)
      channel.nack(got[3], false, true)
      await until('one is back', async () => (await channel.checkQueue(queue)).messageCount === 1)
      assert.equal((await get(channel, queue)).content.toString(), '3')
    },
  },
  {
    name: 'get gives false when there is nothing',
    async run(scope) {
      const channel = await scope.channel()
      const queue = await filled(scope, channel, 'get', 1)
      const message = await channel.get(queue, { noAck: true })
      assert.deepEqual([message.content.toString(), message.fields.messageCount], ['0', 0])
      assert.equal(await channel.get(queue), false)
    },
  },
  {
    name: 'without acknowledgement a long queue comes whole and in order',
    async run(scope) {
      const channel = await scope.channel()
      const queue = await filled(scope, channel, 'long', 3_000)
      const inbox = new Inbox()
      await channel.consume(queue, inbox.take, { noAck: true })
      await inbox.atLeast(3_000)
      assert.deepEqual(inbox.texts(), Array.from({ length: 3_000 }, (_, n) => `${n}`))
    },
  },
  {
    name: 'a closed connection’s messages come again elsewhere',
    async run(scope) {
      const connection = await scope.connect()
      const channel = await connection.createChannel()
      const queue = await filled(scope, channel, 'again', 3)
      const inbox = new Inbox()
      await channel.consume(queue, inbox.take)
      await inbox.atLeast(3)
      await connection.close()
      const other = await scope.channel()
      for (let n = 0; n < 3; n += 1) {
        const message = await get(other, queue)
        assert.deepEqual([message.content.toString(), message.fields.redelivered], [`${n}`, true])
      }
    },
  },
  {
    name: 'dead letters carry x-death as objects, with the queue’s options',
    async run(scope) {
      const channel = await scope.channel()
      const dead = await scope.queue(channel, 'dead')
      const options = { deadLetterExchange: '', deadLetterRoutingKey: dead, messageTtl: 20 }
      const queue = await scope.queue(channel, 'mortal', options)
      channel.sendToQueue(queue, Buffer.from('x'), { headers: { mine: 'yes' }, expiration: 60_000 })
      const { properties } = await get(channel, dead)
      const [death] = properties.headers['x-death']
      assert.deepEqual([death.reason, death.queue, death.count, death['routing-keys'], death['original-expiration']],
        ['expired', queue, 1, [queue], '60000'])
      assert.equal(death.time['!'], 'timestamp')
      assert.deepEqual([properties.headers.mine, properties.expiration], ['yes', undefined])
    },
  },
  {
    name: 'priorities, lengths and overflow as options',
    async run(scope) {
      const channel = await scope.channel('createConfirmChannel')
      const first = await scope.queue(channel, 'priority', { maxPriority: 10 })
      for (const priority of [1, 7, 3]) channel.sendToQueue(first, Buffer.from(`${priority}`), { priority })
      await channel.waitForConfirms()
      assert.deepEqual(await bodies(channel, first, 3), ['7', '3', '1'])
      const short = await scope.queue(channel, 'length', { maxLength: 2 })
      for (let n = 0; n < 4; n += 1) channel.sendToQueue(short, Buffer.from(`${n}`))
      await channel.waitForConfirms()
      assert.deepEqual(await bodies(channel, short, 2), ['2', '3'])
    },
  },
  {
    name: 'an exclusive consumer is alone; consumers of a higher priority come first',
    async run(scope) {
      const channel = await scope.channel()
      const queue = await scope.queue(channel, 'alone')
      const { consumerTag } = await channel.consume(queue, () => {}, { exclusive: true })
      const other = await scope.channel()
      const closed = event(other, 'error')
      await assert.rejects(other.consume(queue, () => {}))
      assert.equal((await closed).code, 403)
      await channel.cancel(consumerTag)
      await channel.prefetch(1)
      const [low, high] = [new Inbox(), new Inbox()]
      await channel.consume(queue, low.take, { priority: 1 })
      await channel.consume(queue, high.take, { priority: 5 })
      channel.sendToQueue(queue, Buffer.from('a'))
      await high.atLeast(1)
      await low.only(0)
    },
  },
  {
    name: 'direct reply-to answers without a queue',
    async run(scope) {
      const [client, server] = [await scope.channel(), await scope.channel()]
      const queue = await scope.queue(server, 'rpc')
      const answers = new Inbox()
      await client.consume('amq.rabbitmq.reply-to', answers.take, { noAck: true })
      await server.consume(queue, (question) => {
        const { replyTo, correlationId } = question.properties
        server.sendToQueue(replyTo, Buffer.from(`${question.content}!`), { correlationId })
        server.ack(question)
      })
      const correlationId = unique('id')
      client.sendToQueue(queue, Buffer.from('hello'), { replyTo: 'amq.rabbitmq.reply-to', correlationId })
      const [answer] = await answers.atLeast(1)
      assert.deepEqual([answer.content.toString(), answer.properties.correlationId], ['hello!', correlationId])
    },
  },
]

module.exports = { checks }
