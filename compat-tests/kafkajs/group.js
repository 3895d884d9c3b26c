// A group that grows from one member to three and shrinks to one, under load; compat-tests/harness/groups.py says more.
// At each size the members own every partition once in equal shares; every record that was produced is read.
'use strict'

const assert = require('node:assert')
const { Reader, newProducer } = require('./support')
const { number, numberOf } = require('../harness/js/samples')

const TOPIC = 'group-load'
const PARTITIONS = 6
const PER_SIZE = 300
const LIMIT_MS = 90_000

class Group {
  constructor() {
    this.owned = new Map()
    this.read = new Map()
    this.sent = 0
    this.loading = true
    this.members = []
  }

  async join() {
    const reader = new Reader('three')
    const { GROUP_JOIN } = reader.consumer.events
    reader.consumer.on(GROUP_JOIN, ({ payload }) => {
      this.owned.set(reader, payload.memberAssignment[TOPIC] || [])
      this.changed()
    })
    reader.changed = () => {
      for (const m of reader.messages.splice(0)) this.read.set(`${m.partition}@${m.offset}`, numberOf(m))
      this.changed()
    }
    this.members.push(reader)
    await reader.start(TOPIC, { autoCommit: true, autoCommitInterval: 200 })
  }

  async leave() {
    const reader = this.members.pop()
    this.owned.delete(reader)
    await reader.stop()
  }

  changed() {
    this.wake?.()
  }

  // Waits until the condition holds; every join and every record is a reason to look again.
  async until(what, holds) {
    let timer
    const late = new Promise((_, reject) => {
      const state = () => `owned ${JSON.stringify([...this.owned.values()])}, read ${this.read.size}`
      timer = setTimeout(() => reject(new Error(`${what}: ${state()}`)), LIMIT_MS)
    })
    const held = new Promise((resolve) => {
      this.wake = () => holds() && resolve()
      this.wake()
    })
    await Promise.race([held, late]).finally(() => clearTimeout(timer))
  }

  shares(sizes) {
    const sets = [...this.owned.values()]
    const have = sets.map((set) => set.length).sort()
    return String(have) === String(sizes) && new Set(sets.flat()).size === PARTITIONS
  }

  async load() {
    const producer = await newProducer(true)
    while (this.loading) {
      const messages = []
      for (let p = 0; p < PARTITIONS; p++) messages.push(number(p, this.sent + p))
      await producer.send({ topic: TOPIC, messages })
      this.sent += PARTITIONS
      // Paces the load, so that the last member has something to read.
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    await producer.disconnect()
  }

  async progress() {
    const goal = this.read.size + PER_SIZE
    await this.until('progress', () => this.read.size >= goal)
  }
}

async function growAndShrink(admin) {
  await admin.createTopics({ topics: [{ topic: TOPIC, numPartitions: PARTITIONS }], waitForLeaders: true })
  const group = new Group()
  const load = group.load()
  for (const sizes of [[6], [3, 3], [2, 2, 2]]) {
    await group.join()
    await group.until(`growing to ${sizes}`, () => group.shares(sizes))
    await group.progress()
  }
  for (const sizes of [[3, 3], [6]]) {
    await group.leave()
    await group.until(`shrinking to ${sizes}`, () => group.shares(sizes))
    await group.progress()
  }
  group.loading = false
  await load
  await group.until('reading the rest', () => group.read.size >= group.sent)
  await group.leave()
  assert.strictEqual(group.read.size, group.sent, 'records read')
  assert.strictEqual(new Set(group.read.values()).size, group.sent, 'different records read')
}

module.exports = { growAndShrink }
