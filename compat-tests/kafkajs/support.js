// The client with the settings of these checks, and the codecs.
'use strict'

const zlib = require('node:zlib')
const { CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel } = require('kafkajs')
const Snappy = require('kafkajs-snappy')
const { Collector } = require('../harness/js/collector')
const { LIMIT_MS, check, control, exitCode } = require('../harness/js/report')

// The LZ4 plug-in takes a program that has `fetch` for a browser and asks the web for its own file; Node has both.
const { fetch } = globalThis
delete globalThis.fetch
const LZ4 = require('kafkajs-lz4')
globalThis.fetch = fetch

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

const kafka = new Kafka({
  clientId: 'compat',
  brokers: [process.env.OTTLA_BOOTSTRAP],
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 100 },
})

// The library comes with gzip only; the others are its plug-ins. Newer Node brings zstd itself.
async function registerCodecs() {
  CompressionCodecs[CompressionTypes.Snappy] = Snappy
  CompressionCodecs[CompressionTypes.LZ4] = new LZ4().codec
  let compress = zlib.zstdCompressSync
  let decompress = zlib.zstdDecompressSync
  if (!compress) {
    const zstd = require('@bokuweb/zstd-wasm')
    await zstd.init()
    compress = (data) => Buffer.from(zstd.compress(data))
    decompress = (data) => Buffer.from(zstd.decompress(data))
  }
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async (encoder) => compress(encoder.buffer),
    decompress: async (data) => decompress(data),
  })
}

async function newProducer(idempotent) {
  const settings = { createPartitioner: Partitioners.DefaultPartitioner, idempotent, allowAutoTopicCreation: false }
  if (idempotent) {
    settings.maxInFlightRequests = 1
    settings.retry = { initialRetryTime: 50, maxRetryTime: 500, retries: Number.MAX_SAFE_INTEGER }
  }
  const producer = kafka.producer(settings)
  await producer.connect()
  return producer
}

// A consumer that collects what it reads.
class Reader extends Collector {
  constructor(group) {
    super()
    this.consumer = kafka.consumer({
      groupId: group,
      sessionTimeout: 10_000,
      heartbeatInterval: 500,
      maxWaitTimeInMs: 100,
      allowAutoTopicCreation: false,
    })
  }

  async start(topic, settings = { autoCommit: false }) {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics: [topic], fromBeginning: true })
    await this.consumer.run({
      ...settings,
      eachMessage: async ({ partition, message }) => {
        this.messages.push({ partition, ...message })
        this.changed()
      },
    })
  }

  async stop() {
    await this.consumer.disconnect()
  }
}

module.exports = {
  CODECS,
  LIMIT_MS,
  Reader,
  check,
  control,
  exitCode,
  kafka,
  newProducer,
  registerCodecs,
}
