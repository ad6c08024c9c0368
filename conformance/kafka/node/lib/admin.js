// Administration through kafkajs.
'use strict'

const assert = require('node:assert/strict')
const { ConfigResourceTypes } = require('kafkajs')
const { recent, refused, unique, until } = require('./broker')
const { member, balanced } = require('./groups')

async function topics(scope) {
  const admin = await scope.admin()
  const topic = unique('topics')
  const wanted = { topic, numPartitions: 2, replicationFactor: 1 }
  assert.equal(await admin.createTopics({ topics: [wanted], validateOnly: true, waitForLeaders: false }), true)
  assert.ok(!(await admin.listTopics()).includes(topic), 'validating a topic made it')
  assert.equal(await admin.createTopics({ topics: [wanted], waitForLeaders: false }), true)
  assert.equal(await admin.createTopics({ topics: [wanted], waitForLeaders: false }), false) // it exists
  await until('the topic listed', async () => ((await admin.listTopics()).includes(topic) ? '' : 'it is not'))
  await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
  await until('five partitions', async () => {
    const meta = await admin.fetchTopicMetadata({ topics: [topic] })
    const n = meta.topics[0].partitions.length
    return n === 5 ? '' : `${n} partitions`
  })
  const { partitions } = (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0]
  for (const p of partitions) {
    assert.deepEqual([p.replicas, p.isr, p.offlineReplicas ?? []], [[p.leader], [p.leader], []])
  }
  await admin.deleteTopics({ topics: [topic] })
  await until('the topic gone', async () => ((await admin.listTopics()).includes(topic) ? 'it is listed' : ''))
}

async function topicErrors(scope) {
  const admin = await scope.admin()
  const existing = await scope.topic('exists', 2)
  const create = (topic, numPartitions, replicationFactor, configEntries = []) =>
    admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor, configEntries }] })
  await refused(create(unique('x'), 1, 3), 'INVALID_REPLICATION_FACTOR')
  await refused(create(unique('x'), 0, 1), 'INVALID_PARTITIONS')
  await refused(create('no/slashes', 1, 1), 'INVALID_TOPIC_EXCEPTION')
  await refused(create(unique('x'), 1, 1, [{ name: 'retention.ms', value: 'soon' }]), 'INVALID_CONFIG')
  await refused(admin.createPartitions({ topicPartitions: [{ topic: existing, count: 1 }] }), 'INVALID_PARTITIONS')
  await refused(admin.deleteTopics({ topics: [unique('unknown')] }), 'UNKNOWN_TOPIC_OR_PARTITION')
  if (scope.broker.peer === 'millstream') {
    await refused(create(unique('x'), 1, 1, [{ name: 'cleanup.policy', value: 'compact' }]), 'INVALID_CONFIG')
  }
}

async function configs(scope) {
  const admin = await scope.admin()
  const topic = await scope.topic('configs', 1, { configEntries: [{ name: 'retention.ms', value: '7200000' }] })
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  const entry = async (name) => {
    const { resources } = await admin.describeConfigs({ resources: [{ ...resource, configNames: [name] }], includeSynonyms: false })
    assert.equal(resources[0].errorCode, 0)
    assert.deepEqual(resources[0].configEntries.map((c) => c.configName), [name])
    return resources[0].configEntries[0]
  }
  assert.equal((await entry('retention.ms')).configValue, '7200000')
  assert.equal((await entry('retention.ms')).isDefault, false)
  await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'retention.bytes', value: '123456' }] }] })
  await until('retention.bytes', async () => {
    const { configValue } = await entry('retention.bytes')
    return configValue === '123456' ? '' : `it is ${configValue}`
  })
  assert.equal((await entry('retention.ms')).configValue, '604800000') // all that was set is replaced
  await refused(
    admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: 'soon' }] }] }),
    'INVALID_CONFIG',
  )
}

async function offsets(scope) {
  const admin = await scope.admin()
  const topic = await scope.topic('offsets', 2)
  const producer = await scope.producer()
  const messages = Array.from({ length: 10 }, (_, i) => ({ value: `v${i}`, partition: 0, timestamp: String(recent + i * 10) }))
  await producer.send({ topic, messages, compression: 1 })
  const all = await admin.fetchTopicOffsets(topic)
  const of = (list, partition) => list.find((o) => o.partition === partition)
  assert.deepEqual([of(all, 0).low, of(all, 0).high, of(all, 1).low, of(all, 1).high], ['0', '10', '0', '0'])
  for (const [at, want] of [[0, '0'], [1, '1'], [45, '5'], [90, '9'], [91, '10']]) { // past the last: the end
    const found = await admin.fetchTopicOffsetsByTimestamp(topic, recent + at)
    assert.equal(of(found, 0).offset, want, `at ${at} ms`)
  }
}

async function groups(scope) {
  const admin = await scope.admin()
  const topic = await scope.topic('groups', 2)
  const [busy, idle] = [unique('busy'), unique('idle')]
  const m = await member(scope, busy, topic)
  await balanced([2], m)
  await admin.setOffsets({ groupId: idle, topic, partitions: [{ partition: 0, offset: '0' }] })
  const { groups: listed } = await admin.listGroups()
  assert.equal(listed.find((g) => g.groupId === busy)?.protocolType, 'consumer')
  assert.ok(listed.some((g) => g.groupId === idle), 'the idle group is not listed')
  await until('a stable group', async () => {
    const { groups: [g] } = await admin.describeGroups([busy])
    return g.state === 'Stable' && g.members.length === 1 ? '' : `${g.state}, ${g.members.length} members`
  })
  const { groups: [described] } = await admin.describeGroups([busy])
  assert.equal(described.protocol, 'RoundRobinAssigner')
  assert.equal(described.members[0].memberId, m.memberId)
  assert.equal(described.members[0].clientId, 'conformance-node')
  await refused(
    admin.deleteGroups([busy]).catch((error) => {
      throw error.groups?.[0]?.error ?? error
    }),
    'NON_EMPTY_GROUP',
  )
  await m.consumer.disconnect()
  await admin.deleteGroups([busy, idle])
  const left = (await admin.listGroups()).groups.map((g) => g.groupId)
  assert.ok(!left.includes(busy) && !left.includes(idle), 'a deleted group is listed')
}

async function resetOffsets(scope) {
  const admin = await scope.admin()
  const topic = await scope.topic('reset')
  const producer = await scope.producer()
  await producer.send({ topic, messages: [{ value: 'a' }, { value: 'b' }, { value: 'c' }] })
  const groupId = unique('reset')
  const at = async () => (await admin.fetchOffsets({ groupId, topics: [topic] }))[0].partitions[0].offset
  assert.equal(await at(), '-1')
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '2' }] })
  assert.equal(await at(), '2')
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '1' }] })
  assert.equal(await at(), '1')
  const everything = await admin.fetchOffsets({ groupId })
  assert.deepEqual(everything.map((t) => t.topic), [topic])
}

async function cluster(scope) {
  const admin = await scope.admin()
  const { brokers, controller, clusterId } = await admin.describeCluster()
  assert.equal(brokers.length, 1)
  assert.equal(controller, brokers[0].nodeId)
  assert.ok(clusterId, 'no cluster id')
  assert.equal(String(brokers[0].port), scope.broker.bootstrap.split(':').pop())
}

const checks = [
  { name: 'kafkajs/admin/topics', run: topics },
  { name: 'kafkajs/admin/topic-errors', run: topicErrors },
  { name: 'kafkajs/admin/configs', run: configs },
  { name: 'kafkajs/admin/offsets', run: offsets },
  { name: 'kafkajs/admin/groups', run: groups },
  { name: 'kafkajs/admin/reset-offsets', run: resetOffsets },
  { name: 'kafkajs/admin/cluster', run: cluster },
]

module.exports = { checks }
