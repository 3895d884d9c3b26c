//! The newest image, for everybody who reads, and the newest rounds, for nodes that follow from outside the quorum.
//!
//! Invariants: an image is replaced only by a newer one, be it raft or a pull from another node that made it; the kept
//! rounds follow each other without a gap and end at the newest image, or there are none.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::metadata::image::{ClusterImage, ImageIndex};
use crate::metadata::quorum::types::EncodedRound;
use crate::metadata::record::MetadataRecord;

/// Bytes of rounds that are kept; who is further behind gets the whole image.
const KEPT_BYTES: usize = 4 << 20;

/// Bytes of rounds that are handed out at once, but for one that is larger.
const HANDED_OUT_BYTES: usize = 1 << 20;

/// What a round weighs beside its bytes.
const ROUND_WEIGHT: usize = 64;

/// The newest image.
pub struct Published {
    image: ArcSwap<ClusterImage>,
    news: watch::Sender<Arc<ClusterImage>>,
    /// The first entry of the raft log that is not part of the image.
    next_entry: AtomicU64,
    kept: Mutex<Kept>,
    /// What a restart would have to replay.
    pub(super) log_weight: AtomicU64,
    /// What a restart would have to read besides.
    pub(super) snapshot_bytes: AtomicU64,
    unclean_elections: AtomicU64,
}

/// The newest rounds, each with the index of the image that it made into the next.
#[derive(Default)]
struct Kept {
    rounds: VecDeque<(ImageIndex, EncodedRound)>,
    /// The index after the last of them.
    end: ImageIndex,
    bytes: usize,
}

impl Published {
    pub fn new(image: ClusterImage, next_entry: u64, snapshot_bytes: u64) -> Arc<Published> {
        let image = Arc::new(image);
        Arc::new(Published {
            image: ArcSwap::new(image.clone()),
            news: watch::Sender::new(image),
            next_entry: AtomicU64::new(next_entry),
            kept: Mutex::default(),
            log_weight: AtomicU64::new(0),
            snapshot_bytes: AtomicU64::new(snapshot_bytes),
            unclean_elections: AtomicU64::new(0),
        })
    }

    /// Counts the leaders that `records` elect uncleanly (Kafka's `ControllerMetricsChanges`).
    pub(super) fn count_elections(&self, records: &[MetadataRecord]) {
        let is_unclean = |record: &&MetadataRecord| match record {
            MetadataRecord::PartitionChange { change, .. } => change.recovering == Some(true),
            _ => false,
        };
        let count = records.iter().filter(is_unclean).count();
        self.unclean_elections.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(in crate::metadata) fn unclean_elections(&self) -> u64 {
        self.unclean_elections.load(Ordering::Relaxed)
    }

    /// The newest image.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.image.load_full()
    }

    /// Hears of every newer image; images in between may be skipped.
    pub fn watch(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.news.subscribe()
    }

    /// True once for each time the log has become heavier than the snapshot, and than `at_least`.
    pub fn snapshot_is_due(&self, at_least: u64) -> bool {
        let limit = self.snapshot_bytes.load(Ordering::Relaxed).max(at_least);
        self.log_weight.load(Ordering::Relaxed) > limit && self.log_weight.swap(0, Ordering::Relaxed) > limit
    }

    /// Publishes an image unless there is a newer one.
    pub fn publish(&self, image: Arc<ClusterImage>) {
        self.news.send_if_modified(|newest| {
            let is_newer = image.index.next_offset > newest.index.next_offset;
            if is_newer {
                self.image.store(image.clone());
                *newest = image;
            }
            is_newer
        });
    }

    /// Keeps a round that was decided from `stamp` and led to `next`.
    pub fn keep(&self, stamp: ImageIndex, round: EncodedRound, next: ImageIndex) {
        let mut kept = self.kept.lock();
        if kept.end != stamp {
            *kept = Kept::default();
        }
        kept.bytes += round.0.len() + ROUND_WEIGHT;
        kept.rounds.push_back((stamp, round));
        kept.end = next;
        while kept.bytes > KEPT_BYTES {
            let Some((_, oldest)) = kept.rounds.pop_front() else { return };
            kept.bytes -= oldest.0.len() + ROUND_WEIGHT;
        }
    }

    /// The kept rounds after `index`, as many as are handed out at once, and whether they reach the newest kept one;
    /// `None` if that is too long ago.
    pub fn since(&self, index: ImageIndex) -> Option<(Vec<EncodedRound>, bool)> {
        let kept = self.kept.lock();
        let first = kept.rounds.binary_search_by_key(&index.next_offset, |(stamp, _)| stamp.next_offset).ok()?;
        if kept.rounds[first].0 != index {
            return None;
        }
        let (mut rounds, mut bytes) = (Vec::new(), 0);
        for (_, round) in kept.rounds.range(first..) {
            if bytes > HANDED_OUT_BYTES {
                return Some((rounds, false));
            }
            bytes += round.0.len() + ROUND_WEIGHT;
            rounds.push(round.clone());
        }
        Some((rounds, true))
    }

    /// The first entry of the raft log that is not part of the image.
    pub fn next_entry(&self) -> u64 {
        self.next_entry.load(Ordering::Acquire)
    }

    /// Notes how far the raft log has been applied.
    pub fn applied(&self, next_entry: u64) {
        self.next_entry.fetch_max(next_entry, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(next_offset: i64) -> ImageIndex {
        ImageIndex { controller_epoch: 1, next_offset }
    }

    fn round(bytes: usize) -> EncodedRound {
        EncodedRound(vec![0; bytes])
    }

    #[test]
    fn who_is_close_gets_rounds_and_who_is_not_gets_none() {
        let published = Published::new(ClusterImage::default(), 0, 0);
        for at in 0..10 {
            published.keep(index(at), round(at as usize), index(at + 1));
        }
        let lengths = |from: i64| {
            published.since(index(from)).map(|(rounds, _)| rounds.iter().map(|round| round.0.len()).collect::<Vec<_>>())
        };
        assert_eq!(lengths(7), Some(vec![7, 8, 9]));
        assert_eq!(lengths(10), None, "nothing comes after the newest");
        assert_eq!(lengths(-1), None);
        let other_epoch = ImageIndex { controller_epoch: 2, next_offset: 7 };
        assert!(published.since(other_epoch).is_none());
        published.keep(index(20), round(1), index(21));
        assert_eq!((lengths(7), lengths(20)), (None, Some(vec![1])), "a gap takes what was before it");
    }

    #[test]
    fn unclean_elections_are_counted_and_nothing_else() {
        use crate::ids::KafkaUuid;
        use crate::metadata::partition::PartitionChange;
        let published = Published::new(ClusterImage::default(), 0, 0);
        let record = |recovering| {
            let change = PartitionChange { recovering, ..PartitionChange::default() };
            MetadataRecord::PartitionChange { topic: KafkaUuid(101), index: 0, change }
        };
        published.count_elections(&[record(None), record(Some(true)), record(Some(false)), record(Some(true))]);
        assert_eq!(published.unclean_elections(), 2);
    }

    #[test]
    fn what_is_kept_and_handed_out_is_bounded() {
        let published = Published::new(ClusterImage::default(), 0, 0);
        for at in 0..100 {
            published.keep(index(at), round(KEPT_BYTES / 10), index(at + 1));
        }
        assert!(published.since(index(80)).is_none());
        let (rounds, all) = published.since(index(95)).unwrap();
        assert!(!all && rounds.len() == 3, "{}", rounds.len());
        assert!(published.since(index(99)).unwrap().1);
    }

    #[test]
    fn an_older_image_replaces_nothing() {
        let image = |at: i64| Arc::new(ClusterImage { index: index(at), ..ClusterImage::default() });
        let published = Published::new(ClusterImage::default(), 0, 0);
        published.publish(image(5));
        published.publish(image(3));
        assert_eq!((published.image().index, published.watch().borrow().index), (index(5), index(5)));
    }
}
