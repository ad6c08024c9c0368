// Conformance checks of SQS through the AWS SDK for JavaScript.
//
// node run.js --bootstrap HOST:PORT [--peer elasticmq|millstream] [--only SUBSTRING]
//
// Every check works on queues of its own and leaves the server running. One
// line per check, then one with the totals; the exit code is 0 only when every
// check passed.
'use strict'

const { parseArgs } = require('node:util')
const { Scope } = require('./lib/scope')

const CHECK_TIMEOUT_MS = 30_000
const PARALLEL = 4

async function runOne(address, { name, run }) {
  const scope = new Scope(address)
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('still running after its deadline')), CHECK_TIMEOUT_MS)
  })
  try {
    await Promise.race([run(scope), late])
    console.log(`ok ${name}`)
    return true
  } catch (error) {
    const why = String(error?.stack ?? error).split('\n').slice(0, 12).join(' | ')
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
      bootstrap: { type: 'string', default: '127.0.0.1:4566' },
      peer: { type: 'string', default: 'millstream' },
      only: { type: 'string', default: '' },
    },
  })
  if (!['elasticmq', 'millstream'].includes(values.peer)) {
    console.error('--peer must be elasticmq or millstream')
    return 2
  }
  const checks = [
    ...require('./lib/queues').checks,
    ...require('./lib/messages').checks,
    ...require('./lib/fifo').checks,
    ...require('./lib/calling').checks,
  ].filter((check) => check.name.includes(values.only) && [undefined, values.peer].includes(check.peer))
  if (checks.length === 0) {
    console.error(`no check has a name containing ${values.only}`)
    return 2
  }
  let passed = 0
  const queue = [...checks]
  const worker = async () => {
    for (let check = queue.shift(); check; check = queue.shift()) {
      if (await runOne(values.bootstrap, check)) passed += 1
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
