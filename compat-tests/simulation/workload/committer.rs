//! A client that is in no group and commits offsets for one; also how every actor asks a group's coordinator.

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, OffsetCommitRequest};
use rand::Rng;

use super::{Actor, PATIENCE};
use crate::checkers::groups::note as committed_note;
use crate::checkers::{Spot, spots};
use crate::requests::{self, code, text, topic_name, version};
use crate::stage::note;

/// Errors of a coordinator that clients retry.
pub const COORDINATOR_ERRORS: [i16; 3] =
    [code::COORDINATOR_LOADING, code::COORDINATOR_NOT_AVAILABLE, code::NOT_COORDINATOR];
/// Errors that end a membership.
pub const MEMBERSHIP_ERRORS: [i16; 3] = [code::ILLEGAL_GENERATION, code::UNKNOWN_MEMBER, code::REBALANCE];

/// The member that a commit comes from.
pub struct Membership {
    pub generation: i32,
    pub member_id: String,
}

impl Membership {
    /// No member at all.
    pub fn none() -> Membership {
        Membership { generation: -1, member_id: String::new() }
    }
}

/// Runs until the load is over.
pub async fn run(mut actor: Actor, group: &'static str) {
    if !actor.topics_exist().await {
        return;
    }
    find_coordinator(&mut actor, group).await;
    let nobody = Membership::none();
    while actor.stage.is_loading() {
        let spot = actor.spot();
        if actor.rng.random_range(0..100) < 70 {
            commit(&mut actor, group, spot, &nobody).await;
        } else {
            fetch(&mut actor, group).await;
        }
        actor.rest(50).await;
    }
}

/// Asks until there is a coordinator, and turns to it.
pub async fn find_coordinator(actor: &mut Actor, group: &str) {
    let several = actor.client.targets() > 1;
    while actor.stage.is_loading() {
        if several {
            let anybody = actor.rng.random_range(0..actor.client.targets());
            actor.client.turn_to(anybody);
        }
        let request = FindCoordinatorRequest::default().with_key_type(0).with_coordinator_keys(vec![text(group)]);
        let answer = actor.client.ask(version::FIND_COORDINATOR, request, PATIENCE).await;
        if let Some(found) = answer.and_then(|answer| answer.coordinators.into_iter().next()) {
            let busy: &[i16] = if several { &[code::REQUEST_TIMED_OUT, code::INVALID_REPLICATION_FACTOR] } else { &[] };
            let allowed = [&[code::NONE, code::COORDINATOR_NOT_AVAILABLE], busy].concat();
            actor.expect("FindCoordinator", found.error_code, &allowed);
            if found.error_code == code::NONE {
                if several {
                    actor.client.turn_to(usize::try_from(found.node_id.0 - 1).unwrap_or(0));
                }
                return;
            }
        }
        actor.rest(50).await;
    }
}

/// Commits a new offset for one partition. Returns the error code, if there is an answer.
pub async fn commit(actor: &mut Actor, group: &'static str, spot: Spot, member: &Membership) -> Option<i16> {
    let life = actor.stage.life();
    let offset = actor.stage.ledger().groups.commit(group, spot, life);
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(spot.1)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text(&committed_note(offset))));
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name(spot.0)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(member.generation)
        .with_member_id(text(&member.member_id))
        .with_topics(vec![topic]);
    let answer = actor.client.ask(version::OFFSET_COMMIT, request, PATIENCE).await;
    let life = actor.stage.life();
    actor.stage.ledger().groups.let_go(group, spot, offset, life);
    let Some(answer) = answer else {
        note!(actor.client, "commit of {offset} for {spot:?}: no answer in life {life}");
        return None;
    };
    let code = answer.topics.first().and_then(|topic| topic.partitions.first()).map(|result| result.error_code)?;
    note!(actor.client, "commit of {offset} for {spot:?}: {code}");
    match code {
        code::NONE => actor.stage.ledger().groups.committed(group, spot, offset),
        code::COORDINATOR_LOADING => actor.stage.ledger().groups.refused(group, spot, offset),
        code if member.generation >= 0 && MEMBERSHIP_ERRORS.contains(&code) => {
            actor.stage.ledger().groups.refused(group, spot, offset);
        }
        // A broker may not have heard of a topic that others know.
        code::UNKNOWN_TOPIC if actor.client.targets() > 1 => {}
        // The shard may have ended between the append and the answer.
        code => actor.expect("OffsetCommit", code, &COORDINATOR_ERRORS),
    }
    Some(code)
}

/// Fetches what is committed for every partition, and has it judged.
pub async fn fetch(actor: &mut Actor, group: &'static str) -> Option<()> {
    let (sent, authority) = (actor.stage.ledger().groups.now(), actor.authority(group));
    let answer = actor.client.ask(version::OFFSET_FETCH, requests::offset_fetch(group), PATIENCE).await?;
    let answered = answer.groups.first()?;
    if answered.error_code != code::NONE {
        actor.expect("OffsetFetch", answered.error_code, &COORDINATOR_ERRORS);
        return None;
    }
    if authority.is_none() || authority != actor.authority(group) {
        return Some(());
    }
    let mut count = 0;
    for topic in &answered.topics {
        for partition in &topic.partitions {
            let spot = spots().find(|spot| *spot.0 == **topic.name && spot.1 == partition.partition_index)?;
            let metadata = partition.metadata.as_deref().unwrap_or_default();
            let offset = partition.committed_offset;
            note!(actor.client, "{group} has {offset} for {spot:?}");
            let verdict = actor.stage.ledger().groups.fetched(group, spot, sent, offset, metadata);
            actor.stage.judge(&actor.client.name, verdict);
            count += 1;
        }
    }
    if count != spots().count() {
        actor.stage.judge(&actor.client.name, Err(format!("OffsetFetch answered {count} partitions")));
    }
    Some(())
}
