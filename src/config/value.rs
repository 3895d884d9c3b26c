//! What a setting's value may be: its type, what is allowed, and how Kafka prints it.
//!
//! Invariants: pure. Texts are trimmed as Java trims. Error texts are Kafka's (`ConfigDef`), because tools print them.

use std::fmt;

/// The type of a setting, with the number that DescribeConfigs gives it (KIP-569).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

impl Kind {
    /// Kafka's name of the type, in capitals.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }

    /// The number on the wire.
    pub const fn code(self) -> i8 {
        self as i8
    }

    /// Parses `text`; the error is the reason alone.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let text = trim(text);
        let value = match self {
            Kind::Boolean if text.eq_ignore_ascii_case("true") => Some(Value::Boolean(true)),
            Kind::Boolean if text.eq_ignore_ascii_case("false") => Some(Value::Boolean(false)),
            Kind::Boolean => return Err("Expected value to be either true or false".into()),
            Kind::Int => text.parse::<i32>().ok().map(|number| Value::Whole(number.into())),
            Kind::Short => text.parse::<i16>().ok().map(|number| Value::Whole(number.into())),
            Kind::Long => text.parse::<i64>().ok().map(Value::Whole),
            Kind::Double => parse_double(text).map(Value::Real),
            Kind::List => Some(Value::List(split_list(text))),
            Kind::String | Kind::Class | Kind::Password => Some(Value::Text(text.to_owned())),
        };
        value.ok_or_else(|| format!("Not a number of type {}", self.name()))
    }
}

/// A parsed value. `Display` prints it as Kafka does.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Boolean(bool),
    /// An int, a short or a long, within the range of its type.
    Whole(i64),
    Real(f64),
    /// A string, a class name or a password.
    Text(String),
    List(Vec<String>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Boolean(value) => write!(f, "{value}"),
            Value::Whole(value) => write!(f, "{value}"),
            Value::Real(value) => f.write_str(&print_double(*value)),
            Value::Text(value) => f.write_str(value),
            Value::List(values) => f.write_str(&values.join(",")),
        }
    }
}

/// What is allowed beyond the type.
#[derive(Clone, Copy)]
pub enum Valid {
    Any,
    /// A number not below this.
    AtLeast(i64),
    /// A number not below the first and not above the second.
    Between(i64, i64),
    /// A real number from 0 to 1.
    Ratio,
    OneOf(&'static [&'static str]),
    /// One of these, in small letters or capitals.
    OneOfAnyCase(&'static [&'static str]),
    /// A list without repetitions.
    Distinct,
    DistinctNonEmpty,
    /// A list of some of these, without repetitions.
    ListOf(&'static [&'static str]),
    NonEmptyListOf(&'static [&'static str]),
    /// What a function says; it is given the name of the key and returns the whole sentence.
    Custom {
        check: fn(&str, &Value) -> Result<(), String>,
        allowed: &'static str,
    },
}

impl Valid {
    /// Checks a value of the key `name`; the error is Kafka's whole sentence.
    pub fn check(&self, name: &str, value: &Value) -> Result<(), String> {
        match (self, value) {
            (Valid::AtLeast(least), Value::Whole(number)) => check_range(name, *number, *least, i64::MAX),
            (Valid::Between(least, most), Value::Whole(number)) => check_range(name, *number, *least, *most),
            (Valid::Ratio, Value::Real(share)) if *share > 1.0 => {
                Err(invalid(name, value, "Value must be no more than 1"))
            }
            (Valid::Ratio, Value::Real(share)) if *share < 0.0 || share.is_nan() => {
                Err(invalid(name, value, "Value must be at least 0"))
            }
            (Valid::OneOf(allowed), Value::Text(text)) => check_one_of(name, text, allowed),
            (Valid::OneOfAnyCase(allowed), Value::Text(text)) => {
                let found = allowed.iter().any(|word| word.eq_ignore_ascii_case(text));
                let why = || format!("String must be one of (case insensitive): {}", allowed.join(", "));
                if found { Ok(()) } else { Err(invalid(name, value, &why())) }
            }
            (Valid::Distinct, Value::List(items)) => check_list(name, items, &[], true),
            (Valid::DistinctNonEmpty, Value::List(items)) => check_list(name, items, &[], false),
            (Valid::ListOf(allowed), Value::List(items)) => check_list(name, items, allowed, true),
            (Valid::NonEmptyListOf(allowed), Value::List(items)) => check_list(name, items, allowed, false),
            (Valid::Custom { check, .. }, value) => check(name, value),
            _ => Ok(()),
        }
    }

    /// What is allowed, as Kafka's documentation writes it; empty if everything is.
    pub fn allowed(&self) -> String {
        match self {
            Valid::Any | Valid::Distinct => String::new(),
            Valid::AtLeast(least) => format!("[{least},...]"),
            Valid::Between(least, most) => format!("[{least},...,{most}]"),
            Valid::Ratio => "[0,...,1]".into(),
            Valid::OneOf(allowed)
            | Valid::OneOfAnyCase(allowed)
            | Valid::ListOf(allowed)
            | Valid::NonEmptyListOf(allowed) => format!("[{}]", allowed.join(", ")),
            Valid::DistinctNonEmpty => "not empty".into(),
            Valid::Custom { allowed, .. } => (*allowed).to_owned(),
        }
    }
}

/// Kafka's sentence about a value that is refused.
pub fn invalid(name: &str, value: &dyn fmt::Display, why: &str) -> String {
    format!("Invalid value {value} for configuration {name}: {why}")
}

fn check_range(name: &str, number: i64, least: i64, most: i64) -> Result<(), String> {
    if number < least {
        return Err(invalid(name, &number, &format!("Value must be at least {least}")));
    }
    if number > most {
        return Err(invalid(name, &number, &format!("Value must be no more than {most}")));
    }
    Ok(())
}

fn check_one_of(name: &str, text: &str, allowed: &[&str]) -> Result<(), String> {
    if allowed.contains(&text) {
        return Ok(());
    }
    Err(invalid(name, &text, &format!("String must be one of: {}", allowed.join(", "))))
}

/// Checks a list; no words in `allowed` means that every word is.
fn check_list(name: &str, items: &[String], allowed: &[&str], may_be_empty: bool) -> Result<(), String> {
    if items.is_empty() && !may_be_empty {
        let words = format!("[{}]", allowed.join(", "));
        let include = if allowed.is_empty() { "any non-empty value" } else { words.as_str() };
        return Err(format!("Configuration '{name}' must not be empty. Valid values include: {include}"));
    }
    for (index, item) in items.iter().enumerate() {
        if items[..index].contains(item) {
            return Err(format!("Configuration '{name}' values must not be duplicated."));
        }
    }
    for item in items {
        if item.is_empty() {
            return Err(format!("Configuration '{name}' values must not be empty."));
        }
        if !allowed.is_empty() {
            check_one_of(name, item, allowed)?;
        }
    }
    Ok(())
}

/// Java's `String.trim`: everything up to the space character goes.
pub fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ')
}

fn split_list(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(|item| trim(item).to_owned()).collect()
}

/// Java's `Double.parseDouble`, without its hexadecimal form.
fn parse_double(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "NaN" || unsigned == "Infinity" {
        return text.parse().ok();
    }
    let digits = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    // Rust also reads `inf` and `nan`, which Java refuses.
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    if plain { digits.parse().ok() } else { None }
}

/// Java's `Double.toString`: plain from 0.001 to 10 million, otherwise one digit, a point, and `E`.
fn print_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((text.as_str(), "0"));
    let point = if digits.contains('.') { "" } else { ".0" };
    format!("{digits}{point}E{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_parse_as_in_java() {
        assert_eq!(Kind::Int.parse(" 42 "), Ok(Value::Whole(42)));
        assert_eq!(Kind::Int.parse("2147483648"), Err("Not a number of type INT".into()));
        assert_eq!(Kind::Short.parse("40000"), Err("Not a number of type SHORT".into()));
        assert_eq!(Kind::Long.parse(""), Err("Not a number of type LONG".into()));
        assert_eq!(Kind::Boolean.parse("TRUE"), Ok(Value::Boolean(true)));
        assert_eq!(Kind::Boolean.parse("yes"), Err("Expected value to be either true or false".into()));
        assert_eq!(Kind::Double.parse("1e3"), Ok(Value::Real(1000.0)));
        assert_eq!(Kind::Double.parse("0.5f"), Ok(Value::Real(0.5)));
        assert!(Kind::Double.parse("inf").is_err());
        assert!(Kind::Double.parse("").is_err());
    }

    #[test]
    fn values_print_as_in_java() {
        let print = |kind: Kind, text: &str| kind.parse(text).map(|value| value.to_string());
        assert_eq!(print(Kind::List, " a , b,c "), Ok("a,b,c".into()));
        assert_eq!(print(Kind::List, " "), Ok(String::new()));
        for (text, printed) in [
            ("1", "1.0"),
            ("0.5", "0.5"),
            ("0.001", "0.001"),
            ("0.0001", "1.0E-4"),
            ("10000000", "1.0E7"),
            ("12345678.9", "1.23456789E7"),
            ("1.7976931348623157E308", "1.7976931348623157E308"),
            ("-0.0", "-0.0"),
        ] {
            assert_eq!(print(Kind::Double, text), Ok(printed.to_owned()));
        }
    }

    #[track_caller]
    fn check(valid: Valid, kind: Kind, text: &str, expected: Result<(), &str>) {
        let value = kind.parse(text).unwrap();
        assert_eq!(valid.check("key", &value), expected.map_err(str::to_owned));
    }

    #[test]
    fn refusals_are_worded_as_in_kafka() {
        check(Valid::AtLeast(1), Kind::Int, "1", Ok(()));
        let low = "Invalid value 0 for configuration key: Value must be at least 1";
        check(Valid::AtLeast(1), Kind::Int, "0", Err(low));
        let high = "Invalid value 18 for configuration key: Value must be no more than 17";
        check(Valid::Between(1, 17), Kind::Int, "18", Err(high));
        check(Valid::Ratio, Kind::Double, "1", Ok(()));
        let share = "Invalid value 1.5 for configuration key: Value must be no more than 1";
        check(Valid::Ratio, Kind::Double, "1.5", Err(share));
        let word = "Invalid value c for configuration key: String must be one of: a, b";
        check(Valid::OneOf(&["a", "b"]), Kind::String, "c", Err(word));
        check(Valid::OneOfAnyCase(&["a", "b"]), Kind::String, "B", Ok(()));
    }

    #[test]
    fn lists_are_checked_word_by_word() {
        let policies = Valid::ListOf(&["compact", "delete"]);
        check(policies, Kind::List, "", Ok(()));
        check(policies, Kind::List, "delete,compact", Ok(()));
        let word = "Invalid value keep for configuration key: String must be one of: compact, delete";
        check(policies, Kind::List, "delete,keep", Err(word));
        let twice = "Configuration 'key' values must not be duplicated.";
        check(policies, Kind::List, "delete,delete", Err(twice));
        check(Valid::Distinct, Kind::List, "a,,b", Err("Configuration 'key' values must not be empty."));
        let none = "Configuration 'key' must not be empty. Valid values include: any non-empty value";
        check(Valid::DistinctNonEmpty, Kind::List, "", Err(none));
    }
}
