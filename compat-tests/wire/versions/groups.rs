//! Cases of the APIs of groups: who coordinates, who is in, what is committed, what is shown.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, LeaveGroupRequest,
    ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
};

use ottla::wire::bridge;

use super::Lab;
use crate::asks::{Topic, code, group_id, text};
use crate::client::Client;
use crate::members::{Member, heartbeat as beat, join, leave, sync};

/// Longest metadata of a commit is `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4096;

/// From this version on OffsetCommit and OffsetFetch name topics by id.
const TOPIC_IDS: i16 = 10;

/// The id of a topic as the protocol crate carries it.
fn aside(version: i16, topic: &Topic) -> bridge::Aside {
    let mut aside = bridge::Aside::new();
    if version >= TOPIC_IDS {
        bridge::carry_id(&mut aside, bridge::TOPIC_ID, topic.id.into());
    }
    aside
}

/// A commit of partition 0, by nobody's member.
fn commit(version: i16, group: &str, topic: &Topic, offset: i64, note: &str) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(3)
        .with_committed_metadata(Some(text(note)));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic.wire())
        .with_partitions(vec![partition])
        .with_unknown_tagged_fields(aside(version, topic));
    OffsetCommitRequest::default().with_group_id(group_id(group)).with_topics(vec![topic])
}

/// Offset, leader epoch and metadata of partition 0 as a group has committed them.
fn committed(client: &mut Client, group: &str, topic: &Topic) -> (i64, i32, String) {
    let topic = OffsetFetchRequestTopic::default().with_name(topic.wire()).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(Some(vec![topic]));
    let response = client.call(7, &request);
    assert_eq!(response.error_code, code::NONE);
    let at = &response.topics[0].partitions[0];
    (at.committed_offset, at.committed_leader_epoch, at.metadata.as_deref().unwrap_or_default().to_owned())
}

/// OffsetCommit 8: stored or refused, partition by partition.
pub fn offset_commit(lab: &mut Lab, version: i16) {
    let (topic, group) = (lab.topic(1), lab.name("group"));
    lab.client.coordinator(&group);
    let mut send = |request: &OffsetCommitRequest| -> Vec<i16> {
        let response = lab.client.call(version, request);
        assert_eq!((response.throttle_time_ms, response.topics.len()), (0, request.topics.len()));
        for (asked, answered) in request.topics.iter().zip(&response.topics) {
            assert_eq!(answered.unknown_tagged_fields, asked.unknown_tagged_fields, "the ids come back");
            assert_eq!(answered.name, if version >= TOPIC_IDS { text("").into() } else { asked.name.clone() });
        }
        response.topics.iter().flat_map(|topic| topic.partitions.iter().map(|part| part.error_code)).collect()
    };
    let mut several = commit(version, &group, &topic, 42, "note");
    let unknown = several.topics[0].clone().with_name(Topic::unknown().wire());
    several.topics.push(unknown.with_unknown_tagged_fields(aside(version, &Topic::unknown())));
    let mut wordy = several.topics[0].partitions[0].clone();
    wordy.committed_metadata = Some(text(&"x".repeat(METADATA_BYTES_MAX + 1)));
    let beyond = several.topics[0].partitions[0].clone().with_partition_index(9);
    several.topics[0].partitions.extend([wordy, beyond]);
    let unknown = if version >= TOPIC_IDS { code::UNKNOWN_TOPIC_ID } else { code::UNKNOWN_TOPIC_OR_PARTITION };
    let expected = [code::NONE, 12, code::UNKNOWN_TOPIC_OR_PARTITION, unknown];
    assert_eq!(send(&several), expected);
    let stranger =
        commit(version, "stranger", &topic, 1, "").with_generation_id_or_member_epoch(1).with_member_id(text("m"));
    let unknown = if version >= 9 { code::GROUP_ID_NOT_FOUND } else { code::ILLEGAL_GENERATION };
    assert_eq!(send(&stranger), [unknown]);
    assert_eq!(send(&commit(version, "", &topic, 7, "")), [code::NONE], "an empty group id may commit");
    if version >= 7 {
        let fixed =
            commit(version, &group, &topic, 1, "").with_generation_id_or_member_epoch(1).with_member_id(text("m"));
        let fixed = fixed.with_group_instance_id(Some(text("instance")));
        assert_eq!(send(&fixed), [code::UNKNOWN_MEMBER_ID]);
    }
    let epoch = if version >= 6 { 3 } else { -1 };
    assert_eq!(committed(&mut lab.client, &group, &topic), (42, epoch, "note".to_owned()));
    assert_eq!(committed(&mut lab.client, "", &topic).0, 7);
}

/// OffsetFetch 9: one partition, all of them, and many groups from version 8 on.
pub fn offset_fetch(lab: &mut Lab, version: i16) {
    let (topic, group) = (lab.topic(1), lab.name("group"));
    lab.client.coordinator(&group);
    let stored = lab.client.call(8, &commit(8, &group, &topic, 42, "note"));
    assert_eq!(stored.topics[0].partitions[0].error_code, code::NONE);
    let epoch = if version >= 5 { 3 } else { -1 };
    let found = [(0, 42, epoch, "note".to_owned()), (5, -1, -1, String::new())];
    if version >= 8 {
        return fetch_many(lab, version, (&topic, &group), &found);
    }
    let wanted = OffsetFetchRequestTopic::default().with_name(topic.wire()).with_partition_indexes(vec![0, 5]);
    let request = OffsetFetchRequest::default()
        .with_group_id(group_id(&group))
        .with_topics(Some(vec![wanted]))
        .with_require_stable(version >= 7);
    let requests = [(request.clone(), &found[..]), (request.clone().with_topics(None), &found[..1])];
    for (request, expected) in requests.into_iter().take(if version >= 2 { 2 } else { 1 }) {
        let response = lab.client.call(version, &request);
        assert_eq!((response.throttle_time_ms, response.error_code), (0, code::NONE));
        assert_eq!((response.topics.len(), &response.topics[0].name), (1, &topic.wire()));
        for (at, (index, offset, epoch, note)) in response.topics[0].partitions.iter().zip(expected) {
            assert_eq!((at.partition_index, at.committed_offset, at.error_code), (*index, *offset, code::NONE));
            assert_eq!((at.committed_leader_epoch, at.metadata.as_deref()), (*epoch, Some(&**note)));
        }
        assert_eq!(response.topics[0].partitions.len(), expected.len());
    }
    let nobody = lab.client.call(version, &request.with_group_id(group_id("nobody")));
    assert!(nobody.topics[0].partitions.iter().all(|at| (at.committed_offset, at.error_code) == (-1, code::NONE)));
}

fn fetch_many(lab: &mut Lab, version: i16, (topic, group): (&Topic, &str), found: &[(i32, i64, i32, String)]) {
    let wanted = OffsetFetchRequestTopics::default()
        .with_name(topic.wire())
        .with_partition_indexes(vec![0, 5])
        .with_unknown_tagged_fields(aside(version, topic));
    let of = |group: &str| {
        OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_member_id(None).with_member_epoch(-1)
    };
    let groups = vec![
        of(group).with_topics(Some(vec![wanted.clone()])),
        of("nobody").with_topics(Some(vec![wanted])),
        of(group).with_topics(None),
    ];
    let response = lab.client.call(version, &OffsetFetchRequest::default().with_groups(groups));
    let answered: Vec<&str> = response.groups.iter().map(|group| group.group_id.as_str()).collect();
    assert_eq!(answered, [group, "nobody", group]);
    for (answer, known) in response.groups.iter().zip([found, &[], &found[..1]]) {
        assert_eq!((answer.error_code, answer.topics.len()), (code::NONE, 1));
        let partitions = &answer.topics[0].partitions;
        assert_eq!(partitions.len(), if known.is_empty() { 2 } else { known.len() });
        for (at, (index, offset, epoch, note)) in partitions.iter().zip(known) {
            assert_eq!((at.partition_index, at.committed_offset, at.error_code), (*index, *offset, code::NONE));
            assert_eq!((at.committed_leader_epoch, at.metadata.as_deref()), (*epoch, Some(&**note)));
        }
        assert!(!known.is_empty() || partitions.iter().all(|at| at.committed_offset == -1));
        assert_eq!(answer.topics[0].unknown_tagged_fields, aside(version, topic));
    }
    if version >= TOPIC_IDS {
        let wanted = OffsetFetchRequestTopics::default().with_partition_indexes(vec![4]);
        let wanted = wanted.with_unknown_tagged_fields(aside(version, &Topic::unknown()));
        let request = OffsetFetchRequest::default().with_groups(vec![of(group).with_topics(Some(vec![wanted]))]);
        let response = lab.client.call(version, &request);
        let refused = &response.groups[0].topics[0];
        assert_eq!(refused.unknown_tagged_fields, aside(version, &Topic::unknown()));
        let at = &refused.partitions[0];
        assert_eq!((at.partition_index, at.committed_offset, at.error_code), (4, -1, code::UNKNOWN_TOPIC_ID));
    }
}

/// OffsetDelete 47: what the group committed is forgotten, unless a member reads the topic.
pub fn offset_delete(lab: &mut Lab, version: i16) {
    let (topic, group) = (lab.topic(2), lab.name("group"));
    lab.client.coordinator(&group);
    lab.client.call(8, &commit(8, &group, &topic, 42, "note"));
    let mut delete = |group: &str, topics: &[(&Topic, &[i32])]| {
        let partition = |index: &i32| OffsetDeleteRequestPartition::default().with_partition_index(*index);
        let topic = |(topic, indexes): &(&Topic, &[i32])| {
            let partitions = indexes.iter().map(partition).collect();
            OffsetDeleteRequestTopic::default().with_name(topic.wire()).with_partitions(partitions)
        };
        let request = OffsetDeleteRequest::default().with_group_id(group_id(group));
        let response = lab.client.call(version, &request.with_topics(topics.iter().map(topic).collect()));
        assert_eq!(response.throttle_time_ms, 0);
        let partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
        let codes = partitions.map(|partition| (partition.partition_index, partition.error_code)).collect::<Vec<_>>();
        (response.error_code, codes)
    };
    let unknown = Topic::unknown();
    let missing = code::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(delete("nobody", &[(&topic, &[0])]), (code::GROUP_ID_NOT_FOUND, vec![]));
    assert_eq!(delete("", &[(&topic, &[0])]), (code::INVALID_GROUP_ID, vec![]));
    let asked: &[(&Topic, &[i32])] = &[(&unknown, &[0]), (&topic, &[1, 0, 7])];
    let expected = vec![(0, missing), (1, code::NONE), (0, code::NONE), (7, missing)];
    assert_eq!(delete(&group, asked), (code::NONE, expected));
    assert_eq!(delete(&group, &[(&topic, &[0])]), (code::NONE, vec![(0, code::NONE)]), "there is nothing left of it");
    assert_eq!(committed(&mut lab.client, &group, &topic).0, -1);
}

/// FindCoordinator 10: this broker, for any group; one key at the top, many keys from version 4 on.
pub fn find_coordinator(lab: &mut Lab, version: i16) {
    lab.client.coordinator("g");
    let (node, port) = (lab.broker.node(), i32::from(lab.broker.address().port()));
    let keys = ["g", "another", "", "é"];
    if version >= 4 {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(keys.map(text).to_vec());
        let response = lab.client.call(version, &request);
        assert!(response.coordinators.iter().map(|found| found.key.as_str()).eq(keys));
        for found in &response.coordinators {
            assert_eq!((found.error_code, found.node_id.0), (code::NONE, node));
            assert_eq!((found.host.as_str(), found.port), ("127.0.0.1", port));
        }
    } else {
        for key in keys {
            let response = lab.client.call(version, &FindCoordinatorRequest::default().with_key(text(key)));
            assert_eq!((response.error_code, response.node_id.0), (code::NONE, node));
            assert_eq!((response.host.as_str(), response.port), ("127.0.0.1", port));
        }
    }
    if version >= 1 {
        let request = FindCoordinatorRequest::default().with_key_type(77);
        let request =
            if version >= 4 { request.with_coordinator_keys(vec![text("k")]) } else { request.with_key(text("k")) };
        let response = lab.client.call(version, &request);
        let refused = response.coordinators.first().map_or(response.error_code, |found| found.error_code);
        assert_eq!(refused, code::INVALID_REQUEST, "no such kind of coordinator");
    }
}

/// JoinGroup 11: an id first from version 4 on, then the generation; and what is refused.
pub fn join_group(lab: &mut Lab, version: i16) {
    let group = lab.name("group");
    lab.client.coordinator(&group);
    let client = &mut lab.client;
    let mut ask = join(&group, "", b"words");
    let first = client.call(version, &ask);
    let joined = if version >= 4 {
        assert_eq!((first.error_code, first.generation_id), (code::MEMBER_ID_REQUIRED, -1));
        assert!(first.member_id.starts_with("wire-") && first.members.is_empty());
        assert_eq!(first.protocol_name.as_deref(), if version >= 7 { None } else { Some("") });
        ask.member_id = first.member_id;
        client.call(version, &ask)
    } else {
        first
    };
    assert_eq!((joined.error_code, joined.generation_id, joined.throttle_time_ms), (code::NONE, 1, 0));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.protocol_type.as_deref(), if version >= 7 { Some("consumer") } else { None });
    assert_eq!((&joined.leader, joined.skip_assignment), (&joined.member_id, false));
    let [member] = &joined.members[..] else { panic!("the leader sees its group") };
    assert_eq!((&member.member_id, &member.metadata[..]), (&joined.member_id, &b"words"[..]));
    assert_eq!(member.group_instance_id, None);
    let refusals = [
        (join("", "", b"").with_protocol_type(text("consumer")), code::INVALID_GROUP_ID),
        (join(&group, "", b"").with_session_timeout_ms(5_999), 26),
        (join(&group, "", b"").with_session_timeout_ms(1_800_001), 26),
        (join(&group, "", b"").with_protocol_type(text("connect")), code::INCONSISTENT_GROUP_PROTOCOL),
        (join(&group, "", b"").with_protocols(Vec::new()), code::INCONSISTENT_GROUP_PROTOCOL),
        (join(&group, "stranger", b""), code::UNKNOWN_MEMBER_ID),
        (join("nobody", "stranger", b""), code::UNKNOWN_MEMBER_ID),
    ];
    for (request, expected) in refusals {
        let refused = client.call(version, &request);
        assert_eq!((refused.error_code, refused.generation_id), (expected, -1), "v{version}");
    }
    if version >= 5 {
        let group = format!("{group}-static");
        let request = join(&group, "", b"words").with_group_instance_id(Some(text("instance")));
        let joined = client.call(version, &request);
        assert_eq!((joined.error_code, joined.generation_id), (code::NONE, 1), "a static member joins at once");
        assert!(joined.member_id.starts_with("instance-"));
        assert_eq!(joined.members[0].group_instance_id.as_deref(), Some("instance"));
    }
}

/// A group of one member, in its first generation, with its assignment; static if it has an instance id.
fn stable(lab: &mut Lab, instance: Option<&str>) -> Member {
    let group = lab.name("group");
    lab.client.coordinator(&group);
    let mut member = Member::new(&lab.broker, &group, instance);
    member.send_join();
    let joined = member.joined();
    assert_eq!(joined.error_code, code::NONE);
    member.send_sync(&[(&joined.member_id, b"share")]);
    assert_eq!(member.synced(), (code::NONE, b"share".to_vec()));
    member
}

/// SyncGroup 14: the assignment, and who may not ask for it.
pub fn sync_group(lab: &mut Lab, version: i16) {
    let member = stable(lab, None);
    let client = &mut lab.client;
    let ask = || {
        let ask = sync(&member.group, &member.id, member.generation);
        if version < 5 {
            return ask;
        }
        ask.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range")))
    };
    let answer = client.call(version, &ask());
    assert_eq!((answer.error_code, answer.throttle_time_ms, &answer.assignment[..]), (code::NONE, 0, &b"share"[..]));
    assert_eq!(answer.protocol_type.as_deref(), if version >= 5 { Some("consumer") } else { None });
    assert_eq!(answer.protocol_name.as_deref(), if version >= 5 { Some("range") } else { None });
    let mut refusals = vec![
        (ask().with_group_id(group_id("")), code::INVALID_GROUP_ID),
        (ask().with_group_id(group_id("nobody")), code::UNKNOWN_MEMBER_ID),
        (ask().with_member_id(text("stranger")), code::UNKNOWN_MEMBER_ID),
        (ask().with_generation_id(member.generation + 1), code::ILLEGAL_GENERATION),
    ];
    if version >= 3 {
        refusals.push((ask().with_group_instance_id(Some(text("i"))), code::UNKNOWN_MEMBER_ID));
    }
    if version >= 5 {
        refusals.push((ask().with_protocol_name(Some(text("sticky"))), code::INCONSISTENT_GROUP_PROTOCOL));
        refusals.push((ask().with_protocol_type(None), code::INCONSISTENT_GROUP_PROTOCOL));
    }
    for (request, expected) in refusals {
        let refused = client.call(version, &request);
        assert_eq!((refused.error_code, refused.assignment.len()), (expected, 0));
    }
}

/// Heartbeat 12: alive, unknown, fenced or of another generation.
pub fn heartbeat(lab: &mut Lab, version: i16) {
    let member = stable(lab, Some("instance"));
    let ask = || beat(&member.group, &member.id, member.generation);
    let mut table = vec![
        (ask(), code::NONE),
        (ask().with_group_id(group_id("")), code::INVALID_GROUP_ID),
        (ask().with_group_id(group_id("nobody")), code::UNKNOWN_MEMBER_ID),
        (ask().with_member_id(text("stranger")), code::UNKNOWN_MEMBER_ID),
        (ask().with_generation_id(member.generation + 1), code::ILLEGAL_GENERATION),
    ];
    if version >= 3 {
        let named = |ask: HeartbeatRequest, name: &str| ask.with_group_instance_id(Some(text(name)));
        table.push((named(ask(), "instance"), code::NONE));
        table.push((named(ask(), "another"), code::UNKNOWN_MEMBER_ID));
        table.push((named(ask().with_member_id(text("stranger")), "instance"), code::FENCED_INSTANCE_ID));
    }
    for (request, expected) in table {
        let answer = lab.client.call(version, &request);
        assert_eq!((answer.error_code, answer.throttle_time_ms), (expected, 0), "{request:?}");
    }
}

/// LeaveGroup 13: one member, from version 3 on several, by either of their names.
pub fn leave_group(lab: &mut Lab, version: i16) {
    let member = stable(lab, Some("instance"));
    let client = &mut lab.client;
    if version < 3 {
        let mut ask = |member_id: &str, group: &str| client.call(version, &leave(group, member_id)).error_code;
        assert_eq!(ask("stranger", &member.group), code::UNKNOWN_MEMBER_ID);
        assert_eq!(ask(&member.id, ""), code::INVALID_GROUP_ID);
        assert_eq!(ask(&member.id, &member.group), code::NONE);
        assert_eq!(ask(&member.id, &member.group), code::UNKNOWN_MEMBER_ID, "it has left already");
        return;
    }
    let identity = |id: &str, instance: Option<&str>| {
        MemberIdentity::default().with_member_id(text(id)).with_group_instance_id(instance.map(text))
    };
    let members = vec![
        identity("stranger", None),
        identity("stranger", Some("instance")),
        identity("", Some("another")),
        identity("", Some("instance")),
        identity(&member.id, None),
    ];
    let request = LeaveGroupRequest::default().with_group_id(group_id(&member.group)).with_members(members.clone());
    let response = client.call(version, &request);
    assert_eq!((response.error_code, response.throttle_time_ms), (code::NONE, 0));
    let codes: Vec<i16> = response.members.iter().map(|member| member.error_code).collect();
    let unknown = code::UNKNOWN_MEMBER_ID;
    assert_eq!(codes, [unknown, code::FENCED_INSTANCE_ID, unknown, code::NONE, unknown]);
    for (asked, answer) in members.iter().zip(&response.members) {
        assert_eq!((&answer.member_id, &answer.group_instance_id), (&asked.member_id, &asked.group_instance_id));
    }
    let nameless = client.call(version, &request.with_group_id(group_id("")));
    assert_eq!((nameless.error_code, nameless.members.len()), (code::INVALID_GROUP_ID, 0));
}

/// DescribeGroups 15: a group with its member, and one that is not there.
pub fn describe_groups(lab: &mut Lab, version: i16) {
    let member = stable(lab, Some("instance"));
    for asked in [false, version >= 3] {
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![group_id(&member.group), group_id("nobody")])
            .with_include_authorized_operations(asked);
        let response = lab.client.call(version, &request);
        let [group, nobody] = &response.groups[..] else { panic!("two groups") };
        assert_eq!((group.error_code, group.group_id.as_str()), (code::NONE, &*member.group));
        let kind = (group.group_state.as_str(), group.protocol_type.as_str(), group.protocol_data.as_str());
        assert_eq!(kind, ("Stable", "consumer", "range"));
        assert_eq!(group.authorized_operations, if asked { 3400 } else { i32::MIN });
        let [shown] = &group.members[..] else { panic!("one member") };
        assert_eq!((shown.member_id.as_str(), shown.client_id.as_str()), (&*member.id, "wire"));
        assert_eq!(shown.client_host.as_str(), "/127.0.0.1");
        assert_eq!((&shown.member_metadata[..], &shown.member_assignment[..]), (&b"words"[..], &b"share"[..]));
        assert_eq!(shown.group_instance_id.as_deref(), if version >= 4 { Some("instance") } else { None });
        let missing = if version >= 6 { code::GROUP_ID_NOT_FOUND } else { code::NONE };
        assert_eq!((nobody.error_code, nobody.group_state.as_str()), (missing, "Dead"));
        assert_eq!(nobody.error_message.is_some(), version >= 6);
    }
}

/// ListGroups 16: every group, with a filter for states from version 4 and for types from version 5 on.
pub fn list_groups(lab: &mut Lab, version: i16) {
    let (member, topic) = (stable(lab, None), lab.topic(1));
    let simple = lab.name("simple");
    lab.client.call(8, &commit(8, &simple, &topic, 1, ""));
    let mut list = |states: &[&str], types: &[&str]| -> Vec<(String, String, String, String)> {
        let request = ListGroupsRequest::default()
            .with_states_filter(states.iter().map(|state| text(state)).collect())
            .with_types_filter(types.iter().map(|kind| text(kind)).collect());
        let response = lab.client.call(version, &request);
        assert_eq!((response.error_code, response.throttle_time_ms), (code::NONE, 0));
        let row = |group: &kafka_protocol::messages::list_groups_response::ListedGroup| {
            let (id, kind) = (group.group_id.to_string(), group.protocol_type.to_string());
            (id, kind, group.group_state.to_string(), group.group_type.to_string())
        };
        response.groups.iter().map(row).collect()
    };
    let row = |group: &str, protocol_type: &str, state: &str| {
        let state = if version >= 4 { state } else { "" };
        let kind = if version >= 5 { "classic" } else { "" };
        (group.to_owned(), protocol_type.to_owned(), state.to_owned(), kind.to_owned())
    };
    let (full, empty) = (row(&member.group, "consumer", "Stable"), row(&simple, "", "Empty"));
    let all = list(&[], &[]);
    assert!(all.contains(&full) && all.contains(&empty), "{all:?}");
    if version >= 4 {
        let stable = list(&["Stable", "Dead"], &[]);
        assert!(stable.contains(&full) && !stable.contains(&empty), "{stable:?}");
    }
    if version >= 5 {
        assert!(list(&[], &["classic"]).contains(&full));
        assert!(list(&[], &["consumer"]).is_empty());
    }
}

/// DeleteGroups 42: an empty group goes, one with a member stays.
pub fn delete_groups(lab: &mut Lab, version: i16) {
    let (mut member, topic) = (stable(lab, None), lab.topic(1));
    assert_eq!(lab.client.call(8, &commit(8, "nobody", &topic, 1, "")).topics[0].partitions[0].error_code, code::NONE);
    let mut delete = |groups: &[&str]| -> Vec<(String, i16)> {
        let request =
            DeleteGroupsRequest::default().with_groups_names(groups.iter().map(|group| group_id(group)).collect());
        let response = lab.client.call(version, &request);
        assert_eq!(response.throttle_time_ms, 0);
        response.results.iter().map(|one| (one.group_id.to_string(), one.error_code)).collect()
    };
    let row = |group: &str, code| (group.to_owned(), code);
    let group = member.group.clone();
    let expected = [row(&group, 68), row("nobody", code::NONE), row("none", code::GROUP_ID_NOT_FOUND)];
    assert_eq!(delete(&[&group, "nobody", "none"]), expected);
    assert_eq!(delete(&["nobody"]), [row("nobody", code::GROUP_ID_NOT_FOUND)], "it is gone");
    member.leave();
    assert_eq!(delete(&[&group]), [row(&group, code::NONE)]);
    assert_eq!(committed(&mut lab.client, "nobody", &topic).0, -1, "its offsets went with it");
}
