// kafkajs, unmodified, through the checks of compat-tests/harness/scenario.py.
'use strict'

const assert = require('node:assert')
const support = require('./support')
const { growAndShrink } = require('./group')
const { BASE_MS, number, numberOf, sample, same } = require('../harness/js/samples')

const { CODECS, LIMIT_MS, Reader, check, control, kafka, newProducer } = support
const RECORDS = 200
const PARTITIONS = 3
const TOPIC_RESOURCE = 2
// What a commit meets while the group settles; what it covered is then read again.
const REFUSED = ['REBALANCE_IN_PROGRESS', 'ILLEGAL_GENERATION', 'UNKNOWN_MEMBER_ID', 'NOT_COORDINATOR_FOR_GROUP']

const admin = kafka.admin()

async function main() {
  await support.registerCodecs()
  await admin.connect()
  await check('topics', topics)
  for (const codec of Object.keys(CODECS)) await check(`codec-${codec}`, () => checkCodec(codec))
  await check('append-time', appendTime)
  await check('group-of-three', () => growAndShrink(admin))
  await check('commit-resume', commitResume)
  await check('seek', seek)
  await check('restart-resume', restartResume)
  await check('idempotence', idempotence)
  await check('administration', administration)
  await admin.disconnect()
  process.exit(support.exitCode())
}

async function create(topic, numPartitions, settings = {}) {
  const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }))
  return admin.createTopics({ topics: [{ topic, numPartitions, configEntries }], waitForLeaders: true })
}

// One partition in each call: when the library tries one of several again, it leaves out every broker that has answered,
// and so forgets records whose partition has moved to such a broker meanwhile (seen with three nodes of either kind).
async function sendNumbers(producer, topic, partitions, from, until) {
  for (let partition = 0; partition < partitions; partition++) {
    const messages = []
    for (let n = from; n < until; n++) if (n % partitions === partition) messages.push(number(partition, n))
    await producer.send({ topic, messages })
  }
}

// Every record of a topic, by partition, from the first offset to the end as it is now.
async function readAll(topic, partitions) {
  const offsets = await admin.fetchTopicOffsets(topic)
  const total = offsets.reduce((sum, { high }) => sum + Number(high), 0)
  const reader = new Reader(`all-of-${topic}`)
  await reader.start(topic)
  const messages = await reader.read(total)
  await reader.stop()
  const byPartition = Array.from({ length: partitions }, () => [])
  for (const message of messages) {
    const before = byPartition[message.partition]
    assert.strictEqual(Number(message.offset), before.length, `${topic}-${message.partition}: out of order`)
    before.push(message)
  }
  return byPartition
}

async function topics() {
  assert(await create('topics-a', PARTITIONS, { 'retention.ms': '86400000', 'cleanup.policy': 'delete' }))
  assert.strictEqual(await create('topics-a', 1), false, 'creating a topic twice succeeded')
  // Of several brokers the one that is asked may hear of the topic after the one that was told.
  const deadline = Date.now() + LIMIT_MS
  while (!(await admin.listTopics()).includes('topics-a')) {
    assert(Date.now() < deadline, 'the new topic is not listed')
  }
  const described = await admin.describeConfigs({
    includeSynonyms: false,
    resources: [{ type: TOPIC_RESOURCE, name: 'topics-a', configNames: ['retention.ms'] }],
  })
  assert.strictEqual(described.resources[0].configEntries[0].configValue, '86400000')
  const metadata = await admin.fetchTopicMetadata({ topics: ['topics-a'] })
  assert.strictEqual(metadata.topics[0].partitions.length, PARTITIONS)
}

async function checkCodec(codec) {
  const topic = `codec-${codec}`
  await create(topic, PARTITIONS)
  const producer = await newProducer(false)
  const messages = []
  for (let i = 0; i < RECORDS; i++) messages.push(sample(i % PARTITIONS, i))
  await producer.send({ topic, messages, compression: CODECS[codec] })
  await producer.disconnect()
  const got = await readAll(topic, PARTITIONS)
  assert.strictEqual(got.flat().length, RECORDS)
  for (let i = 0; i < RECORDS; i++) {
    const message = got[i % PARTITIONS][Math.floor(i / PARTITIONS)]
    same(messages[i], message, `${topic}-${message.partition}@${message.offset}`)
  }
}

async function appendTime() {
  await create('append-time', 1, { 'message.timestamp.type': 'LogAppendTime' })
  const producer = await newProducer(false)
  const before = Date.now()
  await sendNumbers(producer, 'append-time', 1, 0, 20)
  const after = Date.now()
  await producer.disconnect()
  for (const { timestamp } of (await readAll('append-time', 1))[0]) {
    assert(before <= Number(timestamp) && Number(timestamp) <= after, `timestamp ${timestamp}`)
  }
}

async function commitResume() {
  await create('commit', PARTITIONS)
  const producer = await newProducer(false)
  await sendNumbers(producer, 'commit', PARTITIONS, 0, 90)
  await producer.disconnect()
  const first = new Reader('resume')
  await first.start('commit')
  await first.read(90)
  const half = [0, 1, 2].map((partition) => ({ topic: 'commit', partition, offset: '15' }))
  await first.consumer.commitOffsets(half)
  await first.stop()
  const [committed] = await admin.fetchOffsets({ groupId: 'resume', topics: ['commit'] })
  for (const { offset } of committed.partitions) assert.strictEqual(offset, '15')
  const second = new Reader('resume')
  await second.start('commit')
  const seen = new Set()
  for (const { partition, offset } of await second.read(45)) {
    assert(Number(offset) >= 15, `the second consumer read offset ${offset}`)
    seen.add(`${partition}@${offset}`)
  }
  await second.stop()
  assert.strictEqual(seen.size, 45)
}

async function seek() {
  await create('seek', 1)
  const producer = await newProducer(false)
  for (let i = 0; i < 100; i++) await producer.send({ topic: 'seek', messages: [sample(0, i)] })
  await producer.disconnect()
  // Between two records: the later one is meant.
  const [found] = await admin.fetchTopicOffsetsByTimestamp('seek', BASE_MS + 60_500)
  assert.strictEqual(found.offset, '61')
  const reader = new Reader('seeker')
  await reader.start('seek')
  await reader.read(100)
  for (const offset of ['40', '0', found.offset]) {
    reader.messages = []
    reader.consumer.seek({ topic: 'seek', partition: 0, offset })
    // A fetch that was under way may still deliver first; the record sought after must follow with its successors.
    await reader.until(() => `record ${offset}`, () => reader.messages.some((m) => m.offset === offset))
    await reader.until(() => 'record 99', () => reader.messages.some((m) => m.offset === '99'))
    const rest = reader.messages.slice(reader.messages.findIndex((m) => m.offset === offset))
    rest.forEach((m, n) => assert.strictEqual(Number(m.offset), Number(offset) + n))
  }
  await reader.stop()
}

async function restartResume() {
  await create('restart', PARTITIONS)
  // Idempotent: a retry of this library sends all partitions again, those that had succeeded as well.
  const producer = await newProducer(true)
  const reader = new Reader('survivor')
  await reader.start('restart')
  const seen = new Map()
  let sent = 0
  for (const word of ['restart', 'restart', 'crash', 'crash']) {
    await sendNumbers(producer, 'restart', PARTITIONS, sent, sent + 60)
    sent += 60
    await commitEverything(reader, seen, sent)
    // The same producer and the same consumer go on afterwards as if nothing had happened.
    await control(word)
  }
  await reader.stop()
  assert.strictEqual(seen.size, sent)
  assert.strictEqual(new Set(seen.values()).size, sent)
  const late = new Reader('survivor')
  await late.start('restart')
  await sendNumbers(producer, 'restart', PARTITIONS, sent, sent + 3)
  for (const message of await late.read(3)) assert(numberOf(message) >= sent, 'the group resumed too early')
  await late.stop()
  await producer.disconnect()
}

// Reads and commits until the broker says that everything sent is committed; a member may have to rejoin.
async function commitEverything(reader, seen, sent) {
  const deadline = Date.now() + LIMIT_MS
  for (;;) {
    assert(Date.now() < deadline, `read ${seen.size}, sent ${sent}`)
    const collect = () => {
      for (const m of reader.messages.splice(0)) seen.set(`${m.partition}@${m.offset}`, numberOf(m))
      return seen.size >= sent
    }
    await reader.until(() => `${seen.size} of ${sent} records`, collect)
    const end = String(sent / PARTITIONS)
    const ends = [0, 1, 2].map((partition) => ({ topic: 'restart', partition, offset: end }))
    try {
      await reader.consumer.commitOffsets(ends)
      const [committed] = await admin.fetchOffsets({ groupId: 'survivor', topics: ['restart'] })
      if (committed.partitions.every(({ offset }) => offset === end)) return
    } catch (error) {
      if (!REFUSED.includes(error.type) && !error.retriable) throw error
    }
  }
}

async function idempotence() {
  await create('idempotent', PARTITIONS)
  const producer = await newProducer(true)
  let crash = Promise.resolve()
  for (let n = 0; n < 6000; n += 60) {
    if (n === 1500 || n === 4020) {
      await crash
      crash = control('crash')
    }
    await sendNumbers(producer, 'idempotent', PARTITIONS, n, n + 60)
  }
  await crash
  await producer.disconnect()
  const got = await readAll('idempotent', PARTITIONS)
  got.forEach((messages, p) => {
    assert.strictEqual(messages.length, 2000, `partition ${p}`)
    messages.forEach((message, n) => assert.strictEqual(numberOf(message), n * PARTITIONS + p))
  })
}

// Without altering a setting: the library knows only the old AlterConfigs, which replaces everything.
async function administration() {
  await create('admin', 1)
  await admin.createPartitions({ topicPartitions: [{ topic: 'admin', count: 3 }] })
  const producer = await newProducer(false)
  await sendNumbers(producer, 'admin', 3, 0, 30)
  await producer.disconnect()
  await admin.fetchTopicOffsets('admin') // the library finds leaders only of topics that it has looked at
  await admin.deleteTopicRecords({ topic: 'admin', partitions: [{ partition: 0, offset: '4' }] })
  const reader = new Reader('admin-group')
  await reader.start('admin')
  for (const { partition, offset } of await reader.read(26)) {
    assert(partition !== 0 || Number(offset) >= 4, 'a deleted record was read')
  }
  await reader.stop()
  const described = await admin.describeGroups(['admin-group'])
  assert.strictEqual(described.groups[0].members.length, 0)
  await admin.deleteGroups(['admin-group'])
  await admin.deleteTopics({ topics: ['admin'] })
  const deadline = Date.now() + LIMIT_MS
  while ((await admin.listTopics()).includes('admin')) {
    assert(Date.now() < deadline, 'the deleted topic is still listed')
  }
}

main().catch((error) => {
  console.log(error.stack)
  process.exit(1)
})
