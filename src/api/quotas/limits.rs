//! Which quota holds for a client, and whose account it is measured on (`ClientQuotaManager.DefaultQuotaCallback`).
//!
//! The first that exists: (user, client), (user, default client), user, (default user, client), (default user, default
//! client), default user, client, default client. Everybody who shares an account shares its rate.
//!
//! Invariant: the tables are looked up and never iterated. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use crate::metadata::{ClientQuotas, QuotaEntity, QuotaName};

/// Values by name, and one for every other name.
#[derive(Debug)]
struct ByName<T> {
    named: HashMap<String, T>,
    default: Option<T>,
}

impl<T> Default for ByName<T> {
    fn default() -> ByName<T> {
        ByName { named: HashMap::new(), default: None }
    }
}

impl<T> ByName<T> {
    fn is_empty(&self) -> bool {
        self.named.is_empty() && self.default.is_none()
    }

    fn find(&self, name: &str) -> Option<&T> {
        self.named.get(name).or(self.default.as_ref())
    }

    fn place(&mut self, name: &QuotaName) -> &mut T
    where
        T: Default,
    {
        match name {
            Some(name) => self.named.entry(name.clone()).or_default(),
            None => self.default.get_or_insert_default(),
        }
    }
}

/// Everything that is set under one key for users and clients.
#[derive(Default, Debug)]
pub struct Limits {
    pairs: ByName<ByName<f64>>,
    users: ByName<f64>,
    clients: ByName<f64>,
}

/// Whom a rate is measured for; an empty name means that it does not matter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Account {
    pub user: Arc<str>,
    pub client: Arc<str>,
}

impl Limits {
    /// What the cluster's quotas say under `key`.
    pub fn of(quotas: &ClientQuotas, key: &str) -> Limits {
        let mut limits = Limits::default();
        for (entity, quotas) in quotas.iter() {
            let Some(value) = quotas.get(key) else { continue };
            match entity {
                QuotaEntity::UserClient { user, client } => *limits.pairs.place(user).place(client) = value.0,
                QuotaEntity::User(user) => *limits.users.place(user) = value.0,
                QuotaEntity::Client(client) => *limits.clients.place(client) = value.0,
                QuotaEntity::Ip(_) => {}
            }
        }
        limits
    }

    /// True if nothing is set, so that nothing need be measured.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.users.is_empty() && self.clients.is_empty()
    }

    /// The account of a client.
    pub fn account(&self, user: &Arc<str>, client: &Arc<str>) -> Account {
        let (by_user, by_client) = self.measured_by(user, client);
        let part = |measured: bool, name: &Arc<str>| if measured { Arc::clone(name) } else { Arc::default() };
        Account { user: part(by_user, user), client: part(by_client, client) }
    }

    /// Whether the user and the client id matter. Where one sort of quota is set alone, it decides, and clients
    /// without a quota are measured in the same way.
    fn measured_by(&self, user: &str, client: &str) -> (bool, bool) {
        match (self.pairs.is_empty(), self.users.is_empty(), self.clients.is_empty()) {
            (true, true, _) => (false, true),
            (true, false, true) => (true, false),
            (false, true, true) => (true, true),
            _ if self.pairs.named.get(user).is_some_and(|clients| clients.find(client).is_some()) => (true, true),
            _ if self.users.named.contains_key(user) => (true, false),
            _ if self.pairs.default.as_ref().is_some_and(|clients| clients.find(client).is_some()) => (true, true),
            _ if self.users.default.is_some() => (true, false),
            _ => (false, true),
        }
    }

    /// The quota of an account; `None` if it has none.
    pub fn bound(&self, account: &Account) -> Option<f64> {
        let Account { user, client } = account;
        match (user.is_empty(), client.is_empty()) {
            (false, false) => {
                let of_user = self.pairs.named.get(&**user).and_then(|clients| clients.find(client));
                of_user.or_else(|| self.pairs.default.as_ref()?.find(client)).copied()
            }
            (false, true) => self.users.find(user).copied(),
            (true, false) => self.clients.find(client).copied(),
            (true, true) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{ClusterImage, MetadataRecord, QuotaValue};

    /// Whom, in the order of precedence; `_` is the default, a missing part does not matter.
    const ORDER: [&str; 8] = ["u c", "u _", "u", "_ c", "_ _", "_", "/c", "/_"];

    fn entity(text: &str) -> QuotaEntity {
        let name = |text: &str| (text != "_").then(|| text.to_owned());
        match (text.strip_prefix('/'), text.split_once(' ')) {
            (Some(client), _) => QuotaEntity::Client(name(client)),
            (None, Some((user, client))) => QuotaEntity::UserClient { user: name(user), client: name(client) },
            (None, None) => QuotaEntity::User(name(text)),
        }
    }

    fn limits(entities: &[&str]) -> Limits {
        let record = |(at, text): (usize, &&str)| MetadataRecord::ClientQuota {
            entity: entity(text),
            key: "k".into(),
            value: Some(QuotaValue(at as f64)),
        };
        let records: Vec<_> = entities.iter().enumerate().map(record).collect();
        Limits::of(&ClusterImage::default().replay(&records).client_quotas, "k")
    }

    /// The account's names and the index of the quota that holds.
    fn check(entities: &[&str], user: &str, client: &str, expected: (&str, &str, Option<usize>)) {
        let limits = limits(entities);
        let account = limits.account(&user.into(), &client.into());
        let bound = limits.bound(&account).map(|bound| bound as usize);
        assert_eq!((&*account.user, &*account.client, bound), expected, "{entities:?} for {user} {client}");
    }

    #[test]
    fn the_most_specific_quota_holds() {
        let accounts = [("u", "c"), ("u", "c"), ("u", ""), ("u", "c"), ("u", "c"), ("u", ""), ("", "c"), ("", "c")];
        for (first, (user, client)) in accounts.iter().enumerate() {
            check(&ORDER[first..], "u", "c", (user, client, Some(0)));
        }
        check(&ORDER, "u", "other", ("u", "other", Some(1)));
        check(&ORDER, "other", "c", ("other", "c", Some(3)));
        check(&ORDER, "other", "other", ("other", "other", Some(4)));
    }

    #[test]
    fn one_sort_of_quota_alone_measures_everybody_by_it() {
        check(&["/c"], "u", "c", ("", "c", Some(0)));
        check(&["/c"], "u", "other", ("", "other", None));
        check(&["u"], "u", "c", ("u", "", Some(0)));
        check(&["u"], "other", "c", ("other", "", None));
        check(&["u c"], "u", "c", ("u", "c", Some(0)));
        check(&["u c"], "u", "other", ("u", "other", None));
        check(&["u c", "/_"], "u", "other", ("", "other", Some(1)));
        check(&["u c", "_"], "u", "other", ("u", "", Some(1)));
    }

    #[test]
    fn a_client_without_a_name_has_no_quota_of_its_own() {
        check(&["/_"], "u", "", ("", "", None));
        check(&["_ _"], "u", "", ("u", "", None));
        assert!(limits(&[]).is_empty() && !limits(&["/_"]).is_empty());
    }
}
