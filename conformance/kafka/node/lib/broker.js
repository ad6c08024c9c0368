// What a check is given: clients on the broker under test, closed when the
// check ends, and names that no other run uses.
'use strict'

const { randomBytes } = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const { Kafka, Partitioners, logLevel } = require('kafkajs')

const UNTIL_MS = 30_000

/** A time for records in milliseconds: young enough for any retention, past for the whole run. */
const recent = Math.floor(Date.now() / 1000) * 1000 - 7_200_000

function unique(prefix) {
  return `node-${prefix}-${randomBytes(6).toString('hex')}`
}

/** Polls until cond() returns nothing; what it returns otherwise says what is missing. */
async function until(what, cond) {
  const end = Date.now() + UNTIL_MS
  for (;;) {
    const why = await cond()
    if (!why) return
    if (Date.now() > end) throw new Error(`${what} did not happen: ${why}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}

/** Waits for a refusal whose error, or one behind it, has the type. */
async function refused(promise, type) {
  const types = []
  const collect = (error) => {
    if (!error) return
    if (error.type) types.push(error.type)
    collect(error.cause)
    for (const inner of error.errors ?? []) collect(inner)
  }
  try {
    await promise
  } catch (error) {
    collect(error)
    if (types.includes(type)) return
    throw new Error(`refused with ${types.join(', ') || error.message}, want ${type}`)
  }
  throw new Error(`taken, want ${type}`)
}

/** The clients of one check. */
class Scope {
  constructor(broker) {
    this.broker = broker
    this.open = []
    this.kafka = new Kafka({
      clientId: 'conformance-node',
      brokers: [broker.bootstrap],
      logLevel: logLevel.NOTHING,
      retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 10 },
    })
  }

  async connected(client) {
    await client.connect()
    this.open.push(client)
    return client
  }

  producer(options = {}) {
    return this.connected(
      this.kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, allowAutoTopicCreation: false, ...options }),
    )
  }

  admin() {
    return this.connected(this.kafka.admin())
  }

  consumer(groupId, options = {}) {
    return this.connected(
      this.kafka.consumer({
        groupId,
        heartbeatInterval: 150,
        sessionTimeout: 6000,
        rebalanceTimeout: 15_000,
        maxWaitTimeInMs: 200,
        allowAutoTopicCreation: false,
        metadataMaxAge: 1000,
        ...options,
      }),
    )
  }

  /** Makes a topic and waits until its leaders serve. */
  async topic(prefix, numPartitions = 1, options = {}) {
    const topic = unique(prefix)
    const admin = await this.admin()
    // kafkajs's own wait gives up where Apache Kafka does not know the new topic for a moment.
    await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, ...options }], waitForLeaders: false })
    await until(`partitions of ${topic}`, async () => {
      try {
        const offsets = await admin.fetchTopicOffsets(topic)
        return offsets.length === numPartitions ? '' : `${offsets.length} of ${numPartitions}`
      } catch (error) {
        return error.message
      }
    })
    return topic
  }

  /** Reads n records of a topic from its start through a group of its own, by partition. */
  async readAll(topic, n) {
    const consumer = await this.consumer(unique('read'))
    await consumer.subscribe({ topic, fromBeginning: true })
    const byPartition = []
    let count = 0
    await consumer.run({
      eachMessage: async ({ partition, message }) => {
        byPartition[partition] = byPartition[partition] ?? []
        byPartition[partition].push(message)
        count += 1
      },
    })
    await until(`${n} records of ${topic}`, () => (count >= n ? '' : `${count} came`))
    if (count !== n) throw new Error(`${count} records came, want ${n}`)
    byPartition.forEach((messages, partition) => {
      messages.forEach((message, i) => {
        if (message.offset !== String(i)) throw new Error(`partition ${partition}: offset ${message.offset} came, want ${i}`)
      })
    })
    return byPartition
  }
}

class Broker {
  constructor({ bootstrap, peer, data }) {
    this.bootstrap = bootstrap
    this.peer = peer
    this.data = data || path.join(__dirname, '..', '..', 'data')
  }

  /** Runs a check and closes what it opened. */
  async scope(run) {
    const scope = new Scope(this)
    try {
      await run(scope)
    } finally {
      await Promise.allSettled(scope.open.map((client) => client.disconnect()))
    }
  }

  texts() {
    const files = fs.readdirSync(this.data).filter((name) => name.endsWith('.txt'))
    if (files.length === 0) throw new Error(`no *.txt in ${this.data}`)
    return files.map((name) => ({ name, text: fs.readFileSync(path.join(this.data, name)) }))
  }
}

module.exports = { Broker, recent, refused, unique, until }
