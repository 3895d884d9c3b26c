//! Direct I/O: bytes go between our own buffers and the disk, past the page cache.
//!
//! A page of the page cache is fresh memory: to fill it cost more than everything else in a produce
//! (docs/decisions/0007). Direct I/O wants offsets, lengths and addresses in multiples of [`BLOCK`]; this file is about
//! nothing else. A file system that cannot do it is used through the page cache, with the same calls.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Advice, MmapMut};
use parking_lot::Mutex;

/// What every disk and file system in use accepts as a unit, in bytes.
pub(super) const BLOCK: usize = 4096;

/// `at`, down to a multiple of [`BLOCK`].
pub(super) fn block_start(at: u64) -> u64 {
    at - at % BLOCK as u64
}

/// Opens `path` for reading and writing, past the page cache if `direct` is wanted and possible. Creates it if it is
/// not there.
pub(super) fn open(path: &Path, direct: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    if direct {
        match options.clone().custom_flags(libc::O_DIRECT).open(path) {
            // A file system without direct I/O, such as an older tmpfs.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            opened => return opened,
        }
    }
    options.open(path)
}

/// The size of a large page of x86-64 and, mostly, of others.
const LARGE_PAGE: usize = 2 << 20;

/// Memory at a multiple of [`BLOCK`].
pub(super) struct Aligned {
    bytes: Memory,
    start: usize,
    length: usize,
}

enum Memory {
    /// Of the allocator.
    Small(Vec<u8>),
    /// Of the kernel, in large pages if it has any: it looks up every page of a buffer for each direct read.
    Large(MmapMut),
}

impl Aligned {
    /// `length` zeros.
    pub(super) fn zeroed(length: usize) -> Aligned {
        let bytes = vec![0; length + BLOCK];
        // It never grows, so it never moves.
        let start = bytes.as_ptr().align_offset(BLOCK);
        Aligned { bytes: Memory::Small(bytes), start, length }
    }

    /// `length` zeros, some multiples of [`LARGE_PAGE`], that are used again and again. All of a page is resident when
    /// one of its bytes was touched.
    fn large(length: usize) -> Aligned {
        let Ok(bytes) = MmapMut::map_anon(length + LARGE_PAGE) else { return Aligned::zeroed(length) };
        // Without them it works as well.
        let _ = bytes.advise(Advice::HugePage);
        let start = bytes.as_ptr().align_offset(LARGE_PAGE);
        Aligned { bytes: Memory::Large(bytes), start, length }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        let range = self.start..self.start + self.length;
        match &mut self.bytes {
            Memory::Small(bytes) => &mut bytes[range],
            Memory::Large(bytes) => &mut bytes[range],
        }
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        let range = self.start..self.start + self.length;
        match &self.bytes {
            Memory::Small(bytes) => &bytes[range],
            Memory::Large(bytes) => &bytes[range],
        }
    }
}

/// Fills `buffer`, which is aligned as `at` is, from `file`; returns how much there was before the file ended.
pub(super) fn read_blocks(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => {
                filled += count;
                if count % BLOCK != 0 {
                    // Only the end of the file is not a multiple.
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The bytes `at..at + length` of `file`.
pub(super) fn read_exact(file: &File, at: u64, length: usize) -> io::Result<Bytes> {
    let start = block_start(at);
    let before = (at - start) as usize;
    let mut buffer = Aligned::zeroed((before + length).next_multiple_of(BLOCK));
    if read_blocks(file, buffer.as_mut_slice(), start)? < before + length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Bytes::from_owner(buffer).slice(before..before + length))
}

/// Buffers of one size that come back when the last reader of their bytes is done: memory that was touched once is
/// used again.
pub(super) struct Pool {
    length: usize,
    kept_max: usize,
    kept: Mutex<Vec<Aligned>>,
}

struct Pooled {
    buffer: Option<Aligned>,
    pool: Arc<Pool>,
}

impl Pool {
    /// Buffers of `length` bytes, of which at most `kept_max` are kept while nobody needs them.
    pub(super) fn new(length: usize, kept_max: usize) -> Arc<Pool> {
        Arc::new(Pool { length, kept_max, kept: Mutex::new(Vec::new()) })
    }

    /// A buffer with whatever it last held.
    pub(super) fn take(&self) -> Aligned {
        self.kept.lock().pop().unwrap_or_else(|| Aligned::large(self.length))
    }

    /// The buffer as bytes; it comes back when they are dropped.
    pub(super) fn share(self: &Arc<Pool>, buffer: Aligned) -> Bytes {
        Bytes::from_owner(Pooled { buffer: Some(buffer), pool: self.clone() })
    }
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], AsRef::as_ref)
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut kept = self.pool.kept.lock();
        if kept.len() < self.pool.kept_max {
            kept.extend(self.buffer.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_is_read_through_blocks() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let bytes: Vec<u8> = (0..20_000u32).map(|at| (at % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        for direct in [true, false] {
            let file = open(&path, direct).unwrap();
            for (at, length) in [(0, 1), (4095, 2), (4096, 4096), (1, 19_999), (19_999, 1), (8000, 0)] {
                assert_eq!(read_exact(&file, at as u64, length).unwrap(), bytes[at..at + length]);
            }
            assert!(read_exact(&file, 19_999, 2).is_err(), "past the end");
        }
    }

    #[test]
    fn a_buffer_comes_back_when_its_last_bytes_are_dropped() {
        let pool = Pool::new(2 * BLOCK, 1);
        let shared = pool.share(pool.take());
        let part = shared.slice(1..2);
        drop(shared);
        assert_eq!(pool.kept.lock().len(), 0);
        drop(part);
        assert_eq!(pool.kept.lock().len(), 1);
        drop((pool.share(Aligned::zeroed(2 * BLOCK)), pool.share(Aligned::zeroed(2 * BLOCK))));
        assert_eq!(pool.kept.lock().len(), 1, "no more than it may keep");
    }
}
