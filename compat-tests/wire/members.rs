//! Groups at the level of the protocol: members on connections of their own, generations that grow and shrink.
//!
//! A member that has to notice something asks by heartbeat until it is told; nothing here waits for time to pass.

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    OffsetCommitRequest, SyncGroupRequest,
};

use crate::asks::{Topic, code, group_id, text};
use crate::broker::Broker;
use crate::client::Client;

/// JoinGroup of a consumer that offers one protocol.
pub fn join(group: &str, member_id: &str, metadata: &'static [u8]) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(metadata.into());
    JoinGroupRequest::default()
        .with_group_id(group_id(group))
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(600_000)
        .with_member_id(text(member_id))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// SyncGroup of a member that assigns nothing.
pub fn sync(group: &str, member_id: &str, generation: i32) -> SyncGroupRequest {
    SyncGroupRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id(generation)
        .with_member_id(text(member_id))
}

/// Heartbeat of a member.
pub fn heartbeat(group: &str, member_id: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id(generation)
        .with_member_id(text(member_id))
}

/// LeaveGroup of one member, as versions below 3 say it.
pub fn leave(group: &str, member_id: &str) -> LeaveGroupRequest {
    LeaveGroupRequest::default().with_group_id(group_id(group)).with_member_id(text(member_id))
}

/// A member of a group, or somebody who wants to be one.
pub struct Member {
    pub client: Client,
    pub group: String,
    /// Empty before it has one.
    pub id: String,
    pub generation: i32,
    instance: Option<String>,
}

impl Member {
    /// A member that has not joined yet; static if it has an instance id.
    pub fn new(broker: &Broker, group: &str, instance: Option<&str>) -> Member {
        let instance = instance.map(str::to_owned);
        Member { client: broker.client(), group: group.to_owned(), id: String::new(), generation: -1, instance }
    }

    /// Sends a join that counts: a member without an id gets one first.
    pub fn send_join(&mut self) {
        let instance = self.instance.as_deref().map(text);
        let request = |id: &str| join(&self.group, id, b"words").with_group_instance_id(instance.clone());
        if self.id.is_empty() && self.instance.is_none() {
            let refused = self.client.call(9, &request(""));
            assert_eq!(refused.error_code, code::MEMBER_ID_REQUIRED);
            self.id = refused.member_id.to_string();
        }
        let request = request(&self.id);
        self.client.send(9, &request);
    }

    /// Takes the answer to its join.
    pub fn joined(&mut self) -> JoinGroupResponse {
        let response = self.client.receive::<JoinGroupRequest>();
        if response.error_code == code::NONE {
            self.id = response.member_id.to_string();
            self.generation = response.generation_id;
        }
        response
    }

    /// Sends a sync with these assignments.
    pub fn send_sync(&mut self, assignments: &[(&str, &'static [u8])]) {
        let given = |(member_id, share): &(&str, &'static [u8])| {
            SyncGroupRequestAssignment::default().with_member_id(text(member_id)).with_assignment((*share).into())
        };
        let request = sync(&self.group, &self.id, self.generation)
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(assignments.iter().map(given).collect());
        self.client.send(5, &request);
    }

    /// Takes the answer to its sync: error and assignment.
    pub fn synced(&mut self) -> (i16, Vec<u8>) {
        let response = self.client.receive::<SyncGroupRequest>();
        (response.error_code, response.assignment.to_vec())
    }

    /// What a heartbeat is told.
    pub fn heartbeat(&mut self) -> i16 {
        let instance = self.instance.as_deref().map(text);
        let request = heartbeat(&self.group, &self.id, self.generation).with_group_instance_id(instance);
        self.client.call(4, &request).error_code
    }

    /// Asks until it is told that a rebalance is under way.
    fn await_rebalance(&mut self) {
        loop {
            match self.heartbeat() {
                code::NONE => {}
                code::REBALANCE_IN_PROGRESS => return,
                refused => panic!("heartbeat: {refused}"),
            }
        }
    }

    /// Leaves the group.
    pub fn leave(&mut self) {
        let member = MemberIdentity::default().with_member_id(text(&self.id));
        let request = LeaveGroupRequest::default().with_group_id(group_id(&self.group)).with_members(vec![member]);
        let response = self.client.call(5, &request);
        assert_eq!(response.members[0].error_code, code::NONE);
    }

    /// Commits offset 5 of partition 0 for its group.
    fn commit(&mut self, topic: &Topic) -> i16 {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(5);
        let topic = OffsetCommitRequestTopic::default().with_name(topic.wire()).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_topics(vec![topic]);
        self.client.call(9, &request).topics[0].partitions[0].error_code
    }
}

/// Takes every member, all of which have sent their joins, into `generation`, where the first one leads and assigns;
/// each gets the share of its place.
fn complete(members: &mut [&mut Member], generation: i32) {
    const SHARES: [&[u8]; 3] = [b"first", b"second", b"third"];
    let ids: Vec<String> = {
        let answers: Vec<JoinGroupResponse> = members.iter_mut().map(|member| member.joined()).collect();
        for (place, answer) in answers.iter().enumerate() {
            assert_eq!((answer.error_code, answer.generation_id), (code::NONE, generation));
            assert_eq!(answer.leader, answers[0].member_id);
            assert_eq!(answer.members.len(), if place == 0 { members.len() } else { 0 }, "only the leader sees all");
        }
        answers.iter().map(|answer| answer.member_id.to_string()).collect()
    };
    let assignments: Vec<(&str, &[u8])> = ids.iter().map(String::as_str).zip(SHARES).collect();
    for (place, member) in members.iter_mut().enumerate().rev() {
        member.send_sync(if place == 0 { &assignments } else { &[] });
    }
    for (member, share) in members.iter_mut().zip(SHARES) {
        assert_eq!(member.synced(), (code::NONE, share.to_vec()));
        assert_eq!(member.heartbeat(), code::NONE);
    }
}

fn group_of_one(broker: &Broker, instance: Option<&str>) -> Member {
    broker.client().coordinator("group");
    let mut first = Member::new(broker, "group", instance);
    first.send_join();
    complete(&mut [&mut first], 1);
    first
}

#[test]
fn before_the_first_group_nobody_coordinates() {
    // The internal topic comes with the first question for a coordinator, not with these.
    let broker = Broker::start();
    let mut client = broker.client();
    assert_eq!(client.call(4, &join("g", "m", b"")).error_code, code::NOT_COORDINATOR, "a member that is known");
    assert_eq!(client.call(4, &heartbeat("g", "m", 1)).error_code, code::NOT_COORDINATOR);
    assert_eq!(client.call(4, &sync("g", "m", 1)).error_code, code::NOT_COORDINATOR);
    let describe = DescribeGroupsRequest::default().with_groups(vec![group_id("g")]);
    assert_eq!(client.call(5, &describe).groups[0].error_code, code::NOT_COORDINATOR);
    client.coordinator("g");
    assert_eq!(client.call(4, &heartbeat("g", "m", 1)).error_code, code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_group_grows_to_three_and_shrinks_to_one() {
    let broker = Broker::start();
    let topic = broker.client().topic("t", 1, &[]);
    let mut first = group_of_one(&broker, None);
    assert_eq!(first.commit(&topic), code::NONE);

    let mut second = Member::new(&broker, "group", None);
    second.send_join();
    first.await_rebalance();
    assert_eq!(first.commit(&topic), code::NONE, "what was read before may still be committed");
    first.send_join();
    complete(&mut [&mut first, &mut second], 2);

    let mut third = Member::new(&broker, "group", None);
    third.send_join();
    first.await_rebalance();
    second.await_rebalance();
    second.send_join();
    first.send_join();
    complete(&mut [&mut first, &mut second, &mut third], 3);
    third.generation = 2;
    assert_eq!(third.commit(&topic), code::ILLEGAL_GENERATION);
    assert_eq!(third.heartbeat(), code::ILLEGAL_GENERATION);
    third.generation = 3;

    first.leave();
    second.await_rebalance();
    third.await_rebalance();
    third.send_join();
    second.send_join();
    let answers = [second.joined(), third.joined()];
    assert!(answers.iter().all(|answer| (answer.error_code, answer.generation_id) == (code::NONE, 4)));
    assert_eq!(second.commit(&topic), code::REBALANCE_IN_PROGRESS, "nobody knows yet who has what");
    let is_second = answers[0].leader == answers[0].member_id;
    let (leader, other) = if is_second { (&mut second, &mut third) } else { (&mut third, &mut second) };
    other.send_sync(&[]);
    leader.send_sync(&[(&leader.id.clone(), b"all")]);
    assert_eq!(leader.synced(), (code::NONE, b"all".to_vec()));
    assert_eq!(other.synced(), (code::NONE, Vec::new()), "whom the leader forgets gets nothing");

    other.leave();
    leader.await_rebalance();
    leader.send_join();
    complete(&mut [leader], 5);
}

#[test]
fn a_static_member_restarts_without_a_rebalance() {
    let broker = Broker::start();
    let mut leader = group_of_one(&broker, Some("leader"));
    let mut follower = Member::new(&broker, "group", Some("follower"));
    follower.send_join();
    leader.await_rebalance();
    leader.send_join();
    complete(&mut [&mut leader, &mut follower], 2);

    let mut restarted = Member::new(&broker, "group", Some("follower"));
    restarted.send_join();
    let answer = restarted.joined();
    assert_eq!((answer.error_code, answer.generation_id), (code::NONE, 2), "the same generation");
    assert_ne!(restarted.id, follower.id);
    assert_eq!((answer.leader.as_str(), answer.skip_assignment), (&*leader.id, false));
    restarted.send_sync(&[]);
    assert_eq!(restarted.synced(), (code::NONE, b"second".to_vec()), "and the same share");
    assert_eq!((leader.heartbeat(), restarted.heartbeat()), (code::NONE, code::NONE));
    assert_eq!(follower.heartbeat(), code::FENCED_INSTANCE_ID, "its place is taken");

    let mut successor = Member::new(&broker, "group", Some("leader"));
    successor.send_join();
    let answer = successor.joined();
    assert_eq!((answer.error_code, answer.generation_id), (code::NONE, 2));
    assert_eq!((&answer.leader, answer.skip_assignment), (&answer.member_id, true), "it leads, and has no need to");
    assert_eq!(answer.members.len(), 2);
    successor.send_sync(&[]);
    assert_eq!(successor.synced(), (code::NONE, b"first".to_vec()));
    assert_eq!(leader.heartbeat(), code::FENCED_INSTANCE_ID);
    assert_eq!(restarted.heartbeat(), code::NONE);
}

#[test]
fn a_sync_waits_for_the_leader_and_is_told_when_the_group_moves_on() {
    let broker = Broker::start();
    let mut first = group_of_one(&broker, None);
    let mut second = Member::new(&broker, "group", None);
    second.send_join();
    first.await_rebalance();
    first.send_join();
    assert_eq!((first.joined().error_code, second.joined().error_code), (code::NONE, code::NONE));
    second.send_sync(&[]);
    let mut third = Member::new(&broker, "group", None);
    third.send_join();
    assert_eq!(second.synced().0, code::REBALANCE_IN_PROGRESS, "a member joined before the leader had assigned");
    first.await_rebalance();
    second.send_join();
    first.send_join();
    complete(&mut [&mut first, &mut second, &mut third], 3);
}

#[test]
fn a_later_join_of_the_same_member_answers_the_earlier_one() {
    let broker = Broker::start();
    let mut first = group_of_one(&broker, None);
    let mut second = Member::new(&broker, "group", None);
    second.send_join();
    first.await_rebalance();
    let mut again = Member::new(&broker, "group", None);
    again.id = second.id.clone();
    again.send_join();
    assert_eq!(second.joined().error_code, code::REBALANCE_IN_PROGRESS);
    first.send_join();
    complete(&mut [&mut first, &mut again], 2);
}

#[test]
fn a_group_has_a_largest_size() {
    let broker = Broker::with(&[("group.max.size", "1")]);
    let mut first = group_of_one(&broker, None);
    let refused = broker.client().call(9, &join("group", "", b"words"));
    assert_eq!(refused.error_code, 81);
    assert_eq!(first.heartbeat(), code::NONE, "the group was not disturbed");
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id("group")]);
    assert_eq!(broker.client().call(6, &request).groups[0].members.len(), 1);
}
