//! Histograms by powers of two, with the interface that openraft asks of `base2histogram`.
//!
//! The crate of that name builds 28 MB of tables when the first histogram is made, half of what an idle broker took.
//! Here a value is counted by the number of its bits: 65 counters, no table.

use std::fmt;
use std::marker::PhantomData;

const BUCKETS: usize = 65;

/// Counts of values by their number of bits. `T` is not used; it is part of the interface.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Box<[u64; BUCKETS]>,
    data: PhantomData<T>,
}

/// Percentiles: each is the largest value of the bucket that it falls into.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl<T> Default for Histogram<T> {
    fn default() -> Histogram<T> {
        Histogram { counts: Box::new([0; BUCKETS]), data: PhantomData }
    }
}

impl<T> Histogram<T> {
    pub fn new() -> Histogram<T> {
        Histogram::default()
    }

    /// Counts `value` once.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = &mut self.counts[(u64::BITS - value.leading_zeros()) as usize];
        *bucket = bucket.saturating_add(count);
    }

    /// Values counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The largest value of the bucket in which the share `rank` of all values ends; 0 if nothing was counted.
    pub fn percentile(&self, rank: f64) -> u64 {
        let wanted = (self.total() as f64 * rank).ceil() as u64;
        let mut seen = 0u64;
        for (bits, count) in self.counts.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if *count > 0 && seen >= wanted {
                return u64::MAX.checked_shr(u64::BITS - bits as u32).unwrap_or(0);
            }
        }
        0
    }

    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

impl<T> fmt::Debug for Histogram<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.percentile_stats(), f)
    }
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Several histograms, each with its name: a line for each.
pub struct AsciiChart<T = ()>(Vec<(String, Histogram<T>)>);

impl<T> Default for AsciiChart<T> {
    fn default() -> AsciiChart<T> {
        AsciiChart(Vec::new())
    }
}

impl<T> AsciiChart<T> {
    pub fn new() -> AsciiChart<T> {
        AsciiChart::default()
    }

    /// Adds a line.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram<T>) -> AsciiChart<T> {
        self.0.push((name.into(), histogram));
        self
    }
}

impl<T> fmt::Display for AsciiChart<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, histogram)| writeln!(f, "{name}: {}", histogram.percentile_stats()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_upper_ends_of_their_buckets() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile(0.5), 0);
        histogram.record_n(5, 98);
        histogram.record(1000);
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p50, stats.p99, stats.p99_9), (100, 7, 1023, u64::MAX));
        histogram.record_n(0, 1000);
        assert_eq!(histogram.percentile(0.5), 0);
    }
}
