//! The Rust types of setting fields.
//!
//! Invariants: a type names the [`Kind`] it is parsed as, so a row states its type once. A password never prints.

use std::fmt;

use super::value::{Kind, Value};

/// A Rust type that a setting can have.
pub trait Typed: Sized {
    /// What its text is parsed as.
    const KIND: Kind;

    /// The typed form of a parsed value; `None` if the value is none of this type's.
    fn from_value(value: Value) -> Option<Self>;

    /// What a setting without value and default is; `None` where there must be one.
    fn absent() -> Option<Self> {
        None
    }
}

/// The field of the key `name`: its text, else its default, else null. A text that does not parse counts as absent; a
/// default that does not parse is a broken table.
pub fn typed<T: Typed>(name: &str, text: Option<String>, default: Option<&str>) -> T {
    let read = |text: &str| T::KIND.parse(text).ok().and_then(T::from_value);
    text.as_deref()
        .and_then(read)
        .or_else(|| default.and_then(read))
        .or_else(T::absent)
        .unwrap_or_else(|| panic!("the default of {name} does not fit its type"))
}

impl<T: Typed> Typed for Option<T> {
    const KIND: Kind = T::KIND;

    fn from_value(value: Value) -> Option<Self> {
        T::from_value(value).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl Typed for bool {
    const KIND: Kind = Kind::Boolean;

    fn from_value(value: Value) -> Option<Self> {
        if let Value::Boolean(value) = value { Some(value) } else { None }
    }
}

impl Typed for i16 {
    const KIND: Kind = Kind::Short;

    fn from_value(value: Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}

impl Typed for i32 {
    const KIND: Kind = Kind::Int;

    fn from_value(value: Value) -> Option<Self> {
        i64::from_value(value)?.try_into().ok()
    }
}

impl Typed for i64 {
    const KIND: Kind = Kind::Long;

    fn from_value(value: Value) -> Option<Self> {
        if let Value::Whole(value) = value { Some(value) } else { None }
    }
}

impl Typed for f64 {
    const KIND: Kind = Kind::Double;

    fn from_value(value: Value) -> Option<Self> {
        if let Value::Real(value) = value { Some(value) } else { None }
    }
}

impl Typed for String {
    const KIND: Kind = Kind::String;

    fn from_value(value: Value) -> Option<Self> {
        if let Value::Text(value) = value { Some(value) } else { None }
    }
}

impl Typed for Vec<String> {
    const KIND: Kind = Kind::List;

    fn from_value(value: Value) -> Option<Self> {
        if let Value::List(value) = value { Some(value) } else { None }
    }
}

/// The name of a Java class. It is kept and described; it cannot be loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassName(pub String);

impl Typed for ClassName {
    const KIND: Kind = Kind::Class;

    fn from_value(value: Value) -> Option<Self> {
        String::from_value(value).map(ClassName)
    }
}

/// A secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The secret itself. Never log it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl Typed for Password {
    const KIND: Kind = Kind::Password;

    fn from_value(value: Value) -> Option<Self> {
        String::from_value(value).map(Password)
    }
}

/// `cleanup.policy`. Neither means that records are kept for ever (Kafka 4.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

impl Typed for CleanupPolicy {
    const KIND: Kind = Kind::List;

    fn from_value(value: Value) -> Option<Self> {
        let words = Vec::<String>::from_value(value)?;
        let has = |word: &str| words.iter().any(|w| w == word);
        Some(CleanupPolicy { delete: has("delete"), compact: has("compact") })
    }
}

/// `compression.type`: how batches are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompressionType {
    /// As they were sent.
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Typed for CompressionType {
    const KIND: Kind = Kind::String;

    fn from_value(value: Value) -> Option<Self> {
        match String::from_value(value)?.as_str() {
            "producer" => Some(CompressionType::Producer),
            "uncompressed" => Some(CompressionType::Uncompressed),
            "gzip" => Some(CompressionType::Gzip),
            "snappy" => Some(CompressionType::Snappy),
            "lz4" => Some(CompressionType::Lz4),
            "zstd" => Some(CompressionType::Zstd),
            _ => None,
        }
    }
}

/// `message.timestamp.type`: whose clock stamps a record (KIP-32).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's.
    LogAppendTime,
}

impl Typed for TimestampType {
    const KIND: Kind = Kind::String;

    fn from_value(value: Value) -> Option<Self> {
        match String::from_value(value)?.as_str() {
            "CreateTime" => Some(TimestampType::CreateTime),
            "LogAppendTime" => Some(TimestampType::LogAppendTime),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_beats_default_and_nonsense_counts_as_absent() {
        assert_eq!(typed::<i32>("key", Some(" 7 ".into()), Some("1")), 7);
        assert_eq!(typed::<i32>("key", Some("seven".into()), Some("1")), 1);
        assert_eq!(typed::<Option<i64>>("key", None, None), None);
        assert_eq!(typed::<Option<i64>>("key", Some("-1".into()), None), Some(-1));
    }

    #[test]
    fn words_become_types() {
        let policy = typed::<CleanupPolicy>("key", Some("compact, delete".into()), None);
        assert_eq!(policy, CleanupPolicy { delete: true, compact: true });
        let neither = typed::<CleanupPolicy>("key", Some(String::new()), Some("delete"));
        assert_eq!(neither, CleanupPolicy { delete: false, compact: false });
        assert_eq!(typed::<CompressionType>("key", Some("lz4".into()), None), CompressionType::Lz4);
    }

    #[test]
    fn passwords_do_not_print() {
        let password = typed::<Option<Password>>("key", Some("secret".into()), None);
        assert_eq!(password.as_ref().map(Password::reveal), Some("secret"));
        assert_eq!(format!("{password:?}"), "Some([hidden])");
    }
}
