//! Incremental fetch sessions (KIP-227): the broker remembers what a client fetches, so that a request names changes
//! only.
//!
//! Invariants: at most `slots` sessions; a session's epoch goes up by one with each request, so a duplicate or lost
//! request is noticed; a partition that returned data moves behind the others, so none starves. Pure but for the
//! cache's own
//! mutex; random ids come as arguments.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::error::ErrorCode;
use crate::ids::Offset;

/// Epoch of a request that wants a new session, or none.
const EPOCH_FINAL: i32 = -1;
const EPOCH_INITIAL: i32 = 0;
/// Idle time after which another client may take a session's slot, in milliseconds
/// (`MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTABLE_AFTER_MS: u64 = 120_000;

/// A partition as a client names it: by id from Fetch v13, by name before.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FetchKey {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub partition: i32,
}

/// What a client wants of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub offset: Offset,
    pub bytes_max: i32,
    pub leader_epoch: i32,
    pub last_fetched_epoch: i32,
    /// Of a follower: where its log starts; -1 if it does not say.
    pub log_start: Offset,
    /// Of a follower: the high watermark it knows; the largest number if it does not say (KIP-1166).
    pub high_watermark: Offset,
}

/// What the client was last told of a partition; `None` until it was told, and again after an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Told {
    high_watermark: Offset,
    log_start: Offset,
}

#[derive(Debug)]
struct Entry {
    key: FetchKey,
    wanted: Wanted,
    told: Option<Told>,
}

/// One client's session.
#[derive(Debug, Default)]
pub struct Session {
    id: i32,
    /// The epoch that the next request must carry.
    next_epoch: i32,
    uses_topic_ids: bool,
    order: BTreeMap<u64, Entry>,
    places: HashMap<FetchKey, u64>,
    next_place: u64,
}

impl Session {
    fn put(&mut self, key: FetchKey, wanted: Wanted) {
        if let Some(entry) = self.places.get(&key).and_then(|place| self.order.get_mut(place)) {
            entry.wanted = wanted;
            return;
        }
        self.next_place += 1;
        self.places.insert(key.clone(), self.next_place);
        self.order.insert(self.next_place, Entry { key, wanted, told: None });
    }

    fn forget(&mut self, key: &FetchKey) {
        if let Some(place) = self.places.remove(key) {
            self.order.remove(&place);
        }
    }

    /// Notes what an answer says of `key`. True if an incremental answer must contain it; a partition with data moves
    /// to the end of the order.
    pub fn tell(&mut self, key: &FetchKey, news: &News) -> bool {
        let Some(&place) = self.places.get(key) else { return true };
        let Some(entry) = self.order.get_mut(&place) else { return true };
        let told = Told { high_watermark: news.high_watermark, log_start: news.log_start };
        // A follower may have dropped what it was told, because its role had just changed.
        let is_behind = entry.wanted.high_watermark < news.high_watermark;
        let changed = news.has_records || news.is_special || is_behind || entry.told != Some(told);
        entry.told = (!news.is_error).then_some(told);
        if news.has_records
            && let Some(entry) = self.order.remove(&place)
        {
            self.next_place += 1;
            self.places.insert(entry.key.clone(), self.next_place);
            self.order.insert(self.next_place, entry);
        }
        changed
    }
}

/// What an answer says of one partition.
#[derive(Clone, Copy, Debug)]
pub struct News {
    pub high_watermark: Offset,
    pub log_start: Offset,
    pub has_records: bool,
    pub is_error: bool,
    /// An error, a diverging epoch or a preferred replica: always told.
    pub is_special: bool,
}

/// A request as far as sessions are concerned.
pub struct SessionAsk {
    pub session_id: i32,
    pub session_epoch: i32,
    pub uses_topic_ids: bool,
    /// A broker that copies asks, not a consumer: its session is worth more.
    pub is_follower: bool,
    pub wanted: Vec<(FetchKey, Wanted)>,
    pub forgotten: Vec<FetchKey>,
    pub now_ms: u64,
    /// Random candidates for a new id.
    pub random: u64,
}

/// What to fetch and how to answer.
pub struct FetchPlan {
    /// Id for the answer; 0 if there is no session.
    pub session_id: i32,
    /// `None` for a sessionless fetch.
    pub session: Option<Arc<Mutex<Session>>>,
    /// True if the answer leaves out what did not change.
    pub incremental: bool,
    /// Partitions in the order in which they are served.
    pub wanted: Vec<(FetchKey, Wanted)>,
}

struct Slot {
    session: Arc<Mutex<Session>>,
    used_ms: u64,
    created_ms: u64,
    partitions: usize,
    is_follower: bool,
}

/// The sessions of a broker.
pub struct FetchSessions {
    slots_max: usize,
    slots: Mutex<HashMap<i32, Slot>>,
}

impl FetchSessions {
    /// A cache of `max.incremental.fetch.session.cache.slots` sessions.
    pub fn new(slots_max: usize) -> FetchSessions {
        FetchSessions { slots_max, slots: Mutex::default() }
    }

    /// Sessions now, and partitions in them: two of Kafka's metrics.
    pub fn counts(&self) -> (usize, usize) {
        let slots = self.slots.lock();
        (slots.len(), slots.values().map(|slot| slot.partitions).sum())
    }

    /// Ends a session, if there is one with this id.
    pub fn end(&self, session_id: i32) {
        self.slots.lock().remove(&session_id);
    }

    /// Decides what a request fetches.
    pub fn begin(&self, ask: SessionAsk) -> Result<FetchPlan, ErrorCode> {
        match ask.session_epoch {
            EPOCH_FINAL | EPOCH_INITIAL => {
                self.slots.lock().remove(&ask.session_id);
                Ok(if ask.session_epoch == EPOCH_FINAL { sessionless(ask.wanted) } else { self.create(ask) })
            }
            _ => self.resume(ask),
        }
    }

    fn create(&self, ask: SessionAsk) -> FetchPlan {
        let mut slots = self.slots.lock();
        let newcomer = (ask.is_follower, ask.wanted.len());
        if ask.wanted.is_empty() || !make_room(&mut slots, self.slots_max, newcomer, ask.now_ms) {
            return sessionless(ask.wanted);
        }
        let mut id = ((ask.random >> 1) as i32 & i32::MAX).max(1);
        while slots.contains_key(&id) {
            id = id.checked_add(1).unwrap_or(1);
        }
        let mut session = Session { id, next_epoch: 1, uses_topic_ids: ask.uses_topic_ids, ..Session::default() };
        for (key, wanted) in &ask.wanted {
            session.put(key.clone(), *wanted);
        }
        let partitions = session.order.len();
        let session = Arc::new(Mutex::new(session));
        let (used_ms, created_ms, is_follower) = (ask.now_ms, ask.now_ms, ask.is_follower);
        let slot = Slot { session: session.clone(), used_ms, created_ms, partitions, is_follower };
        slots.insert(id, slot);
        FetchPlan { session_id: id, session: Some(session), incremental: false, wanted: ask.wanted }
    }

    fn resume(&self, ask: SessionAsk) -> Result<FetchPlan, ErrorCode> {
        let mut slots = self.slots.lock();
        let slot = slots.get_mut(&ask.session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let shared = slot.session.clone();
        let mut session = shared.lock();
        if session.next_epoch != ask.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != ask.uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        for (key, wanted) in ask.wanted {
            session.put(key, wanted);
        }
        for key in &ask.forgotten {
            session.forget(key);
        }
        session.next_epoch = session.next_epoch.checked_add(1).unwrap_or(1);
        slot.used_ms = ask.now_ms;
        slot.partitions = session.order.len();
        if session.order.is_empty() {
            slots.remove(&ask.session_id);
            return Ok(sessionless(Vec::new()));
        }
        let wanted = session.order.values().map(|entry| (entry.key.clone(), entry.wanted)).collect();
        let session_id = session.id;
        drop(session);
        Ok(FetchPlan { session_id, session: Some(shared), incremental: true, wanted })
    }
}

fn sessionless(wanted: Vec<(FetchKey, Wanted)>) -> FetchPlan {
    FetchPlan { session_id: 0, session: None, incremental: false, wanted }
}

/// Frees a slot if all are taken: an idle session goes, or the one that is worth least and less than the newcomer, of
/// whom it is known whether it is a follower and how many partitions it has. Whoever is old enough may go; a follower
/// turns out any consumer.
fn make_room(slots: &mut HashMap<i32, Slot>, slots_max: usize, newcomer: (bool, usize), now_ms: u64) -> bool {
    if slots.len() < slots_max {
        return true;
    }
    let (is_follower, _) = newcomer;
    let is_past = |since_ms: u64| now_ms.saturating_sub(since_ms) > EVICTABLE_AFTER_MS;
    let oldest = slots.iter().min_by_key(|(id, slot)| (slot.used_ms, **id));
    let idle = oldest.filter(|(_, slot)| is_past(slot.used_ms)).map(|(id, _)| *id);
    let may_go = |slot: &Slot| is_past(slot.created_ms) || (is_follower && !slot.is_follower);
    let evictable = slots.iter().filter(|(_, slot)| may_go(slot));
    let least = evictable.min_by_key(|(id, slot)| (slot.is_follower, slot.partitions, **id));
    let lesser = least.filter(|(_, slot)| (slot.is_follower, slot.partitions) < newcomer);
    match idle.or(lesser.map(|(id, _)| *id)) {
        Some(evicted) => slots.remove(&evicted).is_some(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> FetchKey {
        FetchKey { topic: "t".into(), topic_id: Uuid::nil(), partition }
    }

    fn wanted(offset: Offset) -> Wanted {
        Wanted {
            offset,
            bytes_max: 100,
            leader_epoch: -1,
            last_fetched_epoch: -1,
            log_start: -1,
            high_watermark: Offset::MAX,
        }
    }

    fn ask(id: i32, epoch: i32, wanted: Vec<(FetchKey, Wanted)>, forgotten: Vec<FetchKey>) -> SessionAsk {
        SessionAsk {
            session_id: id,
            session_epoch: epoch,
            uses_topic_ids: false,
            is_follower: false,
            wanted,
            forgotten,
            now_ms: 0,
            random: 77 << 1,
        }
    }

    fn news(high_watermark: Offset, has_records: bool) -> News {
        News { high_watermark, log_start: 0, has_records, is_error: false, is_special: false }
    }

    #[test]
    fn a_session_lives_through_its_epochs() {
        let sessions = FetchSessions::new(10);
        let first = sessions.begin(ask(0, 0, vec![(key(0), wanted(0)), (key(1), wanted(0))], vec![])).ok().unwrap();
        assert_eq!((first.session_id, first.incremental), (77, false));
        assert_eq!(sessions.begin(ask(77, 2, vec![], vec![])).err(), Some(ErrorCode::InvalidFetchSessionEpoch));
        let next = sessions.begin(ask(77, 1, vec![(key(1), wanted(5))], vec![])).ok().unwrap();
        assert!(next.incremental);
        assert_eq!(next.wanted, vec![(key(0), wanted(0)), (key(1), wanted(5))]);
        let shrunk = sessions.begin(ask(77, 2, vec![], vec![key(0)])).ok().unwrap();
        assert_eq!(shrunk.wanted, vec![(key(1), wanted(5))]);
        let emptied = sessions.begin(ask(77, 3, vec![], vec![key(1)])).ok().unwrap();
        assert_eq!(emptied.session_id, 0);
        assert_eq!(sessions.begin(ask(77, 4, vec![], vec![])).err(), Some(ErrorCode::FetchSessionIdNotFound));
    }

    #[test]
    fn only_changes_are_told_and_data_moves_a_partition_behind() {
        let sessions = FetchSessions::new(10);
        let plan = sessions.begin(ask(0, 0, vec![(key(0), wanted(0)), (key(1), wanted(0))], vec![])).ok().unwrap();
        let session = plan.session.unwrap();
        assert!(session.lock().tell(&key(0), &news(3, true)));
        assert!(session.lock().tell(&key(1), &news(3, false)));
        assert!(!session.lock().tell(&key(1), &news(3, false)), "nothing changed");
        assert!(session.lock().tell(&key(1), &news(4, false)), "the high watermark moved");
        let error = News { is_error: true, is_special: true, ..news(4, false) };
        assert!(session.lock().tell(&key(1), &error));
        assert!(session.lock().tell(&key(1), &news(4, false)), "after an error everything is news");
        let follower = Wanted { high_watermark: 3, ..wanted(0) };
        session.lock().put(key(1), follower);
        assert!(session.lock().tell(&key(1), &news(4, false)), "a follower says that it has not heard");
        session.lock().put(key(1), Wanted { high_watermark: 4, ..follower });
        assert!(!session.lock().tell(&key(1), &news(4, false)), "now it has");
        let next = sessions.begin(ask(77, 1, vec![], vec![])).ok().unwrap();
        let order: Vec<i32> = next.wanted.iter().map(|(key, _)| key.partition).collect();
        assert_eq!(order, vec![1, 0]);
    }

    #[test]
    fn a_full_cache_gives_no_session_unless_one_is_idle() {
        let sessions = FetchSessions::new(1);
        assert_eq!(sessions.begin(ask(0, 0, vec![(key(0), wanted(0))], vec![])).ok().unwrap().session_id, 77);
        assert_eq!(sessions.begin(ask(0, 0, vec![(key(0), wanted(0))], vec![])).ok().unwrap().session_id, 0);
        let mut later = ask(0, 0, vec![(key(0), wanted(0))], vec![]);
        later.now_ms = EVICTABLE_AFTER_MS + 1;
        assert_ne!(sessions.begin(later).ok().unwrap().session_id, 0);
    }

    #[test]
    fn a_follower_turns_out_a_consumer_and_the_larger_the_smaller() {
        let sessions = FetchSessions::new(2);
        let many = |count: i32| (0..count).map(|index| (key(index), wanted(0))).collect::<Vec<_>>();
        let mut asks = 0;
        let mut begin = |is_follower: bool, count: i32, now_ms: u64| {
            asks += 1;
            let ask = SessionAsk { is_follower, now_ms, random: asks << 1, ..ask(0, 0, many(count), vec![]) };
            sessions.begin(ask).ok().map(|plan| plan.session_id)
        };
        assert_eq!([begin(false, 3, 0), begin(false, 2, 0)], [Some(1), Some(2)]);
        assert_eq!(begin(false, 9, 0), Some(0), "they have just come");
        assert_eq!(begin(true, 1, 0), Some(4), "in the place of the smaller one");
        assert_eq!(begin(true, 1, 0), Some(5), "in the place of the other one");
        assert_eq!(begin(true, 9, 0), Some(0), "followers turn no follower out");
        let resume = |id: i32| SessionAsk { is_follower: true, now_ms: 1, ..ask(id, 1, vec![], vec![]) };
        assert!(sessions.begin(resume(4)).is_ok() && sessions.begin(resume(5)).is_ok());
        // Used a moment ago, and long there.
        assert_eq!(begin(false, 9, EVICTABLE_AFTER_MS + 1), Some(0), "a consumer turns no follower out");
        assert_eq!(begin(true, 9, EVICTABLE_AFTER_MS + 1), Some(8), "a larger follower does");
    }
}
