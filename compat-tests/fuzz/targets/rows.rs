//! Rows and records of our own: the metadata store, the state of logs, `__consumer_offsets`.
//!
//! Input: which of them, then the bytes. What decodes encodes to something that decodes to the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ottla::coordinator::GroupRecord;
use ottla::metadata::StoredMetadata;
use ottla::storage::epochs::Epochs;
use ottla::storage::keys;
use ottla::storage::producers::Producers;
use ottla::storage::state::{self, LogState};

/// The keys of docs/formats.md; `e` is followed by an index.
const METADATA_KEYS: &[u8] = b"bcepsv";

fuzz_target!(|data: &[u8]| {
    let [kind, bytes @ ..] = data else { return };
    match kind % 8 {
        0..=2 => metadata(bytes),
        3 => group_record(bytes),
        4 => {
            if let Some(found) = LogState::decode(bytes) {
                assert_eq!(LogState::decode(&found.encode()).as_ref(), Some(&found));
            }
        }
        5 => {
            if let Some(chunk) = state::decode_chunk(bytes) {
                assert_eq!(state::decode_chunk(&state::encode_chunk(&chunk)), Some(chunk));
            }
            if let Some(cleaned) = state::decode_cleaned(bytes) {
                assert_eq!(state::decode_cleaned(&state::encode_cleaned(cleaned)), Some(cleaned));
            }
            let _ = (keys::log_of(bytes), keys::number_of(bytes), keys::Key::from_slice(bytes));
        }
        6 => {
            if let Some(epochs) = Epochs::decode(bytes) {
                assert_eq!(Epochs::decode(&epochs.encode()).map(|again| again.entries() == epochs.entries()), Some(true));
            }
        }
        _ => {
            let mut producers = Producers::new();
            if let Ok(id) = producers.decode_one(bytes) {
                let row = producers.encode_one(id).expect("it is known");
                assert_eq!(Producers::new().decode_one(&row), Ok(id));
            }
        }
    }
});

/// Rows as length, key and value.
fn metadata(mut bytes: &[u8]) {
    let mut rows = Vec::new();
    while let [key, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, behind) = rest.split_at(length.min(rest.len()));
        let key = METADATA_KEYS[usize::from(*key) % METADATA_KEYS.len()];
        // The key of an entry is in the entry too, behind version, term and voter.
        let key = if key == b'e' { [&b"e"[..], value.get(29..37).unwrap_or_default()].concat() } else { vec![key] };
        rows.push((key, value.to_vec()));
        bytes = behind;
    }
    let stored = StoredMetadata::read(&rows);
    // The image goes through everything that replay calls; what does not fit is told.
    assert!(stored.wrong.len() <= 2 * rows.len() + 1);
}

fn group_record(bytes: &[u8]) {
    let [length, rest @ ..] = bytes else { return };
    let (key, value) = rest.split_at(usize::from(*length).min(rest.len()));
    let value = (!value.is_empty()).then_some(value);
    if let Ok(Some(record)) = GroupRecord::decode(key, value) {
        let (key, value) = record.encode();
        assert_eq!(GroupRecord::decode(&key, value.as_deref()), Ok(Some(record)));
    }
}
