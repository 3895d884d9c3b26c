//! Value files: what a start and `ottla verify` read of groups and the row changes in them.
//!
//! Input: groups, each as flags, two lengths, values and rows. A flag says whether its header and checksum are put right;
//! the last bytes stay as they are.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ottla::storage::engine::examine_values;

/// As in docs/formats.md.
const FILE_MAGIC: &[u8] = b"OVF2";
const GROUP_MAGIC: &[u8] = b"OVG2";
const SALT: u32 = 7;
const MENDED: u8 = 0x80;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let base = if fs::metadata("/dev/shm").is_ok() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let folder = base.join(format!("ottla-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
});

fuzz_target!(|data: &[u8]| {
    fs::write(FOLDER.join("0000000001.values"), file(data)).expect("a file");
    examine_values(&FOLDER).expect("whatever is in a file, it can be examined");
});

fn file(mut data: &[u8]) -> Vec<u8> {
    let mut out = [FILE_MAGIC, &1u32.to_be_bytes(), &SALT.to_be_bytes()].concat();
    out.extend(crc32c::crc32c(&out).to_be_bytes());
    while let [flags, values, rows, rest @ ..] = data
        && flags & MENDED != 0
    {
        let (values, rows) = (usize::from(*values), usize::from(*rows));
        if values + rows > rest.len() {
            break;
        }
        let at = out.len();
        out.extend(GROUP_MAGIC);
        out.push(flags & !MENDED);
        out.extend((at as u64).to_be_bytes());
        out.extend((values as u64).to_be_bytes());
        out.extend((rows as u32).to_be_bytes());
        let sum = crc32c::crc32c_append(SALT, &out[at..]);
        out.extend(crc32c::crc32c_append(sum, &rest[..values + rows]).to_be_bytes());
        out.extend(&rest[..values + rows]);
        data = &rest[values + rows..];
    }
    out.extend(data);
    out
}
