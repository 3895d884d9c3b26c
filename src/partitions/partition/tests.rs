//! The life of replicas in scenes: what is committed, who joins and leaves, what a new leader keeps and what an old one
//! gives up.

use std::time::Duration;

use futures_util::FutureExt;

use super::*;
use crate::metadata::PartitionRegistration;
use crate::partitions::scene::{Scene, batch};

#[tokio::test]
async fn records_are_committed_when_every_replica_in_sync_has_them() {
    let mut scene = Scene::new(2);
    scene.elect(1, &[1, 2, 3], &[1, 2, 3]);
    scene.produce(1, 3).await.unwrap();
    let committed = scene.of(1).acknowledged((1, 3), true, Duration::from_secs(60));
    scene.fetch(2).await.unwrap();
    scene.fetch(3).await.unwrap();
    assert_eq!(scene.ends(1), (0, 3), "they have it, but the leader has not heard of it");
    scene.fetch(2).await.unwrap();
    assert_eq!(scene.ends(1), (0, 3));
    scene.fetch(3).await.unwrap();
    assert_eq!(scene.ends(1), (3, 3));
    assert_eq!(committed.await, Ok(()));
    assert_eq!((scene.ends(2), scene.ends(3)), ((0, 3), (3, 3)), "2 hears with its next fetch");
    scene.fetch(2).await.unwrap();
    assert_eq!(scene.ends(2), (3, 3));
    assert_eq!(scene.bytes(1).await, scene.bytes(2).await);
}

#[tokio::test]
async fn a_new_leader_has_what_was_acknowledged_and_the_old_one_gives_up_the_rest() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2, 3], &[1, 2, 3]);
    scene.produce(1, 3).await.unwrap();
    scene.catch_up(&[2, 3]).await;
    // 1 is cut off and goes on by itself.
    scene.elect(2, &[2, 3], &[2, 3]);
    scene.produce(1, 5).await.unwrap();
    let lost = scene.of(1).acknowledged((1, 8), true, Duration::from_secs(60));
    scene.produce(2, 2).await.unwrap();
    scene.catch_up(&[3]).await;
    assert_eq!(scene.ends(2), (5, 5));
    let registration = scene.registration.clone();
    scene.of(1).assume(&registration);
    assert_eq!(lost.await, Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(scene.produce(1, 1).await, Err(ErrorCode::NotLeaderOrFollower));
    scene.catch_up(&[1]).await;
    assert_eq!(scene.bytes(1).await, scene.bytes(2).await);
    assert_eq!(scene.ends(1), (5, 5));
    // It joins, and counts.
    assert_eq!(scene.of(2).isr_proposal().unwrap().isr, [(BrokerId(2), 20), (BrokerId(3), 30), (BrokerId(1), 10)]);
    scene.agree(2);
    assert_eq!(scene.of(2).isr_proposal(), None);
    scene.produce(2, 1).await.unwrap();
    scene.catch_up(&[3]).await;
    assert_eq!(scene.ends(2).0, 5);
    scene.catch_up(&[1]).await;
    assert_eq!(scene.ends(2).0, 6);
}

#[tokio::test]
async fn what_lies_where_a_cut_record_was_is_not_taken_for_it() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2, 3], &[1, 2, 3]);
    scene.produce(1, 3).await.unwrap();
    // Others take the place of these records before anybody asks for them.
    scene.elect(2, &[2, 3], &[1, 2, 3]);
    scene.produce(2, 3).await.unwrap();
    scene.catch_up(&[3, 1]).await;
    assert_eq!(scene.ends(1), (3, 3));
    let asked = scene.of(1).acknowledged((1, 3), true, Duration::from_secs(60));
    assert_eq!(asked.await, Err(ErrorCode::NotLeaderOrFollower));
    scene.elect(1, &[1, 2, 3], &[1, 2, 3]);
    let asked = scene.of(1).acknowledged((1, 3), true, Duration::from_secs(60));
    assert_eq!(asked.await, Err(ErrorCode::NotLeaderOrFollower), "it leads again, but not since then");
}

#[tokio::test]
async fn a_leader_that_goes_on_in_another_epoch_answers_for_the_one_before() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2, 3], &[1, 2, 3]);
    scene.produce(1, 3).await.unwrap();
    scene.elect(1, &[1, 2], &[1, 2, 3]);
    scene.catch_up(&[2]).await;
    assert_eq!(scene.of(1).acknowledged((1, 3), true, Duration::from_secs(60)).await, Ok(()));
    let late = scene.of(1).append_as_leader(batch(1), Origin::Coordinator(1));
    assert_eq!(late.unwrap_err().code, ErrorCode::NotLeaderOrFollower, "a coordinator has one term");
}

#[tokio::test]
async fn two_elections_without_a_record_between_them_lose_nothing() {
    // KAFKA-7415, KIP-279: epochs that wrote nothing, and one that only some have seen.
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2, 3], &[1, 2, 3]);
    scene.produce(1, 4).await.unwrap();
    scene.catch_up(&[2, 3]).await;
    scene.elect(2, &[2, 3], &[2]);
    scene.elect(3, &[2, 3], &[3]);
    scene.produce(1, 1).await.unwrap();
    scene.produce(2, 2).await.unwrap();
    scene.elect(2, &[2, 3], &[2, 3]);
    scene.produce(2, 1).await.unwrap();
    let registration = scene.registration.clone();
    scene.of(1).assume(&registration);
    scene.catch_up(&[3, 1]).await;
    assert_eq!(scene.ends(2), (7, 7));
    assert_eq!(scene.bytes(1).await, scene.bytes(2).await);
    assert_eq!(scene.bytes(3).await, scene.bytes(2).await);
    let epochs = |id: i32| scene.of(id).core.lock().log.as_ref().unwrap().epochs().entries().to_vec();
    assert_eq!((epochs(1), epochs(3)), (epochs(2), epochs(2)));
}

#[tokio::test]
async fn a_leader_below_its_minimum_takes_nothing_that_must_be_safe() {
    let mut scene = Scene::new(2);
    scene.elect(1, &[1], &[1, 2, 3]);
    assert_eq!(scene.of(1).check_in_sync(), Err(ErrorCode::NotEnoughReplicas));
    scene.produce(1, 1).await.unwrap();
    assert_eq!(scene.ends(1), (0, 1), "nothing is committed");
    scene.catch_up(&[2]).await;
    assert_eq!(scene.ends(1), (0, 1));
    scene.agree(1);
    assert_eq!(scene.of(1).check_in_sync(), Ok(()));
    assert_eq!(scene.ends(1), (1, 1));
}

#[tokio::test]
async fn a_crash_of_a_follower_loses_nothing_that_it_acknowledged() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2, 3], &[1, 2, 3]);
    scene.produce(1, 3).await.unwrap();
    scene.catch_up(&[2, 3]).await;
    scene.crash(2);
    assert_eq!(scene.ends(2), (0, 3), "what was committed is stored with the next records only");
    scene.elect(2, &[2], &[2, 3]);
    assert_eq!(scene.ends(2), (3, 3));
    scene.produce(2, 1).await.unwrap();
    scene.catch_up(&[3]).await;
    assert_eq!(scene.bytes(3).await, scene.bytes(2).await);
}

#[tokio::test]
async fn a_follower_follows_the_start_of_the_log() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2], &[1, 2, 3]);
    for _ in 0..4 {
        scene.produce(1, 2).await.unwrap();
    }
    scene.catch_up(&[2]).await;
    let leader = scene.of(1).clone();
    let deleted = Env::real().spawn(async move { leader.delete_records(5).await });
    scene.catch_up(&[2]).await;
    let log_start = |id: i32| scene.of(id).offsets_if_any().unwrap().log_start;
    while log_start(1) != 5 {
        tokio::task::yield_now().await;
    }
    scene.catch_up(&[2]).await;
    assert_eq!((log_start(1), log_start(2), log_start(3)), (5, 5, 0));
    assert!(!deleted.is_finished(), "3 has not given it up");
    // The records that 3 would want next are gone.
    assert_eq!(scene.fetch(3).await, Err(ErrorCode::OffsetOutOfRange));
    let at = scene.of(3).fetch_position().unwrap();
    let mut restart = std::pin::pin!(scene.of(3).restart_at(&at, 5));
    assert_eq!(restart.as_mut().now_or_never(), None);
    assert_eq!(scene.of(3).fetch_position(), None, "a crash could still bring the old log back");
    restart.await.unwrap();
    assert_eq!(scene.of(3).fetch_position().map(|at| at.from), Some(5));
    scene.catch_up(&[3]).await;
    assert_eq!(scene.ends(3), (8, 8));
    assert_eq!(scene.bytes(3).await, scene.bytes(2).await);
    assert_eq!(deleted.await.unwrap(), Ok(5));
}

#[tokio::test]
async fn a_log_start_is_told_when_no_crash_can_take_it_back() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2], &[1, 2]);
    for _ in 0..4 {
        scene.produce(1, 2).await.unwrap();
    }
    scene.catch_up(&[2]).await;
    let log_start = |scene: &Scene| scene.of(1).offsets_if_any().unwrap().log_start;
    let leader = scene.of(1).clone();
    let mut deletion = Box::pin(leader.delete_records(5));
    assert_eq!(deletion.as_mut().now_or_never(), None);
    assert_eq!(log_start(&scene), 0, "a crash now would bring it back");
    let ask = |from| ReadAsk {
        from,
        bytes_max: 1,
        at_least_one: true,
        isolation: Isolation::ReadUncommitted,
        leader_epoch: -1,
        last_fetched_epoch: -1,
        leader_only: true,
    };
    assert_eq!(leader.read(ask(4)).await.map(|_| ()), Err(ErrorCode::OffsetNotAvailable));
    while log_start(&scene) != 5 {
        tokio::task::yield_now().await;
    }
    assert_eq!(leader.read(ask(4)).await.map(|_| ()), Err(ErrorCode::OffsetOutOfRange));
    scene.crash(1);
    assert_eq!(log_start(&scene), 5);
}

#[tokio::test]
async fn after_an_unclean_election_committed_records_are_cut() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2], &[1, 2, 3]);
    scene.produce(1, 3).await.unwrap();
    scene.catch_up(&[2]).await;
    scene.elect(3, &[3], &[1, 2, 3]);
    scene.produce(3, 1).await.unwrap();
    scene.catch_up(&[1, 2]).await;
    assert_eq!((scene.ends(1), scene.ends(2)), ((1, 1), (1, 1)));
    assert_eq!(scene.bytes(1).await, scene.bytes(3).await);
}

#[tokio::test]
async fn what_was_fetched_for_another_epoch_has_no_effect() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2, 3], &[1, 2, 3]);
    scene.produce(1, 3).await.unwrap();
    let at = scene.of(2).fetch_position().unwrap();
    let sent = FromLeader { batches: scene.bytes(1).await, high_watermark: 0, log_start: 0 };
    scene.elect(3, &[2, 3], &[2, 3]);
    assert_eq!(scene.of(2).take_over(&at, sent).await, Err(FollowFailure::Moot));
    assert_eq!(scene.ends(2), (0, 0));
    let stale = PartitionRegistration { partition_epoch: 1, leader: Some(BrokerId(1)), ..scene.registration.clone() };
    assert_eq!(scene.of(2).assume(&stale), None, "an image from before");
    assert_eq!(scene.of(2).following(), Some((BrokerId(3), 2)));
}

#[tokio::test]
async fn consumers_may_read_from_followers_what_is_committed() {
    let mut scene = Scene::new(1);
    scene.elect(1, &[1, 2], &[1, 2]);
    scene.produce(1, 3).await.unwrap();
    scene.fetch(2).await.unwrap();
    let ask = ReadAsk {
        from: 0,
        bytes_max: 1000,
        at_least_one: true,
        isolation: Isolation::ReadUncommitted,
        leader_epoch: 1,
        last_fetched_epoch: -1,
        leader_only: false,
    };
    assert_eq!(scene.of(2).read(ask).await.unwrap().batches.len(), 0);
    scene.catch_up(&[2]).await;
    assert_eq!(scene.of(2).read(ask).await.unwrap().batches.len(), 1);
    let refused = async |ask| scene.of(2).read(ask).await.err();
    assert_eq!(refused(ReadAsk { leader_only: true, ..ask }).await, Some(ErrorCode::NotLeaderOrFollower));
    assert_eq!(refused(ReadAsk { leader_epoch: 0, ..ask }).await, Some(ErrorCode::FencedLeaderEpoch));
    assert_eq!(refused(ReadAsk { leader_epoch: 2, ..ask }).await, Some(ErrorCode::UnknownLeaderEpoch));
}
