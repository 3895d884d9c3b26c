//! The follower's half of an incremental fetch session (KIP-227; Kafka's `FetchSessionHandler`): a request names only
//! what changed since the one before. Pure.
//!
//! Invariant: `told` is what the leader would fetch if nothing were named. After any failure nothing is taken for told.

use std::collections::BTreeMap;

use super::super::partition::FetchPosition;
use crate::error::ErrorCode;
use crate::ids::TopicIdPartition;

/// Epoch of a request that asks for a session, with everything in it.
const FIRST_EPOCH: i32 = 0;

/// See the file's head.
#[derive(Default, Debug)]
pub(super) struct Session {
    /// 0: there is none.
    id: i32,
    epoch: i32,
    told: BTreeMap<TopicIdPartition, FetchPosition>,
}

/// How a request refers to the session.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Reference {
    pub id: i32,
    pub epoch: i32,
    /// What is not fetched any more.
    pub forgotten: Vec<TopicIdPartition>,
}

impl Session {
    /// Prepares a request for those partitions that are `asked` for. It says where those stand that [`Session::names`].
    pub(super) fn refer(&self, asked: impl Fn(&TopicIdPartition) -> bool) -> Reference {
        let forgotten = self.told.keys().filter(|id| !asked(id)).copied().collect();
        Reference { id: self.id, epoch: self.epoch, forgotten }
    }

    /// True if a request has to say where this partition stands.
    pub(super) fn names(&self, id: &TopicIdPartition, at: &FetchPosition) -> bool {
        self.told.get(id) != Some(at)
    }

    /// The leader has answered a request for `asked`.
    pub(super) fn answered<'a>(
        &mut self,
        error: ErrorCode,
        id: i32,
        asked: impl Iterator<Item = (&'a TopicIdPartition, &'a FetchPosition)>,
    ) {
        let goes_on = !error.is_error() && id != 0 && (self.epoch == FIRST_EPOCH || id == self.id);
        if !goes_on {
            *self = Session::default();
            return;
        }
        self.id = id;
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        self.told = asked.map(|(id, at)| (*id, *at)).collect();
    }

    /// What the leader knows does not count any more. The next request ends the session and asks for another one.
    pub(super) fn end(&mut self) {
        *self = Session { id: self.id, ..Session::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BrokerId, KafkaUuid, Offset};

    fn at(partition: i32, from: Offset) -> (TopicIdPartition, FetchPosition) {
        let id = TopicIdPartition { topic: KafkaUuid(1), partition };
        let leader = BrokerId(1);
        (id, FetchPosition { leader, epoch: 0, from, last_epoch: -1, log_start: 0, high_watermark: 0 })
    }

    type Asked = BTreeMap<TopicIdPartition, FetchPosition>;

    fn ask(session: &Session, asked: &Asked) -> (i32, i32, Vec<i32>, Vec<i32>) {
        let Reference { id, epoch, forgotten } = session.refer(|id| asked.contains_key(id));
        let named = asked.iter().filter(|(id, at)| session.names(id, at)).map(|(id, _)| id.partition).collect();
        (id, epoch, named, forgotten.iter().map(|id| id.partition).collect())
    }

    #[test]
    fn a_request_names_what_changed() {
        let mut session = Session::default();
        let first = Asked::from([at(0, 5), at(1, 5)]);
        assert_eq!(ask(&session, &first), (0, 0, vec![0, 1], vec![]));
        session.answered(ErrorCode::None, 77, first.iter());
        assert_eq!(ask(&session, &first), (77, 1, vec![], vec![]));
        session.answered(ErrorCode::None, 77, first.iter());
        let next = Asked::from([at(1, 9), at(2, 0)]);
        assert_eq!(ask(&session, &next), (77, 2, vec![1, 2], vec![0]));
        session.end();
        assert_eq!(ask(&session, &next), (77, 0, vec![1, 2], vec![]), "the leader forgets the one for the other");
        session.answered(ErrorCode::None, 78, next.iter());
        assert_eq!(ask(&session, &next), (78, 1, vec![], vec![]));
        session.answered(ErrorCode::FetchSessionIdNotFound, 0, next.iter());
        assert_eq!(ask(&session, &next), (0, 0, vec![1, 2], vec![]));
    }

    #[test]
    fn a_leader_without_a_place_for_a_session_hears_everything_each_time() {
        let mut session = Session::default();
        let asked = Asked::from([at(0, 5)]);
        session.answered(ErrorCode::None, 0, asked.iter());
        assert_eq!(ask(&session, &asked), (0, 0, vec![0], vec![]));
    }
}
