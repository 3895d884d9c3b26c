//! Reads the metrics of a push: the part of OpenTelemetry's `MetricsData` (metrics/v1, 1.3) that clients of Kafka send.
//!
//! Gauges, sums and histograms are read; exponential histograms and summaries are skipped. Invariants: a length is
//! compared with what is left before it is used; messages nest to a fixed depth; at most [`POINTS_MAX`] points with
//! [`LABELS_MAX`] labels each are kept. Pure.

/// Points read of one push; the rest is not looked at.
const POINTS_MAX: usize = 10_000;
/// Labels kept of one point.
const LABELS_MAX: usize = 16;
/// Bytes kept of a name or a label.
const TEXT_BYTES_MAX: usize = 256;
/// Buckets kept of one histogram.
const BUCKETS_MAX: usize = 64;

/// What a number is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Nature {
    Gauge,
    /// A total; `delta` if it counts from the last push on.
    Sum {
        delta: bool,
        monotonic: bool,
    },
}

/// One number.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Point {
    pub name: String,
    pub nature: Nature,
    /// In the order they came.
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

/// Every point of a push; `None` if it is no message of this kind.
pub(super) fn read(data: &[u8]) -> Option<Vec<Point>> {
    let mut points = Vec::new();
    for resource in fields(data, 1) {
        for scope in fields(resource?, 2) {
            for metric in fields(scope?, 2) {
                read_metric(metric?, &mut points)?;
            }
        }
    }
    Some(points)
}

fn read_metric(metric: &[u8], points: &mut Vec<Point>) -> Option<()> {
    let name = text(last(metric, 1)?.unwrap_or_default())?;
    for (field, histogram) in [(5, false), (7, false), (9, true)] {
        let Some(data) = last(metric, field)? else { continue };
        let delta = number(data, 2)? == 1;
        let monotonic = number(data, 3)? != 0 || histogram;
        let nature = if field == 5 { Nature::Gauge } else { Nature::Sum { delta, monotonic } };
        for point in fields(data, 1) {
            let place = Place { name: &name, nature, points: &mut *points };
            if histogram { place.read_histogram(point?)? } else { place.read_number(point?)? }
        }
    }
    Some(())
}

/// Where the points of one metric go.
struct Place<'a> {
    name: &'a str,
    nature: Nature,
    points: &'a mut Vec<Point>,
}

impl Place<'_> {
    fn read_number(mut self, point: &[u8]) -> Option<()> {
        let mut value = None;
        let mut rest = point;
        while let Some((field, found)) = next(&mut rest)? {
            match (field, found) {
                (4, Value::Eight(bits)) => value = Some(f64::from_bits(bits)),
                (6, Value::Eight(bits)) => value = Some(bits as i64 as f64),
                _ => {}
            }
        }
        let labels = labels(point, 7)?;
        if let Some(value) = value {
            self.push("", labels, value);
        }
        Some(())
    }

    /// A histogram is its count, its sum, and the counts up to each bound.
    fn read_histogram(mut self, point: &[u8]) -> Option<()> {
        let labels = labels(point, 9)?;
        let (mut count, mut sum) = (0, None);
        let (mut counts, mut bounds) = (Vec::new(), Vec::new());
        let mut rest = point;
        while let Some((field, found)) = next(&mut rest)? {
            match (field, found) {
                (4, Value::Eight(bits)) => count = bits,
                (5, Value::Eight(bits)) => sum = Some(f64::from_bits(bits)),
                (6, found) => eights(found, &mut counts)?,
                (7, found) => eights(found, &mut bounds)?,
                _ => {}
            }
        }
        if let Some(sum) = sum {
            self.push("_sum", labels.clone(), sum);
        }
        let mut below = 0u64;
        for (bucket, bound) in counts.iter().zip(&bounds) {
            below = below.saturating_add(*bucket);
            let mut labels = labels.clone();
            labels.push(("le".to_owned(), f64::from_bits(*bound).to_string()));
            self.push("_bucket", labels, below as f64);
        }
        if !bounds.is_empty() {
            let mut labels = labels.clone();
            labels.push(("le".to_owned(), "+Inf".to_owned()));
            self.push("_bucket", labels, count as f64);
        }
        self.push("_count", labels, count as f64);
        Some(())
    }

    fn push(&mut self, ending: &str, labels: Vec<(String, String)>, value: f64) {
        if self.points.len() < POINTS_MAX {
            self.points.push(Point { name: format!("{}{ending}", self.name), nature: self.nature, labels, value });
        }
    }
}

/// The attributes of a point.
fn labels(point: &[u8], field: u64) -> Option<Vec<(String, String)>> {
    let mut labels = Vec::new();
    for pair in fields(point, field) {
        let pair = pair?;
        let key = text(last(pair, 1)?.unwrap_or_default())?;
        let value = any_value(last(pair, 2)?.unwrap_or_default())?;
        if labels.len() < LABELS_MAX {
            labels.push((key, value));
        }
    }
    Some(labels)
}

fn any_value(value: &[u8]) -> Option<String> {
    let mut shown = String::new();
    let mut rest = value;
    while let Some((field, found)) = next(&mut rest)? {
        shown = match (field, found) {
            (1, Value::Bytes(bytes)) => text(bytes)?,
            (2, Value::Number(flag)) => (flag != 0).to_string(),
            (3, Value::Number(number)) => (number as i64).to_string(),
            (4, Value::Eight(bits)) => f64::from_bits(bits).to_string(),
            _ => shown,
        };
    }
    Some(shown)
}

/// Text must be UTF-8; what is too long is cut.
fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned())
}

/// A value as it stands in the message.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Eight(u64),
    Bytes(&'a [u8]),
    Four,
}

/// The next field; the inner `None` is the end, the outer one means that this is no message.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Option<(u64, Value<'a>)>> {
    if rest.is_empty() {
        return Some(None);
    }
    let tag = varint(rest)?;
    let field = tag >> 3;
    let value = match tag & 7 {
        0 => Value::Number(varint(rest)?),
        1 => Value::Eight(u64::from_le_bytes(take(rest, 8)?.try_into().ok()?)),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Value::Bytes(take(rest, length)?)
        }
        5 => {
            take(rest, 4)?;
            Value::Four
        }
        _ => return None,
    };
    if field == 0 { None } else { Some(Some((field, value))) }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The messages in a repeated field; a `None` among them means that this is no message.
fn fields(mut rest: &[u8], wanted: u64) -> impl Iterator<Item = Option<&[u8]>> {
    let mut broken = false;
    std::iter::from_fn(move || {
        while !broken {
            match next(&mut rest) {
                Some(Some((field, Value::Bytes(bytes)))) if field == wanted => return Some(Some(bytes)),
                Some(Some(_)) => {}
                Some(None) => return None,
                None => {
                    broken = true;
                    return Some(None);
                }
            }
        }
        None
    })
}

/// The last value of a field of bytes; the outer `None` means that this is no message.
fn last(message: &[u8], wanted: u64) -> Option<Option<&[u8]>> {
    let mut found = None;
    for value in fields(message, wanted) {
        found = Some(value?);
    }
    Some(found)
}

/// The last value of a number, 0 if it is not there.
fn number(message: &[u8], wanted: u64) -> Option<u64> {
    let (mut rest, mut last) = (message, 0);
    while let Some((field, value)) = next(&mut rest)? {
        if let (true, Value::Number(number)) = (field == wanted, value) {
            last = number;
        }
    }
    Some(last)
}

/// Adds one value of eight bytes, or many that are packed.
fn eights(found: Value<'_>, into: &mut Vec<u64>) -> Option<()> {
    match found {
        Value::Eight(bits) => into.push(bits),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() && into.len() < BUCKETS_MAX {
                into.push(u64::from_le_bytes(take(&mut packed, 8)?.try_into().ok()?));
            }
        }
        Value::Number(_) | Value::Four => return None,
    }
    into.truncate(BUCKETS_MAX);
    Some(())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put_varint(mut value: u64, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn message(field: u64, inner: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(field << 3 | 2, &mut out);
        put_varint(inner.len() as u64, &mut out);
        out.extend_from_slice(inner);
        out
    }

    fn eight(field: u64, bits: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(field << 3 | 1, &mut out);
        out.extend_from_slice(&bits.to_le_bytes());
        out
    }

    fn flag(field: u64, value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(field << 3, &mut out);
        put_varint(value, &mut out);
        out
    }

    fn label(field: u64, key: &str, value: &str) -> Vec<u8> {
        message(field, &[message(1, key.as_bytes()), message(2, &message(1, value.as_bytes()))].concat())
    }

    fn push(metrics: &[Vec<u8>]) -> Vec<u8> {
        let metrics: Vec<u8> = metrics.iter().flat_map(|metric| message(2, metric)).collect();
        message(1, &message(2, &metrics))
    }

    /// A push with one delta sum of 5 and one gauge of 1.5.
    pub(crate) fn sample() -> Vec<u8> {
        let point = [label(7, "node", "1"), eight(6, 5)].concat();
        let sum = [
            message(1, b"org.apache.kafka.a.total"),
            message(7, &[message(1, &point), flag(2, 1), flag(3, 1)].concat()),
        ];
        let gauge = [message(1, b"org.apache.kafka.b"), message(5, &message(1, &eight(4, 1.5f64.to_bits())))];
        push(&[sum.concat(), gauge.concat()])
    }

    #[test]
    fn sums_and_gauges() {
        let points = read(&sample()).unwrap();
        let labels = vec![("node".to_owned(), "1".to_owned())];
        let sum = Nature::Sum { delta: true, monotonic: true };
        let expected = [
            Point { name: "org.apache.kafka.a.total".into(), nature: sum, labels, value: 5.0 },
            Point { name: "org.apache.kafka.b".into(), nature: Nature::Gauge, labels: vec![], value: 1.5 },
        ];
        assert_eq!(points, expected);
    }

    #[test]
    fn histograms_become_totals() {
        let counts: Vec<u8> = [1u64, 2, 3].iter().flat_map(|count| count.to_le_bytes()).collect();
        let bounds: Vec<u8> = [0.5f64, 2.0].iter().flat_map(|bound| bound.to_le_bytes()).collect();
        let point = [eight(4, 6), eight(5, 9.5f64.to_bits()), message(6, &counts), message(7, &bounds)].concat();
        let metric = [message(1, b"h"), message(9, &[message(1, &point), flag(2, 2)].concat())].concat();
        let points = read(&push(&[metric])).unwrap();
        let shown: Vec<String> = points
            .iter()
            .map(|point| {
                let le: String = point.labels.iter().map(|(_, value)| format!("<={value}")).collect();
                format!("{}{le} {}", point.name, point.value)
            })
            .collect();
        assert_eq!(shown, ["h_sum 9.5", "h_bucket<=0.5 1", "h_bucket<=2 3", "h_bucket<=+Inf 6", "h_count 6"]);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(read(&[]), Some(vec![]));
        for broken in [&[0x0a, 0xff][..], &[0x0a, 5, 1], &[0x0b], &[0x00, 0x00], &[0x80; 12]] {
            assert_eq!(read(broken), None, "{broken:?}");
        }
        let mut cut = sample();
        cut.truncate(cut.len() - 1);
        assert_eq!(read(&cut), None);
        let unknown = [push(&[]), flag(99, 1), eight(98, 0)].concat();
        assert_eq!(read(&unknown), Some(vec![]), "fields of a later version are skipped");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let point = message(1, &[label(7, "k", "v").repeat(40), eight(6, 1)].concat());
        let many: Vec<u8> = std::iter::repeat_n(point, POINTS_MAX + 5).flatten().collect();
        let points = read(&push(&[[message(1, "n".repeat(999).as_bytes()), message(5, &many)].concat()])).unwrap();
        assert_eq!(
            (points.len(), points[0].labels.len(), points[0].name.len()),
            (POINTS_MAX, LABELS_MAX, TEXT_BYTES_MAX)
        );
    }

    proptest! {
        #[test]
        fn reading_never_panics(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut spoiled = sample();
            for (place, byte) in edits {
                let place = place.index(spoiled.len());
                spoiled[place] = byte;
            }
            let _ = read(&spoiled);
            let _ = read(&noise);
        }
    }
}
