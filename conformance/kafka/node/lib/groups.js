// Consumer groups through kafkajs.
'use strict'

const assert = require('node:assert/strict')
const { AssignerProtocol, PartitionAssigners } = require('kafkajs')
const { unique, until } = require('./broker')

/** One consumer of a group, recording what it holds and what it saw. */
async function member(scope, groupId, topic, options = {}) {
  const consumer = await scope.consumer(groupId, options)
  const self = { consumer, held: [], joins: 0, seen: new Map() }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    self.held = payload.memberAssignment[topic] ?? []
    self.joins += 1
    self.protocol = payload.groupProtocol
    self.memberId = payload.memberId
  })
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommitInterval: 100,
    eachMessage: async ({ message }) => {
      const value = message.value.toString()
      self.seen.set(value, (self.seen.get(value) ?? 0) + 1)
    },
  })
  return self
}

async function balanced(want, ...members) {
  await until(`an assignment of ${want}`, () => {
    const all = members.flatMap((m) => m.held)
    const have = members.map((m) => m.held.length)
    return have.join() === want.join() && new Set(all).size === all.length ? '' : `they hold ${have}`
  })
}

async function spread(scope, topic, tag, partitions, n) {
  const producer = await scope.producer()
  const values = Array.from({ length: n }, (_, i) => `${tag}-${i}`)
  await producer.send({ topic, messages: values.map((value, i) => ({ value, partition: i % partitions })) })
  return values
}

async function allSeen(values, ...members) {
  await until('every record seen', () => {
    const missing = values.filter((value) => !members.some((m) => m.seen.has(value)))
    return missing.length === 0 ? '' : `${missing.length} of ${values.length} are missing`
  })
}

async function shareAndLeave(scope, options = {}, protocol = 'RoundRobinAssigner') {
  const topic = await scope.topic('share', 6)
  const groupId = unique('share')
  const one = await member(scope, groupId, topic, options)
  await balanced([6], one)
  const two = await member(scope, groupId, topic, options)
  await balanced([3, 3], one, two)
  assert.equal(two.protocol, protocol)
  const first = await spread(scope, topic, 'first', 6, 240)
  await allSeen(first, one, two)
  assert.equal(first.filter((value) => two.seen.has(value)).length, 120, 'records of the second member')
  await two.consumer.disconnect()
  await balanced([6], one)
  await allSeen(await spread(scope, topic, 'second', 6, 240), one)
}

/** An assignor of one's own: the broker carries it without knowing it. */
const everyOther = ({ cluster }) => ({
  name: 'every-other',
  version: 7,
  async assign({ members, topics }) {
    const ids = members.map((m) => m.memberId).sort()
    const lots = new Map(ids.map((id) => [id, {}]))
    for (const topic of topics) {
      cluster.findTopicPartitionMetadata(topic).forEach(({ partitionId }, i) => {
        const lot = lots.get(ids[i % ids.length])
        lot[topic] = [...(lot[topic] ?? []), partitionId]
      })
    }
    return ids.map((id) => ({
      memberId: id,
      memberAssignment: AssignerProtocol.MemberAssignment.encode({ version: 7, assignment: lots.get(id), userData: Buffer.alloc(0) }),
    }))
  },
  protocol({ topics }) {
    return {
      name: 'every-other',
      metadata: AssignerProtocol.MemberMetadata.encode({ version: 7, topics, userData: Buffer.alloc(0) }),
    }
  },
})

async function vote(scope) {
  const topic = await scope.topic('vote', 4)
  const groupId = unique('vote')
  const one = await member(scope, groupId, topic, { partitionAssigners: [everyOther, PartitionAssigners.roundRobin] })
  await until('the first choice of the first', () => (one.protocol === 'every-other' ? '' : `it is ${one.protocol}`))
  const two = await member(scope, groupId, topic)
  await balanced([2, 2], one, two)
  assert.equal(one.protocol, 'RoundRobinAssigner')
}

async function commitAndResume(scope) {
  const topic = await scope.topic('resume')
  const groupId = unique('resume')
  const values = await spread(scope, topic, 'r', 1, 60)
  const admin = await scope.admin()
  for (const [from, commit] of [[0, 25], [25, 40], [40, 60]]) {
    const consumer = await scope.consumer(groupId)
    await consumer.subscribe({ topic, fromBeginning: true })
    const got = []
    await consumer.run({ autoCommit: false, eachMessage: async ({ message }) => void got.push(message.value.toString()) })
    await until('the rest of the topic', () => (got.length >= 60 - from ? '' : `${got.length} came`))
    assert.deepEqual(got, values.slice(from))
    await consumer.commitOffsets([{ topic, partition: 0, offset: String(commit), metadata: `at ${commit}` }])
    await consumer.disconnect()
    const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] })
    assert.deepEqual(partitions, [{ partition: 0, offset: String(commit), metadata: `at ${commit}` }])
  }
}

async function independentGroups(scope) {
  const topic = await scope.topic('independent', 3)
  const values = await spread(scope, topic, 'i', 3, 150)
  for (let i = 0; i < 2; i += 1) {
    const byPartition = await scope.readAll(topic, values.length)
    assert.deepEqual(byPartition.flat().map((m) => m.value.toString()).sort(), [...values].sort())
  }
}

const checks = [
  { name: 'kafkajs/group/share-and-leave/roundrobin', run: (s) => shareAndLeave(s) },
  {
    name: 'kafkajs/group/share-and-leave/assignor-of-its-own',
    run: (s) => shareAndLeave(s, { partitionAssigners: [everyOther] }, 'every-other'),
  },
  { name: 'kafkajs/group/protocol-vote', run: vote },
  { name: 'kafkajs/group/commit-and-resume', run: commitAndResume },
  { name: 'kafkajs/group/independent-groups', run: independentGroups },
]

module.exports = { checks, member, balanced }
