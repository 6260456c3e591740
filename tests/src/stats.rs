//! Percentiles of what was measured.

use serde::Serialize;
use std::time::Duration;

/// Every sample, kept: a run has at most some millions, and sorting them once is exact.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    micros: Vec<u64>,
}

impl Samples {
    /// Adds one.
    pub fn record(&mut self, sample: Duration) {
        self.micros.push(u64::try_from(sample.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Self) {
        self.micros.extend_from_slice(&other.micros);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.micros.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.micros.is_empty()
    }

    /// Returns the percentiles.
    pub fn summary(&self) -> Summary {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let at = |share: f64| {
            // Nearest rank: the smallest sample that at least this share of all does not exceed.
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted
                .get(rank.saturating_sub(1))
                .map_or(0.0, |micros| *micros as f64 / 1000.0)
        };
        Summary {
            count: sorted.len(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: at(1.0),
        }
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(samples: I) -> Self {
        let mut all = Self::default();
        samples.into_iter().for_each(|sample| all.record(sample));
        all
    }
}

/// Percentiles in milliseconds; zeros when there was no sample.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Summary {
    /// Samples.
    pub count: usize,
    /// Half of them took at most this.
    pub p50_ms: f64,
    /// 99 in 100.
    pub p99_ms: f64,
    /// 999 in 1000.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            count,
            p50_ms,
            p99_ms,
            p999_ms,
            max_ms,
        } = self;
        write!(
            f,
            "p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, p99.9 {p999_ms:.1} ms, max {max_ms:.1} ms ({count} samples)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_and_not_something_between() {
        let samples: Samples = (1..=200).rev().map(Duration::from_millis).collect();
        let summary = samples.summary();
        assert_eq!(
            (summary.p50_ms, summary.p99_ms, summary.p999_ms, summary.max_ms),
            (100.0, 198.0, 200.0, 200.0)
        );
        let one: Samples = [Duration::from_micros(1500)].into_iter().collect();
        assert_eq!((one.summary().p50_ms, one.summary().max_ms), (1.5, 1.5));
        assert_eq!(Samples::default().summary().p99_ms, 0.0);
    }
}
