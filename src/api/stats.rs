//! How often each API was asked and how long the answers took.
//!
//! Invariant: counters only grow; they are read without stopping the writers, so one reading may be a request apart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Above the highest API key of Kafka 4.3 (92).
const API_KEYS: usize = 128;

/// Counters of every API, by its key.
pub struct ApiStats {
    by_key: Vec<Counters>,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    answers: AtomicU64,
    answer_micros: AtomicU64,
    answer_micros_max: AtomicU64,
}

/// A reading of one API's counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ApiReading {
    /// Requests that reached their handler.
    pub requests: u64,
    /// Responses that were encoded; requests that expect none are not in here.
    pub answers: u64,
    /// Microseconds from the last byte of the request to the encoded response, summed up.
    pub answer_micros: u64,
    /// The longest of them.
    pub answer_micros_max: u64,
}

impl Default for ApiStats {
    fn default() -> ApiStats {
        ApiStats { by_key: std::iter::repeat_with(Counters::default).take(API_KEYS).collect() }
    }
}

impl ApiStats {
    /// Notes that a request is handed to its handler.
    pub fn requested(&self, api_key: i16) {
        if let Some(counters) = self.counters(api_key) {
            counters.requests.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that a response was encoded, `taken` after its request had arrived.
    pub fn answered(&self, api_key: i16, taken: Duration) {
        if let Some(counters) = self.counters(api_key) {
            let micros = taken.as_micros() as u64;
            counters.answers.fetch_add(1, Ordering::Relaxed);
            counters.answer_micros.fetch_add(micros, Ordering::Relaxed);
            counters.answer_micros_max.fetch_max(micros, Ordering::Relaxed);
        }
    }

    /// The counters of one API; all zero for a key that does not exist.
    pub fn read(&self, api_key: i16) -> ApiReading {
        let Some(counters) = self.counters(api_key) else { return ApiReading::default() };
        ApiReading {
            requests: counters.requests.load(Ordering::Relaxed),
            answers: counters.answers.load(Ordering::Relaxed),
            answer_micros: counters.answer_micros.load(Ordering::Relaxed),
            answer_micros_max: counters.answer_micros_max.load(Ordering::Relaxed),
        }
    }

    fn counters(&self, api_key: i16) -> Option<&Counters> {
        self.by_key.get(usize::try_from(api_key).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_add_up() {
        let stats = ApiStats::default();
        stats.requested(3);
        stats.requested(3);
        stats.answered(3, Duration::from_micros(5));
        stats.answered(3, Duration::from_micros(2));
        stats.requested(-1);
        stats.requested(i16::MAX);
        let expected = ApiReading { requests: 2, answers: 2, answer_micros: 7, answer_micros_max: 5 };
        assert_eq!(stats.read(3), expected);
        assert_eq!(stats.read(4), ApiReading::default());
    }
}
