//! The `TimeoutMs` of requests that change metadata.
//!
//! Invariant: a timeout only ends the waiting. What was asked goes on and may still succeed, as in Kafka.

use std::future::Future;
use std::time::Duration;

use crate::api::Services;
use crate::error::{ApiError, ErrorCode};

/// Milliseconds of a request field as a duration; negative counts as zero.
pub fn millis(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

impl Services {
    /// What `asked` of the metadata answers, or `RequestTimedOut` after `timeout_ms`. Waits until this broker acts on
    /// the outcome, so that a client which asked here finds its new topic hosted.
    pub async fn within<T>(
        &self,
        timeout_ms: i32,
        asked: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let acted_upon = async {
            let answer = asked.await;
            if answer.is_ok() {
                self.partitions.reconciled_to(self.metadata.image().index.next_offset).await;
            }
            answer
        };
        let timed_out = Err(ErrorCode::RequestTimedOut.into());
        self.env.timeout(millis(timeout_ms), acted_upon).await.unwrap_or(timed_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_timeouts_are_zero() {
        assert_eq!(millis(-1), Duration::ZERO);
        assert_eq!(millis(1500), Duration::from_millis(1500));
    }
}
