//! Single batches with known outcomes, and any batch against a model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::records::batch::{rebuild, stamp};
use crate::records::{BatchBuilder, Header, Record, Timestamps, crc_matches, records};

const NOW: WallMillis = 1_000_000;
const HORIZON: Horizon = Horizon { now_ms: NOW, delete_retention_ms: 500 };

/// Offset 100 on, timestamps 10 apart from 1000 on, of producer 7, epoch 2, sequence 40 on, leader epoch 3.
fn batch(codec: Codec, records: &[(&str, Option<&str>)]) -> Bytes {
    let mut builder = BatchBuilder::new(1000).producer(7, 2, 40);
    for (index, (key, value)) in records.iter().enumerate() {
        let headers = [Header { key: Bytes::from_static(b"h"), value: Some(Bytes::from(vec![index as u8])) }];
        let value = value.map(str::as_bytes);
        builder.push(1000 + 10 * index as i64, Some(key.as_bytes()), value, &headers);
    }
    stamp(rebuild(&builder.build(), codec, None).unwrap(), 100, 3, Timestamps::Keep)
}

fn only(kept: &'static [Offset]) -> impl FnMut(&[u8], Offset) -> bool {
    move |_, offset| kept.contains(&offset)
}

fn cleaned(batch: &Bytes, horizon: Horizon, kept: &'static [Offset]) -> Cleaned {
    clean(batch, Standing::Data, false, horizon, &mut only(kept)).unwrap()
}

fn anew(cleaned: Cleaned) -> Bytes {
    match cleaned {
        Cleaned::Anew(batch) => {
            assert!(crc_matches(&batch));
            batch
        }
        other => panic!("{other:?}"),
    }
}

/// Offset, timestamp and the rest of every record.
fn read(batch: &Bytes) -> Vec<(Offset, i64, Record)> {
    let header = BatchHeader::parse(batch).unwrap();
    let all = records(batch).unwrap().into_iter();
    all.map(|record| (record.offset(&header), record.timestamp(&header), Record { timestamp_delta: 0, ..record }))
        .collect()
}

#[test]
fn what_stays_keeps_its_place_and_its_time_in_every_codec() {
    let all = [("a", Some("1")), ("b", Some("2")), ("a", Some("3")), ("c", Some("4"))];
    for codec in Codec::ALL {
        let old = batch(codec, &all);
        let new = anew(cleaned(&old, HORIZON, &[101, 102]));
        assert_eq!(read(&new), read(&old)[1..3]);
        let (before, after) = (BatchHeader::parse(&old).unwrap(), BatchHeader::parse(&new).unwrap());
        assert_eq!((after.base_timestamp, after.max_timestamp, after.records_count), (1010, 1020, 2));
        let kept = |header: &BatchHeader| BatchHeader {
            batch_length: 0,
            crc: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            records_count: 0,
            ..*header
        };
        assert_eq!(kept(&before), kept(&after), "offsets, epochs, codec, producer and sequence");
        assert_eq!((after.last_offset(), after.last_sequence()), (103, 43));
    }
}

#[test]
fn a_batch_that_loses_nothing_stays_as_it_is() {
    let old = batch(Codec::Lz4, &[("a", Some("1")), ("b", Some("2"))]);
    assert_eq!(cleaned(&old, HORIZON, &[100, 101]), Cleaned::Same);
    assert_eq!(cleaned(&old, HORIZON, &[]), Cleaned::Gone);
}

#[test]
fn tombstones_get_a_horizon_and_go_when_it_has_passed() {
    let old = batch(Codec::Zstd, &[("a", Some("1")), ("b", None)]);
    let first = anew(cleaned(&old, HORIZON, &[100, 101]));
    assert_eq!(BatchHeader::parse(&first).unwrap().delete_horizon_ms(), Some(NOW + 500));
    assert_eq!(read(&first), read(&old), "times are as they were");
    let later = |now_ms| Horizon { now_ms, ..HORIZON };
    assert_eq!(cleaned(&first, later(NOW + 499), &[100, 101]), Cleaned::Same);
    let second = anew(cleaned(&first, later(NOW + 500), &[100, 101]));
    assert_eq!(read(&second), read(&old)[..1]);
    assert_eq!(BatchHeader::parse(&second).unwrap().delete_horizon_ms(), Some(NOW + 500));
    let superseded = anew(cleaned(&first, HORIZON, &[101]));
    assert_eq!(read(&superseded), read(&old)[1..], "a superseded value beside it goes at once");
    let alone = batch(Codec::None, &[("b", None)]);
    let stamped = anew(cleaned(&alone, HORIZON, &[100]));
    assert_eq!(cleaned(&stamped, later(NOW + 500), &[100]), Cleaned::Gone);
    assert_eq!(cleaned(&alone, HORIZON, &[]), Cleaned::Gone, "a superseded tombstone has no horizon");
}

#[test]
fn a_header_stays_where_it_is_needed() {
    let old = batch(Codec::Gzip, &[("a", None), ("b", Some("2"))]);
    let mut nothing = only(&[]);
    let empty = anew(clean(&old, Standing::Data, true, HORIZON, &mut nothing).unwrap());
    let header = BatchHeader::parse(&empty).unwrap();
    assert_eq!((empty.len(), header.records_count, header.codec()), (61, 0, Ok(Codec::None)));
    assert_eq!((header.base_offset, header.last_offset(), header.last_sequence()), (100, 101, 41));
    assert_eq!((header.producer_id, header.producer_epoch, header.leader_epoch), (7, 2, 3));
    assert_eq!((header.base_timestamp, header.max_timestamp), (-1, 1010));
    assert_eq!(clean(&empty, Standing::Data, true, HORIZON, &mut nothing), Ok(Cleaned::Same));
    assert_eq!(clean(&empty, Standing::Data, false, HORIZON, &mut nothing), Ok(Cleaned::Gone));
}

#[test]
fn the_append_time_stays_the_time_of_every_record() {
    let old = stamp(batch(Codec::Snappy, &[("a", Some("1")), ("b", None)]), 100, 3, Timestamps::Appended(7777));
    for kept in [&[100][..], &[101], &[100, 101]] {
        let mut is_last = |_: &[u8], offset| kept.contains(&offset);
        match clean(&old, Standing::Data, false, HORIZON, &mut is_last).unwrap() {
            Cleaned::Anew(new) => {
                let header = BatchHeader::parse(&new).unwrap();
                assert!(header.timestamp_type_is_append());
                assert!(header.max_timestamp == 7777 && read(&new).iter().all(|record| record.1 == 7777));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn records_without_a_key_go() {
    let mut builder = BatchBuilder::new(0);
    builder.push(0, None, Some(b"x"), &[]);
    builder.push(0, Some(b"k"), Some(b"x"), &[]);
    let mut all = |_: &[u8], _: Offset| true;
    let new = anew(clean(&builder.build(), Standing::Data, false, HORIZON, &mut all).unwrap());
    assert_eq!(read(&new).iter().map(|record| record.0).collect::<Vec<_>>(), [1]);
}

fn transactional(producer: ProducerId, base: Offset, keys: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(0).producer(producer, 0, 0).transactional();
    for key in keys {
        builder.push(0, Some(key.as_bytes()), Some(b"v"), &[]);
    }
    stamp(builder.build(), base, 0, Timestamps::Keep)
}

fn marker(producer: ProducerId, offset: Offset, committed: bool) -> Bytes {
    let marker = EndMarker { committed, coordinator_epoch: 0 };
    stamp(marker.batch(producer, 0, 5), offset, 0, Timestamps::Keep)
}

fn standings(log: &[Bytes], aborted: &Aborted) -> Vec<Standing> {
    let mut transactions = Transactions::default();
    let of = |batch: &Bytes| transactions.standing(&BatchHeader::parse(batch).unwrap(), batch, aborted).unwrap();
    log.iter().map(of).collect()
}

fn aborted_in(log: &[Bytes]) -> Aborted {
    let mut aborted = Aborted::default();
    for batch in log {
        aborted.note(&BatchHeader::parse(batch).unwrap(), batch).unwrap();
    }
    aborted
}

#[test]
fn aborted_data_goes_and_markers_outlive_their_data() {
    use Standing::{Aborted as Dead, Control, Data, Spent};
    let log = [
        transactional(1, 0, &["a"]),
        transactional(2, 1, &["a"]),
        marker(1, 2, false),
        transactional(1, 3, &["b"]),
        marker(2, 4, true),
        marker(1, 5, true),
        marker(3, 6, false),
        transactional(1, 7, &["c"]),
        marker(1, 8, false),
    ];
    let aborted = aborted_in(&log);
    assert_eq!(standings(&log, &aborted), [Dead, Data, Control, Data, Control, Control, Spent, Dead, Control]);
    let left = [log[1].clone(), log[2].clone(), log[4].clone(), log[5].clone(), log[8].clone()];
    assert_eq!(standings(&left, &aborted), [Data, Spent, Control, Spent, Spent]);
}

#[test]
fn a_spent_marker_gets_a_horizon_too() {
    let old = marker(1, 9, true);
    let mut nothing = only(&[]);
    let mut of = |batch: &Bytes, standing, keep_empty, now_ms| {
        clean(batch, standing, keep_empty, Horizon { now_ms, ..HORIZON }, &mut nothing).unwrap()
    };
    assert_eq!(of(&old, Standing::Control, false, NOW), Cleaned::Same);
    let stamped = anew(of(&old, Standing::Spent, false, NOW));
    assert_eq!(BatchHeader::parse(&stamped).unwrap().delete_horizon_ms(), Some(NOW + 500));
    assert_eq!(EndMarker::read(&stamped), EndMarker::read(&old));
    assert_eq!(of(&stamped, Standing::Spent, false, NOW + 499), Cleaned::Same);
    assert_eq!(of(&stamped, Standing::Control, false, NOW + 500), Cleaned::Same, "not while data is left");
    assert_eq!(of(&stamped, Standing::Spent, false, NOW + 500), Cleaned::Gone);
    let empty = anew(of(&stamped, Standing::Spent, true, NOW + 500));
    assert_eq!(BatchHeader::parse(&empty).unwrap().records_count, 0);
    assert_eq!(standings(std::slice::from_ref(&empty), &Aborted::default()), [Standing::Spent]);
    assert_eq!(EndMarker::read(&empty), Ok(None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any batch, any choice: what is left is exactly what was chosen.
    #[test]
    fn what_was_chosen_is_left(
        raws in prop::collection::vec((0u8..4, prop::option::of(0u8..3), any::<i64>(), any::<bool>()), 1..20),
        codec in 0usize..5,
    ) {
        let mut builder = BatchBuilder::new(raws[0].2);
        for (key, value, timestamp, _) in &raws {
            builder.push(*timestamp, Some(&[*key]), value.as_ref().map(std::slice::from_ref), &[]);
        }
        let old = rebuild(&builder.build(), Codec::ALL[codec], None).unwrap();
        let mut keys = BTreeMap::new();
        visit_keys(&old, &mut |key, offset| drop(keys.insert(offset, key.to_vec()))).unwrap();
        let mut asked = 0;
        let outcome = clean(&old, Standing::Data, false, HORIZON, &mut |key, offset| {
            assert_eq!(keys[&offset], key);
            asked += 1;
            raws[offset as usize].3
        }).unwrap();
        prop_assert_eq!(asked, raws.len());
        let expected: Vec<_> = read(&old).into_iter().filter(|record| raws[record.0 as usize].3).collect();
        match outcome {
            Cleaned::Gone => prop_assert!(expected.is_empty()),
            Cleaned::Same => prop_assert_eq!(expected.len(), raws.len()),
            Cleaned::Anew(new) => {
                prop_assert!(crc_matches(&new));
                prop_assert_eq!(&read(&new), &expected);
                let header = BatchHeader::parse(&new).unwrap();
                prop_assert_eq!(header.max_timestamp, expected.iter().map(|record| record.1).max().unwrap().max(-1));
                let tombstones = expected.iter().any(|record| record.2.value.is_none());
                prop_assert_eq!(header.delete_horizon_ms().is_some(), tombstones);
            }
        }
    }

    #[test]
    fn cleaning_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        codec in 0usize..5,
        now_ms in any::<i64>(),
        delete_retention_ms in 0i64..,
    ) {
        let mut bytes = batch(Codec::ALL[codec], &[("a", Some("1")), ("b", None), ("c", Some("3"))]).to_vec();
        for (place, byte) in edits {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        let bytes = Bytes::from(bytes);
        let horizon = Horizon { now_ms, delete_retention_ms };
        for standing in [Standing::Data, Standing::Aborted, Standing::Control, Standing::Spent] {
            let _ = clean(&bytes, standing, true, horizon, &mut |_, offset| offset % 2 == 0);
        }
    }
}
