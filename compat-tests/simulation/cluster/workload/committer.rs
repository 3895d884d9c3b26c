//! A client in no group that commits offsets for one, at whichever broker coordinates it, and reads them back.

use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{FindCoordinatorRequest, OffsetFetchResponse};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest};
use rand::Rng;

use crate::checkers::groups::note as committed_note;
use crate::checkers::{Spot, spots};
use crate::cluster::caller::Caller;
use crate::requests::{self, code, text, topic_name, version};
use crate::stage::note;
use crate::workload::committer::COORDINATOR_ERRORS;

/// A group of members, and two that only commit.
pub const GROUPS: [&str; 3] = ["team", "solo-a", "solo-b"];

/// Runs until the load is over.
pub async fn run(mut caller: Caller, group: &'static str) {
    if !caller.topics_exist().await {
        return;
    }
    let mut coordinator = None;
    while caller.stage.is_loading() {
        let Some(node) = coordinator else {
            coordinator = find_coordinator(&mut caller, group).await;
            caller.rest(100).await;
            continue;
        };
        let spot = caller.spot();
        let found = match caller.rng.random_range(0..100) {
            0..70 => commit(&mut caller, node, group, spot).await,
            _ => fetch(&mut caller, node, group).await.is_some(),
        };
        if !found {
            coordinator = None;
        }
        caller.rest(200).await;
    }
}

/// Asks somebody who coordinates a group.
pub async fn find_coordinator(caller: &mut Caller, group: &str) -> Option<usize> {
    let request = FindCoordinatorRequest::default().with_key_type(0).with_coordinator_keys(vec![text(group)]);
    let node = caller.somebody();
    let found = caller.ask(node, version::FIND_COORDINATOR, request).await?.coordinators.into_iter().next()?;
    let again = [code::REQUEST_TIMED_OUT, code::INVALID_REPLICATION_FACTOR];
    let allowed = [&[code::NONE][..], &COORDINATOR_ERRORS, &again].concat();
    caller.expect("FindCoordinator", found.error_code, &allowed);
    usize::try_from(found.node_id.0 - 1).ok().filter(|_| found.error_code == code::NONE)
}

/// Commits a new offset for one partition; false if it is to be asked elsewhere.
async fn commit(caller: &mut Caller, node: usize, group: &'static str, spot: Spot) -> bool {
    let offset = caller.stage.ledger().groups.commit(group, spot, 0);
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(spot.1)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text(&committed_note(offset))));
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name(spot.0)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let answer = caller.ask(node, version::OFFSET_COMMIT, request).await;
    let result = answer.as_ref().and_then(|answer| answer.topics.first()?.partitions.first());
    let Some(code) = result.map(|result| result.error_code) else { return false };
    note!(caller, "{group} commits {offset} for {spot:?} at {}: {code}", node + 1);
    if code == code::NONE {
        caller.stage.ledger().groups.committed(group, spot, offset);
        return true;
    }
    let again = [code::REQUEST_TIMED_OUT, code::UNKNOWN_TOPIC];
    caller.expect("OffsetCommit", code, &[&COORDINATOR_ERRORS[..], &again].concat());
    false
}

/// Fetches what is committed for every partition, and has it judged. A coordinator that was deposed and does not know
/// it may answer what was true before: only the present one's answer counts.
async fn fetch(caller: &mut Caller, node: usize, group: &'static str) -> Option<()> {
    let sent = caller.stage.ledger().groups.now();
    let authority = caller.stage.authority(node, group);
    let answer = caller.ask(node, version::OFFSET_FETCH, requests::offset_fetch(group)).await?;
    if answer.groups.first().is_none_or(|group| group.error_code != code::NONE) {
        let code = answer.groups.first().map_or(-1, |group| group.error_code);
        caller.expect("OffsetFetch", code, &COORDINATOR_ERRORS);
        return None;
    }
    if authority.is_some() && authority == caller.stage.authority(node, group) {
        judge(caller, group, sent, &answer);
    }
    Some(())
}

fn judge(caller: &Caller, group: &'static str, sent: u64, answer: &OffsetFetchResponse) {
    let mut count = 0;
    for topic in answer.groups.iter().flat_map(|group| &group.topics) {
        for partition in &topic.partitions {
            let named = spots().find(|spot| *spot.0 == **topic.name && spot.1 == partition.partition_index);
            let Some(spot) = named else { continue };
            let metadata = partition.metadata.as_deref().unwrap_or_default();
            let offset = partition.committed_offset;
            note!(caller, "{group} has {offset} for {spot:?}");
            let verdict = caller.stage.ledger().groups.fetched(group, spot, sent, offset, metadata);
            caller.stage.judge(&caller.name, verdict);
            count += 1;
        }
    }
    if count != spots().count() {
        caller.stage.judge(&caller.name, Err(format!("OffsetFetch answered {count} partitions")));
    }
}

/// Fetches what is committed, from whoever answers, until somebody does.
pub async fn audit(caller: &mut Caller, group: &'static str) -> Option<Vec<String>> {
    for _ in 0..100 {
        if let Some(node) = find_coordinator(caller, group).await {
            let sent = caller.stage.ledger().groups.now();
            let answer = caller.ask(node, version::OFFSET_FETCH, requests::offset_fetch(group)).await;
            if let Some(answer) = answer.filter(|answer| answer.groups.iter().all(|group| group.error_code == 0)) {
                judge(caller, group, sent, &answer);
                let partitions = answer.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| {
                    topic.partitions.iter().map(|found| {
                        format!("{}-{}: {}", topic.name.as_str(), found.partition_index, found.committed_offset)
                    })
                });
                return Some(partitions.collect());
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    None
}
