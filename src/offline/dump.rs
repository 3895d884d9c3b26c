//! `ottla dump`: what data directories hold, readable; in spirit Kafka's `DumpLogSegments`.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::directory::{self, Names};
use crate::coordinator::GroupRecord;
use crate::ids::{Offset, internal_topics};
use crate::metadata::{StoredEntry, StoredMetadata, StoredPayload};
use crate::records::{self, BatchHeader, Record};
use crate::storage::engine::{Batch, Frozen, Poisoned};
use crate::storage::keys::{self, Family, Kind, LogNumber};
use crate::storage::state::LogState;

/// What to print.
pub struct DumpRequest {
    pub directories: Vec<PathBuf>,
    /// Only this topic.
    pub topic: Option<String>,
    /// Only this partition of each topic.
    pub partition: Option<i32>,
    /// Only batches with an offset in it.
    pub offsets: Range<Offset>,
    /// Every record, not only batches.
    pub records: bool,
    /// The metadata log instead of partitions.
    pub metadata: bool,
    /// One JSON object per line.
    pub json: bool,
}

/// Gives every line to `print` until it returns false. The error says why a directory cannot be read; damage to single
/// batches is printed where it is.
pub fn dump(request: &DumpRequest, print: &mut dyn FnMut(&str) -> bool) -> Result<(), String> {
    let paths = directory::directories(&request.directories)?;
    let _locks = paths.iter().map(|path| directory::lock(path)).collect::<Result<Vec<_>, _>>()?;
    let mut ignored = Vec::new();
    let mut stored = None;
    for path in &paths {
        stored = stored.or(directory::metadata(path, &mut ignored)?);
    }
    let mut dump = Dump { request, print, ended: false };
    if request.metadata {
        let stored = stored.ok_or("no metadata store is in these directories")?;
        dump.metadata(&stored);
        return Ok(());
    }
    let names = Names(Arc::new(stored.map(|stored| stored.image).unwrap_or_default()));
    for path in paths.iter().filter(|path| path.join("records").is_dir()) {
        dump.directory(path, &names).map_err(|poison| format!("{}: {}", path.display(), poison.0))?;
    }
    Ok(())
}

struct Dump<'a> {
    request: &'a DumpRequest,
    print: &'a mut dyn FnMut(&str) -> bool,
    ended: bool,
}

/// A log that was asked for.
struct Log {
    number: LogNumber,
    state: LogState,
    topic: String,
}

impl Dump<'_> {
    fn line(&mut self, text: impl FnOnce() -> String, object: impl FnOnce() -> Value) {
        let line = if self.request.json { object().to_string() } else { text() };
        self.ended |= !(self.print)(&line);
    }

    fn directory(&mut self, path: &Path, names: &Names) -> Result<(), Poisoned> {
        let frozen = Frozen::open(&path.join("records"), false, &mut Vec::new())?;
        let mut logs = Vec::new();
        frozen.scan(Family::State, keys::kind_range(Kind::Log), &mut |row| {
            if let (Some(number), Some(state)) = (keys::log_of(row.key), LogState::decode(row.value)) {
                let topic = names.0.topics.by_id(state.id.topic).map(|topic| topic.name.to_string());
                let topic = topic.unwrap_or_else(|| state.id.topic.to_string());
                logs.push(Log { number, state, topic });
            }
            true
        })?;
        logs.retain(|log| self.request.topic.as_ref().is_none_or(|topic| *topic == log.topic));
        logs.retain(|log| self.request.partition.is_none_or(|partition| partition == log.state.id.partition));
        logs.sort_by(|a, b| (&a.topic, a.state.id.partition).cmp(&(&b.topic, b.state.id.partition)));
        for log in &logs {
            self.log(&frozen, path, log)?;
        }
        Ok(())
    }

    fn log(&mut self, frozen: &Frozen, path: &Path, log: &Log) -> Result<(), Poisoned> {
        let (state, partition) = (&log.state, log.state.id.partition);
        self.line(
            || {
                format!(
                    "Dumping {}-{partition} (topic id {}, log {} in {}) logStartOffset: {} logEndOffset: {} bytes: {}",
                    log.topic,
                    state.id.topic,
                    log.number,
                    path.display(),
                    state.log_start,
                    state.log_end,
                    state.bytes
                )
            },
            || {
                json!({
                    "kind": "log", "topic": log.topic, "partition": partition, "topicId": state.id.topic.to_string(),
                    "log": log.number, "directory": path, "logStartOffset": state.log_start,
                    "logEndOffset": state.log_end, "storedHighWatermark": state.high_watermark, "bytes": state.bytes,
                })
            },
        );
        let wanted = &self.request.offsets;
        let range = (keys::batch(log.number, 0), keys::batches_end(log.number));
        let (from, to) = (wanted.start, wanted.end);
        frozen.scan(Family::Batches, range, &mut |row| {
            let (Some(base), Some(place)) = (keys::base_of_batch(log.number, row.key), row.batch()) else {
                self.line(|| "a malformed row".into(), || json!({"kind": "malformed"}));
                return !self.ended;
            };
            if base >= to {
                return false;
            }
            self.batch(frozen, log, base, place, from);
            !self.ended
        })
    }

    fn batch(&mut self, frozen: &Frozen, log: &Log, base: Offset, place: Batch<'_>, from: Offset) {
        let (file, at) = frozen.place(place);
        let read = frozen.read(place).and_then(|bytes| {
            let header = BatchHeader::parse(&bytes).map_err(|e| e.to_string())?;
            Ok((bytes, header))
        });
        let (bytes, header) = match read {
            Ok(read) => read,
            Err(why) => {
                let text = format!("baseOffset: {base} cannot be read: {why}");
                self.line(|| text.clone(), || json!({"kind": "batch", "baseOffset": base, "error": why}));
                return;
            }
        };
        if header.last_offset() < from {
            return;
        }
        let is_valid = super::logs::check_batch(&bytes, base);
        let codec = header.codec().map_or("unknown".to_owned(), |codec| format!("{codec:?}").to_lowercase());
        let time = if header.timestamp_type_is_append() { "LogAppendTime" } else { "CreateTime" };
        let position = format!("{}:{}", file.display(), at.map_or("row".to_owned(), |at| at.to_string()));
        self.line(
            || {
                let error = is_valid.as_ref().err().map(|why| format!(" error: {why}")).unwrap_or_default();
                format!(
                    "baseOffset: {base} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} \
                     producerEpoch: {} partitionLeaderEpoch: {} isTransactional: {} isControl: {} position: {position} \
                     {time}: {} size: {} magic: {} compresscodec: {codec} crc: {} isvalid: {}{error}",
                    header.last_offset(),
                    header.records_count,
                    header.base_sequence,
                    header.last_sequence(),
                    header.producer_id,
                    header.producer_epoch,
                    header.leader_epoch,
                    header.is_transactional(),
                    header.is_control(),
                    header.max_timestamp,
                    header.size_bytes(),
                    header.magic,
                    header.crc,
                    is_valid.is_ok()
                )
            },
            || {
                json!({
                    "kind": "batch", "topic": log.topic, "partition": log.state.id.partition, "baseOffset": base,
                    "lastOffset": header.last_offset(), "count": header.records_count,
                    "baseSequence": header.base_sequence, "producerId": header.producer_id,
                    "producerEpoch": header.producer_epoch, "partitionLeaderEpoch": header.leader_epoch,
                    "isTransactional": header.is_transactional(), "isControl": header.is_control(),
                    "file": file, "at": at, "maxTimestamp": header.max_timestamp, "timestampType": time,
                    "size": header.size_bytes(), "compression": codec, "crc": header.crc,
                    "isValid": is_valid.is_ok(), "error": is_valid.as_ref().err(),
                })
            },
        );
        if self.request.records {
            self.records(log, &header, &bytes);
        }
    }

    fn records(&mut self, log: &Log, header: &BatchHeader, bytes: &Bytes) {
        for record in records::records(bytes).unwrap_or_default() {
            let offset = record.offset(header);
            if self.ended || !self.request.offsets.contains(&offset) {
                continue;
            }
            let group = group_record(log, &record);
            let (key, value) = (record.key.as_ref(), record.value.as_ref());
            let timestamp = record.timestamp(header);
            self.line(
                || {
                    let size = |bytes: Option<&Bytes>| bytes.map_or(-1, |bytes| bytes.len() as i64);
                    let keys: Vec<String> = record.headers.iter().map(|header| shown(Some(&header.key))).collect();
                    let what = match &group {
                        Some(group) => group.clone(),
                        None => format!("key: {} payload: {}", shown(key), shown(value)),
                    };
                    format!(
                        "| offset: {offset} timestamp: {timestamp} keySize: {} valueSize: {} headerKeys: [{}] {what}",
                        size(key),
                        size(value),
                        keys.join(",")
                    )
                },
                || {
                    let headers = record.headers.iter();
                    let headers: Vec<Value> =
                        headers.map(|h| json!([as_json(Some(&h.key)), as_json(h.value.as_ref())])).collect();
                    json!({
                        "kind": "record", "topic": log.topic, "partition": log.state.id.partition, "offset": offset,
                        "timestamp": timestamp, "key": as_json(key), "value": as_json(value), "headers": headers,
                        "decoded": group,
                    })
                },
            );
        }
    }

    fn metadata(&mut self, stored: &StoredMetadata) {
        let index = |index: Option<u64>| index.map_or("none".to_owned(), |index| index.to_string());
        let vote = stored.vote.clone().unwrap_or_default();
        let voters: Vec<String> = stored.voters.iter().map(|(node, directory)| format!("{node}@{directory}")).collect();
        self.line(
            || {
                let (committed, purged, snapshot) =
                    (index(stored.committed), index(stored.purged), index(stored.snapshot));
                format!(
                    "Metadata of cluster {}: vote {vote}; voters [{}]; committed {committed}, purged {purged}, snapshot \
                     {snapshot}; controller epoch {}, next offset {}",
                    stored.image.cluster_id,
                    voters.join(", "),
                    stored.image.index.controller_epoch,
                    stored.image.index.next_offset
                )
            },
            || {
                json!({
                    "kind": "metadata", "clusterId": stored.image.cluster_id.to_string(), "vote": vote, "voters": voters,
                    "committed": stored.committed, "purged": stored.purged, "snapshot": stored.snapshot,
                    "controllerEpoch": stored.image.index.controller_epoch, "nextOffset": stored.image.index.next_offset,
                })
            },
        );
        for record in stored.snapshot_image.records() {
            let text = format!("{record:?}");
            self.line(|| format!("snapshot: {text}"), || json!({"kind": "snapshotRecord", "record": text}));
        }
        for entry in &stored.entries {
            self.entry(entry);
        }
        for wrong in &stored.wrong {
            self.line(|| format!("wrong: {wrong}"), || json!({"kind": "wrong", "what": wrong}));
        }
    }

    fn entry(&mut self, entry: &StoredEntry) {
        let (index, term) = (entry.index, entry.term);
        let object = |what: &str, more: Value| json!({"kind": what, "index": index, "term": term, "body": more});
        match &entry.payload {
            StoredPayload::Blank => {
                self.line(|| format!("entry {index} term {term}: blank"), || object("blank", Value::Null));
            }
            StoredPayload::Membership(voters) => self.line(
                || format!("entry {index} term {term}: voters [{}]", voters.join(", ")),
                || object("membership", json!(voters)),
            ),
            StoredPayload::Round { stamp, wall_ms, records, applied } => {
                let (epoch, next) = (stamp.controller_epoch, stamp.next_offset);
                let fate = if *applied { "" } else { " (came too late: no effect)" };
                self.line(
                    || {
                        let count = records.len();
                        format!(
                            "entry {index} term {term}: {count} records from offset {next} of controller epoch {epoch} \
                             at {wall_ms}{fate}"
                        )
                    },
                    || {
                        let shown: Vec<String> = records.iter().map(|record| format!("{record:?}")).collect();
                        let body = json!({"controllerEpoch": epoch, "offset": next, "time": wall_ms,
                            "applied": applied, "records": shown});
                        object("round", body)
                    },
                );
                if !self.request.json {
                    for record in records {
                        self.line(|| format!("| {record:?}"), || Value::Null);
                    }
                }
            }
        }
    }
}

/// A record of the group coordinator, decoded.
fn group_record(log: &Log, record: &Record) -> Option<String> {
    if log.topic != internal_topics::CONSUMER_OFFSETS {
        return None;
    }
    let decoded = GroupRecord::decode(record.key.as_ref()?, record.value.as_deref());
    Some(match decoded {
        Ok(Some(record)) => format!("{record:?}"),
        Ok(None) => "a kind of record this program does not know".into(),
        Err(why) => format!("malformed: {why}"),
    })
}

/// Text as it is, other bytes in hexadecimal, nothing as `null`.
fn shown(bytes: Option<&Bytes>) -> String {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => "null".into(),
        Some((Ok(text), _)) if !text.contains(char::is_control) => text.to_owned(),
        Some((_, bytes)) => format!("0x{}", hex(bytes)),
    }
}

fn as_json(bytes: Option<&Bytes>) -> Value {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => Value::Null,
        Some((Ok(text), _)) => json!(text),
        Some((Err(_), bytes)) => json!({"hex": hex(bytes)}),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
