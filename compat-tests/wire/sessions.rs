//! Incremental fetch sessions (KIP-227), in every version that has them.

use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::{FetchRequest, FetchResponse};

use crate::asks::{self, Topic, code};
use crate::batch::Batch;
use crate::broker::Broker;
use crate::client::Client;

/// The epoch of a request that wants a session, and of one that wants none.
const INITIAL: i32 = 0;
const FINAL: i32 = -1;

/// The first version with sessions, and the first that names topics by id.
const SESSIONS: i16 = 7;
const TOPIC_IDS: i16 = 13;

/// One client's session.
struct Session<'a> {
    client: &'a mut Client,
    topic: &'a Topic,
    version: i16,
    id: i32,
    epoch: i32,
}

impl Session<'_> {
    fn open(&mut self, wanted: &[(i32, i64)]) -> FetchResponse {
        (self.id, self.epoch) = (0, INITIAL);
        let response = self.ask(wanted, &[]);
        assert_eq!(response.error_code, code::NONE);
        assert_ne!(response.session_id, 0, "a session was made");
        (self.id, self.epoch) = (response.session_id, 1);
        response
    }

    /// Sends the next incremental request.
    fn next(&mut self, wanted: &[(i32, i64)], forgotten: &[i32]) -> FetchResponse {
        let response = self.ask(wanted, forgotten);
        assert_eq!(response.error_code, code::NONE);
        self.epoch += 1;
        response
    }

    fn ask(&mut self, wanted: &[(i32, i64)], forgotten: &[i32]) -> FetchResponse {
        let mut request = asks::fetch(self.version, self.topic, wanted);
        if wanted.is_empty() {
            request.topics.clear();
        }
        if !forgotten.is_empty() {
            let gone = ForgottenTopic::default().with_partitions(forgotten.to_vec());
            let by_id = self.version >= TOPIC_IDS;
            let gone = if by_id { gone.with_topic_id(self.topic.id) } else { gone.with_topic(self.topic.wire()) };
            request.forgotten_topics_data = vec![gone];
        }
        let request: FetchRequest = request.with_session_id(self.id).with_session_epoch(self.epoch);
        self.client.call(self.version, &request)
    }
}

/// The partitions that an answer tells of.
fn told(response: &FetchResponse) -> Vec<i32> {
    response.responses.iter().flat_map(|topic| topic.partitions.iter().map(|part| part.partition_index)).collect()
}

/// Runs `check` with a session of its own, in every version.
fn in_every_version(check: fn(Session<'_>, &mut Client)) {
    let broker = Broker::start();
    let (mut client, mut writer) = (broker.client(), broker.client());
    for version in SESSIONS..=18 {
        let topic = writer.topic(&format!("t{version}"), 3, &[]);
        check(Session { client: &mut client, topic: &topic, version, id: 0, epoch: INITIAL }, &mut writer);
    }
}

#[test]
fn only_what_changed_is_told() {
    in_every_version(|mut session, writer| {
        let topic = session.topic;
        assert_eq!(told(&session.open(&[(0, 0), (1, 0), (2, 0)])), [0, 1, 2], "at first, everything");
        assert!(told(&session.next(&[], &[])).is_empty(), "nothing happened");
        writer.append(topic, 1, Batch::of(&["x"]).bytes());
        let response = session.next(&[], &[]);
        assert_eq!((told(&response), response.session_id), (vec![1], session.id));
        assert_eq!(told(&session.next(&[], &[])), [1], "records are told until the client moves on");
        assert!(told(&session.next(&[(1, 1)], &[])).is_empty(), "it has moved on");
        writer.append(topic, 0, Batch::of(&["x"]).bytes());
        writer.append(topic, 2, Batch::of(&["x"]).bytes());
        assert_eq!(told(&session.next(&[], &[0])), [2], "a partition that was forgotten");
        assert_eq!(told(&session.next(&[(0, 0)], &[])).len(), 2, "and taken up again");
        writer.call(2, &asks::delete_records(topic, 1, 1));
        let response = session.next(&[(0, 1), (2, 1)], &[]);
        assert_eq!(told(&response), [1], "the log start moved");
    });
}

#[test]
fn a_partition_with_data_moves_behind_the_others() {
    in_every_version(|mut session, writer| {
        for partition in 0..3 {
            writer.append(session.topic, partition, Batch::of(&["x"]).bytes());
        }
        session.open(&[(0, 0), (1, 0), (2, 0)]);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut request = asks::fetch(session.version, session.topic, &[]).with_max_bytes(1);
            request.topics.clear();
            let request = request.with_session_id(session.id).with_session_epoch(session.epoch);
            let response = session.client.call(session.version, &request);
            session.epoch += 1;
            let with_data = response.responses.iter().flat_map(|topic| &topic.partitions);
            let with_data = with_data.filter(|part| part.records.as_ref().is_some_and(|records| !records.is_empty()));
            seen.extend(with_data.map(|part| part.partition_index));
        }
        seen.sort();
        assert_eq!(seen, [0, 1, 2], "with room for one batch, each had its turn");
    });
}

#[test]
fn unknown_sessions_and_wrong_epochs_are_refused() {
    in_every_version(|mut session, _| {
        session.open(&[(0, 0)]);
        let id = session.id;
        for (id, epoch, expected) in [
            (id ^ 1, 1, code::FETCH_SESSION_ID_NOT_FOUND),
            (0, 1, code::FETCH_SESSION_ID_NOT_FOUND),
            (id, 2, code::INVALID_FETCH_SESSION_EPOCH),
            (id, i32::MAX, code::INVALID_FETCH_SESSION_EPOCH),
        ] {
            (session.id, session.epoch) = (id, epoch);
            let refused = session.ask(&[], &[]);
            assert_eq!((refused.error_code, refused.session_id), (expected, 0), "session {id} epoch {epoch}");
            assert!(refused.responses.is_empty());
        }
        (session.id, session.epoch) = (id, 1);
        session.next(&[], &[]);
        session.epoch = 1;
        assert_eq!(session.ask(&[], &[]).error_code, code::INVALID_FETCH_SESSION_EPOCH, "the same request again");
        session.epoch = 2;
        assert_eq!(session.ask(&[], &[]).error_code, code::NONE, "the session was not disturbed");
    });
}

#[test]
fn sessions_end_when_they_are_closed_replaced_or_empty() {
    in_every_version(|mut session, _| {
        session.open(&[(0, 0)]);
        let closed = session.id;
        session.epoch = FINAL;
        let last = session.ask(&[(0, 0), (1, 0)], &[]);
        assert_eq!((last.session_id, told(&last)), (0, vec![0, 1]), "a full answer without a session");
        session.epoch = 1;
        assert_eq!(session.ask(&[], &[]).error_code, code::FETCH_SESSION_ID_NOT_FOUND, "session {closed}");

        session.open(&[(0, 0)]);
        let replaced = session.id;
        session.epoch = INITIAL;
        let next = session.ask(&[(1, 0)], &[]);
        assert_ne!(next.session_id, 0);
        assert_eq!(told(&next), [1]);
        (session.id, session.epoch) = (replaced, 1);
        if next.session_id != replaced {
            assert_eq!(session.ask(&[], &[]).error_code, code::FETCH_SESSION_ID_NOT_FOUND);
        }

        session.open(&[(0, 0), (1, 0)]);
        session.next(&[], &[0]);
        let emptied = session.next(&[], &[1]);
        assert_eq!((emptied.session_id, told(&emptied)), (0, vec![]), "nothing is left of it");
        assert_eq!(session.ask(&[], &[]).error_code, code::FETCH_SESSION_ID_NOT_FOUND);
    });
}

#[test]
fn a_session_names_its_topics_in_one_way() {
    let broker = Broker::start();
    let (mut client, mut writer) = (broker.client(), broker.client());
    let topic = writer.topic("t", 1, &[]);
    for (version, other) in [(12, 13), (13, 12), (7, 18), (18, 7)] {
        let mut session = Session { client: &mut client, topic: &topic, version, id: 0, epoch: INITIAL };
        session.open(&[(0, 0)]);
        session.version = other;
        let refused = session.ask(&[], &[]);
        assert_eq!((refused.error_code, refused.responses.len()), (106, 0), "v{version} then v{other}");
    }
}

#[test]
fn ids_of_sessions_cannot_be_guessed() {
    let broker = Broker::start();
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    let mut ids: Vec<i32> = (0..20)
        .map(|_| client.call(12, &asks::fetch(12, &topic, &[(0, 0)]).with_session_epoch(INITIAL)).session_id)
        .collect();
    // A client that comes back with an id of long ago must not meet the session of another.
    assert!(ids.iter().all(|id| *id > 1_000), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[test]
fn there_are_only_so_many_sessions() {
    let broker = Broker::with(&[("max.incremental.fetch.session.cache.slots", "2")]);
    let mut client = broker.client();
    let topic = client.topic("t", 1, &[]);
    let ids: Vec<i32> = (0..3)
        .map(|_| client.call(12, &asks::fetch(12, &topic, &[(0, 0)]).with_session_epoch(INITIAL)).session_id)
        .collect();
    assert!(ids[0] != 0 && ids[1] != 0 && ids[0] != ids[1], "{ids:?}");
    assert_eq!(ids[2], 0, "the third is served without one");
}
