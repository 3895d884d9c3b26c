//! A member of a classic group: joins, assigns if it leads, syncs, keeps alive, commits, leaves or vanishes.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use rand::Rng;

use super::committer::{self, COORDINATOR_ERRORS, MEMBERSHIP_ERRORS, Membership};
use super::{Actor, PATIENCE};
use crate::requests::{code, text, version};
use crate::stage::note;

const PROTOCOL_TYPE: &str = "consumer";
const PROTOCOL: &str = "range";
/// A join is parked until everybody has joined.
const JOIN_PATIENCE: Duration = Duration::from_secs(7);

/// Runs until the load is over.
pub async fn run(mut actor: Actor, group: &'static str) {
    if !actor.topics_exist().await {
        return;
    }
    committer::find_coordinator(&mut actor, group).await;
    let session_ms = actor.rng.random_range(1_500..4_000);
    let mut member_id = String::new();
    while actor.stage.is_loading() {
        if actor.client.targets() > 1 {
            committer::find_coordinator(&mut actor, group).await;
        }
        if let Some(membership) = enter(&mut actor, group, &mut member_id, session_ms).await {
            take_part(&mut actor, group, membership, &mut member_id).await;
        }
        actor.rest(100).await;
    }
}

/// Joins and syncs.
async fn enter(actor: &mut Actor, group: &'static str, member_id: &mut String, session_ms: i32) -> Option<Membership> {
    let (certain, authority) = (actor.stage.ledger().groups.synced_generation(group), actor.authority(group));
    let protocol = JoinGroupRequestProtocol::default().with_name(text(PROTOCOL)).with_metadata(subscription());
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(session_ms)
        .with_rebalance_timeout_ms(3_000)
        .with_member_id(text(member_id))
        .with_protocol_type(text(PROTOCOL_TYPE))
        .with_protocols(vec![protocol]);
    let joined = actor.client.ask(version::JOIN_GROUP, request, JOIN_PATIENCE).await?;
    match joined.error_code {
        code::NONE => {}
        code::MEMBER_ID_REQUIRED => {
            *member_id = joined.member_id.to_string();
            return None;
        }
        code::UNKNOWN_MEMBER => {
            member_id.clear();
            return None;
        }
        code => {
            let mut allowed = COORDINATOR_ERRORS.to_vec();
            allowed.push(code::REBALANCE);
            actor.expect("JoinGroup", code, &allowed);
            return None;
        }
    }
    *member_id = joined.member_id.to_string();
    let generation = joined.generation_id;
    note!(actor.client, "joined generation {generation} of {} members", joined.members.len());
    if authority.is_some() && authority == actor.authority(group) {
        let verdict = actor.stage.ledger().groups.joined(group, generation, certain);
        actor.stage.judge(&actor.client.name, verdict);
    }
    sync(actor, group, &joined).await.then(|| Membership { generation, member_id: member_id.clone() })
}

/// True if the assignment was handed out.
async fn sync(actor: &mut Actor, group: &'static str, joined: &JoinGroupResponse) -> bool {
    let generation = joined.generation_id;
    let mut assignments = Vec::new();
    if joined.leader == joined.member_id {
        for member in &joined.members {
            let lot: u32 = actor.rng.random();
            let assignment = Bytes::from(format!("{generation} {} {lot}", member.member_id));
            actor.stage.ledger().groups.hand_in(group, generation, &member.member_id, assignment.clone());
            assignments.push(
                SyncGroupRequestAssignment::default()
                    .with_member_id(member.member_id.clone())
                    .with_assignment(assignment),
            );
        }
    }
    let request = SyncGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id(generation)
        .with_member_id(joined.member_id.clone())
        .with_protocol_type(Some(text(PROTOCOL_TYPE)))
        .with_protocol_name(Some(text(PROTOCOL)))
        .with_assignments(assignments);
    let Some(synced) = actor.client.ask(version::SYNC_GROUP, request, JOIN_PATIENCE).await else { return false };
    if synced.error_code != code::NONE {
        actor.expect("SyncGroup", synced.error_code, &[COORDINATOR_ERRORS, MEMBERSHIP_ERRORS].concat());
        return false;
    }
    note!(actor.client, "synced generation {generation}");
    let mut ledger = actor.stage.ledger();
    let verdict = ledger.groups.synced(group, generation, &joined.member_id, &synced.assignment);
    drop(ledger);
    actor.stage.judge(&actor.client.name, verdict);
    true
}

/// Lives in one generation until it ends, or until this member has enough of it.
async fn take_part(actor: &mut Actor, group: &'static str, membership: Membership, member_id: &mut String) {
    while actor.stage.is_loading() {
        let code = match actor.rng.random_range(0..100) {
            0..50 => heartbeat(actor, group, &membership).await,
            50..85 => {
                let spot = actor.spot();
                committer::commit(actor, group, spot, &membership).await
            }
            85..96 => committer::fetch(actor, group).await.map(|()| code::NONE),
            96 => {
                leave(actor, group, &membership).await;
                member_id.clear();
                return;
            }
            97 => {
                // It vanishes without a word, and comes back as somebody else.
                member_id.clear();
                return;
            }
            _ => None,
        };
        if code.is_some_and(|code| MEMBERSHIP_ERRORS.contains(&code)) {
            return;
        }
        actor.rest(250).await;
    }
    if actor.rng.random() {
        leave(actor, group, &membership).await;
    }
}

async fn heartbeat(actor: &mut Actor, group: &str, membership: &Membership) -> Option<i16> {
    let request = HeartbeatRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id(membership.generation)
        .with_member_id(text(&membership.member_id));
    let answer = actor.client.ask(version::HEARTBEAT, request, PATIENCE).await?;
    if answer.error_code != code::NONE {
        actor.expect("Heartbeat", answer.error_code, &[COORDINATOR_ERRORS, MEMBERSHIP_ERRORS].concat());
    }
    Some(answer.error_code)
}

async fn leave(actor: &mut Actor, group: &str, membership: &Membership) {
    let member = MemberIdentity::default().with_member_id(text(&membership.member_id));
    let request = LeaveGroupRequest::default().with_group_id(GroupId(text(group))).with_members(vec![member]);
    let Some(answer) = actor.client.ask(version::LEAVE_GROUP, request, PATIENCE).await else { return };
    note!(actor.client, "left generation {}", membership.generation);
    if answer.error_code != code::NONE {
        actor.expect("LeaveGroup", answer.error_code, &COORDINATOR_ERRORS);
    }
}

/// The subscription of a consumer (`ConsumerProtocolSubscription` version 0) to one topic, without user data.
fn subscription() -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    bytes.put_i16("orders".len() as i16);
    bytes.put_slice(b"orders");
    bytes.put_i32(-1);
    bytes.freeze()
}
