//! The producers after their log was cut (Kafka's `ProducerStateManager.truncateAndReload`). Pure.
//!
//! Invariant: of a producer that wrote nothing behind the cut, nothing changes. Of the others exactly that is known
//! which the batches before the cut say, as far back as they were read again.

use std::collections::BTreeSet;

use super::{Producer, Producers};
use crate::ids::{Offset, ProducerId};

impl Producers {
    /// The log now ends at `to`. `touched` wrote behind it; `replayed` has noted the batches before it again, not
    /// necessarily from the log's start.
    pub fn rewind(&mut self, to: Offset, touched: &BTreeSet<ProducerId>, mut replayed: Producers) {
        for &id in touched {
            let held = self.producers.remove(&id).map(|held| held.before(to));
            if let Some(next) = merged(held, replayed.producers.remove(&id)) {
                self.producers.insert(id, next);
            }
        }
        self.unreplicated.retain(|_, marker| *marker < to);
        let open = self.producers.iter().filter_map(|(&id, producer)| Some((producer.txn_first_offset?, id)));
        self.ongoing = open.collect();
    }
}

impl Producer {
    /// As far as it is of batches below `to`.
    fn before(mut self, to: Offset) -> Producer {
        self.batches.retain(|batch| batch.last_offset < to);
        self.txn_first_offset = self.txn_first_offset.filter(|&first| first < to);
        self
    }
}

/// What was read again counts; where nothing of the producer was, what is left of the old. An empty rest says nothing:
/// such a producer is new to the log.
fn merged(held: Option<Producer>, replayed: Option<Producer>) -> Option<Producer> {
    match (held, replayed) {
        (Some(held), Some(replayed)) => {
            // A transaction may have begun before what was read again.
            let began = held.txn_first_offset.or(replayed.txn_first_offset);
            Some(Producer { last_seen_ms: held.last_seen_ms, txn_first_offset: began, ..replayed })
        }
        (None, replayed) => replayed,
        (Some(held), None) => Some(held).filter(|held| !held.batches.is_empty() || held.txn_first_offset.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{BatchBuilder, BatchHeader, EndMarker, attributes};

    fn batch(id: ProducerId, epoch: i16, sequence: i32, transactional: bool) -> BatchHeader {
        let mut builder = BatchBuilder::new(0).producer(id, epoch, sequence);
        builder.push(0, None, Some(b"v"), &[]);
        let header = BatchHeader::parse(&builder.build()).unwrap();
        let flag = if transactional { attributes::TRANSACTIONAL } else { 0 };
        BatchHeader { attributes: header.attributes | flag, ..header }
    }

    /// One batch per offset: producer, epoch, sequence, transactional; a negative sequence is a marker.
    fn noted(log: &[(ProducerId, i16, i32, bool)]) -> Producers {
        let mut producers = Producers::new();
        for (offset, &(id, epoch, sequence, transactional)) in log.iter().enumerate() {
            if sequence < 0 {
                let marker = EndMarker { committed: true, coordinator_epoch: 1 };
                let header = BatchHeader::parse(&marker.batch(id, epoch, 0)).unwrap();
                producers.note_marker(&header, marker, offset as Offset, 0);
            } else {
                producers.note(&batch(id, epoch, sequence, transactional), offset as Offset, None, 0);
            }
        }
        producers
    }

    fn check(log: &[(ProducerId, i16, i32, bool)], to: usize) {
        let mut producers = noted(log);
        let touched = log[to..].iter().map(|batch| batch.0).collect();
        producers.rewind(to as Offset, &touched, noted(&log[..to]));
        assert_eq!(producers, noted(&log[..to]), "cut at {to} of {log:?}");
    }

    #[test]
    fn what_is_read_again_from_the_start_is_exact() {
        let log = [
            (1, 0, 0, false),
            (2, 0, 0, true),
            (1, 0, 1, false),
            (2, 0, 1, true),
            (2, 0, -1, true),
            (1, 1, 0, false),
            (3, 0, 7, false),
            (2, 0, 2, true),
        ];
        for to in 0..=log.len() {
            check(&log, to);
        }
    }

    #[test]
    fn without_reading_again_the_batches_before_the_cut_stay_known() {
        let mut producers = noted(&[(1, 0, 0, false), (1, 0, 1, false), (2, 0, 0, false), (1, 0, 2, false)]);
        producers.rewind(2, &BTreeSet::from([1, 2]), Producers::new());
        assert_eq!(producers, noted(&[(1, 0, 0, false), (1, 0, 1, false)]));
    }
}
