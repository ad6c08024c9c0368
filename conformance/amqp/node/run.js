// Conformance checks of an AMQP 0-9-1 broker through amqplib.
//
// node run.js --bootstrap HOST:PORT [--peer rabbitmq|millstream] [--only SUBSTRING]
//
// Every check works on queues and exchanges of its own and leaves the server
// running. One line per check, then one with the totals; the exit code is 0
// only when every check passed.
'use strict'

const { parseArgs } = require('node:util')
const { Scope } = require('./lib/scope')

const CHECK_TIMEOUT_MS = 45_000
const PARALLEL = 4

async function runOne(url, { name, run }) {
  const scope = new Scope(url)
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('still running after its deadline')), CHECK_TIMEOUT_MS)
  })
  try {
    await Promise.race([run(scope), late])
    console.log(`ok ${name}`)
    return true
  } catch (error) {
    const why = String(error?.message ?? error).replaceAll('\n', ' | ')
    console.log(`FAIL ${name}: ${why}`)
    return false
  } finally {
    clearTimeout(timer)
    await scope.close()
  }
}

async function main() {
  const { values } = parseArgs({
    options: {
      bootstrap: { type: 'string', default: '127.0.0.1:5672' },
      peer: { type: 'string', default: 'millstream' },
      only: { type: 'string', default: '' },
    },
  })
  if (!['rabbitmq', 'millstream'].includes(values.peer)) {
    console.error('--peer must be rabbitmq or millstream')
    return 2
  }
  const checks = [
    ...require('./lib/topology').checks,
    ...require('./lib/messages').checks,
    ...require('./lib/publishing').checks,
  ].filter((check) => check.name.includes(values.only))
  if (checks.length === 0) {
    console.error(`no check has a name containing ${values.only}`)
    return 2
  }
  let passed = 0
  const queue = [...checks]
  const worker = async () => {
    for (let check = queue.shift(); check; check = queue.shift()) {
      if (await runOne(`amqp://guest:guest@${values.bootstrap}`, check)) passed += 1
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
