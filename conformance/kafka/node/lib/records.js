// Producing and consuming through kafkajs.
'use strict'

const assert = require('node:assert/strict')
const { CompressionTypes } = require('kafkajs')
const { recent, refused, unique, until } = require('./broker')

function numbered(n, tag = 'v') {
  return Array.from({ length: n }, (_, i) => ({ key: `k${i % 13}`, value: `${tag}-${i}-${'compressible'.repeat(8)}` }))
}

function valuesOf(byPartition) {
  return byPartition.flat().map((message) => message.value.toString())
}

function sameValues(got, messages) {
  assert.deepEqual([...got].sort(), messages.map((message) => message.value).sort())
}

async function roundTrip(scope, send, producerOptions = {}) {
  const topic = await scope.topic('roundtrip', 3)
  const producer = await scope.producer(producerOptions)
  const messages = numbered(300)
  for (let i = 0; i < messages.length; i += 50) {
    await producer.send({ topic, messages: messages.slice(i, i + 50), ...send })
  }
  sameValues(valuesOf(await scope.readAll(topic, messages.length)), messages)
}

async function recordShape(scope) {
  const topic = await scope.topic('shape')
  const producer = await scope.producer()
  const sent = [
    { key: 'k', value: 'v', timestamp: String(recent) },
    { key: null, value: 'null key', timestamp: String(recent + 1) },
    { key: 'null value', value: null, timestamp: String(recent - 3_600_000) },
    { key: null, value: null, timestamp: String(recent) },
    { key: '', value: '', timestamp: String(recent) },
    { key: Buffer.from([0, 255, 10]), value: Buffer.from([1, 0, 254]), timestamp: String(recent) },
    { key: 'h', value: 'headers', timestamp: String(recent), headers: { a: '1', many: ['2', '3'], bytes: Buffer.from([0, 159]), ключ: 'ж' } },
  ]
  await producer.send({ topic, messages: sent })
  const [got] = await scope.readAll(topic, sent.length)
  const bytes = (x) => (x === null ? null : Buffer.from(x))
  sent.forEach((want, i) => {
    assert.deepEqual(got[i].key, bytes(want.key), `key of ${i}`)
    assert.deepEqual(got[i].value, bytes(want.value), `value of ${i}`)
    assert.equal(got[i].timestamp, want.timestamp, `time of ${i}`)
  })
  const { headers } = got[6]
  assert.deepEqual(Object.keys(headers).sort(), ['a', 'bytes', 'many', 'ключ'].sort())
  assert.equal(headers.a.toString(), '1')
  assert.deepEqual(headers.many.map(String), ['2', '3'])
  assert.deepEqual(headers.bytes, Buffer.from([0, 159]))
  assert.equal(headers['ключ'].toString(), 'ж')
}

async function publicText(scope) {
  for (const { name, text } of scope.broker.texts()) {
    const topic = await scope.topic('text')
    const producer = await scope.producer()
    const lines = text.toString('latin1').split('\n').map((line) => Buffer.from(line, 'latin1')) // one byte, one character
    const messages = lines.map((value) => ({ value }))
    for (let i = 0; i < messages.length; i += 200) {
      await producer.send({ topic, messages: messages.slice(i, i + 200), compression: CompressionTypes.GZIP })
    }
    const [got] = await scope.readAll(topic, lines.length)
    const back = Buffer.concat(got.flatMap((m, i) => (i === 0 ? [m.value] : [Buffer.from('\n'), m.value])))
    assert.ok(back.equals(text), `${name} came back changed`)
  }
}

async function ordered(scope, options, messages, topic) {
  const producer = await scope.producer(options)
  for (let i = 0; i < messages.length; i += 5) {
    const [result] = await producer.send({ topic, messages: messages.slice(i, i + 5) })
    assert.equal(result.errorCode, 0)
    assert.equal(result.baseOffset, String(i))
  }
  const [got] = await scope.readAll(topic, messages.length)
  assert.deepEqual(got.map((m) => m.value.toString()), messages.map((m) => m.value))
}

async function idempotent(scope) {
  await ordered(scope, { idempotent: true, maxInFlightRequests: 1 }, numbered(250), await scope.topic('idempotent'))
}

async function largeRecords(scope) {
  const topic = await scope.topic('large')
  const producer = await scope.producer()
  const values = Array.from({ length: 6 }, (_, i) => String(i).repeat(700_000))
  for (const value of values) await producer.send({ topic, messages: [{ value }] })
  const consumer = await scope.consumer(unique('large'), { maxBytesPerPartition: 1000, maxBytes: 1000 })
  await consumer.subscribe({ topic, fromBeginning: true })
  const got = []
  await consumer.run({ eachMessage: async ({ message }) => void got.push(message.value.toString()) })
  await until('large records', () => (got.length >= values.length ? '' : `${got.length} came`))
  assert.ok(got.every((value, i) => value === values[i]) && got.length === values.length, 'they came back changed')
}

async function messageTooLarge(scope) {
  const topic = await scope.topic('toolarge', 1, { configEntries: [{ name: 'max.message.bytes', value: '2000' }] })
  const producer = await scope.producer({ retry: { retries: 0 } })
  await refused(producer.send({ topic, messages: [{ value: 'x'.repeat(3000) }] }), 'MESSAGE_TOO_LARGE')
  await producer.send({ topic, messages: [{ value: 'x'.repeat(1500) }] })
}

async function autoCreation(scope) {
  const topic = unique('auto')
  const producer = await scope.producer({ allowAutoTopicCreation: true })
  const messages = numbered(10)
  await producer.send({ topic, messages })
  sameValues(valuesOf(await scope.readAll(topic, messages.length)), messages)
}

async function unknownTopic(scope) {
  const producer = await scope.producer({ retry: { retries: 1, initialRetryTime: 20 } })
  await refused(producer.send({ topic: unique('unknown'), messages: [{ value: 'x' }] }), 'UNKNOWN_TOPIC_OR_PARTITION')
}

async function outOfRange(scope) {
  const topic = await scope.topic('range')
  const producer = await scope.producer()
  const messages = numbered(10)
  await producer.send({ topic, messages })
  const groupId = unique('range')
  const admin = await scope.admin()
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '5000' }] })
  const consumer = await scope.consumer(groupId)
  await consumer.subscribe({ topic, fromBeginning: true })
  const got = []
  await consumer.run({ eachMessage: async ({ message }) => void got.push(message.value.toString()) })
  await until('the reset to the start', () => (got.length >= 10 ? '' : `${got.length} came`))
  assert.deepEqual(got, messages.map((m) => m.value))
}

async function seek(scope) {
  const topic = await scope.topic('seek')
  const producer = await scope.producer()
  await producer.send({ topic, messages: numbered(20) })
  const consumer = await scope.consumer(unique('seek'))
  await consumer.subscribe({ topic, fromBeginning: true })
  const got = []
  await consumer.run({ eachMessage: async ({ message }) => void got.push(Number(message.offset)) })
  await until('twenty records', () => (got.length >= 20 ? '' : `${got.length} came`))
  consumer.seek({ topic, partition: 0, offset: '15' })
  await until('five again', () => (got.length >= 25 ? '' : `${got.length} came`))
  assert.deepEqual(got.slice(20), [15, 16, 17, 18, 19])
}

async function manyPartitions(scope) {
  const topic = await scope.topic('many', 100)
  const producer = await scope.producer()
  const consumer = await scope.consumer(unique('many'))
  await consumer.subscribe({ topic, fromBeginning: true })
  const got = []
  await consumer.run({ eachMessage: async ({ partition, message }) => void got.push(`${partition}:${message.value}`) })
  const sent = []
  for (let round = 0; round < 4; round += 1) {
    const messages = []
    for (let partition = 0; partition < 100; partition += round === 0 ? 1 : round * 7) {
      messages.push({ partition, value: `r${round}` })
      sent.push(`${partition}:r${round}`)
    }
    await producer.send({ topic, messages })
    await until(`round ${round}`, () => (got.length >= sent.length ? '' : `${got.length} of ${sent.length}`))
  }
  assert.deepEqual([...got].sort(), [...sent].sort())
}

async function regex(scope) {
  const [one, two, other] = [await scope.topic('regex-a'), await scope.topic('regex-b'), await scope.topic('other')]
  const producer = await scope.producer()
  const suffixes = [one, two].map((t) => t.split('-').pop())
  for (const topic of [one, two, other]) await producer.send({ topic, messages: numbered(5, topic) })
  const consumer = await scope.consumer(unique('regex'))
  await consumer.subscribe({ topic: new RegExp(`^node-regex-[ab]-(${suffixes.join('|')})$`), fromBeginning: true })
  const got = []
  await consumer.run({ eachMessage: async ({ topic }) => void got.push(topic) })
  await until('ten records', () => (got.length >= 10 ? '' : `${got.length} came`))
  assert.deepEqual([...got].sort(), [...Array(5).fill(one), ...Array(5).fill(two)].sort())
}

const checks = [
  { name: 'kafkajs/compression/none', run: (s) => roundTrip(s, { compression: CompressionTypes.None }) },
  { name: 'kafkajs/compression/gzip', run: (s) => roundTrip(s, { compression: CompressionTypes.GZIP }) },
  { name: 'kafkajs/acks/0', run: (s) => roundTrip(s, { acks: 0 }) },
  { name: 'kafkajs/acks/1', run: (s) => roundTrip(s, { acks: 1 }) },
  { name: 'kafkajs/acks/all', run: (s) => roundTrip(s, { acks: -1 }) },
  { name: 'kafkajs/record-shape', run: recordShape },
  { name: 'kafkajs/text', run: publicText },
  { name: 'kafkajs/idempotent-order', run: idempotent },
  { name: 'kafkajs/large-records', run: largeRecords },
  { name: 'kafkajs/message-too-large', run: messageTooLarge },
  { name: 'kafkajs/auto-creation', run: autoCreation },
  { name: 'kafkajs/unknown-topic', run: unknownTopic },
  { name: 'kafkajs/out-of-range-reset', run: outOfRange },
  { name: 'kafkajs/seek', run: seek },
  { name: 'kafkajs/hundred-partitions', run: manyPartitions },
  { name: 'kafkajs/regex-subscription', run: regex },
]

module.exports = { checks }
