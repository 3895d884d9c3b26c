//! Client quotas (KIP-546): the section of the image, its replay, the decision to alter them, and the filter that finds
//! them.
//!
//! Invariants: an entity without quotas is absent; a quota is above 0 and its key fits its entity. Sentences are
//! Kafka's (`ClientQuotaControlManager`), because the tools print them. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;

use crate::error::{ApiError, ErrorCode};
use crate::metadata::fields::{FieldReader, FieldWriter, Malformed};
use crate::metadata::image::ClusterImage;
use crate::metadata::record::MetadataRecord;

/// A part of an entity, by its name on the wire (`ClientQuotaEntity`).
pub mod part {
    pub const USER: &str = "user";
    pub const CLIENT_ID: &str = "client-id";
    pub const IP: &str = "ip";
}

/// Bytes a second that a client may produce to one broker.
pub const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
/// Bytes a second that a client may fetch from one broker.
pub const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";
/// Share of one thread's time that the requests of a client may take on one broker, in percent.
pub const REQUEST_PERCENTAGE: &str = "request_percentage";
/// Partitions a second that a client may create and delete (KIP-599).
pub const CONTROLLER_MUTATION_RATE: &str = "controller_mutation_rate";
/// Connections a second that an address may open to one broker (KIP-612).
pub const CONNECTION_CREATION_RATE: &str = "connection_creation_rate";

/// A name; `None` stands for every name without a quota of its own.
pub type QuotaName = Option<String>;

/// Whom a quota is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum QuotaEntity {
    Client(QuotaName),
    User(QuotaName),
    UserClient { user: QuotaName, client: QuotaName },
    Ip(QuotaName),
}

impl QuotaEntity {
    /// The entity made of these parts, if there is one.
    pub fn of(parts: &BTreeMap<String, QuotaName>) -> Result<QuotaEntity, ApiError> {
        let (mut user, mut client, mut ip) = (None, None, None);
        for (kind, name) in parts {
            let place = match kind.as_str() {
                part::USER => &mut user,
                part::CLIENT_ID => &mut client,
                part::IP => &mut ip,
                _ => return Err(invalid(format!("Unhandled client quota entity type: {kind}"))),
            };
            if name.as_ref().is_some_and(String::is_empty) {
                return Err(invalid(format!("Empty {kind} not supported")));
            }
            *place = Some(name.clone());
        }
        match (user, client, ip) {
            (None, None, None) => Err(invalid("Invalid empty client quota entity".into())),
            (None, None, Some(ip)) => Ok(QuotaEntity::Ip(ip)),
            (_, _, Some(_)) => {
                let why = "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId";
                Err(invalid(why.into()))
            }
            (Some(user), None, None) => Ok(QuotaEntity::User(user)),
            (None, Some(client), None) => Ok(QuotaEntity::Client(client)),
            (Some(user), Some(client), None) => Ok(QuotaEntity::UserClient { user, client }),
        }
    }

    /// The parts it is made of.
    pub fn parts(&self) -> Vec<(&'static str, Option<&str>)> {
        match self {
            QuotaEntity::Client(client) => vec![(part::CLIENT_ID, client.as_deref())],
            QuotaEntity::User(user) => vec![(part::USER, user.as_deref())],
            QuotaEntity::UserClient { user, client } => {
                vec![(part::CLIENT_ID, client.as_deref()), (part::USER, user.as_deref())]
            }
            QuotaEntity::Ip(ip) => vec![(part::IP, ip.as_deref())],
        }
    }
}

/// The first byte of an entity.
mod entity_kind {
    pub const CLIENT: u8 = 0;
    pub const USER: u8 = 1;
    pub const USER_CLIENT: u8 = 2;
    pub const IP: u8 = 3;
}

impl QuotaEntity {
    pub(super) fn encode(&self, out: &mut FieldWriter) {
        let (kind, names) = match self {
            QuotaEntity::Client(client) => (entity_kind::CLIENT, vec![client]),
            QuotaEntity::User(user) => (entity_kind::USER, vec![user]),
            QuotaEntity::UserClient { user, client } => (entity_kind::USER_CLIENT, vec![user, client]),
            QuotaEntity::Ip(ip) => (entity_kind::IP, vec![ip]),
        };
        out.u8(kind);
        for name in names {
            out.optional(name.as_deref(), FieldWriter::str);
        }
    }

    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<QuotaEntity, Malformed> {
        let kind = body.u8()?;
        let mut name = || body.optional(FieldReader::string);
        Ok(match kind {
            entity_kind::CLIENT => QuotaEntity::Client(name()?),
            entity_kind::USER => QuotaEntity::User(name()?),
            entity_kind::USER_CLIENT => QuotaEntity::UserClient { user: name()?, client: name()? },
            entity_kind::IP => QuotaEntity::Ip(name()?),
            _ => return Err(Malformed("an unknown kind of quota entity")),
        })
    }
}

/// As Kafka's sentences show it.
impl fmt::Display for QuotaEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |(kind, name): (&str, Option<&str>)| format!("{kind}={}", name.unwrap_or("null"));
        let parts: Vec<String> = self.parts().into_iter().map(part).collect();
        write!(f, "ClientQuotaEntity(entries={{{}}})", parts.join(", "))
    }
}

/// A quota's value; equal if it has the same bits.
#[derive(Clone, Copy, Debug)]
pub struct QuotaValue(pub f64);

impl PartialEq for QuotaValue {
    fn eq(&self, other: &QuotaValue) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for QuotaValue {}

/// The quotas of one entity, by key.
pub type QuotaMap = BTreeMap<String, QuotaValue>;

/// Every client quota of the cluster.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct ClientQuotas {
    entities: OrdMap<QuotaEntity, Arc<QuotaMap>>,
}

impl ClientQuotas {
    /// Every entity that has quotas, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&QuotaEntity, &QuotaMap)> {
        self.entities.iter().map(|(entity, quotas)| (entity, &**quotas))
    }

    /// One quota of one entity.
    pub fn value(&self, entity: &QuotaEntity, key: &str) -> Option<QuotaValue> {
        self.entities.get(entity)?.get(key).copied()
    }

    /// True if it is the very same section: nothing changed in between.
    pub fn is_same(&self, other: &ClientQuotas) -> bool {
        self.entities.ptr_eq(&other.entities) || self == other
    }

    pub(super) fn set(&mut self, entity: &QuotaEntity, key: &str, value: Option<QuotaValue>) {
        let mut quotas = self.entities.get(entity).cloned().unwrap_or_default();
        let map = Arc::make_mut(&mut quotas);
        match value {
            Some(value) => map.insert(key.to_owned(), value),
            None => map.remove(key),
        };
        if quotas.is_empty() {
            self.entities.remove(entity);
        } else {
            self.entities.insert(entity.clone(), quotas);
        }
    }

    /// The records that build this section from nothing.
    pub(super) fn records(&self) -> impl Iterator<Item = MetadataRecord> {
        self.iter().flat_map(|(entity, quotas)| {
            quotas.iter().map(move |(key, value)| MetadataRecord::ClientQuota {
                entity: entity.clone(),
                key: key.clone(),
                value: Some(*value),
            })
        })
    }
}

/// What shall happen to the quotas of one entity; a key without a value loses its quota.
#[derive(Clone, PartialEq, Debug)]
pub struct QuotaAlteration {
    pub entity: QuotaEntity,
    pub changes: Vec<(String, Option<f64>)>,
}

/// Decides to alter the quotas of one entity: all of it, or nothing.
pub fn decide_alter_quotas(image: &ClusterImage, asked: &QuotaAlteration) -> Result<Vec<MetadataRecord>, ApiError> {
    let QuotaAlteration { entity, changes } = asked;
    let by_key: BTreeMap<&str, Option<f64>> = changes.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    if by_key.len() < changes.len() {
        return Err(duplicate(entity));
    }
    let mut records = Vec::new();
    for (key, value) in by_key {
        if let Some(value) = value {
            check_value(entity, key, value)?;
        }
        let value = value.map(QuotaValue);
        if image.client_quotas.value(entity, key) != value {
            records.push(MetadataRecord::ClientQuota { entity: entity.clone(), key: key.to_owned(), value });
        }
    }
    Ok(records)
}

/// The refusal of an entity that a request names twice, or of a key that it names twice for one entity.
pub fn duplicate(entity: &QuotaEntity) -> ApiError {
    invalid(format!("Ignoring duplicate entity {entity}"))
}

/// The largest value and the name of its type; `None` for any number (`QuotaConfig`).
fn whole_number(entity: &QuotaEntity, key: &str) -> Option<Option<(f64, &'static str)>> {
    match (entity, key) {
        (QuotaEntity::Ip(_), CONNECTION_CREATION_RATE) => Some(Some((f64::from(i32::MAX), "an INT"))),
        (QuotaEntity::Ip(_), _) => None,
        (_, PRODUCER_BYTE_RATE | CONSUMER_BYTE_RATE) => Some(Some((i64::MAX as f64, "a LONG"))),
        (_, REQUEST_PERCENTAGE | CONTROLLER_MUTATION_RATE) => Some(None),
        _ => None,
    }
}

fn check_value(entity: &QuotaEntity, key: &str, value: f64) -> Result<(), ApiError> {
    let Some(whole) = whole_number(entity, key) else {
        return Err(invalid(format!("Invalid configuration key {key}")));
    };
    // Kafka lets what is not a number pass.
    if value.is_nan() || value <= 0.0 {
        return Err(invalid(format!("Quota {key} must be greater than 0")));
    }
    match whole {
        Some((most, kind)) if value > most => {
            Err(invalid(format!("Proposed value for {key} is too large for {kind}.")))
        }
        Some(_) if (value % 1.0).abs() > 1e-6 => Err(invalid(format!("{key} cannot be a fractional value."))),
        _ => Ok(()),
    }
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

/// What a part of an entity must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QuotaMatch {
    /// This name, or the default.
    Exact(QuotaName),
    /// Any name, or the default.
    Specified,
}

/// Which entities are meant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QuotaFilter {
    /// By the name of the part; all must match.
    pub parts: BTreeMap<String, QuotaMatch>,
    /// The entity must have no other parts.
    pub strict: bool,
}

impl QuotaFilter {
    /// True if `entity` is meant.
    pub fn matches(&self, entity: &QuotaEntity) -> bool {
        let parts = entity.parts();
        let matches = |(kind, wanted): (&String, &QuotaMatch)| {
            let Some((_, name)) = parts.iter().find(|(part, _)| part == kind) else { return false };
            match wanted {
                QuotaMatch::Exact(wanted) => wanted.as_deref() == *name,
                QuotaMatch::Specified => true,
            }
        };
        (!self.strict || parts.len() == self.parts.len()) && self.parts.iter().all(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(parts: &[(&str, Option<&str>)]) -> BTreeMap<String, QuotaName> {
        parts.iter().map(|(kind, name)| ((*kind).to_owned(), name.map(str::to_owned))).collect()
    }

    #[test]
    fn entities_have_the_combinations_that_kafka_has() {
        let refusal = |given: &[(&str, Option<&str>)]| QuotaEntity::of(&parts(given)).unwrap_err().message;
        assert_eq!(refusal(&[]), "Invalid empty client quota entity");
        assert_eq!(refusal(&[("user", Some(""))]), "Empty user not supported");
        assert_eq!(refusal(&[("host", Some("a"))]), "Unhandled client quota entity type: host");
        assert!(refusal(&[("ip", None), ("user", Some("a"))]).starts_with("Invalid quota entity combination"));
        let both = QuotaEntity::of(&parts(&[("user", Some("u")), ("client-id", None)])).unwrap();
        assert_eq!(both.to_string(), "ClientQuotaEntity(entries={client-id=null, user=u})");
        let given: BTreeMap<String, QuotaName> =
            both.parts().into_iter().map(|(kind, name)| (kind.to_owned(), name.map(str::to_owned))).collect();
        assert_eq!(QuotaEntity::of(&given), Ok(both));
    }

    #[test]
    fn values_fit_their_keys() {
        let user = QuotaEntity::User(None);
        let ip = QuotaEntity::Ip(None);
        let refusal =
            |entity: &QuotaEntity, key: &str, value: f64| check_value(entity, key, value).unwrap_err().message;
        assert_eq!(refusal(&user, "nonsense", 1.0), "Invalid configuration key nonsense");
        assert_eq!(refusal(&ip, PRODUCER_BYTE_RATE, 1.0), "Invalid configuration key producer_byte_rate");
        assert_eq!(refusal(&user, CONNECTION_CREATION_RATE, 1.0), "Invalid configuration key connection_creation_rate");
        for value in [0.0, -1.0, f64::NAN] {
            assert_eq!(refusal(&user, REQUEST_PERCENTAGE, value), "Quota request_percentage must be greater than 0");
        }
        assert_eq!(refusal(&user, PRODUCER_BYTE_RATE, 1.5), "producer_byte_rate cannot be a fractional value.");
        let too_large = "Proposed value for connection_creation_rate is too large for an INT.";
        assert_eq!(refusal(&ip, CONNECTION_CREATION_RATE, 3e9), too_large);
        assert!(check_value(&user, CONTROLLER_MUTATION_RATE, 0.5).is_ok());
        assert!(check_value(&ip, CONNECTION_CREATION_RATE, 10.0).is_ok());
    }

    #[test]
    fn filters_look_at_parts_and_strict_ones_at_their_number() {
        let of = |given: &[(&str, QuotaMatch)], strict| QuotaFilter {
            parts: given.iter().map(|(kind, wanted)| ((*kind).to_owned(), wanted.clone())).collect(),
            strict,
        };
        let name = |name: &str| Some(name.to_owned());
        let user = QuotaEntity::User(name("u"));
        let pair = QuotaEntity::UserClient { user: name("u"), client: None };
        let both = |filter: &QuotaFilter| [filter.matches(&user), filter.matches(&pair)];
        assert_eq!(both(&of(&[], false)), [true, true]);
        assert_eq!(both(&of(&[], true)), [false, false]);
        assert_eq!(both(&of(&[("user", QuotaMatch::Exact(name("u")))], false)), [true, true]);
        assert_eq!(both(&of(&[("user", QuotaMatch::Exact(name("u")))], true)), [true, false]);
        assert_eq!(both(&of(&[("user", QuotaMatch::Exact(None))], false)), [false, false]);
        assert_eq!(both(&of(&[("client-id", QuotaMatch::Exact(None))], false)), [false, true]);
        assert_eq!(
            both(&of(&[("user", QuotaMatch::Specified), ("client-id", QuotaMatch::Specified)], true)),
            [false, true]
        );
        assert_eq!(both(&of(&[("ip", QuotaMatch::Specified)], false)), [false, false]);
    }
}
