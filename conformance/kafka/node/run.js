// Conformance checks of a Kafka broker through kafkajs.
//
// node run.js --bootstrap HOST:PORT [--peer kafka|millstream] [--only SUBSTRING] [--data DIR]
//
// Every check works on topics and groups of its own and leaves the server
// running. One line per check, then one with the totals; the exit code is 0
// only when every check passed.
'use strict'

const { parseArgs } = require('node:util')
const { Broker } = require('./lib/broker')

const CHECK_TIMEOUT_MS = 45_000
const PARALLEL = 4

async function runOne(broker, { name, run }) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('still running after its deadline')), CHECK_TIMEOUT_MS)
  })
  try {
    await Promise.race([broker.scope((scope) => run(scope)), late])
    console.log(`ok ${name}`)
    return true
  } catch (error) {
    const why = String(error?.message ?? error).replaceAll('\n', ' | ')
    console.log(`FAIL ${name}: ${why}`)
    return false
  } finally {
    clearTimeout(timer)
  }
}

async function main() {
  const { values } = parseArgs({
    options: {
      bootstrap: { type: 'string', default: '127.0.0.1:9092' },
      peer: { type: 'string', default: 'millstream' },
      only: { type: 'string', default: '' },
      data: { type: 'string', default: '' },
    },
  })
  if (!['kafka', 'millstream'].includes(values.peer)) {
    console.error('--peer must be kafka or millstream')
    return 2
  }
  const broker = new Broker(values)
  const checks = [
    ...require('./lib/records').checks,
    ...require('./lib/groups').checks,
    ...require('./lib/admin').checks,
  ].filter((check) => check.name.includes(values.only))
  if (checks.length === 0) {
    console.error(`no check has a name containing ${values.only}`)
    return 2
  }
  let passed = 0
  const queue = [...checks]
  const worker = async () => {
    for (let check = queue.shift(); check; check = queue.shift()) {
      if (await runOne(broker, check)) passed += 1
    }
  }
  await Promise.all(Array.from({ length: PARALLEL }, worker))
  console.log(`${passed} passed, ${checks.length - passed} failed`)
  return passed === checks.length ? 0 : 1
}

main().then(
  (code) => process.exit(code),
  (error) => {
    console.error(error)
    process.exit(2)
  },
)
