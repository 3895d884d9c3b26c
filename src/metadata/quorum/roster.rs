//! Who is in the quorum and where they listen: static voters by a setting, dynamic ones by the membership itself.
//!
//! Also remembers, durably, which voters this node has ever heard of by their own word: one that comes back with an
//! empty disk has lost what it promised, and must not promise anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use parking_lot::Mutex;

use crate::ids::BrokerId;
use crate::metadata::quorum::format;
use crate::metadata::quorum::store::MetaStore;
use crate::metadata::quorum::types::{Member, VoterId};
use crate::metadata::quorum::writer::Writer;
use crate::peer::Address;

/// The members of the quorum as this node knows them.
pub struct Roster {
    /// `controller.quorum.voters`; what it names is found there and nowhere else.
    fixed: BTreeMap<BrokerId, Address>,
    members: Mutex<BTreeMap<VoterId, Member>>,
    heard_of: Mutex<BTreeSet<VoterId>>,
    /// None where nobody is ever heard.
    writer: Option<Writer>,
}

impl Roster {
    /// Of a node that nobody promises anything.
    pub fn of_nobody() -> Roster {
        Roster { fixed: BTreeMap::new(), members: Mutex::default(), heard_of: Mutex::default(), writer: None }
    }

    /// Reads what an earlier life left in `store`; blocks on the disk.
    pub fn open(fixed: BTreeMap<BrokerId, Address>, store: &dyn MetaStore, writer: Writer) -> io::Result<Roster> {
        let mut heard_of = BTreeSet::new();
        let (from, to) = format::HEARD_OF_KEYS;
        for (key, _) in store.scan(from, to)? {
            heard_of.insert(format::heard_of(&key)?);
        }
        Ok(Roster { fixed, members: Mutex::default(), heard_of: Mutex::new(heard_of), writer: Some(writer) })
    }

    /// Takes over who is a member.
    pub fn note(&self, members: BTreeMap<VoterId, Member>) {
        *self.members.lock() = members;
    }

    /// Everybody who is known as a member.
    pub fn members(&self) -> BTreeMap<VoterId, Member> {
        self.members.lock().clone()
    }

    /// Where a member listens, if that is known.
    pub fn address(&self, id: &VoterId) -> Option<Address> {
        if let Some(fixed) = self.fixed.get(&BrokerId(id.node)) {
            return Some(fixed.clone());
        }
        let members = self.members.lock();
        members.get(id).and_then(|member| member.endpoints.first()).map(|endpoint| endpoint.address.clone())
    }

    /// Where every member listens, as far as that is known.
    pub fn addresses(&self) -> BTreeSet<Address> {
        let members = self.members.lock();
        let known = members.values().filter_map(|member| member.endpoints.first());
        self.fixed.values().cloned().chain(known.map(|endpoint| endpoint.address.clone())).collect()
    }

    /// True if `voter` has ever promised anything that this node knows of.
    pub fn has_heard_of(&self, voter: &VoterId) -> bool {
        self.heard_of.lock().contains(voter)
    }

    /// Remembers that `voter` has made a promise; durable when it returns.
    pub async fn hear_of(&self, voter: VoterId) -> io::Result<()> {
        if self.has_heard_of(&voter) {
            return Ok(());
        }
        if let Some(writer) = &self.writer {
            writer.durably(vec![(format::heard_of_key(&voter), Some(format::EMPTY_VALUE.to_vec()))]).await?;
        }
        self.heard_of.lock().insert(voter);
        Ok(())
    }
}
