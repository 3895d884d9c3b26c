//! How fast something happened lately, and how long to wait until it was slow enough (`Rate`, `SampledStat`,
//! `TokenBucket`, `QuotaUtils`).
//!
//! Invariants: at most `count` + 1 samples are held; what is older than all windows together counts no more. Times are
//! milliseconds from any fixed moment; one that is a little late counts as now. Pure.

/// How long is looked back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Windows {
    /// `quota.window.num`: the current window included.
    pub count: usize,
    /// `quota.window.size.seconds`, in milliseconds.
    pub window_ms: u64,
}

impl Windows {
    /// What the settings ask for.
    pub fn of(count: i32, seconds: i32) -> Windows {
        Windows { count: count.max(1) as usize, window_ms: seconds.max(1) as u64 * 1000 }
    }

    /// Seconds that are whole windows: what is surely looked back on.
    pub fn whole_seconds(&self) -> f64 {
        (self.count - 1) as f64 * self.window_ms as f64 / 1000.0
    }
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    started_ms: u64,
    last_ms: u64,
    sum: f64,
    events: u64,
}

impl Sample {
    fn new(now_ms: u64) -> Sample {
        Sample { started_ms: now_ms, last_ms: now_ms, sum: 0.0, events: 0 }
    }
}

/// Values of the last few windows.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    samples: Vec<Sample>,
    current: usize,
}

impl Samples {
    /// Adds a value; a negative one takes back what was added before.
    pub fn record(&mut self, windows: Windows, value: f64, now_ms: u64) {
        if self.samples.is_empty() {
            self.samples.push(Sample::new(now_ms));
        } else if now_ms.saturating_sub(self.samples[self.current].started_ms) >= windows.window_ms {
            self.advance(windows, now_ms);
        }
        let sample = &mut self.samples[self.current];
        sample.sum += value;
        sample.events += 1;
        sample.last_ms = sample.last_ms.max(now_ms);
    }

    /// One sample more than there are windows: the oldest one overlaps the time that is looked back on.
    fn advance(&mut self, windows: Windows, now_ms: u64) {
        self.current = (self.current + 1) % (windows.count + 1);
        match self.samples.get_mut(self.current) {
            Some(sample) => *sample = Sample::new(now_ms),
            None => self.samples.push(Sample::new(now_ms)),
        }
    }

    /// The sum per second.
    pub fn rate(&mut self, windows: Windows, now_ms: u64) -> f64 {
        let span_ms = self.span_ms(windows, now_ms);
        self.samples.iter().map(|sample| sample.sum).sum::<f64>() / (span_ms as f64 / 1000.0)
    }

    /// The mean of the values; `None` without any.
    pub fn mean(&mut self, windows: Windows, now_ms: u64) -> Option<f64> {
        self.purge(windows, now_ms);
        let events: u64 = self.samples.iter().map(|sample| sample.events).sum();
        (events > 0).then(|| self.samples.iter().map(|sample| sample.sum).sum::<f64>() / events as f64)
    }

    /// The time that the sum stands for: all windows but the current one, and what has passed of that one. Less would
    /// make the first values look like a rate that nobody reached.
    pub fn span_ms(&mut self, windows: Windows, now_ms: u64) -> u64 {
        self.purge(windows, now_ms);
        let oldest_ms = self.samples.iter().map(|sample| sample.started_ms).min().unwrap_or(now_ms);
        let elapsed_ms = now_ms.saturating_sub(oldest_ms);
        let (whole, least) = (elapsed_ms / windows.window_ms, windows.count as u64 - 1);
        (elapsed_ms + least.saturating_sub(whole) * windows.window_ms).max(1)
    }

    fn purge(&mut self, windows: Windows, now_ms: u64) {
        let age_max_ms = windows.count as u64 * windows.window_ms;
        for sample in &mut self.samples {
            if now_ms.saturating_sub(sample.last_ms) >= age_max_ms {
                *sample = Sample::new(now_ms);
            }
        }
    }

    /// Milliseconds after which the rate is down to `bound`, if nothing more comes: with a rate R over a span S, the X
    /// in R × S ÷ (S + X) = bound. 0 if it is not above it.
    pub fn wait_ms(&mut self, windows: Windows, bound: f64, now_ms: u64) -> u64 {
        let rate = self.rate(windows, now_ms);
        if rate <= bound {
            return 0;
        }
        let wait_ms = (rate - bound) / bound * self.span_ms(windows, now_ms) as f64;
        wait_ms.round() as u64
    }
}

/// Tokens that come back at a steady rate. Taking may leave a debt, which is paid off before anyone takes again.
#[derive(Clone, Debug, Default)]
pub struct TokenBucket {
    /// `None` until it was first filled to the brim.
    filled: Option<(f64, u64)>,
}

impl TokenBucket {
    /// The tokens there are now, if `rate` come back a second.
    pub fn tokens(&mut self, windows: Windows, rate: f64, now_ms: u64) -> f64 {
        let brim = windows.count as f64 * (windows.window_ms as f64 / 1000.0) * rate;
        let tokens = match self.filled {
            Some((tokens, at_ms)) => tokens + rate * now_ms.saturating_sub(at_ms) as f64 / 1000.0,
            None => brim,
        };
        let at_ms = self.filled.map_or(now_ms, |(_, at_ms)| at_ms.max(now_ms));
        self.filled = Some((tokens.min(brim), at_ms));
        tokens.min(brim)
    }

    /// Takes tokens, into debt if need be.
    pub fn take(&mut self, windows: Windows, rate: f64, count: f64, now_ms: u64) {
        let left = self.tokens(windows, rate, now_ms) - count;
        self.filled = self.filled.map(|(_, at_ms)| (left, at_ms));
    }

    /// Milliseconds until no debt is left.
    pub fn wait_ms(&mut self, windows: Windows, rate: f64, now_ms: u64) -> u64 {
        let tokens = self.tokens(windows, rate, now_ms);
        if tokens < 0.0 { (-tokens / rate * 1000.0).round() as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELEVEN: Windows = Windows { count: 11, window_ms: 1000 };

    #[test]
    fn the_first_second_counts_as_eleven_windows() {
        let mut samples = Samples::default();
        samples.record(ELEVEN, 1000.0, 0);
        assert_eq!(samples.span_ms(ELEVEN, 0), 10_000);
        assert_eq!(samples.rate(ELEVEN, 0), 100.0);
        assert_eq!(samples.rate(ELEVEN, 500), 1000.0 / 10.5);
        assert_eq!(samples.wait_ms(ELEVEN, 100.0, 0), 0, "at the bound is not above it");
        assert_eq!(samples.wait_ms(ELEVEN, 50.0, 0), 10_000);
        samples.record(ELEVEN, -1000.0, 500);
        assert_eq!(samples.rate(ELEVEN, 500), 0.0);
    }

    /// The numbers of Kafka's `ClientQuotaManagerTest.testQuotaViolation`: 400 a second, then 2300 at once, where 500
    /// are allowed.
    #[test]
    fn the_wait_is_kafkas() {
        let mut samples = Samples::default();
        let mut now_ms = 0;
        let record = |samples: &mut Samples, value, now_ms| {
            samples.record(ELEVEN, value, now_ms);
            samples.wait_ms(ELEVEN, 500.0, now_ms)
        };
        for _ in 0..10 {
            assert_eq!(record(&mut samples, 400.0, now_ms), 0);
            now_ms += 1000;
        }
        now_ms += 500;
        // 400 × 10 + 2300 over 10.5 s is 600 a second: (600 - 500) ÷ 500 × 10.5 s.
        assert_eq!(record(&mut samples, 2300.0, now_ms), 2100);
        now_ms += 2100;
        for _ in 0..10 {
            record(&mut samples, 400.0, now_ms);
            now_ms += 1000;
        }
        assert_eq!(record(&mut samples, 0.0, now_ms), 0, "the burst is behind the windows");
    }

    #[test]
    fn a_steady_stream_that_waits_as_told_comes_out_at_the_bound() {
        let (mut samples, mut now_ms, mut sum) = (Samples::default(), 0, 0.0);
        while now_ms < 60_000 {
            samples.record(ELEVEN, 50_000.0, now_ms);
            sum += 50_000.0;
            now_ms += 3 + samples.wait_ms(ELEVEN, 100_000.0, now_ms);
        }
        let rate = sum / now_ms as f64 * 1000.0;
        // The first windows let a burst of ten seconds pass.
        assert!((100_000.0..=121_000.0).contains(&rate), "{rate}");
    }

    #[test]
    fn silence_is_forgotten() {
        let mut samples = Samples::default();
        samples.record(ELEVEN, 1e9, 0);
        assert_eq!(samples.rate(ELEVEN, 11_000), 0.0);
        assert_eq!(samples.samples.len(), 1);
        for second in 0..100 {
            samples.record(ELEVEN, 1.0, second * 1000);
        }
        assert_eq!(samples.samples.len(), 12);
    }

    #[test]
    fn means_are_of_what_was_recorded() {
        let mut samples = Samples::default();
        assert_eq!(samples.mean(ELEVEN, 0), None);
        samples.record(ELEVEN, 10.0, 0);
        samples.record(ELEVEN, 20.0, 1500);
        assert_eq!(samples.mean(ELEVEN, 1500), Some(15.0));
        assert_eq!(samples.mean(ELEVEN, 60_000), None);
    }

    /// The numbers of Kafka's `TokenBucketTest`: five a second over ten windows of two seconds.
    #[test]
    fn a_bucket_gives_a_burst_and_then_its_rate() {
        let windows = Windows { count: 10, window_ms: 2000 };
        let mut bucket = TokenBucket::default();
        assert_eq!(bucket.tokens(windows, 5.0, 0), 100.0);
        bucket.take(windows, 5.0, 60.0, 0);
        assert_eq!(bucket.tokens(windows, 5.0, 0), 40.0);
        assert_eq!(bucket.tokens(windows, 5.0, 2000), 50.0);
        bucket.take(windows, 5.0, 75.0, 2000);
        assert_eq!((bucket.tokens(windows, 5.0, 2000), bucket.wait_ms(windows, 5.0, 2000)), (-25.0, 5000));
        assert_eq!(bucket.wait_ms(windows, 5.0, 7000), 0);
        assert_eq!(bucket.tokens(windows, 5.0, 100_000), 100.0, "never above the brim");
    }
}
