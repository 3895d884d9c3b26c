// The library with the settings of these checks, in promises.
'use strict'

const { promisify } = require('node:util')
const Kafka = require('node-rdkafka')
const { Collector } = require('../harness/js/collector')
const { LIMIT_MS, within } = require('../harness/js/report')

const CODES = Kafka.CODES.ERRORS
const COMMON = { 'bootstrap.servers': process.env.OTTLA_BOOTSTRAP, 'reconnect.backoff.max.ms': 500 }
// What a commit meets while the group settles; what it covered is then read again.
const REFUSED = [
  CODES.ERR__NO_OFFSET,
  CODES.ERR_ILLEGAL_GENERATION,
  CODES.ERR_UNKNOWN_MEMBER_ID,
  CODES.ERR_REBALANCE_IN_PROGRESS,
  CODES.ERR_NOT_COORDINATOR_FOR_GROUP,
  CODES.ERR_GROUP_LOAD_IN_PROGRESS,
  CODES.ERR_GROUP_COORDINATOR_NOT_AVAILABLE,
]
// What a poll tells of and the library mends by itself.
const PASSING = [CODES.ERR__TRANSPORT, CODES.ERR__ALL_BROKERS_DOWN, CODES.ERR__TIMED_OUT, CODES.ERR__MAX_POLL_EXCEEDED]

// Calls a function of the library that ends with a callback.
const call = (object, name, ...rest) => promisify(object[name].bind(object))(...rest)

const admin = Kafka.AdminClient.create(COMMON)

// False when the topic exists.
async function create(topic, partitions, config = {}) {
  try {
    await call(admin, 'createTopic', { topic, num_partitions: partitions, replication_factor: 1, config }, LIMIT_MS)
    return true
  } catch (error) {
    if (error.code === CODES.ERR_TOPIC_ALREADY_EXISTS) return false
    throw error
  }
}

// A producer that tells where each record went.
class Producer {
  static async start(codec, idempotent) {
    const self = new Producer()
    // Without idempotence a retried batch would land behind its successors, and order is checked. With it, batches are
    // small and unacknowledged records few, so that a crash meets a stream and not a queue.
    const [inFlight, batch, most] = idempotent ? [5, 50, 500] : [1, 10_000, 10_000]
    self.most = most
    self.unacknowledged = 0
    self.inner = new Kafka.Producer({
      ...COMMON,
      'compression.type': codec,
      'enable.idempotence': idempotent,
      'max.in.flight': inFlight,
      'batch.num.messages': batch,
      'linger.ms': 5,
      'retry.backoff.ms': 50,
      acks: -1,
      dr_cb: true,
    })
    self.inner.on('event.error', () => {}) // it tells of lost connections and mends them itself
    self.inner.on('delivery-report', (error, { opaque, partition, offset }) => {
      self.unacknowledged--
      self.room?.()
      error ? opaque.reject(error) : opaque.resolve({ partition, offset })
    })
    await call(self.inner, 'connect', {})
    self.inner.setPollInterval(5)
    return self
  }

  // Sends records and waits until all are acknowledged; gives where they went, in the order of sending.
  async send(topic, records) {
    const sent = []
    for (const { partition, key, value, headers, timestamp } of records) {
      while (this.unacknowledged >= this.most) await new Promise((resolve) => (this.room = resolve))
      this.unacknowledged++
      const delivered = new Promise((resolve, reject) => {
        this.inner.produce(topic, partition, value, key, timestamp, { resolve, reject }, headers)
      })
      delivered.catch(() => {}) // awaited below
      sent.push(delivered)
    }
    return within(() => 'records still unacknowledged', Promise.all(sent))
  }

  async stop() {
    await call(this.inner, 'disconnect')
  }
}

// A consumer that collects what it reads.
class Reader extends Collector {
  constructor(group, more) {
    super()
    const settings = {
      ...COMMON,
      'group.id': group,
      'enable.auto.commit': false,
      'session.timeout.ms': 10_000,
      'heartbeat.interval.ms': 500,
      'fetch.wait.max.ms': 100,
      ...more,
    }
    this.inner = new Kafka.KafkaConsumer(settings, { 'auto.offset.reset': 'earliest' })
    this.inner.on('event.error', () => {})
    this.inner.setDefaultConsumeTimeout(100)
  }

  // Reads a topic as a member of the group.
  static async member(group, topic, more = {}) {
    const self = new Reader(group, more)
    await call(self.inner, 'connect', {})
    self.inner.subscribe([topic])
    self.pumping = self.pump()
    return self
  }

  // Reads partitions from their beginning, without a group.
  static async alone(topic, partitions) {
    const self = new Reader('no-group', {})
    await call(self.inner, 'connect', {})
    self.inner.assign(Array.from({ length: partitions }, (_, partition) => ({ topic, partition, offset: 0 })))
    self.pumping = self.pump()
    return self
  }

  // Polls until it is told to stop. With the library's own loop (`consume()` without a number) the `disconnect` of a
  // member of a group does not come back.
  async pump() {
    while (!this.stopping) {
      try {
        this.messages.push(...(await call(this.inner, 'consume', 500)))
      } catch (error) {
        if (!PASSING.includes(error.code)) throw error
      }
      this.changed()
    }
  }

  // Partitions owned now.
  owned() {
    return this.inner.isConnected() ? this.inner.assignments().map(({ partition }) => partition) : []
  }

  // Commits offsets, or everything polled; false when a rebalance refuses it.
  commit(offsets) {
    try {
      this.inner.commitSync(offsets)
      return true
    } catch (error) {
      if (REFUSED.includes(error.code)) return false
      throw error
    }
  }

  async committed(topic, partitions) {
    const places = Array.from({ length: partitions }, (_, partition) => ({ topic, partition }))
    return (await call(this.inner, 'committed', places, LIMIT_MS)).map(({ offset }) => offset ?? 0)
  }

  async seek(place) {
    await this.pause()
    await call(this.inner, 'seek', place, LIMIT_MS)
    this.messages = []
    this.stopping = false
    this.pumping = this.pump()
  }

  async pause() {
    this.stopping = true
    await this.pumping
  }

  async stop() {
    await this.pause()
    await within(() => 'still connected', call(this.inner, 'disconnect'))
  }
}

module.exports = { Kafka, Producer, Reader, admin, call, create }
