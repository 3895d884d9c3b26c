//! The records of compat-tests/harness/records.py: record i is a function of i, and every shape occurs.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Checked;
use crate::report::require;

/// What a producer decides about a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp_ms: i64,
}

/// A record as a consumer sees it.
pub struct Received {
    pub partition: i32,
    pub offset: i64,
    pub record: Record,
}

/// Milliseconds of the wall clock.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("milliseconds fit for some million years")
}

/// One second apart and an hour ago: explicit, but far from every retention and future-timestamp rule.
pub fn base_ms() -> i64 {
    static BASE: OnceLock<i64> = OnceLock::new();
    *BASE.get_or_init(|| (now_ms() / 1000 - 3600) * 1000)
}

pub fn sample(i: usize) -> Record {
    let mut key = (i % 7 != 3).then(|| format!("key-{i}").into_bytes());
    let mut value = Some((0..10 + (i * 37) % 2000).map(|j| ((i * 31 + j * 7) & 0xff) as u8).collect());
    if i % 13 == 6 {
        value = Some(Vec::new());
    }
    if i % 11 == 5 {
        (key, value) = (Some(format!("gone-{i}").into_bytes()), None);
    }
    let mut headers = Vec::new();
    if i.is_multiple_of(2) {
        headers.push(("trace".to_owned(), Some(format!("t-{i}").into_bytes())));
        headers.push(("empty".to_owned(), Some(Vec::new())));
        headers.push(("trace".to_owned(), Some(b"again".to_vec())));
        headers.push(("nothing".to_owned(), None));
    }
    Record { key, value, headers, timestamp_ms: base_ms() + i as i64 * 1000 }
}

/// A record that carries only a number, for checks in which nothing else matters.
pub fn number(n: usize) -> Record {
    Record { key: None, value: Some(n.to_string().into_bytes()), headers: Vec::new(), timestamp_ms: base_ms() }
}

/// The number that such a record carries.
pub fn number_of(record: &Record) -> Checked<usize> {
    let value = record.value.as_deref().unwrap_or_default();
    Ok(std::str::from_utf8(value)?.parse()?)
}

/// Fails unless what was read is what was sent, naming the first field that differs.
pub fn same(sent: &Record, got: &Received) -> Checked {
    let (place, have) = (format!("partition {} offset {}", got.partition, got.offset), &got.record);
    require(sent.key == have.key, || format!("{place}: key differs"))?;
    require(sent.value == have.value, || format!("{place}: value differs"))?;
    require(sent.timestamp_ms == have.timestamp_ms, || format!("{place}: timestamp differs"))?;
    require(sent.headers == have.headers, || format!("{place}: headers differ"))
}
