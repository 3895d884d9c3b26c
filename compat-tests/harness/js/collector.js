// Records that come by themselves, and waiting for them.
'use strict'

const { within } = require('./report')

// Collects what a consumer reads into `messages`; whoever adds to them calls `changed`. `until` waits for a condition
// that every record may change.
class Collector {
  constructor() {
    this.messages = []
    this.waiting = new Set()
  }

  changed() {
    for (const look of this.waiting) look()
  }

  until(what, holds, limitMs) {
    let look
    const held = new Promise((resolve) => {
      look = () => holds() && resolve()
      this.waiting.add(look)
      look()
    })
    return within(what, held, limitMs).finally(() => this.waiting.delete(look))
  }

  // The next `count` records.
  async read(count) {
    await this.until(() => `${this.messages.length} of ${count} records`, () => this.messages.length >= count)
    return this.messages.splice(0, count)
  }
}

module.exports = { Collector }
