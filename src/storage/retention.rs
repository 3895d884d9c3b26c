//! What retention may delete from one log: a plan, executed by the log (Kafka's `UnifiedLog.deleteOldSegments`). Pure.
//!
//! Invariants: the plan never reaches past the high watermark, never moves the log start backwards, and goes from the
//! oldest chunk to the first that must stay, so a chunk with a future timestamp keeps everything behind it.

use crate::ids::{Offset, WallMillis};

/// A run of consecutive batches: the unit of deletion, in the part of Kafka's segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    pub base_offset: Offset,
    /// The first offset after the chunk.
    pub next_offset: Offset,
    pub bytes: u64,
    /// The largest record timestamp in milliseconds, or the time of writing if no record has one. Negative if not
    /// known: such a chunk is kept as far as time goes.
    pub max_timestamp: i64,
}

/// The topic's settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetentionSettings {
    /// `retention.ms`; negative for ever.
    pub retention_ms: i64,
    /// `retention.bytes`; negative without limit.
    pub retention_bytes: i64,
    /// `cleanup.policy` contains `delete`. If not, nothing goes.
    pub delete: bool,
}

/// The new log start, if `chunks` (oldest first) hold something that may go. `log_start` may lie inside a chunk or past
/// several; what is wholly below it no longer counts.
pub fn plan(
    chunks: &[Chunk],
    settings: &RetentionSettings,
    now_ms: WallMillis,
    high_watermark: Offset,
    log_start: Offset,
) -> Option<Offset> {
    if !settings.delete {
        return None;
    }
    let dead = chunks.iter().take_while(|chunk| chunk.next_offset <= log_start).count();
    let mut live = &chunks[dead..];
    let mut total: u64 = live.iter().map(|chunk| chunk.bytes).sum();
    let mut new_start = None;
    while let [oldest, rest @ ..] = live {
        let goes =
            is_too_old(oldest, settings.retention_ms, now_ms) || is_too_much(oldest, settings.retention_bytes, total);
        if !goes || oldest.next_offset > high_watermark {
            break;
        }
        total -= oldest.bytes;
        new_start = Some(oldest.next_offset);
        live = rest;
    }
    new_start
}

fn is_too_old(chunk: &Chunk, retention_ms: i64, now_ms: WallMillis) -> bool {
    retention_ms >= 0 && chunk.max_timestamp >= 0 && now_ms.saturating_sub(chunk.max_timestamp) > retention_ms
}

/// True if enough stays without the chunk.
fn is_too_much(chunk: &Chunk, retention_bytes: i64, total: u64) -> bool {
    u64::try_from(retention_bytes).is_ok_and(|wanted| total - chunk.bytes >= wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;
    const KEEP: RetentionSettings = RetentionSettings { retention_ms: -1, retention_bytes: -1, delete: true };

    /// Chunks of ten offsets and 100 bytes each, with these ages.
    fn aged(ages_ms: &[i64]) -> Vec<Chunk> {
        let chunk = |(index, age_ms): (usize, &i64)| {
            let base_offset = index as Offset * 10;
            Chunk { base_offset, next_offset: base_offset + 10, bytes: 100, max_timestamp: 100 * DAY - age_ms }
        };
        ages_ms.iter().enumerate().map(chunk).collect()
    }

    fn planned(chunks: &[Chunk], settings: RetentionSettings) -> Option<Offset> {
        plan(chunks, &settings, 100 * DAY, 1000, 0)
    }

    #[test]
    fn nothing_goes_without_a_limit_or_the_policy() {
        let chunks = aged(&[99 * DAY, 98 * DAY]);
        assert_eq!(planned(&chunks, KEEP), None);
        let compacted = RetentionSettings { retention_ms: 0, retention_bytes: 0, delete: false };
        assert_eq!(planned(&chunks, compacted), None);
        assert_eq!(planned(&[], RetentionSettings { retention_ms: 0, ..KEEP }), None);
    }

    #[test]
    fn the_old_go_oldest_first() {
        let week = RetentionSettings { retention_ms: 7 * DAY, ..KEEP };
        assert_eq!(planned(&aged(&[9 * DAY, 8 * DAY, 7 * DAY, DAY]), week), Some(20), "seven days are not over seven");
        assert_eq!(planned(&aged(&[9 * DAY, DAY, 8 * DAY]), week), Some(10), "a young chunk keeps what follows");
        assert_eq!(planned(&aged(&[-DAY, 9 * DAY]), week), None, "so does one from the future");
        assert_eq!(planned(&aged(&[9 * DAY, 8 * DAY]), week), Some(20), "the newest chunk may go too");
    }

    #[test]
    fn an_unknown_time_is_not_old() {
        let mut chunks = aged(&[9 * DAY]);
        chunks[0].max_timestamp = -1;
        assert_eq!(planned(&chunks, RetentionSettings { retention_ms: 0, ..KEEP }), None);
    }

    #[test]
    fn what_exceeds_the_size_goes_by_whole_chunks() {
        let chunks = aged(&[0, 0, 0, 0]);
        let bytes = |retention_bytes| planned(&chunks, RetentionSettings { retention_bytes, ..KEEP });
        assert_eq!(bytes(400), None);
        assert_eq!(bytes(301), None, "without the oldest too little would stay");
        assert_eq!(bytes(300), Some(10));
        assert_eq!(bytes(101), Some(20));
        assert_eq!(bytes(0), Some(40));
    }

    #[test]
    fn time_and_size_add_up() {
        let both = RetentionSettings { retention_ms: 7 * DAY, retention_bytes: 200, delete: true };
        assert_eq!(planned(&aged(&[9 * DAY, 0, 0, 0]), both), Some(20));
    }

    #[test]
    fn the_high_watermark_is_the_limit() {
        let rules = RetentionSettings { retention_bytes: 0, ..KEEP };
        let chunks = aged(&[0, 0, 0]);
        for (high_watermark, expected) in [(30, Some(30)), (29, Some(20)), (10, Some(10)), (9, None)] {
            assert_eq!(plan(&chunks, &rules, 100 * DAY, high_watermark, 0), expected, "{high_watermark}");
        }
    }

    #[test]
    fn what_is_below_the_log_start_does_not_count() {
        let rules = RetentionSettings { retention_bytes: 200, ..KEEP };
        let chunks = aged(&[0, 0, 0, 0]);
        assert_eq!(plan(&chunks, &rules, 100 * DAY, 1000, 20), None, "200 bytes are left");
        assert_eq!(plan(&chunks, &rules, 100 * DAY, 1000, 15), Some(20), "a chunk half gone counts in full");
        assert_eq!(plan(&chunks, &rules, 100 * DAY, 1000, 99), None);
    }
}
