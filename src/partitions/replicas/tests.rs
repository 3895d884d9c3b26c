//! A leader's view of its replicas, in small scenes: broker 1 leads, 2 and 3 follow.

use super::*;
use crate::metadata::AlteredPartition;

const LAG: Millis = 100;

struct Scene {
    replicas: Replicas,
    active: ActiveBrokers,
    now_ms: Millis,
    min_isr: usize,
    durable: Offset,
    end: Offset,
    high_watermark: Offset,
}

fn ids(numbers: &[i32]) -> Vec<BrokerId> {
    numbers.iter().copied().map(BrokerId).collect()
}

fn registration(isr: &[i32], partition_epoch: i32) -> PartitionRegistration {
    PartitionRegistration {
        replicas: ids(&[1, 2, 3]),
        isr: ids(isr),
        leader: Some(BrokerId(1)),
        leader_epoch: 7,
        partition_epoch,
        ..PartitionRegistration::default()
    }
}

impl Scene {
    /// Leader epoch 7 begins with `end` records; `isr` is in sync; two are enough.
    fn new(isr: &[i32], end: Offset) -> Scene {
        Scene {
            replicas: Replicas::new(BrokerId(1), &registration(isr, 0), end, 1000),
            active: ActiveBrokers::new([(BrokerId(1), 10), (BrokerId(2), 20), (BrokerId(3), 30)]),
            now_ms: 1000,
            min_isr: 2,
            durable: end,
            end,
            high_watermark: 0,
        }
    }

    fn reconsider(&mut self) {
        let terms = Terms { now_ms: self.now_ms, active: &self.active, lag_ms_max: LAG, min_isr: self.min_isr };
        self.high_watermark = self.replicas.high_watermark(self.high_watermark, self.durable, self.end, &terms);
    }

    fn append(&mut self, records: i64) {
        self.end += records;
        self.durable = self.end;
        self.reconsider();
    }

    fn fetch(&mut self, id: i32, offset: Offset) -> Result<bool, ErrorCode> {
        self.fetch_as(id, id as i64 * 10, offset)
    }

    /// True if it led to a proposal.
    fn fetch_as(&mut self, id: i32, broker_epoch: i64, offset: Offset) -> Result<bool, ErrorCode> {
        let fetch = FollowerFetch { id: BrokerId(id), broker_epoch, offset, log_start: 0 };
        self.replicas.check_fetch(&fetch, true)?;
        self.replicas.note_fetch(&fetch, self.end, self.now_ms);
        let terms = Terms { now_ms: self.now_ms, active: &self.active, lag_ms_max: LAG, min_isr: self.min_isr };
        let proposed = self.replicas.propose_joining(BrokerId(id), self.high_watermark, &terms);
        self.reconsider();
        Ok(proposed)
    }

    fn expire(&mut self) -> Vec<i32> {
        let terms = Terms { now_ms: self.now_ms, active: &self.active, lag_ms_max: LAG, min_isr: self.min_isr };
        self.replicas.propose_leaving(self.end, &terms).into_iter().map(|id| id.0).collect()
    }

    fn answer(&mut self, answer: Result<&[i32], ErrorCode>) -> Settled {
        let proposal = self.replicas.proposal().unwrap().clone();
        let partition_epoch = proposal.partition_epoch + 1;
        let leader = Some(BrokerId(1));
        let answer = answer.map(|isr| AlteredPartition {
            leader,
            leader_epoch: 7,
            isr: ids(isr),
            recovering: false,
            partition_epoch,
        });
        let settled = self.replicas.answered(&proposal, &answer);
        self.reconsider();
        settled
    }

    fn proposed(&self) -> Vec<(i32, i64)> {
        self.replicas.proposal().unwrap().isr.iter().map(|(id, epoch)| (id.0, *epoch)).collect()
    }
}

#[test]
fn what_everybody_in_sync_has_is_committed() {
    let mut scene = Scene::new(&[1, 2, 3], 10);
    scene.fetch(2, 10).unwrap();
    assert_eq!(scene.high_watermark, 0, "3 has said nothing in this epoch");
    scene.fetch(3, 8).unwrap();
    assert_eq!(scene.high_watermark, 8);
    scene.end = 20;
    scene.fetch(2, 20).unwrap();
    scene.fetch(3, 20).unwrap();
    assert_eq!(scene.high_watermark, 10, "the leader's own vote is what is on its disk");
    scene.durable = 20;
    scene.reconsider();
    assert_eq!(scene.high_watermark, 20);
    scene.fetch(3, 5).unwrap();
    assert_eq!(scene.high_watermark, 20, "it never moves back");
}

#[test]
fn who_lags_leaves_when_the_controller_says_so() {
    let mut scene = Scene::new(&[1, 2, 3], 10);
    scene.fetch(2, 10).unwrap();
    scene.now_ms += LAG;
    assert_eq!(scene.expire(), [0i32; 0], "3 has until the end of the lag time");
    scene.now_ms += 1;
    scene.fetch(2, 10).unwrap();
    assert_eq!(scene.expire(), [3]);
    assert_eq!(scene.proposed(), [(1, 10), (2, 20)]);
    assert_eq!(scene.high_watermark, 0, "until it is confirmed the larger set counts");
    assert_eq!(scene.expire(), [0i32; 0], "one change at a time");
    assert_eq!(scene.answer(Ok(&[1, 2])), Settled::Adopted);
    assert_eq!(scene.high_watermark, 10);
}

#[test]
fn a_follower_that_had_all_of_a_moment_ago_does_not_lag() {
    let mut scene = Scene::new(&[1, 2, 3], 10);
    for _ in 0..10 {
        // Records come faster than it fetches: it always has what there was at its last fetch.
        let was = scene.end;
        scene.now_ms += LAG / 2;
        scene.append(5);
        scene.fetch(2, was).unwrap();
        scene.fetch(3, was).unwrap();
    }
    assert_eq!(scene.expire(), [0i32; 0]);
}

#[test]
fn below_the_minimum_nothing_is_committed() {
    let mut scene = Scene::new(&[1], 10);
    scene.reconsider();
    assert_eq!(scene.high_watermark, 0);
    scene.min_isr = 1;
    scene.reconsider();
    assert_eq!(scene.high_watermark, 10);
    // More than there are replicas is as many as there are.
    let mut scene = Scene::new(&[1, 2, 3], 10);
    scene.min_isr = 9;
    scene.fetch(2, 10).unwrap();
    scene.fetch(3, 10).unwrap();
    assert_eq!(scene.high_watermark, 10);
}

#[test]
fn who_has_caught_up_joins() {
    let mut scene = Scene::new(&[1, 2], 10);
    scene.fetch(2, 10).unwrap();
    assert_eq!(scene.high_watermark, 10);
    assert_eq!(scene.fetch(3, 9), Ok(false), "below the high watermark");
    assert_eq!(scene.fetch(3, 10), Ok(true));
    assert_eq!(scene.proposed(), [(1, 10), (2, 20), (3, 30)]);
    scene.append(5);
    scene.fetch(2, 15).unwrap();
    assert_eq!(scene.high_watermark, 10, "who is joining counts already");
    assert_eq!(scene.answer(Err(ErrorCode::IneligibleReplica)), Settled::Dropped);
    assert_eq!(scene.high_watermark, 10, "it is caught up, so it is waited for");
    scene.active = ActiveBrokers::new([(BrokerId(1), 10), (BrokerId(2), 20)]);
    scene.reconsider();
    assert_eq!(scene.high_watermark, 15, "but not if it is fenced");
}

#[test]
fn who_has_just_joined_has_the_lag_time_to_get_the_rest() {
    let mut scene = Scene::new(&[1, 2], 10);
    scene.fetch(2, 10).unwrap();
    scene.append(5);
    assert_eq!(scene.fetch(3, 10), Ok(true), "the high watermark is at 10, the end at 15");
    assert_eq!(scene.answer(Ok(&[1, 2, 3])), Settled::Adopted);
    scene.fetch(2, 15).unwrap();
    assert!(scene.expire().is_empty());
    scene.now_ms += LAG + 1;
    scene.fetch(2, 15).unwrap();
    assert_eq!(scene.expire(), [3]);
}

#[test]
fn who_does_not_know_the_epochs_start_does_not_join() {
    let mut scene = Scene::new(&[1, 2], 10);
    assert_eq!(scene.fetch(3, 8), Ok(false), "the old leader may have committed up to 10");
    assert_eq!(scene.fetch(3, 10), Ok(true));
}

#[test]
fn another_life_of_a_broker_does_not_join() {
    let mut scene = Scene::new(&[1, 2], 10);
    assert_eq!(scene.fetch_as(3, 29, 10), Ok(false), "it has been registered anew since");
    assert_eq!(scene.fetch_as(3, 31, 10), Ok(false), "this broker has not heard of the registration yet");
    assert_eq!(scene.fetch_as(3, 30, 10), Err(ErrorCode::NotLeaderOrFollower), "of an earlier life");
    assert_eq!(scene.fetch_as(4, 40, 10), Err(ErrorCode::UnknownLeaderEpoch), "no replica");
}

#[test]
fn what_became_of_a_proposal_is_not_guessed() {
    for code in [ErrorCode::InvalidUpdateVersion, ErrorCode::FencedLeaderEpoch, ErrorCode::NewLeaderElected] {
        let mut scene = Scene::new(&[1, 2], 10);
        scene.fetch(3, 10).unwrap();
        assert_eq!(scene.answer(Err(code)), Settled::Unknown);
        assert_eq!(scene.expire(), [0i32; 0]);
        scene.replicas.adopt(&registration(&[1, 2], 0));
        assert!(scene.replicas.proposal().is_some(), "an image that does not know of it yet");
        scene.replicas.adopt(&registration(&[1, 2, 3], 1));
        assert_eq!((scene.replicas.proposal(), scene.replicas.isr().len()), (None, 3));
    }
    let mut scene = Scene::new(&[1, 2], 10);
    scene.fetch(3, 10).unwrap();
    let proposal = scene.replicas.proposal().unwrap().clone();
    assert_eq!(scene.answer(Err(ErrorCode::NotController)), Settled::Again);
    assert_eq!(scene.replicas.proposal(), Some(&proposal));
    scene.replicas.adopt(&registration(&[1, 3], 4));
    assert_eq!(scene.replicas.answered(&proposal, &Err(ErrorCode::NotController)), Settled::Late);
    scene.replicas.adopt(&registration(&[1, 2], 3));
    assert_eq!(scene.replicas.isr(), ids(&[1, 3]), "an image from before");
}

#[test]
fn records_are_gone_when_they_are_gone_everywhere() {
    let mut scene = Scene::new(&[1, 2, 3], 10);
    let low = |scene: &Scene| scene.replicas.low_watermark(5, &scene.active);
    assert_eq!(low(&scene), -1, "nothing is known");
    for (id, log_start) in [(2, 5), (3, 4)] {
        let fetch = FollowerFetch { id: BrokerId(id), broker_epoch: -1, offset: 10, log_start };
        scene.replicas.note_fetch(&fetch, 10, 0);
    }
    assert_eq!(low(&scene), 4);
    scene.active = ActiveBrokers::new([(BrokerId(1), 10), (BrokerId(2), 20)]);
    assert_eq!(low(&scene), 5, "who is not there is not waited for");
}

#[test]
fn a_consumer_is_sent_to_who_has_most() {
    let mut scene = Scene::new(&[1, 2, 3], 10);
    scene.fetch(2, 9).unwrap();
    scene.fetch(3, 8).unwrap();
    let best = |candidates: &[i32], offset| scene.replicas.best_follower(&ids(candidates), offset).map(|id| id.0);
    assert_eq!(best(&[2, 3], 5), Some(2));
    assert_eq!(best(&[3], 5), Some(3));
    assert_eq!(best(&[3], 9), None);
    assert_eq!(best(&[], 5), None);
}

#[test]
fn an_unclean_leader_says_once_that_it_has_recovered() {
    let mut scene = Scene::new(&[1], 5);
    let terms = Terms { now_ms: 1000, active: &scene.active, lag_ms_max: LAG, min_isr: 2 };
    assert!(!scene.replicas.propose_recovered(&terms), "it was elected as it should be");
    let unclean = PartitionRegistration { recovering: true, ..registration(&[1], 0) };
    scene.replicas = Replicas::new(BrokerId(1), &unclean, 5, 1000);
    assert!(scene.replicas.propose_recovered(&terms));
    assert!(!scene.replicas.propose_recovered(&terms), "it has been said");
    let proposal = scene.replicas.proposal().unwrap().clone();
    assert_eq!(proposal.isr, [(BrokerId(1), 10)]);
    // The controller refuses, for now.
    assert_eq!(scene.replicas.answered(&proposal, &Err(ErrorCode::IneligibleReplica)), Settled::Dropped);
    assert!(scene.replicas.propose_recovered(&terms));
    let proposal = scene.replicas.proposal().unwrap().clone();
    let answer = AlteredPartition {
        leader: Some(BrokerId(1)),
        leader_epoch: 7,
        isr: ids(&[1]),
        recovering: false,
        partition_epoch: 1,
    };
    assert_eq!(scene.replicas.answered(&proposal, &Ok(answer)), Settled::Adopted);
    assert!(!scene.replicas.propose_recovered(&terms));
}
