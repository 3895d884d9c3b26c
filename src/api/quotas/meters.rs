//! What every account has used lately, for one resource.
//!
//! Invariants: finding a meter takes no lock; recording takes its own short one. At most [`METERS_MAX`] meters are
//! held, under names of [`NAME_BYTES_MAX`] together: those that nobody used for [`IDLE_MS`] go, and if that is not
//! enough those unused for longest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use imbl::OrdMap;
use parking_lot::Mutex;

use super::limits::Account;
use super::window::{Samples, TokenBucket, Windows};

/// Most accounts of one resource. A client can call itself what it likes, so their number is the clients' choice.
pub const METERS_MAX: usize = 10_000;
/// A client id can be 32 KB long.
const NAME_BYTES_MAX: usize = 16 << 20;
/// How long an unused meter is kept (`ClientQuotaManager.INACTIVE_SENSOR_EXPIRATION_TIME_SECONDS`).
const IDLE_MS: u64 = 3_600_000;
/// How often a new account makes the others prove that they are in use.
const SWEEP_MS: u64 = 60_000;
/// Throttle times are averaged over two windows of 30 seconds, as any metric of Kafka is.
const AVERAGED: Windows = Windows { count: 2, window_ms: 30_000 };

/// What one account has used.
pub struct Meter {
    used_ms: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rate: Samples,
    tokens: TokenBucket,
    throttled: Samples,
}

/// What a meter shows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reading {
    /// Units a second.
    pub rate: f64,
    /// Tokens left, where the account has a bound.
    pub tokens: Option<f64>,
    /// Mean of the times that the account was told to wait, in milliseconds.
    pub throttle_ms: Option<f64>,
}

impl Meter {
    fn new(now_ms: u64) -> Meter {
        Meter { used_ms: AtomicU64::new(now_ms), state: Mutex::default() }
    }

    /// Notes that `value` was used; milliseconds to wait if that is more than `bound` a second.
    pub fn record(&self, windows: Windows, value: f64, bound: Option<f64>, now_ms: u64) -> u64 {
        self.used_ms.store(now_ms, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.rate.record(windows, value, now_ms);
        bound.map_or(0, |bound| state.rate.wait_ms(windows, bound, now_ms))
    }

    /// Takes tokens; milliseconds to wait if there is a debt. A strict asker takes none from a debt, any other goes on.
    pub fn take(&self, windows: Windows, count: f64, bound: f64, strict: bool, now_ms: u64) -> u64 {
        self.used_ms.store(now_ms, Ordering::Relaxed);
        let mut state = self.state.lock();
        if strict {
            let wait_ms = state.tokens.wait_ms(windows, bound, now_ms);
            if wait_ms > 0 {
                return wait_ms;
            }
        }
        state.rate.record(windows, count, now_ms);
        state.tokens.take(windows, bound, count, now_ms);
        if strict { 0 } else { state.tokens.wait_ms(windows, bound, now_ms) }
    }

    /// Notes that the account has to wait.
    pub fn throttled(&self, wait_ms: u64, now_ms: u64) {
        self.state.lock().throttled.record(AVERAGED, wait_ms as f64, now_ms);
    }

    fn read(&self, windows: Windows, bound: Option<f64>, now_ms: u64) -> Reading {
        let mut state = self.state.lock();
        Reading {
            rate: state.rate.rate(windows, now_ms),
            tokens: bound.map(|bound| state.tokens.tokens(windows, bound, now_ms)),
            throttle_ms: state.throttled.mean(AVERAGED, now_ms),
        }
    }

    fn is_idle(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.used_ms.load(Ordering::Relaxed)) > IDLE_MS
    }
}

#[derive(Default)]
struct Adding {
    /// When idle meters were looked for.
    swept_ms: u64,
    /// Bytes of all names.
    name_bytes: usize,
}

/// The meters of one resource.
#[derive(Default)]
pub struct Meters {
    by_account: ArcSwap<ByAccount>,
    /// Held by whoever adds a meter.
    adding: Mutex<Adding>,
}

impl Meters {
    /// The meter of an account.
    pub fn of(&self, account: &Account, now_ms: u64) -> Arc<Meter> {
        match self.by_account.load().get(account) {
            Some(meter) => Arc::clone(meter),
            None => self.add(account, now_ms),
        }
    }

    fn add(&self, account: &Account, now_ms: u64) -> Arc<Meter> {
        let mut adding = self.adding.lock();
        let mut meters = ByAccount::clone(&self.by_account.load());
        if let Some(meter) = meters.get(account) {
            return Arc::clone(meter);
        }
        if now_ms.saturating_sub(adding.swept_ms) > SWEEP_MS {
            adding.swept_ms = now_ms;
            meters = kept(&meters, |meter| !meter.is_idle(now_ms));
            adding.name_bytes = meters.keys().map(name_bytes).sum();
        }
        adding.name_bytes += name_bytes(account);
        while meters.len() >= METERS_MAX || (adding.name_bytes > NAME_BYTES_MAX && !meters.is_empty()) {
            meters = roomier(&meters);
            adding.name_bytes = meters.keys().map(name_bytes).sum::<usize>() + name_bytes(account);
        }
        let meter = Arc::new(Meter::new(now_ms));
        meters.insert(account.clone(), Arc::clone(&meter));
        self.by_account.store(Arc::new(meters));
        meter
    }

    /// Every account with what its meter shows, in order; `bound` knows their quotas.
    pub fn read(
        &self,
        windows: Windows,
        bound: impl Fn(&Account) -> Option<f64>,
        now_ms: u64,
    ) -> Vec<(Account, Reading)> {
        let meters = self.by_account.load();
        meters.iter().map(|(account, meter)| (account.clone(), meter.read(windows, bound(account), now_ms))).collect()
    }
}

type ByAccount = OrdMap<Account, Arc<Meter>>;

fn name_bytes(account: &Account) -> usize {
    account.user.len() + account.client.len()
}

fn kept(meters: &ByAccount, mut stays: impl FnMut(&Meter) -> bool) -> ByAccount {
    let kept = meters.iter().filter(|(_, meter)| stays(meter));
    kept.map(|(account, meter)| (account.clone(), Arc::clone(meter))).collect()
}

/// Without the tenth of the meters that was unused for longest.
fn roomier(meters: &ByAccount) -> ByAccount {
    let surplus = meters.len() / 10 + 1;
    let mut used_ms: Vec<u64> = meters.values().map(|meter| meter.used_ms.load(Ordering::Relaxed)).collect();
    used_ms.sort_unstable();
    let (oldest_ms, mut goes) = (used_ms[surplus - 1], surplus);
    kept(meters, |meter| {
        let stays = goes == 0 || meter.used_ms.load(Ordering::Relaxed) > oldest_ms;
        goes -= usize::from(!stays);
        stays
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { count: 11, window_ms: 1000 };

    fn account(client: &str) -> Account {
        Account { user: Arc::default(), client: client.into() }
    }

    #[test]
    fn meters_are_kept_while_used_and_their_number_is_bounded() {
        let meters = Meters::default();
        let first = meters.of(&account("a"), 0);
        assert!(Arc::ptr_eq(&first, &meters.of(&account("a"), 5)));
        meters.of(&account("b"), 10).record(WINDOWS, 1.0, None, IDLE_MS);
        meters.of(&account("c"), IDLE_MS + 1);
        assert_eq!(meters.by_account.load().len(), 2);
        assert!(!Arc::ptr_eq(&first, &meters.of(&account("a"), IDLE_MS + 1)), "it went, and came back afresh");
        for client in 0..2 * METERS_MAX {
            meters.of(&account(&client.to_string()), IDLE_MS + 2);
        }
        let held = meters.by_account.load().len();
        assert!((METERS_MAX * 8 / 10..=METERS_MAX).contains(&held), "{held}");
        for client in 0..2 * NAME_BYTES_MAX / 32_000 {
            meters.of(&account(&format!("{client:032000}")), IDLE_MS + 3);
        }
        let name_bytes: usize = meters.by_account.load().keys().map(super::name_bytes).sum();
        assert!((NAME_BYTES_MAX / 2..=NAME_BYTES_MAX).contains(&name_bytes), "{name_bytes}");
    }

    #[test]
    fn strict_askers_take_nothing_from_a_debt() {
        let meter = Meter::new(0);
        let take = |count: f64, strict: bool, now_ms: u64| meter.take(WINDOWS, count, 1.0, strict, now_ms);
        assert_eq!(take(10.0, true, 0), 0);
        assert_eq!(take(3.0, true, 0), 0, "one token is left, so the burst still passes");
        assert_eq!(take(1.0, true, 0), 2000);
        assert_eq!(take(1.0, false, 0), 3000, "who cannot be refused goes deeper into debt");
        assert_eq!(take(1.0, true, 2999), 1);
        assert_eq!(take(1.0, true, 3000), 0);
    }
}
