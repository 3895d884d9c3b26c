//! When brokers were last heard, and how far they had read the log: what fencing and controlled shutdown go by.
//!
//! Heartbeats are noted here as they arrive, outside the round, so that a busy controller fences nobody for its own
//! slowness (`BrokerHeartbeatTracker`). None of it is in the log: a new controller knows nobody's silence, so every
//! unfenced broker has a fresh session from its claim on.
//!
//! A process that ends closes its connections, and nobody listens where it did: then nobody need wait until its session
//! has run out. Who hangs up, or is late, is looked for (`probes`), and has no session any more if it is gone.
//!
//! Invariants: a session belongs to one broker epoch; what was noted under another controller epoch does not count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ids::{BrokerId, Offset};
use crate::metadata::brokers::Broker;
use crate::metadata::image::ClusterImage;

/// What one broker last said.
#[derive(Clone, Copy, Debug)]
struct Session {
    /// The broker epoch that it said it under.
    epoch: i64,
    heard: Instant,
    /// The offset of the last metadata record it had applied.
    read: Offset,
    /// The connection it said it on; `None` in this process.
    connection: Option<u64>,
    /// That connection has ended, and nobody has looked for the broker since.
    hung_up: bool,
}

#[derive(Default)]
struct Noted {
    /// The controller epoch that all of this belongs to, and when it was first looked at.
    controller: Option<(i32, Instant)>,
    by_broker: BTreeMap<BrokerId, Session>,
    /// Brokers whose process is known to be gone, by the epoch that it had.
    gone: BTreeMap<BrokerId, i64>,
    /// Heartbeats of which nobody can say what became of them, under any controller epoch.
    timed_out: u64,
}

/// The sessions of all brokers. Cheap to clone: clones are one set.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Shared>);

#[derive(Default)]
struct Shared {
    noted: Mutex<Noted>,
    hung_up: Notify,
}

/// What a heartbeat says of its broker.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    pub id: BrokerId,
    pub epoch: i64,
    /// The offset of the last metadata record that it has applied.
    pub read: Offset,
    /// The connection that it came on; `None` in this process.
    pub connection: Option<u64>,
}

/// Kept by a connection on which heartbeats come: its end is noted.
pub struct Hearing {
    sessions: Sessions,
    connection: u64,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        let mut noted = self.sessions.0.noted.lock();
        let mut of_connection =
            noted.by_broker.values_mut().filter(|session| session.connection == Some(self.connection));
        if let Some(session) = of_connection.next() {
            session.hung_up = true;
            self.sessions.0.hung_up.notify_one();
        }
    }
}

impl Sessions {
    /// Notes that a broker was heard.
    pub fn heard(&self, image: &ClusterImage, word: Word, now: Instant) {
        let Word { id, epoch, read, connection } = word;
        let mut noted = self.0.noted.lock();
        noted.of_controller(image, now);
        // Whoever names an epoch that is not registered keeps nobody's session alive, and takes no memory.
        if image.brokers.by_id(id).is_some_and(|broker| broker.epoch == epoch) {
            noted.by_broker.insert(id, Session { epoch, heard: now, read, connection, hung_up: false });
            noted.gone.remove(&id);
        }
    }

    /// Notes the end of a connection on which heartbeats come, once what is returned is dropped.
    pub fn hearing(&self, connection: u64) -> Hearing {
        Hearing { sessions: self.clone(), connection }
    }

    /// Waits until a connection has ended on which a broker was heard.
    pub async fn somebody_hung_up(&self) {
        self.0.hung_up.notified().await;
    }

    /// The unfenced brokers that have hung up, that have said nothing for as long as `overdue`, or nothing at all to
    /// this controller: perhaps they are gone. Who has hung up is named once.
    pub fn doubtful(&self, image: &ClusterImage, overdue: Duration, now: Instant) -> Vec<(BrokerId, i64)> {
        let mut noted = self.0.noted.lock();
        noted.of_controller(image, now);
        let mut found = Vec::new();
        for broker in image.brokers.iter().filter(|broker| !broker.fenced) {
            let session = noted.by_broker.get_mut(&broker.id).filter(|session| session.epoch == broker.epoch);
            // What ended together with the last controller had no connection to this one that could tell.
            let is_doubtful = session.is_none_or(|session| {
                std::mem::take(&mut session.hung_up) || now.duration_since(session.heard) > overdue
            });
            if is_doubtful && noted.gone.get(&broker.id) != Some(&broker.epoch) {
                found.push((broker.id, broker.epoch));
            }
        }
        found
    }

    /// Notes that the process of a broker is gone, as was seen after `since`; it has no session until it is heard
    /// again. False if it was heard meanwhile.
    pub fn gone(&self, id: BrokerId, epoch: i64, since: Instant) -> bool {
        let mut noted = self.0.noted.lock();
        let session = noted.by_broker.get(&id).filter(|session| session.epoch == epoch);
        let is_gone = session.is_none_or(|session| session.heard <= since);
        if is_gone {
            noted.gone.insert(id, epoch);
        }
        is_gone
    }

    /// Notes that a heartbeat was not answered in time.
    pub fn timed_out(&self) {
        self.0.noted.lock().timed_out += 1;
    }

    /// Heartbeats that were not answered in time, since the start of this process.
    pub fn timed_out_count(&self) -> u64 {
        self.0.noted.lock().timed_out
    }

    /// True if the broker was heard within `timeout`, or could not have been heard yet.
    pub fn is_live(&self, image: &ClusterImage, broker: &Broker, timeout: Duration, now: Instant) -> bool {
        let mut noted = self.0.noted.lock();
        let began = noted.of_controller(image, now);
        noted.is_live(began, broker, timeout, now)
    }

    /// The unfenced broker that has been silent for longer than `timeout`; the one with the lowest id of several.
    pub fn silent(&self, image: &ClusterImage, timeout: Duration, now: Instant) -> Option<BrokerId> {
        let mut noted = self.0.noted.lock();
        let began = noted.of_controller(image, now);
        let silent = |broker: &&Arc<Broker>| !broker.fenced && !noted.is_live(began, broker, timeout, now);
        image.brokers.iter().find(silent).map(|broker| broker.id)
    }

    /// How far every active broker has read the log at least: the offset of a record, -1 if somebody has not said yet.
    pub fn read_by_all(&self, image: &ClusterImage) -> Offset {
        let noted = self.0.noted.lock();
        let active = image.brokers.iter().filter(|broker| image.brokers.is_active(broker.id));
        let read = |broker: &Arc<Broker>| {
            let session = noted.by_broker.get(&broker.id).filter(|session| session.epoch == broker.epoch);
            session.map_or(-1, |session| session.read)
        };
        active.map(read).min().unwrap_or(Offset::MAX)
    }
}

impl Noted {
    /// Forgets what was noted under another controller; the moment from which this one has been listening.
    fn of_controller(&mut self, image: &ClusterImage, now: Instant) -> Instant {
        let epoch = image.index.controller_epoch;
        match self.controller {
            Some((known, began)) if known == epoch => began,
            _ => {
                self.controller = Some((epoch, now));
                self.by_broker.clear();
                self.gone.clear();
                now
            }
        }
    }

    fn is_live(&self, began: Instant, broker: &Broker, timeout: Duration, now: Instant) -> bool {
        let session = self.by_broker.get(&broker.id).filter(|session| session.epoch == broker.epoch);
        let heard = session.map(|session| session.heard).or((!broker.fenced).then_some(began));
        let is_gone = self.gone.get(&broker.id) == Some(&broker.epoch);
        !is_gone && heard.is_some_and(|heard| now.duration_since(heard) <= timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::ids::KafkaUuid;
    use crate::metadata::record::{BrokerChange, MetadataRecord};

    const TIMEOUT: Duration = Duration::from_secs(9);

    fn claim(epoch: i32) -> MetadataRecord {
        let (node, directory, incarnation) = (BrokerId(1), KafkaUuid(10), KafkaUuid(20));
        MetadataRecord::ControllerClaim { epoch, node, directory, incarnation }
    }

    fn image(ids: &[i32]) -> ClusterImage {
        let brokers = ids.iter().map(|id| MetadataRecord::RegisterBroker(Broker::plain(*id)));
        ClusterImage::default().replay(&std::iter::once(claim(1)).chain(brokers).collect::<Vec<_>>())
    }

    fn word(id: i32, epoch: i64, read: Offset) -> Word {
        Word { id: BrokerId(id), epoch, read, connection: Some(7) }
    }

    #[test]
    fn silence_is_counted_from_the_last_word_or_the_claim() {
        let (sessions, image, start) = (Sessions::default(), image(&[1, 2]), Env::real().now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(sessions.silent(&image, TIMEOUT, at(0)), None);
        sessions.heard(&image, word(1, 0, 5), at(4));
        assert_eq!(sessions.silent(&image, TIMEOUT, at(9)), None);
        assert_eq!(sessions.silent(&image, TIMEOUT, at(10)), Some(BrokerId(2)));
        assert_eq!(sessions.silent(&image, TIMEOUT, at(14)), Some(BrokerId(1)), "one at a time, in the order of ids");
        sessions.heard(&image, word(2, 7, 5), at(14));
        sessions.heard(&image, word(1, 0, 5), at(14));
        assert_eq!(sessions.silent(&image, TIMEOUT, at(15)), Some(BrokerId(2)), "that was another life of it");
        let next = image.replay(&[claim(2)]);
        assert_eq!(sessions.silent(&next, TIMEOUT, at(20)), None, "a new controller has not heard anybody yet");
    }

    #[test]
    fn the_fenced_have_a_session_only_once_heard() {
        let (sessions, now) = (Sessions::default(), Env::real().now());
        let fenced = BrokerChange { fenced: Some(true), ..BrokerChange::of(BrokerId(1), 0) };
        let image = image(&[1]).replay(&[MetadataRecord::BrokerChange(fenced)]);
        let broker = image.brokers.by_id(BrokerId(1)).unwrap();
        assert!(!sessions.is_live(&image, broker, TIMEOUT, now));
        sessions.heard(&image, word(1, 0, 5), now);
        assert!(sessions.is_live(&image, broker, TIMEOUT, now));
    }

    #[test]
    fn what_all_have_read_is_what_the_slowest_has() {
        let (sessions, image, now) = (Sessions::default(), image(&[1, 2]), Env::real().now());
        sessions.heard(&image, word(1, 0, 8), now);
        assert_eq!(sessions.read_by_all(&image), -1, "nobody has heard of broker 2");
        sessions.heard(&image, word(2, 0, 5), now);
        assert_eq!(sessions.read_by_all(&image), 5);
    }

    #[test]
    fn who_hangs_up_or_is_late_is_doubtful_and_who_is_gone_has_no_session() {
        let (sessions, image, start) = (Sessions::default(), image(&[1, 2]), Env::real().now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let late = Duration::from_secs(3);
        assert_eq!(sessions.doubtful(&image, late, at(0)), [(BrokerId(1), 0), (BrokerId(2), 0)], "never heard");
        sessions.heard(&image, word(1, 0, 5), at(1));
        sessions.heard(&image, Word { connection: Some(8), ..word(2, 0, 5) }, at(1));
        drop(sessions.hearing(9));
        assert_eq!(sessions.doubtful(&image, late, at(2)), [], "a connection that says nothing of anybody");
        drop(sessions.hearing(8));
        assert_eq!(sessions.doubtful(&image, late, at(2)), [(BrokerId(2), 0)]);
        assert_eq!(sessions.doubtful(&image, late, at(2)), [], "named once");
        assert_eq!(sessions.doubtful(&image, late, at(5)), [(BrokerId(1), 0), (BrokerId(2), 0)]);
        sessions.heard(&image, word(1, 0, 5), at(6));
        assert!(!sessions.gone(BrokerId(1), 0, at(5)), "heard meanwhile");
        assert!(sessions.gone(BrokerId(2), 0, at(5)));
        assert_eq!(sessions.silent(&image, TIMEOUT, at(6)), Some(BrokerId(2)));
        assert_eq!(sessions.doubtful(&image, late, at(6)), [], "that is known");
        sessions.heard(&image, word(2, 0, 5), at(6));
        assert_eq!(sessions.silent(&image, TIMEOUT, at(6)), None, "it is there after all");
    }
}
