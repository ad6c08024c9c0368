// What a check is given: connections and queues that go behind it, and ways to wait.
'use strict'

const { randomBytes } = require('node:crypto')
const assert = require('node:assert/strict')
const amqp = require('amqplib')

const WAIT_MS = 20_000
const QUIET_MS = 300

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms)) // tidy: pacing

/** A name that no other run uses. */
const unique = (prefix) => `node-${prefix}-${randomBytes(6).toString('hex')}`

class Scope {
  constructor(url) {
    this.url = url
    this.connections = []
    this.queues = []
  }

  async connect() {
    const connection = await amqp.connect(this.url)
    connection.on('error', () => {}) // told where a check looks for it
    this.connections.push(connection)
    return connection
  }

  /** A channel on a connection of its own. */
  async channel(kind = 'createChannel') {
    const channel = await (await this.connect())[kind]()
    channel.on('error', () => {})
    return channel
  }

  /** A durable queue, which goes behind the check. */
  async queue(channel, prefix, options = {}) {
    const name = unique(prefix)
    this.queues.push(name)
    await channel.assertQueue(name, { durable: true, ...options })
    return name
  }

  async close() {
    try {
      const connection = await amqp.connect(this.url)
      const channel = await connection.createChannel()
      for (const queue of this.queues) await channel.deleteQueue(queue)
      await connection.close()
    } catch {
      // the broker is gone: then the check has failed
    }
    for (const connection of this.connections) await connection.close().catch(() => {})
  }
}

/** Asks until something true comes. */
async function until(what, ask) {
  const deadline = Date.now() + WAIT_MS
  for (;;) {
    const got = await ask()
    if (got) return got
    assert(Date.now() < deadline, `not in time: ${what}`)
    await sleep(20) // tidy: pacing
  }
}

/** Collects what a consumer is given. */
class Inbox {
  constructor() {
    this.messages = []
    this.take = (message) => this.messages.push(message)
  }

  async atLeast(n) {
    await until(`${n} messages, not ${this.messages.length}`, () => this.messages.length >= n)
    return this.messages
  }

  /** Nothing more than `n` for a while. */
  async only(n) {
    await sleep(QUIET_MS) // tidy: pacing
    assert.equal(this.messages.length, n, 'messages')
  }

  texts() {
    return this.messages.map((message) => message.content.toString())
  }
}

/** The next message of a queue, waited for; unacknowledged. */
const get = (channel, queue) => until(`a message in ${queue}`, () => channel.get(queue))

/** The bodies of the next `n`, acknowledged. */
async function bodies(channel, queue, n) {
  const all = []
  while (all.length < n) {
    const message = await get(channel, queue)
    channel.ack(message)
    all.push(message.content.toString())
  }
  return all
}

/** An event, which must come. */
function event(emitter, name) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${name} event in time`)), WAIT_MS)
    emitter.once(name, (value) => {
      clearTimeout(timer)
      resolve(value)
    })
  })
}

/** Fails unless the call is refused with this code. */
async function refused(code, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.code ?? Number(/\b(\d{3})\b/.exec(error.message)?.[1]), code, error.message)
    return true
  })
}

module.exports = { Scope, Inbox, unique, until, get, bodies, event, refused, assert, sleep }
