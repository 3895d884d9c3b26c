//! Which shards of an internal topic live on this broker, and which of them owns a key.
//!
//! Invariants: at most one shard per partition; starting another stops the first. The map is a snapshot that is swapped
//! whole, so asking takes no lock. An ask is in its shard's mailbox when [`Shards::ask`] returns: two asks of one
//! caller are decided in the order in which they were made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future;

use super::group::GroupShard;
use super::runtime::{HostedShard, Images};
use super::shard::{Journal, Shard};
use crate::env::{BoxFuture, Env};
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, TopicPartition, coordinator_partition};

/// The group coordinator of this broker: the shards of `__consumer_offsets` that it leads.
pub type GroupCoordinator = Shards<GroupShard>;

/// The shards of one internal topic on this broker. Cheap to clone.
pub struct Shards<S: Shard>(Arc<Inner<S>>);

struct Inner<S: Shard> {
    env: Env,
    topic: &'static str,
    images: Images,
    patience: Duration,
    make: Arc<dyn Fn() -> S + Send + Sync>,
    hosted: ArcSwap<BTreeMap<PartitionIndex, Arc<HostedShard<S>>>>,
}

impl<S: Shard> Clone for Shards<S> {
    fn clone(&self) -> Shards<S> {
        Shards(self.0.clone())
    }
}

impl<S: Shard> Shards<S> {
    /// No shards yet. `topic` is the internal topic they live in, `make` makes the empty machine a shard loads into. An
    /// answer waits for `patience` at most until it is committed (`offsets.commit.timeout.ms`).
    pub fn new(
        env: &Env,
        topic: &'static str,
        images: Images,
        patience: Duration,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Shards<S> {
        let (env, make) = (env.clone(), Arc::new(make));
        Shards(Arc::new(Inner { env, topic, images, patience, make, hosted: ArcSwap::default() }))
    }

    /// This broker leads `partition`: its shard starts to load from `journal` and then serves. A shard of an earlier
    /// leadership is stopped.
    pub fn start(&self, partition: PartitionIndex, journal: Arc<dyn Journal>) {
        let Inner { env, topic, images, patience, make, hosted } = &*self.0;
        let name = TopicPartition::new(*topic, partition);
        let shard = Arc::new(HostedShard::start(name, env, journal, images.clone(), *patience, make.clone()));
        let before = hosted.rcu(|hosted| {
            let mut next = (**hosted).clone();
            next.insert(partition, shard.clone());
            next
        });
        if let Some(earlier) = before.get(&partition) {
            earlier.stop();
        }
    }

    /// This broker leads `partition` no longer: its shard is dropped, and all it had not answered is answered with
    /// `NotCoordinator`.
    pub fn stop(&self, partition: PartitionIndex) {
        let before = self.0.hosted.rcu(|hosted| {
            let mut next = (**hosted).clone();
            next.remove(&partition);
            next
        });
        if let Some(stopped) = before.get(&partition) {
            stopped.stop();
        }
    }

    /// Asks the shard that owns `key` (a group id); the future resolves to its answer, which may be a refusal made
    /// with [`Shard::refuse`]. The error is that of a key without a shard here, `NotCoordinator`: another broker leads
    /// the key's partition, or the internal topic does not exist yet (`CoordinatorRuntime`).
    pub fn ask(&self, key: &str, ask: S::Ask) -> BoxFuture<'static, Result<S::Answer, ErrorCode>> {
        match self.owner(key) {
            Ok(shard) => {
                let answer = shard.ask(ask);
                Box::pin(async move { Ok(answer.await) })
            }
            Err(code) => Box::pin(future::ready(Err(code))),
        }
    }

    /// Asks every shard on this broker the same; the answers are in the order of the partitions. A shard that is
    /// loading answers with a refusal like any other.
    pub fn ask_all(&self, ask: impl Fn() -> S::Ask) -> BoxFuture<'static, Vec<S::Answer>> {
        let hosted = self.0.hosted.load();
        let answers: Vec<_> = hosted.values().map(|shard| shard.ask(ask())).collect();
        Box::pin(future::join_all(answers))
    }

    fn owner(&self, key: &str) -> Result<Arc<HostedShard<S>>, ErrorCode> {
        let image = (self.0.images)();
        let topic = image.topics.by_name(self.0.topic).ok_or(ErrorCode::NotCoordinator)?;
        let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let partition = coordinator_partition(key, partitions);
        self.0.hosted.load().get(&partition).cloned().ok_or(ErrorCode::NotCoordinator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::toy::{MemoryJournal, Toy, ToyAnswer, ToyAsk, batch, env, images, put};

    fn shards() -> Shards<Toy> {
        Shards::new(&env(), "__toys", images(), Duration::from_secs(5), Toy::default)
    }

    fn journal(words: &[&str]) -> Arc<MemoryJournal> {
        let journal = MemoryJournal::committing();
        for word in words {
            journal.write(batch(None, &[(*word, Some(""))]));
        }
        journal
    }

    async fn printed(shards: &Shards<Toy>) -> Vec<String> {
        // Loading takes the actors a few turns; nothing here waits for time.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let answers = shards.ask_all(|| ToyAsk::Print).await;
        let text = |answer: ToyAnswer| answer.map_or_else(|code| code.to_string(), Option::unwrap_or_default);
        answers.into_iter().map(text).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn all_shards_are_asked_in_the_order_of_their_partitions() {
        let shards = shards();
        shards.start(3, journal(&["c"]));
        shards.start(1, journal(&["a", "b"]));
        assert_eq!(printed(&shards).await, ["a@0= b@1=", "c@0="]);

        shards.start(3, journal(&["d"]));
        assert_eq!(printed(&shards).await, ["a@0= b@1=", "d@0="], "a later leadership replaces an earlier one");
        shards.stop(1);
        assert_eq!(printed(&shards).await, ["d@0="]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_its_topic_there_is_no_coordinator() {
        let shards = shards();
        shards.start(0, journal(&[]));
        assert_eq!(shards.ask("a", put("a", "1")).await, Err(ErrorCode::NotCoordinator));
    }
}
