//! Brokers that may be gone are looked for, so that nobody need wait until their sessions have run out.
//!
//! A process that ends, however it ends, closes its connections, and nobody listens any more where it did. So whoever
//! hangs up, is late with a heartbeat, or was not heard yet by a new controller, is called: if the call is refused
//! twice, nobody is there, and the broker is fenced at once. Any other outcome says nothing: a machine that is off, or
//! cut off, does not refuse.
//!
//! Invariant: fencing stays safe whoever is fenced; a broker that was wrongly thought gone is back with its next
//! heartbeat.

use std::io::ErrorKind;
use std::time::Duration;

use crate::ids::BrokerId;
use crate::metadata::Metadata;

/// Pause between two looks at who is late.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a call may take, and how long after it the second one comes.
const PATIENCE: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_millis(50);

impl Metadata {
    /// Looks for brokers that have gone, for ever.
    pub(super) async fn look_for_the_gone(self) {
        let Some(mut active) = self.watch_active() else { return };
        let late = self.settings.heartbeat_interval * 5 / 4;
        loop {
            tokio::select! {
                biased;
                () = self.sessions.somebody_hung_up() => {}
                // Who was the controller before may have ended.
                changed = active.changed() => if changed.is_err() { return },
                () = self.env.sleep(PAUSE) => {}
            }
            if !self.is_active() {
                continue;
            }
            let now = self.env.now();
            let doubtful = self.sessions.doubtful(&self.image(), late, now);
            let calls = doubtful.into_iter().map(async |(id, epoch)| {
                let is_gone = self.is_gone(id).await && self.sessions.gone(id, epoch, now);
                if is_gone {
                    tracing::warn!(broker = %id, "nobody listens where this broker did: it is gone");
                }
                is_gone
            });
            if futures_util::future::join_all(calls).await.contains(&true) {
                self.fence_the_silent().await;
            }
        }
    }

    /// True if it is certain that no process listens where the broker does.
    async fn is_gone(&self, id: BrokerId) -> bool {
        self.refuses(id).await && {
            self.env.sleep(AGAIN).await;
            self.refuses(id).await
        }
    }

    async fn refuses(&self, id: BrokerId) -> bool {
        let image = self.image();
        let endpoints = image.brokers.by_id(id).map(|broker| &broker.endpoints[..]).unwrap_or_default();
        let ours = endpoints.iter().find(|endpoint| endpoint.listener == self.settings.broker_listener);
        let Some(endpoint) = ours else { return false };
        let call = self.env.net().connect(&endpoint.host, endpoint.port);
        let answer = self.env.timeout(PATIENCE, call).await;
        matches!(answer, Some(Err(failure)) if failure.kind() == ErrorKind::ConnectionRefused)
    }
}
