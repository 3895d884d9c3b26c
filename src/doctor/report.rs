//! What a broker serves beside what Kafka 4.3 serves, as tables. Pure.

use std::collections::BTreeMap;
use std::fmt;

use super::{Features, Served};
use crate::wire::schema::{self, Direction};

/// APIs that Kafka serves on controller listeners only.
const CONTROLLER_ONLY: [i16; 12] = [52, 53, 54, 56, 58, 59, 62, 63, 67, 70, 73, 82];
/// Newest versions that Kafka 4.3 knows and does not advertise, because they are not stable.
const UNSTABLE: [(i16, i16); 1] = [(22, 6)];

const PRODUCE: i16 = 0;

/// How an API stands beside Kafka 4.3's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Same,
    /// Served in fewer versions, or in others.
    Differs,
    Missing,
    /// Kafka 4.3 does not have it, or has it only among controllers.
    Extra,
}

/// One API: versions served here, versions Kafka 4.3 serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Api {
    pub key: i16,
    pub name: &'static str,
    pub served: Option<(i16, i16)>,
    pub kafka: Option<(i16, i16)>,
    pub standing: Standing,
}

/// One behaviour that was tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    pub name: String,
    /// What was found; the error is what is not as Kafka does it.
    pub outcome: Result<String, String>,
}

/// Everything that was found out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    pub address: String,
    /// Facts about the cluster, by name.
    pub cluster: Vec<(String, String)>,
    pub features: Features,
    pub apis: Vec<Api>,
    pub checks: Vec<Check>,
}

impl Report {
    /// True if every API of Kafka 4.3 is served in all its versions and every behaviour was as expected.
    pub fn is_like_kafka(&self) -> bool {
        let apis = self.apis.iter().all(|api| matches!(api.standing, Standing::Same | Standing::Extra));
        apis && self.checks.iter().all(|check| check.outcome.is_ok())
    }
}

/// Every API that is served here or by Kafka 4.3.
pub(super) fn compare(served: &Served) -> Vec<Api> {
    let mut kafka: BTreeMap<i16, (&'static str, i16, i16)> = BTreeMap::new();
    for message in schema::messages().filter(|message| message.direction == Direction::Request) {
        let first = (message.name, message.version_min, message.version_max);
        let entry = kafka.entry(message.api_key).or_insert(first);
        (entry.1, entry.2) = (entry.1.min(message.version_min), entry.2.max(message.version_max));
    }
    for (key, unstable) in UNSTABLE {
        kafka.entry(key).and_modify(|entry| entry.2 = entry.2.min(unstable - 1));
    }
    // Kafka says so for old librdkafka's sake, and refuses these versions all the same (KAFKA-18659).
    kafka.entry(PRODUCE).and_modify(|entry| entry.1 = 0);
    let keys = kafka.keys().filter(|key| !CONTROLLER_ONLY.contains(*key)).chain(served.keys());
    let keys: std::collections::BTreeSet<i16> = keys.copied().collect();
    let api = |key: i16| {
        let known = kafka.get(&key);
        let theirs = known.filter(|_| !CONTROLLER_ONLY.contains(&key)).map(|(_, min, max)| (*min, *max));
        let ours = served.get(&key).copied();
        let standing = match (ours, theirs) {
            (_, None) => Standing::Extra,
            (None, Some(_)) => Standing::Missing,
            (Some(ours), Some(theirs)) if ours == theirs => Standing::Same,
            _ => Standing::Differs,
        };
        Api { key, name: known.map_or("?", |known| known.0), served: ours, kafka: theirs, standing }
    };
    keys.into_iter().map(api).collect()
}

fn range(versions: Option<(i16, i16)>) -> String {
    versions.map_or("-".to_owned(), |(min, max)| format!("{min}-{max}"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.address)?;
        for (name, value) in &self.cluster {
            writeln!(f, "  {name:<12} {value}")?;
        }
        writeln!(f, "\nFeatures                               supported  finalized")?;
        for (name, (min, max, level)) in &self.features {
            let level = level.map_or("-".to_owned(), |level| level.to_string());
            writeln!(f, "  {name:<36} {:<10} {level}", format!("{min}-{max}"))?;
        }
        writeln!(f, "\nAPIs                                   here       Kafka 4.3")?;
        for api in &self.apis {
            let standing = match api.standing {
                Standing::Same => "",
                Standing::Differs => "  differs",
                Standing::Missing => "  missing",
                Standing::Extra => "  extra",
            };
            let (served, kafka) = (range(api.served), range(api.kafka));
            writeln!(f, "  {:>3} {:<32} {served:<10} {kafka:<9}{standing}", api.key, api.name)?;
        }
        writeln!(f, "\nBehaviours")?;
        for check in &self.checks {
            match &check.outcome {
                Ok(found) => writeln!(f, "  ok      {}: {found}", check.name)?,
                Err(found) => writeln!(f, "  differs {}: {found}", check.name)?,
            }
        }
        let count = |standing| self.apis.iter().filter(|api| api.standing == standing).count();
        let failed = self.checks.iter().filter(|check| check.outcome.is_err()).count();
        writeln!(
            f,
            "\n{} APIs as in Kafka 4.3, {} in other versions, {} missing, {} extra; {} of {} behaviours differ",
            count(Standing::Same),
            count(Standing::Differs),
            count(Standing::Missing),
            count(Standing::Extra),
            failed,
            self.checks.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standing() {
        let served = Served::from([(0, (0, 13)), (1, (4, 17)), (52, (0, 1)), (9999, (0, 0))]);
        let apis = compare(&served);
        let standing = |key| apis.iter().find(|api| api.key == key).map(|api| api.standing);
        assert_eq!(standing(0), Some(Standing::Same));
        assert_eq!(standing(1), Some(Standing::Differs));
        assert_eq!(standing(3), Some(Standing::Missing));
        assert_eq!((standing(52), standing(9999)), (Some(Standing::Extra), Some(Standing::Extra)));
        assert_eq!(standing(53), None);
    }
}
