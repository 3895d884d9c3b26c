//! A data directory: its identity, its lock, its format, and the logs that were found in it.
//!
//! Invariants: one process per directory (an advisory lock held for the life of [`DataDir`]); `meta.properties` is
//! Kafka's (version=1, cluster.id, node.id, directory.id), because official tools read it; a directory of another
//! cluster, node
//! or newer format is refused before anything is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::engine::{Engine, EngineOptions, MemoryDisk, Poisoned, Write};
use super::keys::{self, Family, LogNumber};
use super::log::{LogHome, PartitionLog};
use super::reserve::{Reserve, Space, Turn};
use super::tail::TailCache;
use crate::env::Env;
use crate::ids::{KafkaUuid, TopicIdPartition};

/// Version of everything below a data directory. A newer one is refused.
pub const FORMAT_VERSION: u16 = 2;

/// A file that marks a directory which was put back from a backup, until a broker has registered with it.
pub const RESTORED: &str = "restored";

/// Who a directory belongs to: Kafka's `meta.properties`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub cluster_id: String,
    pub node_id: i32,
    pub directory_id: KafkaUuid,
}

impl Identity {
    /// Who the directory `path` belongs to, without taking its lock; `None` if nobody.
    pub fn read(path: &Path) -> Result<Option<Identity>, String> {
        read_identity(&path.join("meta.properties")).map_err(NotTaken::why)
    }

    /// The file that says so.
    pub fn text(&self) -> String {
        format!(
            "# written by ottla\nversion=1\ncluster.id={}\nnode.id={}\ndirectory.id={}\n",
            self.cluster_id, self.node_id, self.directory_id
        )
    }
}

/// Why a directory was not taken, as a sentence for the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// Another process holds its lock.
    InUse(String),
    /// The disk does not let itself be read or written.
    Unreadable(String),
    Failed(String),
}

impl NotTaken {
    /// The sentence.
    pub fn why(self) -> String {
        match self {
            NotTaken::InUse(why) | NotTaken::Unreadable(why) | NotTaken::Failed(why) => why,
        }
    }
}

impl From<String> for NotTaken {
    fn from(why: String) -> NotTaken {
        NotTaken::Failed(why)
    }
}

/// A directory that is locked and identified, not yet opened.
pub struct LockedDir {
    pub path: PathBuf,
    /// `None` for a directory that was empty.
    pub identity: Option<Identity>,
    lock: File,
}

impl LockedDir {
    /// Creates `path` if needed, takes its lock and reads who it belongs to. The error is a sentence for the operator.
    pub fn take(path: &Path) -> Result<LockedDir, NotTaken> {
        let failed = |what: String| NotTaken::Unreadable(format!("log.dirs: {what}"));
        let shown = path.display();
        fs::create_dir_all(path).map_err(|e| failed(format!("cannot create {shown}: {e}")))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(".lock"));
        let lock = lock.map_err(|e| failed(format!("cannot open {shown}/.lock: {e}")))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let why = format!("log.dirs: {shown} is in use by another process (its lock is taken)");
                return Err(NotTaken::InUse(why));
            }
            Err(fs::TryLockError::Error(e)) => return Err(failed(format!("cannot lock {shown}: {e}"))),
        }
        let identity = read_identity(&path.join("meta.properties"))?;
        Ok(LockedDir { path: path.to_owned(), identity, lock })
    }

    /// Takes the lock of a directory that is only looked at: nothing is created or written. Another process that holds
    /// it is refused; a copy without a lock file needs none.
    pub fn take_to_examine(path: &Path) -> Result<LockedDir, NotTaken> {
        let shown = path.display();
        let lock = match File::open(path.join(".lock")) {
            Ok(lock) => lock,
            Err(e) if e.kind() == io::ErrorKind::NotFound => File::open(path).map_err(|e| format!("{shown}: {e}"))?,
            Err(e) => return Err(NotTaken::Failed(format!("{shown}/.lock: {e}"))),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(NotTaken::InUse(format!("{shown} is in use by a running broker: stop it first")));
            }
            Err(fs::TryLockError::Error(e)) => return Err(NotTaken::Failed(format!("cannot lock {shown}: {e}"))),
        }
        Ok(LockedDir { path: path.to_owned(), identity: None, lock })
    }

    /// Writes `identity` durably into an empty directory.
    pub fn identify(&mut self, identity: Identity) -> Result<(), NotTaken> {
        write_durably(&self.path, "meta.properties", identity.text().as_bytes()).map_err(|e| {
            let shown = self.path.display();
            NotTaken::Unreadable(format!("log.dirs: cannot write meta.properties in {shown}: {e}"))
        })?;
        self.identity = Some(identity);
        Ok(())
    }
}

fn write_durably(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!("{name}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(name))?;
    File::open(directory)?.sync_all()
}

fn read_identity(path: &Path) -> Result<Option<Identity>, NotTaken> {
    let mut text = String::new();
    let unreadable = |e: io::Error| NotTaken::Unreadable(format!("{}: {e}", path.display()));
    match File::open(path) {
        Ok(mut file) => file.read_to_string(&mut text).map_err(unreadable)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable(e)),
    };
    let value = |key: &str| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let found = lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned()).next_back();
        found.ok_or_else(|| format!("{}: {key} is missing", path.display()))
    };
    let version = value("version")?;
    if version != "1" {
        let why = format!("{}: version {version} is not understood, this program knows 1", path.display());
        return Err(NotTaken::Failed(why));
    }
    let node = value("node.id")?;
    let node_id = node.parse().map_err(|_| format!("{}: node.id {node} is not a number", path.display()))?;
    let directory = value("directory.id")?;
    let directory_id = KafkaUuid::parse(&directory)
        .ok_or_else(|| format!("{}: directory.id {directory} is not an id", path.display()))?;
    Ok(Some(Identity { cluster_id: value("cluster.id")?, node_id, directory_id }))
}

/// Files of records that a volume holds at least, and the size below which there is no point in more of them.
const VALUE_FILES_MIN: u64 = 64;
const VALUE_FILE_BYTES_MIN: u64 = 4 << 20;

/// How much memory and safety a directory gets.
#[derive(Clone, Debug)]
pub struct DirOptions {
    pub engine: EngineOptions,
    /// `ottla.tail.cache.bytes`.
    pub tail_bytes: usize,
    /// `ottla.disk.reserve.bytes`.
    pub reserve_bytes: i64,
}

fn space_of(path: &Path) -> Option<Space> {
    let volume = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
    Some(Space { total_bytes: bytes(volume.f_blocks), usable_bytes: bytes(volume.f_bavail) })
}

/// What a directory notes of the life of its broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokerLife {
    /// The epoch under which the broker was last registered, as far as it heard: everything that was acknowledged under
    /// it is here still. -1 if that cannot be vouched for.
    pub epoch: i64,
    /// The incarnation of a later life that was begun and has done nothing yet. It may be registered.
    pub begun: Option<KafkaUuid>,
}

impl BrokerLife {
    fn encode(self) -> Bytes {
        let begun = self.begun.map(|begun| begun.0.to_be_bytes());
        [&self.epoch.to_be_bytes()[..], begun.as_ref().map_or(&[], |begun| &begun[..])].concat().into()
    }

    fn decode(row: &[u8]) -> Option<BrokerLife> {
        let (epoch, rest) = row.split_first_chunk::<8>()?;
        let begun = match rest {
            [] => None,
            begun => Some(KafkaUuid(u128::from_be_bytes(begun.try_into().ok()?))),
        };
        Some(BrokerLife { epoch: i64::from_be_bytes(*epoch), begun })
    }
}

/// An open data directory.
pub struct DataDir {
    pub id: KafkaUuid,
    pub path: PathBuf,
    home: LogHome,
    next_number: Mutex<LogNumber>,
    logs_open: AtomicUsize,
    holder: Holder,
}

/// What a directory is made of, kept as long as it is open.
enum Holder {
    Disk { _lock: File },
    Memory(MemoryDisk),
}

impl DataDir {
    /// Opens the engine of a locked directory. Blocking.
    pub fn open(env: &Env, locked: &LockedDir, options: &DirOptions) -> Result<DataDir, String> {
        let shown = locked.path.display();
        let identity = locked.identity.as_ref().ok_or_else(|| format!("{shown}: has no identity"))?;
        let lock = locked.lock.try_clone().map_err(|e| format!("log.dirs: cannot hold the lock of {shown}: {e}"))?;
        let mut engine_options = options.engine.clone();
        if let Some(space) = space_of(&locked.path) {
            // On a small volume, space comes back in smaller units.
            let by_volume = (space.total_bytes / VALUE_FILES_MIN).max(VALUE_FILE_BYTES_MIN);
            engine_options.value_file_bytes_max = engine_options.value_file_bytes_max.min(by_volume);
        }
        let engine = Engine::open(env, &locked.path.join("records"), &engine_options)
            .map_err(|poison| format!("log.dirs: cannot open the records in {shown}: {poison}"))?;
        DataDir::over(engine, identity.directory_id, locked.path.clone(), Holder::Disk { _lock: lock }, options)
    }

    /// The in-memory twin over a simulated disk.
    pub fn in_memory(env: &Env, disk: &MemoryDisk, id: KafkaUuid, options: &DirOptions) -> Result<DataDir, String> {
        let engine = Engine::in_memory(env, disk, &options.engine);
        DataDir::over(engine, id, PathBuf::from("memory"), Holder::Memory(disk.clone()), options)
    }

    fn over(
        engine: Engine,
        id: KafkaUuid,
        path: PathBuf,
        holder: Holder,
        options: &DirOptions,
    ) -> Result<DataDir, String> {
        let row = engine.value(Family::State, &keys::format()).map_err(|poison| poison.to_string())?;
        let next_number = match row {
            None => 1,
            Some(row) => match (row.get(..2), row.get(2..6)) {
                (Some(version), Some(_)) if version > FORMAT_VERSION.to_be_bytes().as_slice() => {
                    return Err(format!(
                        "log.dirs: {} has format {}, this program reads up to {FORMAT_VERSION}: use the newer program",
                        path.display(),
                        u16::from_be_bytes([version[0], version[1]])
                    ));
                }
                (Some(_), Some(number)) => u32::from_be_bytes([number[0], number[1], number[2], number[3]]),
                _ => return Err(format!("log.dirs: {}: malformed format row", path.display())),
            },
        };
        let tail = Arc::new(TailCache::new(options.tail_bytes));
        let home = LogHome { directory: id, engine, tail, reserve: Arc::new(Reserve::new(options.reserve_bytes)) };
        let (next_number, logs_open) = (Mutex::new(next_number), AtomicUsize::new(0));
        let directory = DataDir { id, path, home, next_number, logs_open, holder };
        directory.look();
        Ok(directory)
    }

    pub fn engine(&self) -> &Engine {
        &self.home.engine
    }

    /// What was last noted of the broker's life; `None` if nothing was, or the directory comes from a backup. Blocking.
    pub fn broker_life(&self) -> Result<Option<BrokerLife>, Poisoned> {
        if self.path.join(RESTORED).exists() {
            return Ok(None);
        }
        let row = self.home.engine.value(Family::State, &keys::broker_epoch())?;
        let malformed = || Poisoned("malformed row of the broker epoch".into());
        row.map(|row| BrokerLife::decode(&row).ok_or_else(malformed)).transpose()
    }

    /// Notes that a life begins that is about to be registered; returns once that is on disk.
    pub async fn begin_broker_life(&self, life: BrokerLife) -> Result<(), Poisoned> {
        self.put_broker_life(life).await
    }

    /// Notes the broker epoch under which records are acknowledged from now on; returns once that is on disk.
    pub async fn note_broker_epoch(&self, epoch: i64) -> Result<(), Poisoned> {
        self.put_broker_life(BrokerLife { epoch, begun: None }).await?;
        // From here on the note is about this life. If the mark stays, the next one is not believed.
        let _ = fs::remove_file(self.path.join(RESTORED));
        Ok(())
    }

    async fn put_broker_life(&self, life: BrokerLife) -> Result<(), Poisoned> {
        let mut write = Write::new();
        write.put(Family::State, keys::broker_epoch(), life.encode());
        let (tell, told) = oneshot::channel();
        // Whoever does not wait any more does not need to know.
        self.home.engine.submit(write.when_done(move |outcome| drop(tell.send(outcome))))?;
        told.await.unwrap_or_else(|_| Err(Poisoned("the engine has ended".into())))
    }

    /// Looks how much room is left, and says so when it begins or ends to be too little. Blocking.
    pub fn look(&self) {
        let Some(space) = self.space() else { return };
        let (reserve, path) = (&self.home.reserve, self.path.display());
        let (usable_bytes, queued_bytes) = (space.usable_bytes, self.home.engine.queued_bytes() as u64);
        match reserve.look(space, queued_bytes) {
            Some(Turn::Began) => {
                let reserve_bytes = reserve.bytes();
                tracing::error!(%path, usable_bytes, reserve_bytes, "the disk is nearly full: records are refused");
            }
            Some(Turn::Ended) => tracing::info!(%path, usable_bytes, "the disk has room again: records are accepted"),
            None => {}
        }
    }

    /// Whether records of producers are refused for want of room.
    pub fn is_full(&self) -> bool {
        self.home.reserve.is_low() || self.home.engine.is_full()
    }

    /// How much the file system holds and has left; `None` if it does not tell. Blocking.
    pub fn space(&self) -> Option<Space> {
        if let Holder::Memory(disk) = &self.holder {
            return disk.space();
        }
        space_of(&self.path)
    }

    /// Gives the disk space of deleted records back. Blocking.
    pub fn reclaim(&self) -> Result<(), Poisoned> {
        // What lives is written anew before the old is deleted.
        let room = self.space().map_or(u64::MAX, |space| space.usable_bytes / 2);
        self.home.engine.reclaim(room)
    }

    /// Puts a copy of the directory, without the metadata store, into the folder `to`, while writes go on. Blocking.
    pub fn back_up(&self, to: &Path) -> Result<(), String> {
        self.home.engine.back_up(&to.join("records")).map_err(|poison| poison.0)?;
        let name = "meta.properties";
        fs::copy(self.path.join(name), to.join(name)).map(drop).map_err(|e| format!("{}: {e}", to.display()))
    }

    /// Bytes of the tail cache in use.
    pub fn tail_bytes(&self) -> usize {
        self.home.tail.bytes()
    }

    /// Logs found or created here since the start.
    pub fn logs_open(&self) -> usize {
        self.logs_open.load(Ordering::Relaxed)
    }

    /// Every stored log. Blocking; reads small rows only.
    pub fn logs(&self) -> Result<Vec<PartitionLog>, Poisoned> {
        let logs = PartitionLog::open_all(&self.home)?;
        self.logs_open.fetch_add(logs.len(), Ordering::Relaxed);
        Ok(logs)
    }

    /// Creates an empty log; `done` tells when it is on disk.
    pub fn create_log(
        &self,
        id: TopicIdPartition,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<PartitionLog, Poisoned> {
        self.number_log(done, |home, number, write| PartitionLog::create(home, number, id, write))
    }

    /// Creates an empty log that is to become a copy of the one in the directory `from`.
    pub fn create_future(&self, id: TopicIdPartition, from: KafkaUuid) -> Result<PartitionLog, Poisoned> {
        // Its row is queued before any batch of it, so it needs no wait of its own.
        self.number_log(|_| {}, |home, number, write| PartitionLog::create_future(home, number, id, from, write))
    }

    fn number_log(
        &self,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
        create: impl FnOnce(LogHome, LogNumber, &mut Write) -> PartitionLog,
    ) -> Result<PartitionLog, Poisoned> {
        let mut write = Write::new();
        let mut next = self.next_number.lock();
        let number = *next;
        *next = number.checked_add(1).ok_or_else(|| Poisoned("log numbers are used up".into()))?;
        let mut row = BytesMut::with_capacity(6);
        row.put_u16(FORMAT_VERSION);
        row.put_u32(*next);
        write.put(Family::State, keys::format(), row.freeze());
        let log = create(self.home.clone(), number, &mut write);
        // Submitted under the lock: the row with the larger number must be the later write.
        self.home.engine.submit(write.when_done(done))?;
        self.logs_open.fetch_add(1, Ordering::Relaxed);
        Ok(log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_and_remembers_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let mut first = LockedDir::take(&path).unwrap();
        assert_eq!(first.identity, None);
        let second = LockedDir::take(&path).map(|_| ()).unwrap_err();
        assert!(matches!(&second, NotTaken::InUse(why) if why.contains("in use by another process")), "{second:?}");
        let identity = Identity { cluster_id: "c".into(), node_id: 4, directory_id: KafkaUuid(99) };
        first.identify(identity.clone()).unwrap();
        drop(first);
        assert_eq!(LockedDir::take(&path).unwrap().identity, Some(identity));
    }

    #[tokio::test]
    async fn the_broker_epoch_survives_a_crash() {
        let env = Env::real();
        let engine = EngineOptions { sync: true, value_file_bytes_max: 1 << 20, direct: false, read_cache_bytes: 0 };
        let options = DirOptions { engine, tail_bytes: 1 << 20, reserve_bytes: 0 };
        let disk = MemoryDisk::new();
        let open = || DataDir::in_memory(&env, &disk, KafkaUuid(7), &options).unwrap();
        assert_eq!(open().broker_life(), Ok(None));
        open().note_broker_epoch(41).await.unwrap();
        disk.crash(0);
        let noted = BrokerLife { epoch: 41, begun: None };
        assert_eq!(open().broker_life(), Ok(Some(noted)));
        let begun = BrokerLife { begun: Some(KafkaUuid(6)), ..noted };
        open().begin_broker_life(begun).await.unwrap();
        disk.crash(0);
        assert_eq!(open().broker_life(), Ok(Some(begun)));
        assert_eq!(BrokerLife::decode(&[0; 9]), None);
    }

    #[test]
    fn a_newer_identity_file_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("meta.properties"), "version=2\nnode.id=1\n").unwrap();
        let refusal = LockedDir::take(root.path()).map(|_| ()).unwrap_err();
        assert!(matches!(&refusal, NotTaken::Failed(why) if why.contains("meta.properties: version 2")), "{refusal:?}");
    }
}
