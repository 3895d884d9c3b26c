//! Which topics must exist, and which must not.
//!
//! Invariants checked: a topic that was acknowledged as created exists with the same id and partitions until its
//! deletion is asked for; a topic that was acknowledged as deleted never comes back under its id; nothing exists
//! that nobody asked for.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{Verdict, ensure};

/// A topic that was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Created {
    pub id: Uuid,
    pub partitions: i32,
}

/// What was certain when metadata was asked for.
#[derive(Clone, Debug)]
pub struct Certain {
    created: BTreeMap<String, Created>,
    deleted: BTreeSet<Uuid>,
}

/// See the file's head.
#[derive(Default)]
pub struct Topics {
    attempted: BTreeSet<String>,
    created: BTreeMap<String, Created>,
    deleted: BTreeSet<Uuid>,
}

impl Topics {
    /// A topic that exists for certain.
    pub fn known(&self, name: &str) -> Option<Created> {
        self.created.get(name).copied()
    }

    /// True if its deletion was acknowledged.
    pub fn is_deleted(&self, id: Uuid) -> bool {
        self.deleted.contains(&id)
    }

    /// What is certain now.
    pub fn certain(&self) -> Certain {
        Certain { created: self.created.clone(), deleted: self.deleted.clone() }
    }

    /// Its creation is about to be asked for.
    pub fn create(&mut self, name: &str) {
        self.attempted.insert(name.to_owned());
    }

    /// Its creation was acknowledged, or it was found to exist while nobody deletes it.
    pub fn created(&mut self, name: &str, topic: Created) -> Verdict {
        ensure(!topic.id.is_nil(), || format!("topic {name} was created without an id"))?;
        ensure(!self.deleted.contains(&topic.id), || format!("topic {name} got the id of a deleted one"))?;
        let before = *self.created.entry(name.to_owned()).or_insert(topic);
        ensure(before == topic, || format!("topic {name} was {before:?} and became {topic:?}"))
    }

    /// Its deletion is about to be asked for: from now on nothing is certain about it.
    pub fn delete(&mut self, name: &str) {
        self.created.remove(name);
    }

    /// Its deletion was acknowledged.
    pub fn deleted(&mut self, id: Uuid) {
        self.deleted.insert(id);
    }

    /// Metadata was answered: every topic that exists.
    pub fn listed(&self, certain: &Certain, listed: &BTreeMap<String, Created>) -> Verdict {
        for (name, topic) in &certain.created {
            // Unless somebody has asked for its deletion meanwhile.
            let still_certain = self.created.get(name) == Some(topic);
            let found = listed.get(name);
            ensure(!still_certain || found == Some(topic), || {
                format!("topic {name} is {topic:?}, but metadata shows {found:?}")
            })?;
        }
        for (name, topic) in listed {
            ensure(self.attempted.contains(name), || format!("nobody created the topic {name}"))?;
            ensure(!certain.deleted.contains(&topic.id), || format!("the deleted topic {name} is back"))?;
        }
        Ok(())
    }
}
