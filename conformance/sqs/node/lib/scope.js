// What a check is given: clients, queues that go behind it, and ways to wait.
'use strict'

const { randomBytes } = require('node:crypto')
const http = require('node:http')
const assert = require('node:assert/strict')
const sqs = require('@aws-sdk/client-sqs')

const WAIT_MS = 20_000
const TAKE_MAX = 10

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms)) // tidy: pacing

/** A name that no other run uses. */
const unique = (prefix) => `node-${prefix}-${randomBytes(6).toString('hex')}`

class Scope {
  constructor(address) {
    this.address = address
    this.clients = []
    this.queues = []
    this.servers = []
    this.client = this.connect({ maxAttempts: 1 })
  }

  /** A client of its own. */
  connect(options = {}) {
    const client = new sqs.SQSClient({
      endpoint: `http://${this.address}`,
      region: 'us-east-1',
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
      ...options,
    })
    this.clients.push(client)
    return client
  }

  /** Calls an action by its name. */
  call(action, input, client = this.client) {
    return client.send(new sqs[`${action}Command`](input))
  }

  /** The URL of a new queue, which goes behind the check. */
  async queue(attributes = {}, name = unique('q')) {
    const { QueueUrl } = await this.call('CreateQueue', { QueueName: name, Attributes: attributes })
    this.queues.push(QueueUrl)
    return QueueUrl
  }

  fifo(attributes = {}) {
    return this.queue({ FifoQueue: 'true', ...attributes }, `${unique('f')}.fifo`)
  }

  send(QueueUrl, MessageBody, more = {}) {
    return this.call('SendMessage', { QueueUrl, MessageBody, ...more })
  }

  /** Messages that are there now. */
  async receive(QueueUrl, more = {}) {
    return (await this.call('ReceiveMessage', { QueueUrl, WaitTimeSeconds: 0, ...more })).Messages ?? []
  }

  /** The next n messages, waiting for them; they stay in flight. */
  async take(QueueUrl, n = 1, more = {}) {
    const taken = []
    await until(`${n} messages`, async () => {
      const wanted = Math.min(TAKE_MAX, n - taken.length)
      taken.push(...(await this.receive(QueueUrl, { MaxNumberOfMessages: wanted, WaitTimeSeconds: 1, ...more })))
      return taken.length >= n
    })
    return taken
  }

  async attributes(QueueUrl, ...names) {
    const asked = { QueueUrl, AttributeNames: names.length ? names : ['All'] }
    return (await this.call('GetQueueAttributes', asked)).Attributes ?? {}
  }

  async arn(QueueUrl) {
    return (await this.attributes(QueueUrl, 'QueueArn')).QueueArn
  }

  /** Messages ready, in flight and delayed. */
  async counts(QueueUrl) {
    const names = ['', 'NotVisible', 'Delayed'].map((end) => `ApproximateNumberOfMessages${end}`)
    const got = await this.attributes(QueueUrl, ...names)
    return names.map((name) => Number(got[name]))
  }

  /** Deletes what was received. */
  async settle(QueueUrl, messages) {
    for (const { ReceiptHandle } of messages) await this.call('DeleteMessage', { QueueUrl, ReceiptHandle })
  }

  /**
   * A server before the broker that passes every request on; `answer` may give
   * another answer than the broker's to the request of a number, from 1.
   */
  async front(answer) {
    let seen = 0
    const server = http.createServer(async (request, response) => {
      seen += 1
      const number = seen
      const parts = []
      for await (const part of request) parts.push(part)
      const [host, port] = this.address.split(':')
      const onward = http.request({ host, port, method: request.method, path: request.url, headers: request.headers }, async (got) => {
        const body = []
        for await (const part of got) body.push(part)
        const other = answer(number, Buffer.concat(body))
        response.writeHead(other?.status ?? got.statusCode, other ? { 'content-type': 'application/x-amz-json-1.0' } : got.headers)
        response.end(other?.body ?? Buffer.concat(body))
      })
      onward.on('error', () => response.destroy())
      onward.end(Buffer.concat(parts))
    })
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    this.servers.push(server)
    return { address: `127.0.0.1:${server.address().port}`, requests: () => seen }
  }

  async close() {
    for (const QueueUrl of this.queues) await this.call('DeleteQueue', { QueueUrl }).catch(() => {}) // gone by the check
    for (const client of this.clients) client.destroy()
    for (const server of this.servers) {
      server.close()
      server.closeAllConnections()
    }
  }
}

/** Asks until something true comes. */
async function until(what, ask) {
  const deadline = Date.now() + WAIT_MS
  for (;;) {
    const got = await ask()
    if (got) return got
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`)
    await sleep(20) // tidy: pacing
  }
}

/** Waits for a call to be refused with the SDK's class of that error, and gives it. */
async function refused(kind, call) {
  const error = await call.then(
    () => assert.fail(`not refused with ${kind}`),
    (error) => error,
  )
  assert.equal(error.name, kind, String(error))
  if (typeof sqs[kind] === 'function') assert.ok(error instanceof sqs[kind], `${error} is no ${kind}`)
  return error
}

const bodies = (messages) => messages.map((message) => message.Body)

module.exports = { Scope, sqs, assert, unique, until, refused, bodies }
