//! Reading many values at once: few large reads, shared by whoever reads the same region.
//!
//! The values of one partition lie between those of all others. A reader that takes a good part of a region reads the
//! whole of it as one *chunk*, which is kept for the readers of the other partitions, who usually come next. Other
//! values are read by themselves, near ones together.
//!
//! Invariants: what was written is never changed, so a chunk is never stale, only short: it ends where the file ended
//! when it was read. The cache is bounded in bytes; a chunk in use lives on outside of it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::direct::{self, Pool};
use super::values::{FileNumber, Place, ValueFile};

/// Bytes of a chunk.
const CHUNK: usize = 2 << 20;
/// A chunk is read as a whole if at least this share of it is wanted, or it would be read for little.
const WANTED_SHARE: usize = 64;
/// Values with at most so many bytes between them are read together.
const GAP_MAX: u64 = 32 << 10;

/// Which chunk of which file.
type ChunkKey = (FileNumber, u64);

#[derive(Default)]
struct Chunks {
    held: HashMap<ChunkKey, (u64, Bytes)>,
    /// When each was last used.
    ages: BTreeMap<u64, ChunkKey>,
    clock: u64,
}

/// The chunks that were read last.
pub(super) struct ReadCache {
    chunks: Mutex<Chunks>,
    chunks_max: usize,
    pool: Arc<Pool>,
}

/// Where a value goes in the answer, and where it is read from.
struct Wanted<'a> {
    index: usize,
    place: Place,
    file: &'a ValueFile,
}

impl ReadCache {
    /// Keeps at most `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> ReadCache {
        let chunks_max = bytes_max / CHUNK;
        ReadCache { chunks: Mutex::default(), chunks_max, pool: Pool::new(CHUNK, chunks_max) }
    }

    /// Forgets the chunks of a deleted file.
    pub(super) fn forget(&self, file: FileNumber) {
        let mut chunks = self.chunks.lock();
        chunks.held.retain(|(number, _), _| *number != file);
        chunks.ages.retain(|_, (number, _)| *number != file);
    }

    /// Reads `places` in their order; `None` for a file that `file_of` does not know any more.
    pub(super) fn read(
        &self,
        places: &[Place],
        file_of: impl Fn(FileNumber) -> Option<Arc<ValueFile>>,
    ) -> io::Result<Vec<Option<Bytes>>> {
        let mut files: BTreeMap<FileNumber, Option<Arc<ValueFile>>> = BTreeMap::new();
        // They lie in few chunks, and mostly in that of the one before.
        let mut shares: Vec<(ChunkKey, usize)> = Vec::new();
        for place in places {
            files.entry(place.file).or_insert_with(|| file_of(place.file));
            let (key, length) = (chunk_of(place), place.length as usize);
            match shares.iter_mut().rfind(|(other, _)| *other == key) {
                Some((_, share)) => *share += length,
                None => shares.push((key, length)),
            }
        }
        let mut recent = None;
        let mut found: Vec<Option<Bytes>> = vec![None; places.len()];
        let mut alone = Vec::new();
        for (index, &place) in places.iter().enumerate() {
            let Some(Some(file)) = files.get(&place.file) else { continue };
            let share = shares.iter().rfind(|(other, _)| *other == chunk_of(&place));
            let much = share.is_some_and(|(_, bytes)| bytes * WANTED_SHARE >= CHUNK);
            match self.out_of_chunks(file, place, much, &mut recent)? {
                Some(value) => found[index] = Some(value),
                None => alone.push(Wanted { index, place, file }),
            }
        }
        read_together(&alone, &mut found)?;
        Ok(found)
    }

    /// The value out of the one or two chunks that hold it: those there are, or with `load` also those there are not.
    /// `recent` is the chunk that was used last.
    fn out_of_chunks(
        &self,
        file: &ValueFile,
        place: Place,
        load: bool,
        recent: &mut Option<(ChunkKey, Bytes)>,
    ) -> io::Result<Option<Bytes>> {
        let (first, offset) = (place.at / CHUNK as u64, (place.at % CHUNK as u64) as usize);
        let length = place.length as usize;
        if self.chunks_max == 0 || length > CHUNK / 2 {
            return Ok(None);
        }
        let in_first = length.min(CHUNK - offset);
        let Some(chunk) = self.chunk(file, first, offset + in_first, load, recent)? else { return Ok(None) };
        let head = chunk.slice(offset..offset + in_first);
        if in_first == length {
            return Ok(Some(head));
        }
        let rest = length - in_first;
        let Some(chunk) = self.chunk(file, first + 1, rest, load, recent)? else { return Ok(None) };
        let mut value = BytesMut::with_capacity(length);
        value.extend_from_slice(&head);
        value.extend_from_slice(&chunk[..rest]);
        Ok(Some(value.freeze()))
    }

    /// A chunk that reaches to `needed` at least.
    fn chunk(
        &self,
        file: &ValueFile,
        index: u64,
        needed: usize,
        load: bool,
        recent: &mut Option<(ChunkKey, Bytes)>,
    ) -> io::Result<Option<Bytes>> {
        let key = (file.number, index);
        if let Some((_, held)) = recent.as_ref().filter(|(other, held)| *other == key && held.len() >= needed) {
            return Ok(Some(held.clone()));
        }
        if let Some(held) = self.chunks.lock().take_up(key)
            && held.len() >= needed
        {
            *recent = Some((key, held.clone()));
            return Ok(Some(held));
        }
        if !load {
            return Ok(None);
        }
        // What is written meanwhile may be half there: only what was there before counts.
        let end = file.written().saturating_sub(index * CHUNK as u64).min(CHUNK as u64) as usize;
        let mut buffer = self.pool.take();
        let read = direct::read_blocks(&file.file, buffer.as_mut_slice(), index * CHUNK as u64)?;
        let chunk = self.pool.share(buffer).slice(..read.min(end));
        if chunk.len() < needed {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.chunks.lock().keep(key, chunk.clone(), self.chunks_max);
        *recent = Some((key, chunk.clone()));
        Ok(Some(chunk))
    }
}

impl Chunks {
    fn take_up(&mut self, key: ChunkKey) -> Option<Bytes> {
        let (age, chunk) = self.held.get_mut(&key)?;
        self.clock += 1;
        self.ages.remove(age);
        self.ages.insert(self.clock, key);
        *age = self.clock;
        Some(chunk.clone())
    }

    fn keep(&mut self, key: ChunkKey, chunk: Bytes, most: usize) {
        self.clock += 1;
        if let Some((age, _)) = self.held.insert(key, (self.clock, chunk)) {
            self.ages.remove(&age);
        }
        self.ages.insert(self.clock, key);
        while self.held.len() > most
            && let Some((_, oldest)) = self.ages.pop_first()
        {
            self.held.remove(&oldest);
        }
    }
}

fn chunk_of(place: &Place) -> ChunkKey {
    (place.file, place.at / CHUNK as u64)
}

/// Reads values, those that lie near each other with one call.
fn read_together(wanted: &[Wanted<'_>], found: &mut [Option<Bytes>]) -> io::Result<()> {
    let mut rest = wanted;
    while let Some(first) = rest.first() {
        let mut end = first.place.at + u64::from(first.place.length);
        let mut count = 1;
        for next in &rest[1..] {
            let (at, length) = (next.place.at, u64::from(next.place.length));
            let near = next.place.file == first.place.file && at >= end && at - end <= GAP_MAX;
            if !near || at + length - first.place.at > CHUNK as u64 {
                break;
            }
            end = at + length;
            count += 1;
        }
        let run = direct::read_exact(&first.file.file, first.place.at, (end - first.place.at) as usize)?;
        for value in &rest[..count] {
            let from = (value.place.at - first.place.at) as usize;
            found[value.index] = Some(run.slice(from..from + value.place.length as usize));
        }
        rest = &rest[count..];
    }
    Ok(())
}
