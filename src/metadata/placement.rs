//! Where the replicas of new partitions go.
//!
//! The brokers stand in a ring in which neighbours are of different racks as far as possible. Leaders walk the ring;
//! followers are the next brokers on it, first those of racks that the partition has the fewest replicas in, and each
//! time every broker has led once the followers start one place further on, so that the partitions of one leader have
//! different followers and brokers in racks of one size the same number of replicas. Brokers that are leaving, and
//! those that take no partitions, are passed over; fenced ones come last.
//! Invariants: the same arguments give the same answer; no broker twice in a partition; no fenced leader. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::ids::{BrokerId, PartitionIndex};
use crate::metadata::brokers::{Broker, Brokers};

/// Chooses `factor` replicas for each of `partitions`, preferred leader first. The error is Kafka's sentence
/// (`StripedReplicaPlacer`).
pub fn place(
    brokers: &Brokers,
    partitions: Range<PartitionIndex>,
    factor: i16,
    seed: u64,
) -> Result<Vec<Vec<BrokerId>>, String> {
    let usable = brokers.iter().filter(|broker| broker.takes_partitions() && is_staying(broker));
    let (unfenced, fenced): (Vec<&Broker>, Vec<&Broker>) =
        usable.map(|broker| &**broker).partition(|broker| !broker.fenced);
    let wanted = usize::try_from(factor).unwrap_or(0);
    if wanted == 0 {
        return Err(format!("Invalid replication factor {factor}: the replication factor must be positive."));
    }
    if unfenced.is_empty() {
        return Err("All brokers are currently fenced, or have all their log directories cordoned.".into());
    }
    let registered = unfenced.len() + fenced.len();
    if wanted > registered {
        return Err(format!(
            "The target replication factor of {factor} cannot be reached because only {registered} broker(s) are \
             registered or some brokers have all their log directories cordoned."
        ));
    }
    let leaders = ring(&unfenced);
    let spare = ring(&fenced);
    let start = (seed % leaders.len() as u64) as usize;
    Ok(partitions.map(|index| one(&leaders, &spare, start, index as usize, wanted)).collect())
}

/// False for a broker in controlled shutdown. Once it is fenced nobody knows whether it is still on its way out.
fn is_staying(broker: &Broker) -> bool {
    broker.fenced || broker.shutting_down.is_none()
}

/// The brokers in an order that takes one of each rack in turn.
fn ring<'a>(brokers: &[&'a Broker]) -> Vec<&'a Broker> {
    let mut racks: BTreeMap<Option<&str>, Vec<&Broker>> = BTreeMap::new();
    for broker in brokers {
        racks.entry(broker.rack.as_deref()).or_default().push(broker);
    }
    let deepest = racks.values().map(Vec::len).max().unwrap_or(0);
    (0..deepest).flat_map(|row| racks.values().filter_map(move |rack| rack.get(row).copied())).collect()
}

/// The replicas of a topic's partition `index`, whose first is led by the broker at `start` on the ring.
fn one(leaders: &[&Broker], spare: &[&Broker], start: usize, index: usize, wanted: usize) -> Vec<BrokerId> {
    let leader_at = (start + index) % leaders.len();
    let others = leaders.len() - 1;
    let round = index / leaders.len();
    let followers = (0..others).map(|step| {
        let shifted = (step + round) % others;
        leaders[(leader_at + 1 + shifted) % leaders.len()]
    });
    let mut chosen = vec![leaders[leader_at]];
    take_evenly(&mut chosen, followers.collect(), wanted);
    take_evenly(&mut chosen, spare.to_vec(), wanted);
    chosen.iter().map(|broker| broker.id).collect()
}

/// Takes `candidates` until `wanted` are chosen: always the first of the racks that have been chosen from the least.
fn take_evenly<'a>(chosen: &mut Vec<&'a Broker>, mut candidates: Vec<&'a Broker>, wanted: usize) {
    while chosen.len() < wanted && !candidates.is_empty() {
        let in_rack = |candidate: &Broker| chosen.iter().filter(|broker| broker.rack == candidate.rack).count();
        let least = (0..candidates.len()).min_by_key(|at| in_rack(candidates[*at])).unwrap_or(0);
        chosen.push(candidates.remove(least));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn cluster(rows: &[(i32, &str, bool)]) -> Brokers {
        let mut brokers = Brokers::default();
        for (id, rack, fenced) in rows {
            let rack = (!rack.is_empty()).then(|| (*rack).to_owned());
            brokers.register(Broker { rack, fenced: *fenced, ..Broker::plain(*id) });
        }
        brokers
    }

    fn ids(rows: &[&[i32]]) -> Vec<Vec<BrokerId>> {
        rows.iter().map(|row| row.iter().map(|id| BrokerId(*id)).collect()).collect()
    }

    #[test]
    fn leaders_take_turns_and_followers_move_on() {
        let brokers = cluster(&[(1, "", false), (2, "", false), (3, "", false)]);
        let placed = place(&brokers, 0..6, 2, 0).unwrap();
        assert_eq!(placed, ids(&[&[1, 2], &[2, 3], &[3, 1], &[1, 3], &[2, 1], &[3, 2]]));
        assert_eq!(place(&brokers, 0..1, 2, 1).unwrap(), ids(&[&[2, 3]]), "the seed chooses who is first");
        assert_eq!(place(&brokers, 4..6, 2, 0).unwrap(), placed[4..], "growing goes on where creating stopped");
    }

    #[test]
    fn replicas_spread_over_racks() {
        let brokers = cluster(&[
            (1, "a", false),
            (2, "a", false),
            (3, "b", false),
            (4, "b", false),
            (5, "c", false),
            (6, "c", false),
        ]);
        let rack_of = |id: &BrokerId| brokers.by_id(*id).unwrap().rack.clone();
        for replicas in place(&brokers, 0..60, 3, 17).unwrap() {
            assert_eq!(replicas.iter().map(rack_of).collect::<BTreeSet<_>>().len(), 3, "{replicas:?}");
        }
        let led =
            place(&brokers, 0..60, 3, 5).unwrap().into_iter().filter(|replicas| replicas[0] == BrokerId(4)).count();
        assert_eq!(led, 10);
    }

    #[test]
    fn racks_of_one_size_share_evenly_whoever_is_first() {
        let brokers = cluster(&[(0, "a", false), (1, "a", false), (2, "b", false), (3, "b", false)]);
        for seed in 0..8 {
            let placed = place(&brokers, 0..8, 2, seed).unwrap();
            for id in (0..4).map(BrokerId) {
                assert_eq!(placed.iter().flatten().filter(|replica| **replica == id).count(), 4, "{seed}: {placed:?}");
            }
        }
    }

    #[test]
    fn the_fenced_follow_only_if_needed() {
        let brokers = cluster(&[(1, "", false), (2, "", true), (3, "", false)]);
        for replicas in place(&brokers, 0..10, 2, 3).unwrap() {
            assert!(!replicas.contains(&BrokerId(2)));
        }
        for replicas in place(&brokers, 0..10, 3, 3).unwrap() {
            assert_eq!(replicas[2], BrokerId(2));
        }
    }

    #[test]
    fn more_replicas_than_racks_are_spread_evenly() {
        let rows = [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "b"), (6, "b")];
        let brokers = cluster(&rows.map(|(id, rack)| (id, rack, false)));
        for replicas in place(&brokers, 0..60, 4, 3).unwrap() {
            let in_a = replicas.iter().filter(|id| id.0 <= 3).count();
            assert_eq!((in_a, replicas.iter().collect::<BTreeSet<_>>().len()), (2, 4), "{replicas:?}");
        }
    }

    #[test]
    fn who_leaves_or_takes_nothing_is_passed_over() {
        let mut brokers = cluster(&[(1, "", false)]);
        brokers.register(Broker { shutting_down: Some(7), ..Broker::plain(2) });
        let dir = || vec![crate::ids::KafkaUuid(1000)];
        brokers.register(Broker { log_dirs: dir(), cordoned_dirs: dir(), ..Broker::plain(3) });
        assert_eq!(place(&brokers, 0..2, 1, 1).unwrap(), ids(&[&[1], &[1]]));
        assert!(place(&brokers, 0..1, 2, 1).is_err());
    }

    #[test]
    fn refusals_are_kafkas() {
        let one = cluster(&[(1, "", false)]);
        let too_many = "The target replication factor of 3 cannot be reached because only 1 broker(s) are registered \
                        or some brokers have all their log directories cordoned.";
        assert_eq!(place(&one, 0..1, 3, 0), Err(too_many.into()));
        let fenced = cluster(&[(1, "", true)]);
        let nobody = "All brokers are currently fenced, or have all their log directories cordoned.";
        assert_eq!(place(&fenced, 0..1, 1, 0), Err(nobody.into()));
        assert!(place(&one, 0..1, 0, 0).is_err());
    }
}
