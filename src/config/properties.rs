//! Files in Java's `.properties` form, read exactly as `java.util.Properties.load` reads them.
//!
//! Invariants: pure. The text is UTF-8 where Java's is Latin-1; `\uXXXX` means the same in both. Of two lines with one
//! key the later wins.

use std::collections::BTreeMap;
use std::str::Chars;

/// Parses a file. The only fault a file can have is a `\u` without four hexadecimal digits; the error names its line.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    let mut lines = Lines { rest: text, number: 0 };
    while let Some((number, line)) = lines.logical() {
        let (key, value) = split(&line);
        let read = |part: &str| unescape(part).map_err(|why| format!("line {number}: {why}"));
        values.insert(read(key)?, read(value)?);
    }
    Ok(values)
}

/// The lines of a text, with their numbers from 1.
struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    /// The next line as it is written, ended by a line feed, a carriage return, or both.
    fn natural(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        self.number += 1;
        let end = self.rest.find(['\n', '\r']).unwrap_or(self.rest.len());
        let (line, tail) = self.rest.split_at(end);
        self.rest = tail.strip_prefix("\r\n").or_else(|| tail.strip_prefix(['\n', '\r'])).unwrap_or(tail);
        Some(line)
    }

    /// The next line that says something, joined with the lines that continue it, and the number of its first line.
    fn logical(&mut self) -> Option<(usize, String)> {
        loop {
            let mut part = self.natural()?.trim_start_matches(is_blank);
            let number = self.number;
            if part.starts_with(['#', '!']) {
                continue;
            }
            let mut line = String::new();
            while let Some(kept) = continued(part) {
                line.push_str(kept);
                // A line that continues another is never a comment; an empty one ends it.
                part = self.natural().unwrap_or_default().trim_start_matches(is_blank);
            }
            line.push_str(part);
            if !line.is_empty() {
                return Some((number, line));
            }
        }
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

/// The line without its last backslash, if that backslash continues it: an odd number of them stands at its end.
fn continued(line: &str) -> Option<&str> {
    let backslashes = line.bytes().rev().take_while(|&b| b == b'\\').count();
    if backslashes % 2 == 1 { line.strip_suffix('\\') } else { None }
}

/// Splits at the first `=`, `:` or blank that is not escaped; blanks around one `=` or `:` belong to neither side.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let mut key_end = line.len();
    for (at, c) in line.char_indices() {
        if !escaped && (matches!(c, '=' | ':') || is_blank(c)) {
            key_end = at;
            break;
        }
        escaped = c == '\\' && !escaped;
    }
    let (key, rest) = line.split_at(key_end);
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).map_or(rest, |value| value.trim_start_matches(is_blank));
    (key, value)
}

/// Resolves escapes. `\uXXXX` is a UTF-16 unit, so two of them may make one character.
fn unescape(text: &str) -> Result<String, String> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                None => break,
                Some('u') => {
                    units.push(unit(&mut chars)?);
                    continue;
                }
                Some('t') => '\t',
                Some('r') => '\r',
                Some('n') => '\n',
                Some('f') => '\u{c}',
                Some(other) => other,
            },
            other => other,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    Ok(String::from_utf16_lossy(&units))
}

fn unit(chars: &mut Chars<'_>) -> Result<u16, String> {
    let mut value: u16 = 0;
    for _ in 0..4 {
        let digit = chars.next().and_then(|c| c.to_digit(16)).ok_or("Malformed \\uxxxx encoding.")?;
        value = (value << 4) | digit as u16;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(parse(text), Ok(expected), "{text:?}");
    }

    #[test]
    fn separators() {
        check("a=1\nb:2\nc 3\nd\t4\n", &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
        check("  a  =  1  ", &[("a", "1  ")]);
        check("a==1\nb=:2\nc:=3", &[("a", "=1"), ("b", ":2"), ("c", "=3")]);
        check("a\nb=", &[("a", ""), ("b", "")]);
        check("listeners=PLAINTEXT://:9092", &[("listeners", "PLAINTEXT://:9092")]);
        check("=nothing", &[("", "nothing")]);
    }

    #[test]
    fn comments_and_blank_lines() {
        check("# a=1\n   ! b=2\n\n \t\nc=3#not a comment", &[("c", "3#not a comment")]);
        check("# goes on \\\na=1", &[("a", "1")]);
        check("", &[]);
    }

    #[test]
    fn line_ends() {
        check("a=1\r\nb=2\rc=3", &[("a", "1"), ("b", "2"), ("c", "3")]);
    }

    #[test]
    fn continuation() {
        check("a=1,\\\n   2,\\\r\n\t3\nb=4", &[("a", "1,2,3"), ("b", "4")]);
        check("a=1\\\\\nb=2", &[("a", "1\\"), ("b", "2")]);
        check("a=1\\\n# 2", &[("a", "1# 2")]);
        check("a=1\\\n\nb=2", &[("a", "1"), ("b", "2")]);
        check("a=1\\", &[("a", "1")]);
        check("\\\n\\\n", &[]);
    }

    #[test]
    fn escapes() {
        check("a\\=b=c", &[("a=b", "c")]);
        check("a\\ b\\:c d", &[("a b:c", "d")]);
        check("path=C:\\\\logs\\tx\\q", &[("path", "C:\\logs\txq")]);
        check("a=\\u00e9\\ud83d\\ude00", &[("a", "é😀")]);
        check("a=é", &[("a", "é")]);
        assert_eq!(parse("a=1\nb=\\u00g0"), Err("line 2: Malformed \\uxxxx encoding.".into()));
        assert_eq!(parse("a=\\u12"), Err("line 1: Malformed \\uxxxx encoding.".into()));
    }

    #[test]
    fn the_later_line_wins() {
        check("a=1\na=2", &[("a", "2")]);
    }
}
