// The records of harness/records.py: record i is a function of i, and every shape occurs.
'use strict'

const assert = require('node:assert')

// One second apart and an hour ago: explicit, but far from every retention and future-timestamp rule.
const BASE_MS = (Math.floor(Date.now() / 1000) - 3600) * 1000

function sample(partition, i) {
  let key = i % 7 === 3 ? null : Buffer.from(`key-${i}`)
  let value = Buffer.alloc(10 + ((i * 37) % 2000))
  for (let j = 0; j < value.length; j++) value[j] = (i * 31 + j * 7) & 0xff
  if (i % 13 === 6) value = Buffer.alloc(0)
  if (i % 11 === 5) {
    key = Buffer.from(`gone-${i}`)
    value = null
  }
  // The library keeps headers in an object: the order over different names is lost, and it cannot send a null value.
  const headers =
    i % 2 === 0 ? { trace: [Buffer.from(`t-${i}`), Buffer.from('again')], empty: Buffer.alloc(0) } : {}
  return { partition, key, value, headers, timestamp: String(BASE_MS + i * 1000) }
}

// A record that carries only a number, for checks in which nothing else matters.
const number = (partition, n) => ({ partition, key: null, value: String(n) })

const numberOf = (message) => Number(message.value.toString())

// Throws unless what was read is what was sent, naming the field that differs.
function same(sent, got, where) {
  for (const field of ['key', 'value', 'headers']) {
    assert.deepStrictEqual(got[field], sent[field], `${where}: ${field} differs`)
  }
  assert.strictEqual(got.timestamp, sent.timestamp, `${where}: timestamp differs`)
}

module.exports = { BASE_MS, sample, number, numberOf, same }
