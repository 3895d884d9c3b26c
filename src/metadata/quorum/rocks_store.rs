//! The quorum's store on a real disk: a small engine of its own, with its own synced log.

use std::io;
use std::path::Path;

use super::store::{MetaStore, Write};
use crate::storage::engine::{Poisoned, SmallStore};

/// The store in a directory.
pub struct RocksMetaStore(SmallStore);

impl RocksMetaStore {
    /// Opens or creates it. Blocking.
    pub fn open(directory: &Path) -> io::Result<RocksMetaStore> {
        SmallStore::open(directory).map(RocksMetaStore).map_err(failed)
    }
}

fn failed(poison: Poisoned) -> io::Error {
    io::Error::other(poison)
}

impl MetaStore for RocksMetaStore {
    fn put_many(&self, writes: Vec<Write>, sync: bool) -> io::Result<()> {
        self.0.put_many(writes, sync).map_err(failed)
    }

    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.0.value(key).map_err(failed)
    }

    fn scan(&self, from: &[u8], to: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.0.rows(from, to).map_err(failed)
    }

    fn back_up(&self, to: &Path) -> io::Result<()> {
        self.0.back_up(to).map_err(failed)
    }
}
