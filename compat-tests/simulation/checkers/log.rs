//! One partition: which values may be where, what may be gone, and how far the high watermark must be.
//!
//! Invariants checked: an offset has one record for ever; an acknowledged record is at its offset until
//! DeleteRecords was asked to delete it; a record that was read is as good as acknowledged; a value of an
//! idempotent producer has one offset, and its producer's sequences are without gap; offsets have no holes; leader
//! epochs ascend; the high watermark and the log start never move back; nothing is readable at or above the high
//! watermark of the same answer.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::epochs::EpochEnds;
use super::{Verdict, ensure};

/// How a value was sent, which says how often it may be in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// By a producer without an id: once per attempt.
    Plain,
    /// By an idempotent producer, in sequence: once.
    Idempotent,
    /// By an idempotent producer, beyond a gap in its sequence: never.
    Forbidden,
}

/// One record as a fetch showed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub offset: i64,
    pub value: Bytes,
    pub epoch: i32,
    pub timestamp: i64,
    /// -1 if its producer has no id.
    pub producer: i64,
    pub sequence: i32,
}

/// What was certain at a moment: later answers may only be above it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Floor {
    pub high_watermark: i64,
    pub log_start: i64,
    pub leader_epoch: i32,
}

/// A fetch of one partition, and what was certain when it was asked.
#[derive(Clone, Copy, Debug)]
pub struct FetchAsked {
    pub from: i64,
    pub floor: Floor,
    /// True if the answer had to bring a record if there was one: no other partition was asked for.
    pub alone: bool,
}

/// The answer to it.
#[derive(Clone, Debug)]
pub struct FetchAnswer {
    pub high_watermark: i64,
    pub last_stable: i64,
    pub log_start: i64,
    pub records: Vec<Seen>,
}

/// See the file's head.
#[derive(Default)]
pub struct LogChecker {
    attempts: BTreeMap<Bytes, Kind>,
    acknowledged: BTreeMap<i64, Bytes>,
    seen: BTreeMap<i64, Seen>,
    /// Where the values of idempotent producers are.
    places: BTreeMap<Bytes, i64>,
    /// Where the sequences of idempotent producers are.
    sequences: BTreeMap<(i64, i32), i64>,
    floor: Floor,
    /// The highest offset below which DeleteRecords was ever asked to delete: an upper bound of the log start.
    delete_asked: i64,
    /// Of several replicas, one whose log began anew behind what was deleted knows of producers only what came later,
    /// as in Kafka (`UnifiedLog.truncateFullyAndStartAt`): a late retry of a deleted batch is a new one to it.
    pub forgets_deleted: bool,
    /// In which life of the broker a record was appended, where that is certain.
    lives: BTreeMap<i64, u32>,
    pub epochs: EpochEnds,
}

impl LogChecker {
    /// What is certain now; to be taken before a request is sent.
    pub fn floor(&self) -> Floor {
        self.floor
    }

    /// The highest offset that may have been deleted, exclusive.
    pub fn delete_asked(&self) -> i64 {
        self.delete_asked
    }

    /// Acknowledged records, whether or not they were read.
    pub fn acknowledged_count(&self) -> usize {
        self.acknowledged.len()
    }

    /// A record that was read, by its place among them.
    pub fn seen_at_or_after(&self, offset: i64) -> Option<&Seen> {
        self.seen.range(offset..).next().map(|(_, seen)| seen)
    }

    /// `value` is about to be sent.
    pub fn attempt(&mut self, value: Bytes, kind: Kind) {
        self.attempts.insert(value, kind);
    }

    /// The broker says that `values` are in the log from `base` on. `life` is its life, if it is certain that the
    /// append was made in it.
    pub fn acknowledge(&mut self, base: i64, values: &[Bytes], life: Option<u32>) -> Verdict {
        ensure(base >= 0, || format!("{} was acknowledged at offset {base}", text(values.first())))?;
        for (offset, value) in (base..).zip(values) {
            let kind = self.attempts.get(value).copied();
            ensure(kind.is_some_and(|kind| kind != Kind::Forbidden), || {
                format!("{} at {offset} was acknowledged, though its sequence leaves a gap", text(Some(value)))
            })?;
            let held = self.held(offset);
            ensure(held.is_none_or(|held| held == value), || {
                format!("{} was acknowledged at {offset}, where {} is", text(Some(value)), text(held))
            })?;
            if kind == Some(Kind::Idempotent) {
                self.place(value, offset)?;
            }
            self.acknowledged.insert(offset, value.clone());
            if let Some(life) = life {
                self.lives.insert(offset, life);
            }
        }
        let end = base + values.len() as i64;
        self.floor.high_watermark = self.floor.high_watermark.max(end);
        Ok(())
    }

    fn held(&self, offset: i64) -> Option<&Bytes> {
        self.seen.get(&offset).map(|seen| &seen.value).or_else(|| self.acknowledged.get(&offset))
    }

    fn place(&mut self, value: &Bytes, offset: i64) -> Verdict {
        let before = self.places.get(value).copied().unwrap_or(offset);
        self.places.insert(value.clone(), before.max(offset));
        ensure(before == offset || self.is_forgotten(before.min(offset)), || {
            format!("{} of an idempotent producer is at {before} and at {offset}", text(Some(value)))
        })
    }

    fn is_forgotten(&self, offset: i64) -> bool {
        self.forgets_deleted && offset < self.delete_asked
    }

    /// A fetch was answered.
    pub fn fetched(&mut self, asked: FetchAsked, answer: &FetchAnswer) -> Verdict {
        let FetchAnswer { high_watermark, last_stable, log_start, ref records } = *answer;
        self.at_high_watermark(asked.floor, high_watermark)?;
        self.at_log_start(asked.floor, log_start)?;
        ensure(log_start <= last_stable && last_stable <= high_watermark, || {
            format!("log start {log_start} ≤ last stable {last_stable} ≤ high watermark {high_watermark} does not hold")
        })?;
        let mut next = records.first().map_or(asked.from, |first| first.offset);
        ensure(next <= asked.from, || format!("a fetch from {} skipped to {next}", asked.from))?;
        for record in records {
            ensure(record.offset == next, || {
                format!("in a fetch from {}, {} follows {}", asked.from, record.offset, next - 1)
            })?;
            next += 1;
            self.saw(record)?;
        }
        ensure(next <= high_watermark.max(asked.from), || {
            format!("record {} was readable with the high watermark at {high_watermark}", next - 1)
        })?;
        ensure(next > asked.from || records.is_empty(), || {
            format!("a fetch from {} brought only records before it", asked.from)
        })?;
        let has_more = asked.from < high_watermark.min(asked.floor.high_watermark);
        ensure(!(asked.alone && has_more && records.is_empty()), || {
            format!("a fetch from {} brought nothing, with the high watermark at {high_watermark}", asked.from)
        })
    }

    /// A fetch was refused because its offset is out of range.
    pub fn out_of_range(&self, asked: FetchAsked) -> Verdict {
        let may = asked.from < self.delete_asked || asked.from > asked.floor.high_watermark;
        ensure(may, || {
            let Floor { high_watermark, .. } = asked.floor;
            format!("offset {} was out of range, with the high watermark at {high_watermark} or above", asked.from)
        })
    }

    fn saw(&mut self, record: &Seen) -> Verdict {
        let Seen { offset, ref value, epoch, producer, sequence, .. } = *record;
        if let Some(before) = self.seen.get(&offset) {
            return ensure(before == record, || format!("offset {offset} was {before:?} and became {record:?}"));
        }
        let told = self.acknowledged.get(&offset);
        ensure(told.is_none_or(|told| told == value), || {
            format!("{} was acknowledged at {offset}, where {} is", text(told), text(Some(value)))
        })?;
        let kind = self.attempts.get(value).copied();
        ensure(kind.is_some(), || format!("{} at {offset} was never sent here", text(Some(value))))?;
        ensure(kind != Some(Kind::Forbidden), || {
            format!("{} at {offset} was appended, though its sequence leaves a gap", text(Some(value)))
        })?;
        if kind == Some(Kind::Idempotent) {
            self.place(value, offset)?;
        }
        if producer >= 0 {
            let before = self.sequences.get(&(producer, sequence)).copied().unwrap_or(offset);
            self.sequences.insert((producer, sequence), before.max(offset));
            ensure(before == offset || self.is_forgotten(before.min(offset)), || {
                format!("sequence {sequence} of producer {producer} is at {before} and at {offset}")
            })?;
        }
        let before = self.seen.range(..offset).next_back().map(|(_, seen)| (seen.offset, seen.epoch));
        let after = self.seen.range(offset..).next().map(|(_, seen)| (seen.offset, seen.epoch));
        let ascends = before.is_none_or(|(_, lower)| lower <= epoch) && after.is_none_or(|(_, upper)| epoch <= upper);
        ensure(ascends, || format!("epoch {epoch} at {offset} lies between {before:?} and {after:?}"))?;
        self.seen.insert(offset, record.clone());
        Ok(())
    }

    /// The high watermark, in whatever answer.
    pub fn at_high_watermark(&mut self, floor: Floor, answered: i64) -> Verdict {
        self.floor.high_watermark = self.floor.high_watermark.max(answered);
        ensure(answered >= floor.high_watermark, || {
            format!("the high watermark went back from {} to {answered}", floor.high_watermark)
        })
    }

    /// The log start, in whatever answer. It becomes certain only with the answer to DeleteRecords.
    pub fn at_log_start(&mut self, floor: Floor, answered: i64) -> Verdict {
        ensure(answered >= floor.log_start, || {
            format!("the log start went back from {} to {answered}", floor.log_start)
        })?;
        ensure(answered <= self.delete_asked, || {
            format!("the log starts at {answered}, and deletion was asked for below {} only", self.delete_asked)
        })
    }

    /// The leader epoch, in whatever answer.
    pub fn at_leader_epoch(&mut self, floor: Floor, answered: i32) -> Verdict {
        self.floor.leader_epoch = self.floor.leader_epoch.max(answered);
        ensure(answered >= floor.leader_epoch, || {
            format!("the leader epoch went back from {} to {answered}", floor.leader_epoch)
        })
    }

    /// DeleteRecords is about to ask for everything below `offset` to go.
    pub fn delete(&mut self, offset: i64) {
        self.delete_asked = self.delete_asked.max(offset);
    }

    /// DeleteRecords was answered.
    pub fn deleted(&mut self, offset: i64, floor: Floor, low_watermark: i64) -> Verdict {
        self.at_log_start(floor, low_watermark)?;
        self.floor.log_start = self.floor.log_start.max(low_watermark);
        ensure(low_watermark >= offset, || format!("deleting below {offset} left the low watermark at {low_watermark}"))
    }

    /// ListOffsets found `found` as the first record at or after `timestamp`.
    pub fn at_timestamp(&self, timestamp: i64, known: i64, found: Option<(i64, i64)>) -> Verdict {
        let from = self.delete_asked;
        let first = self.seen.range(from..known.max(from)).find(|(_, seen)| seen.timestamp >= timestamp);
        match (first, found) {
            (Some((first, _)), None) => Err(format!("no record at or after time {timestamp}, but {first} is")),
            (Some((first, _)), Some((offset, _))) if offset > *first => {
                Err(format!("the first record at or after time {timestamp} was {offset}, but {first} is one"))
            }
            (_, Some((offset, at))) => {
                let shown = self.seen.get(&offset).map_or(at, |seen| seen.timestamp);
                ensure(at >= timestamp && shown == at, || {
                    format!("offset {offset} was found for time {timestamp} with {at}, and has {shown}")
                })
            }
            (None, None) => Ok(()),
        }
    }

    /// The end of the seen part that a lookup by timestamp must know of.
    pub fn seen_end(&self) -> i64 {
        self.seen.keys().next_back().map_or(0, |last| last + 1)
    }

    /// Everything was read from `log_start` to `end`, and nothing is going on any more.
    pub fn audit(&self, log_start: i64, end: i64, read: &BTreeMap<i64, Bytes>) -> Verdict {
        ensure(end >= self.floor.high_watermark, || {
            format!("the log ends at {end}, the high watermark was {}", self.floor.high_watermark)
        })?;
        let expected = log_start..end;
        ensure(read.keys().copied().eq(expected.clone()), || {
            format!("the log {expected:?} has holes, or more in it, when it is read")
        })?;
        for (offset, value) in self.acknowledged.range(log_start..) {
            ensure(read.get(offset) == Some(value), || {
                format!("{} was acknowledged at {offset}, where {} is", text(Some(value)), text(read.get(offset)))
            })?;
        }
        let lost = self.seen.range(end..).next();
        ensure(lost.is_none(), || format!("{lost:?} was read and is gone"))?;
        self.audit_sequences(log_start)?;
        self.audit_lives()?;
        self.epochs.audit(&self.seen)
    }

    /// The sequences of every producer ascend without a gap along the offsets.
    fn audit_sequences(&self, log_start: i64) -> Verdict {
        let mut next: BTreeMap<i64, i32> = BTreeMap::new();
        for seen in self.seen.range(log_start..).map(|(_, seen)| seen).filter(|seen| seen.producer >= 0) {
            // What comes first may follow what was deleted.
            let expected = match next.get(&seen.producer) {
                Some(&expected) => Some(expected),
                None => (log_start == 0).then_some(0),
            };
            ensure(expected.is_none_or(|expected| expected == seen.sequence), || {
                format!("sequence {} at {}, expected {expected:?}", seen.sequence, seen.offset)
            })?;
            next.insert(seen.producer, seen.sequence + 1);
        }
        Ok(())
    }

    /// No leader epoch was used in two lives of the broker.
    fn audit_lives(&self) -> Verdict {
        let mut life_of: BTreeMap<i32, u32> = BTreeMap::new();
        for (offset, &life) in &self.lives {
            let Some(seen) = self.seen.get(offset) else { continue };
            let first = *life_of.entry(seen.epoch).or_insert(life);
            ensure(first == life, || format!("epoch {} was used in lives {first} and {life}", seen.epoch))?;
        }
        Ok(())
    }
}

/// The readable part of a value.
pub fn text(value: Option<&Bytes>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(value) => {
            let end = value.iter().position(|&byte| byte == b'.').unwrap_or(value.len());
            String::from_utf8_lossy(&value[..end]).into_owned()
        }
    }
}
