//! The one way a partition changes: a plan goes in, what the rules make of it comes out.
//!
//! Fencing, unfencing, AlterPartition, reassignments, elections and failed directories all end here, so that each rule
//! exists once (`PartitionChangeBuilder`). The order: complete a reassignment, find the eligible leaders (KIP-966),
//! elect, say what differs.
//!
//! Invariants of what comes out: ISR and ELR are disjoint parts of the replicas; a leader is in the ISR; the ELR is
//! empty while the ISR has enough members; an ISR becomes empty only with eligible leader replicas on. Pure.

use std::collections::BTreeMap;

use crate::ids::{BrokerId, KafkaUuid};
use crate::metadata::brokers::Brokers;
use crate::metadata::partition::{PartitionChange, PartitionRegistration, directory};
use crate::sabotage;

/// Whom an election may choose (`ElectionType`, KIP-460).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Election {
    /// The first replica if it is in sync; else the leader stays, or if nobody can lead on, any replica in sync.
    Preferred,
    /// The leader stays if it can lead on; else the first replica in sync.
    Online,
    /// As `Online`; if no replica is in sync the first that lives, whatever it has.
    Unclean,
}

/// What the settings of a topic and the features of the cluster mean for a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// `min.insync.replicas`, but no more than the topic has replicas.
    pub min_isr: usize,
    /// `eligible.leader.replicas.version` is 1 or higher.
    pub elr: bool,
    /// `unclean.leader.election.enable`.
    pub unclean: bool,
}

/// Who may lead: the brokers as they are, but for the one that a decision is about.
#[derive(Clone, Copy)]
pub struct Electorate<'a> {
    pub brokers: &'a Brokers,
    /// Must not lead: it is about to be fenced.
    pub leaving: Option<BrokerId>,
    /// May lead: it is about to be unfenced.
    pub joining: Option<BrokerId>,
}

impl<'a> Electorate<'a> {
    /// The brokers as they are.
    pub fn of(brokers: &'a Brokers) -> Electorate<'a> {
        Electorate { brokers, leaving: None, joining: None }
    }

    fn accepts(&self, id: BrokerId, directory: KafkaUuid) -> bool {
        let able = self.leaving != Some(id) && (self.joining == Some(id) || self.brokers.is_active(id));
        able && self.brokers.by_id(id).is_some_and(|broker| broker.has_online(directory))
    }

    fn default_directory(&self, id: BrokerId) -> KafkaUuid {
        self.brokers.by_id(id).map_or(directory::UNASSIGNED, |broker| broker.default_directory())
    }
}

/// What a partition shall become, before the rules have their say. A new plan changes nothing.
pub struct Plan<'a> {
    before: &'a PartitionRegistration,
    terms: Terms,
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
    pub recovering: bool,
    pub election: Election,
    /// Has restarted and may have lost what it had: it is not eligible any more.
    pub lossy: Option<BrokerId>,
    directories: BTreeMap<BrokerId, KafkaUuid>,
}

/// Who was elected. An unclean winner may lack committed records.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Winner {
    id: Option<BrokerId>,
    unclean: bool,
}

impl<'a> Plan<'a> {
    pub fn new(before: &'a PartitionRegistration, terms: Terms) -> Plan<'a> {
        Plan {
            before,
            terms,
            replicas: before.replicas.clone(),
            isr: before.isr.clone(),
            adding: before.adding.clone(),
            removing: before.removing.clone(),
            recovering: before.recovering,
            election: if terms.unclean { Election::Unclean } else { Election::Online },
            lossy: None,
            directories: before.replicas.iter().map(|id| (*id, before.directory(*id))).collect(),
        }
    }

    /// The replica of `broker` is in `directory` from now on.
    pub fn put(&mut self, broker: BrokerId, directory: KafkaUuid) {
        self.directories.insert(broker, directory);
    }

    /// What changes; `None` if nothing does.
    pub fn decide(mut self, electorate: &Electorate<'_>) -> Option<PartitionChange> {
        self.complete_reassignment();
        let mut elr = self.eligible();
        let winner = self.elect(&elr, electorate);
        let mut change = PartitionChange::default();
        if winner.id != self.before.leader {
            change.leader = Some(winner.id);
        } else if self.before.replicas.iter().any(|id| !self.replicas.contains(id)) {
            // Who is not a replica any more must notice: its fetches carry the old epoch.
            change.leader = Some(winner.id);
        }
        if let Some(id) = winner.id.filter(|id| winner.unclean || elr.contains(id)) {
            self.isr = vec![id];
            elr.retain(|eligible| *eligible != id);
        }
        if winner.unclean || self.isr.len() >= self.terms.min_isr.max(1) {
            elr.clear();
        }
        self.recovering |= winner.unclean && !sabotage::on("unclean-in-silence");
        change.last_known_elr = self.last_known(change.leader);
        self.describe(change, elr, electorate)
    }

    /// Ends a reassignment whose new replicas are in sync. Where the factor shrinks all of the target must be, so that
    /// completing it does not make the ISR smaller than waiting would.
    fn complete_reassignment(&mut self) {
        if self.adding.is_empty() && self.removing.is_empty() {
            return;
        }
        let isr = without(&self.isr, &self.removing);
        let replicas = without(&self.replicas, &self.removing);
        let in_sync = |ids: &[BrokerId]| ids.iter().all(|id| isr.contains(id)) || sabotage::on("reassigned-too-early");
        let shrinks = self.adding.len() < self.removing.len();
        let nobody_left = !self.removing.is_empty() && (isr.is_empty() || replicas.is_empty());
        if nobody_left || !in_sync(&self.adding) || (shrinks && !in_sync(&replicas)) {
            return;
        }
        (self.replicas, self.isr) = (replicas, isr);
        self.adding.clear();
        self.removing.clear();
    }

    /// The replicas outside the ISR that have everything below the high watermark: it does not move while the ISR is
    /// too small, so those that leave a small one stay eligible. Those of an empty ISR outlast the feature itself.
    fn eligible(&self) -> Vec<BrokerId> {
        if sabotage::on("eligible-forgotten") {
            return Vec::new();
        }
        if self.isr.len() >= self.terms.min_isr.max(1) || !(self.terms.elr || self.before.isr.is_empty()) {
            return Vec::new();
        }
        let held = self.before.elr.iter().chain(&self.before.isr);
        let is_lossy = |id: &BrokerId| self.lossy.as_ref() == Some(id) && !sabotage::on("lossy-stays-eligible");
        let stays = |id: &&BrokerId| self.replicas.contains(id) && !self.isr.contains(id) && !is_lossy(id);
        let mut eligible: Vec<BrokerId> = held.filter(stays).copied().collect();
        eligible.sort_unstable();
        eligible.dedup();
        eligible
    }

    fn elect(&self, elr: &[BrokerId], electorate: &Electorate<'_>) -> Winner {
        let accepted = |id: &BrokerId| {
            let directory = self.directories.get(id).copied().unwrap_or_else(|| electorate.default_directory(*id));
            self.lossy != Some(*id) && electorate.accepts(*id, directory)
        };
        let valid = |id: &BrokerId| {
            if sabotage::on("leader-outside-isr") {
                return accepted(id);
            }
            let has_everything = self.isr.contains(id) || (self.isr.is_empty() && elr.contains(id));
            has_everything && accepted(id)
        };
        let preferred = || self.replicas.first().filter(|id| self.election == Election::Preferred && valid(id));
        let leader = || self.before.leader.as_ref().filter(|id| valid(id));
        let next = || self.replicas.iter().find(|id| valid(id));
        if let Some(id) = preferred().or_else(leader).or_else(next) {
            return Winner { id: Some(*id), unclean: false };
        }
        let last_known = match &self.before.last_known_elr[..] {
            [last] if self.terms.elr && elr.is_empty() && self.isr.is_empty() => Some(*last),
            _ => None,
        };
        let silent = sabotage::on("unclean-in-silence");
        let may = self.election == Election::Unclean || silent;
        let any = || self.replicas.iter().find(|id| may && accepted(id)).copied();
        let id = last_known.filter(|id| self.replicas.contains(id) && accepted(id)).or_else(any);
        Winner { id, unclean: id.is_some() }
    }

    /// The leader that a partition just lost is remembered until it has one again.
    fn last_known(&self, leader: Option<Option<BrokerId>>) -> Option<Vec<BrokerId>> {
        let remembered = !self.before.last_known_elr.is_empty();
        match (leader, self.before.leader) {
            (Some(None), Some(lost)) if self.terms.elr && !remembered => Some(vec![lost]),
            (Some(Some(_)), _) if remembered => Some(Vec::new()),
            _ => None,
        }
    }

    fn describe(
        self,
        mut change: PartitionChange,
        elr: Vec<BrokerId>,
        electorate: &Electorate<'_>,
    ) -> Option<PartitionChange> {
        let place = |id: &BrokerId| self.directories.get(id).copied().unwrap_or(electorate.default_directory(*id));
        let directories: Vec<KafkaUuid> = self.replicas.iter().map(place).collect();
        let known: Vec<KafkaUuid> = self.before.replicas.iter().map(|id| self.before.directory(*id)).collect();
        change.directories = differing(&known, directories);
        change.replicas = differing(&self.before.replicas, self.replicas);
        change.adding = differing(&self.before.adding, self.adding);
        change.removing = differing(&self.before.removing, self.removing);
        change.elr = differing(&self.before.elr, elr);
        // Without eligible leaders the last member of an ISR stays in it: nobody else is known to have everything.
        if self.terms.elr || !self.isr.is_empty() {
            change.isr = differing(&self.before.isr, self.isr);
        }
        change.recovering = (self.recovering != self.before.recovering).then_some(self.recovering);
        (change != PartitionChange::default()).then_some(change)
    }
}

fn differing<T: PartialEq>(before: &Vec<T>, after: Vec<T>) -> Option<Vec<T>> {
    (*before != after).then_some(after)
}

/// `ids` but for those that are `gone`, in the same order.
pub fn without(ids: &[BrokerId], gone: &[BrokerId]) -> Vec<BrokerId> {
    ids.iter().copied().filter(|id| !gone.contains(id)).collect()
}
