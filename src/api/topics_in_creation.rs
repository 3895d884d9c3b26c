//! Topics this broker has asked the quorum to create on its own account and has no answer for yet.
//!
//! Invariants: a topic is asked for once at a time, however many clients miss it. A claim ends when it is dropped, so a
//! cancelled or panicking creation never blocks the next one.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::ids::TopicName;

/// The names being created. Cheap to clone: clones are one set.
#[derive(Clone, Default)]
pub struct TopicsInCreation(Arc<Inner>);

#[derive(Default)]
struct Inner {
    names: Mutex<BTreeSet<TopicName>>,
    released: Notify,
}

/// The right to create one topic.
pub struct Claim {
    topics: TopicsInCreation,
    name: TopicName,
}

impl TopicsInCreation {
    /// The right to create `name`, unless someone holds it.
    pub fn claim(&self, name: &str) -> Option<Claim> {
        let name = TopicName::from(name);
        let claimed = self.0.names.lock().insert(Arc::clone(&name));
        claimed.then(|| Claim { topics: self.clone(), name })
    }

    /// Waits until nobody is creating `name`.
    pub async fn released(&self, name: &str) {
        loop {
            // Made before the look at the set: a release in between wakes it all the same.
            let released = self.0.released.notified();
            if !self.0.names.lock().contains(name) {
                return;
            }
            released.await;
        }
    }
}

impl Claim {
    /// The topic that may be created.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.topics.0.names.lock().remove(&self.name);
        self.topics.0.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn a_topic_is_claimed_once_at_a_time() {
        let topics = TopicsInCreation::default();
        let claim = topics.claim("a").expect("nobody holds it");
        assert!(topics.claim("a").is_none());
        assert!(topics.claim("b").is_some());

        let mut waiting = std::pin::pin!(topics.released("a"));
        let first_look = std::future::poll_fn(|task| Poll::Ready(waiting.as_mut().poll(task))).await;
        assert!(first_look.is_pending());
        drop(claim);
        waiting.await;
        assert!(topics.claim("a").is_some());
    }
}
