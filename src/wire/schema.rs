//! The shape of every request and response, by API key and version.
//!
//! `schemas.txt` holds facts of the protocol, read from the classes of Apache Kafka 4.3.1 by
//! `scripts/schemas/SchemaDump.java`; its first lines explain the notation. It is parsed once, at first use.
//!
//! Invariants: an element of an array has at least one byte, so that a count is bounded by the bytes that are left;
//! nesting is as deep as the table says and never deeper, because no shape refers to itself.

use std::sync::LazyLock;

/// Which way a message travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Request,
    Response,
}

/// One message in a run of versions that share header and body.
#[derive(Debug)]
pub struct Message {
    pub api_key: i16,
    /// Kafka's name of the API, for example `Produce`.
    pub name: &'static str,
    pub direction: Direction,
    pub version_min: i16,
    pub version_max: i16,
    /// Version of the request header (1 or 2) or of the response header (0 or 1).
    pub header_version: i16,
    pub body: Struct,
}

/// Fields in the order they have on the wire.
#[derive(Debug)]
pub struct Struct {
    pub fields: Vec<Field>,
    /// The tags that are known where tagged fields may follow; `None` where they may not (KIP-482).
    pub tagged: Option<Vec<(u32, Field)>>,
    /// The fewest bytes that hold it.
    pub bytes_min: usize,
    /// True if it always has `bytes_min` bytes.
    pub fixed: bool,
}

/// A field by its name.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
}

/// What a field holds.
#[derive(Debug)]
pub enum Kind {
    Scalar(Scalar),
    String {
        compact: bool,
        nullable: bool,
    },
    /// Opaque bytes; `records` tells those that hold record batches.
    Bytes {
        compact: bool,
        nullable: bool,
        records: bool,
    },
    Array {
        compact: bool,
        nullable: bool,
        element: Box<Kind>,
    },
    Struct {
        nullable: bool,
        shape: Struct,
    },
}

/// A value that always has the same number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scalar {
    Bool,
    I8,
    I16,
    U16,
    I32,
    U32,
    I64,
    F64,
    Uuid,
}

impl Scalar {
    /// Bytes on the wire.
    pub fn bytes(self) -> usize {
        match self {
            Scalar::Bool | Scalar::I8 => 1,
            Scalar::I16 | Scalar::U16 => 2,
            Scalar::I32 | Scalar::U32 => 4,
            Scalar::I64 | Scalar::F64 => 8,
            Scalar::Uuid => 16,
        }
    }
}

impl Kind {
    /// The fewest bytes that hold it: a null or an empty value where lengths vary.
    pub fn bytes_min(&self) -> usize {
        match self {
            Kind::Scalar(scalar) => scalar.bytes(),
            Kind::String { compact: false, .. } => 2,
            Kind::Bytes { compact: false, .. } | Kind::Array { compact: false, .. } => 4,
            Kind::String { .. } | Kind::Bytes { .. } | Kind::Array { .. } => 1,
            Kind::Struct { nullable: true, .. } => 1,
            Kind::Struct { nullable: false, shape } => shape.bytes_min,
        }
    }

    /// True if every value has `bytes_min` bytes.
    pub fn is_fixed(&self) -> bool {
        match self {
            Kind::Scalar(_) => true,
            Kind::Struct { nullable: false, shape } => shape.fixed,
            _ => false,
        }
    }
}

/// The request with this key and version, if Kafka 4.3 knows it.
pub fn request(api_key: i16, version: i16) -> Option<&'static Message> {
    find(&TABLE.requests, api_key, version)
}

/// The response with this key and version, if Kafka 4.3 knows it.
pub fn response(api_key: i16, version: i16) -> Option<&'static Message> {
    find(&TABLE.responses, api_key, version)
}

/// Every message, in the order of keys and versions, requests first.
pub fn messages() -> impl Iterator<Item = &'static Message> {
    TABLE.requests.iter().chain(&TABLE.responses).flatten()
}

/// Kafka's name of an API.
pub fn api_name(api_key: i16) -> Option<&'static str> {
    Some(by_key(&TABLE.requests, api_key)?.first()?.name)
}

/// Messages by API key, then by version; a key that does not exist has none.
type ByKey = Vec<Vec<Message>>;

struct Table {
    requests: ByKey,
    responses: ByKey,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| parse(include_str!("schemas.txt")));

fn by_key(table: &'static ByKey, api_key: i16) -> Option<&'static Vec<Message>> {
    table.get(usize::try_from(api_key).ok()?)
}

fn find(table: &'static ByKey, api_key: i16, version: i16) -> Option<&'static Message> {
    by_key(table, api_key)?.iter().find(|message| (message.version_min..=message.version_max).contains(&version))
}

/// Parses our own text. It is a part of the program, so a fault in it is a bug and ends in a panic.
fn parse(text: &'static str) -> Table {
    let mut table = Table { requests: Vec::new(), responses: Vec::new() };
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let message = parse_message(line);
        let by_key = match message.direction {
            Direction::Request => &mut table.requests,
            Direction::Response => &mut table.responses,
        };
        let index = message.api_key as usize;
        if by_key.len() <= index {
            by_key.resize_with(index + 1, Vec::new);
        }
        by_key[index].push(message);
    }
    table
}

fn parse_message(line: &'static str) -> Message {
    let mut words = line.splitn(6, ' ');
    let mut word = || words.next().unwrap_or_default();
    let (api_key, name, direction, versions, header, fields) = (word(), word(), word(), word(), word(), word());
    let direction = match direction {
        "request" => Direction::Request,
        "response" => Direction::Response,
        other => panic!("schemas.txt: direction {other:?} in {line:?}"),
    };
    let number = |text: &str| -> i16 {
        let Ok(number) = text.parse() else { panic!("schemas.txt: number {text:?} in {line:?}") };
        number
    };
    let (version_min, version_max) = versions.split_once('-').unwrap_or((versions, versions));
    let mut parser = Parser { rest: fields, line };
    let body = parser.fields();
    assert!(parser.rest.is_empty(), "schemas.txt: {:?} is left over in {line:?}", parser.rest);
    Message {
        api_key: number(api_key),
        name,
        direction,
        version_min: number(version_min),
        version_max: number(version_max),
        header_version: number(header),
        body,
    }
}

struct Parser {
    rest: &'static str,
    line: &'static str,
}

impl Parser {
    fn accept(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else { return false };
        self.rest = rest;
        true
    }

    fn expect(&mut self, token: &str) {
        assert!(self.accept(token), "schemas.txt: {token:?} expected before {:?} in {:?}", self.rest, self.line);
    }

    /// A name or a number: everything up to the next sign of the notation.
    fn word(&mut self) -> &'static str {
        let end = self.rest.find([':', '=', ' ', '?', ')', ']', '}']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn field(&mut self) -> Field {
        let name = self.word();
        self.expect(":");
        Field { name, kind: self.kind() }
    }

    /// Fields up to the closing bracket or the end of the line.
    fn fields(&mut self) -> Struct {
        let mut fields = Vec::new();
        let mut tagged = None;
        while !self.rest.is_empty() && !self.rest.starts_with(')') {
            if self.accept("{") {
                tagged = Some(self.tagged());
            } else {
                fields.push(self.field());
            }
            self.accept(" ");
        }
        let of_fields: usize = fields.iter().map(|field: &Field| field.kind.bytes_min()).sum();
        let fixed = tagged.is_none() && fields.iter().all(|field| field.kind.is_fixed());
        let bytes_min = of_fields + usize::from(tagged.is_some());
        Struct { fields, tagged, bytes_min, fixed }
    }

    fn tagged(&mut self) -> Vec<(u32, Field)> {
        let mut tagged = Vec::new();
        while !self.accept("}") {
            let word = self.word();
            let Ok(tag) = word.parse() else { panic!("schemas.txt: tag {word:?} in {:?}", self.line) };
            self.expect("=");
            tagged.push((tag, self.field()));
            self.accept(" ");
        }
        tagged
    }

    fn kind(&mut self) -> Kind {
        let compact = self.accept("~");
        if self.accept("[") {
            let element = Box::new(self.kind());
            self.expect("]");
            assert!(element.bytes_min() > 0, "schemas.txt: array of nothing in {:?}", self.line);
            return Kind::Array { compact, nullable: self.accept("?"), element };
        }
        if self.accept("(") {
            let shape = self.fields();
            self.expect(")");
            return Kind::Struct { nullable: self.accept("?"), shape };
        }
        let scalar = match self.word() {
            "str" => return Kind::String { compact, nullable: self.accept("?") },
            "bytes" => return Kind::Bytes { compact, nullable: self.accept("?"), records: false },
            "records" => return Kind::Bytes { compact, nullable: self.accept("?"), records: true },
            "bool" => Scalar::Bool,
            "i8" => Scalar::I8,
            "i16" => Scalar::I16,
            "u16" => Scalar::U16,
            "i32" => Scalar::I32,
            "u32" => Scalar::U32,
            "i64" => Scalar::I64,
            "f64" => Scalar::F64,
            "uuid" => Scalar::Uuid,
            other => panic!("schemas.txt: type {other:?} in {:?}", self.line),
        };
        Kind::Scalar(scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let metadata = request(3, 9).unwrap();
        assert_eq!((metadata.name, metadata.header_version), ("Metadata", 2));
        let Kind::Array { compact: true, nullable: true, element } = &metadata.body.fields[0].kind else { panic!() };
        assert_eq!(element.bytes_min(), 2);
        assert_eq!(api_name(18), Some("ApiVersions"));
        assert!(request(4, 0).is_none(), "LeaderAndIsr has no version in 4.x");
        assert!(request(3, 14).is_none() && request(-1, 0).is_none() && request(i16::MAX, 0).is_none());
        assert_eq!(response(18, 4).unwrap().header_version, 0, "an ApiVersions answer has the oldest header");
    }

    #[test]
    fn every_message_reads_as_one_run_of_versions_after_the_other() {
        let mut previous: Option<&Message> = None;
        for message in messages() {
            assert!(message.version_min <= message.version_max);
            let same = |other: &&Message| other.api_key == message.api_key && other.direction == message.direction;
            if let Some(previous) = previous.filter(same) {
                assert_eq!(message.version_min, previous.version_max + 1, "{} {:?}", message.name, message.direction);
            }
            previous = Some(message);
        }
        let keys = TABLE.requests.iter().filter(|versions| !versions.is_empty()).count();
        assert_eq!(keys, TABLE.responses.iter().filter(|versions| !versions.is_empty()).count());
    }
}
