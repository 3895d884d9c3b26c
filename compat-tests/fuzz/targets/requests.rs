//! Request frames: header, guard, bridge and decoder of every API and version.
//!
//! Input: which row of the table, which of its versions, the body. One row more than there are stands for a whole frame.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ottla::api::table::{APIS, Api};
use ottla::wire::generate::Generator;
use ottla::wire::{bridge, guard, header, schema};

/// Of so many mutations one begins anew with a body that is well formed.
const FRESH_EVERY: u32 = 50;

fuzz_target!(|data: &[u8]| {
    let [row, version, body @ ..] = data else { return };
    let body = Bytes::copy_from_slice(body);
    let Some((api, version)) = chosen(*row, *version) else {
        if let Ok((head, body)) = header::parse(&body)
            && let Some(shape) = schema::request(head.api_key, head.version)
        {
            let _ = guard::walk(shape, &body);
        }
        return;
    };
    let shape = schema::request(api.key, version).expect("every row has shapes");
    if let Ok(taken) = guard::walk(shape, &body) {
        let behind = body.len() - taken;
        let is_bridged = bridge::via(api.key, version) != version;
        let left = api.decodes(version, body);
        // A body that was written anew has nothing behind it.
        let agrees = left.is_err() || left == Ok(behind) || (is_bridged && left == Ok(0));
        assert!(agrees, "{} v{version}: {left:?}, the guard leaves {behind}", api.name);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed % FRESH_EVERY == 0 && max_size > 2 {
        let (row, version) = (seed as u8, (seed >> 8) as u8);
        if let Some((api, number)) = chosen(row, version) {
            let shape = schema::request(api.key, number).expect("every row has shapes");
            let body = Generator::new(u64::from(seed)).body(shape);
            let length = body.len().min(max_size - 2);
            data[..2].copy_from_slice(&[row, version]);
            data[2..2 + length].copy_from_slice(&body[..length]);
            return 2 + length;
        }
    }
    fuzzer_mutate(data, size, max_size)
});

/// The row and the version that two bytes stand for.
fn chosen(row: u8, version: u8) -> Option<(&'static Api, i16)> {
    let api = APIS.get(usize::from(row) % (APIS.len() + 1))?;
    let count = api.versions.end() - api.versions.start() + 1;
    Some((api, api.versions.start() + i16::from(version) % count))
}
