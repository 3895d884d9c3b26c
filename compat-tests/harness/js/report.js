// The lines that the driver reads (harness/report.py), and the control line to it.
'use strict'

const net = require('node:net')

const LIMIT_MS = 60_000

let failed = 0

// What a check throws that does not apply to this client; carries the reason.
class Skipped extends Error {}

// Runs one check. A failure is reported and does not stop the checks that follow.
async function check(name, body) {
  const began = Date.now()
  try {
    await body()
    console.log(`check ${name} ok ${((Date.now() - began) / 1000).toFixed(1)} s`)
  } catch (error) {
    if (error instanceof Skipped) {
      console.log(`check ${name} skipped ${error.message}`)
      return
    }
    failed++
    console.log(error.stack)
    console.log(`check ${name} failed ${String(error).replace(/\s+/g, ' ').slice(0, 300)}`)
  }
}

// Sends a word to the driver (harness/control.py) and waits until the broker is ready again.
function control(word) {
  const [host, port] = process.env.OTTLA_CONTROL.split(':')
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = net.connect(Number(port), host, () => socket.write(`${word}\n`))
    socket.on('error', reject)
    socket.on('data', (data) => {
      answer += data
      if (!answer.includes('\n')) return
      socket.end()
      console.log(`# ${word}: ${answer.trim()} s`)
      answer.startsWith('ready') ? resolve() : reject(new Error(`${word}: ${answer}`))
    })
  })
}

// Waits for a promise, but not for ever.
function within(what, promise, limitMs = LIMIT_MS) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what()} after ${limitMs} ms`)), limitMs)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

const exitCode = () => (failed ? 1 : 0)

module.exports = { LIMIT_MS, Skipped, check, control, exitCode, within }
