//! The bytes the quorum keeps on disk. They are ours, so that an upgrade of the library rewrites no disk.
//!
//! | key | value |
//! |---|---|
//! | `b` | the first records of a cluster's life, if the directory was formatted with some |
//! | `c` | the id of the last entry known to be committed: may lag behind |
//! | `e` + index `u64` | one log entry |
//! | `i` | the first voters of a dynamic quorum, if the directory was formatted with them |
//! | `k` + node, directory | nothing: that voter has promised something to this node |
//! | `p` | the id of the last purged entry |
//! | `s` | the snapshot: the id of its last entry, the membership, the image |
//! | `v` | the vote |
//!
//! Invariant: every value starts with a version byte; an unknown version is refused. Pure.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;

use crate::ids::{KafkaUuid, WallMillis};
use crate::metadata::fields::{FieldReader, FieldWriter, Malformed};
use crate::metadata::image::ImageIndex;
use crate::metadata::quorum::types::{
    EncodedRound, Entry, LogId, Member, MemberEndpoint, Membership, SnapshotMeta, StoredMembership, Vote, VoterId,
};
use crate::metadata::record::{MetadataRecord, RECORD_BYTES_MIN};
use crate::peer::Address;

pub const BOOTSTRAP_KEY: &[u8] = b"b";
pub const COMMITTED_KEY: &[u8] = b"c";
pub const FIRST_VOTERS_KEY: &[u8] = b"i";
pub const PURGED_KEY: &[u8] = b"p";
pub const SNAPSHOT_KEY: &[u8] = b"s";
pub const VOTE_KEY: &[u8] = b"v";

/// The keys of all entries lie in `ENTRY_KEYS.0 ≤ key < ENTRY_KEYS.1`.
pub const ENTRY_KEYS: (&[u8], &[u8]) = (b"e", b"f");

/// The keys of all voters that were heard of lie between these, as those of entries do.
pub const HEARD_OF_KEYS: (&[u8], &[u8]) = (b"k", b"l");

/// A value that says all by being there.
pub const EMPTY_VALUE: &[u8] = &[VERSION];

const VERSION: u8 = 0;

/// A snapshot whose members have endpoints; version 0 knew only who they are.
const SNAPSHOT_VERSION: u8 = 1;

mod kind {
    pub const BLANK: u8 = 0;
    pub const ROUND: u8 = 1;
    /// Of members without endpoints: as it was written before there were any.
    pub const BARE_MEMBERSHIP: u8 = 2;
    pub const MEMBERSHIP: u8 = 3;
}

/// The key of the entry at `index`.
pub fn entry_key(index: u64) -> Vec<u8> {
    let mut key = ENTRY_KEYS.0.to_vec();
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// The key of a voter that was heard of.
pub fn heard_of_key(id: &VoterId) -> Vec<u8> {
    let mut key = FieldWriter::new();
    key.rest(HEARD_OF_KEYS.0);
    put_voter(&mut key, id);
    key.into_bytes()
}

/// The voter that such a key names.
pub fn heard_of(key: &[u8]) -> Result<VoterId, Malformed> {
    let mut fields = FieldReader::new(key.strip_prefix(HEARD_OF_KEYS.0).unwrap_or_default());
    let id = voter(&mut fields)?;
    ended(&fields)?;
    Ok(id)
}

/// One round of the controller, as an entry carries it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// The index of the image the records were decided from.
    pub stamp: ImageIndex,
    /// When it was proposed: for people, never for decisions.
    pub wall_ms: WallMillis,
    pub records: Vec<MetadataRecord>,
}

impl Proposal {
    pub fn encode(&self) -> EncodedRound {
        let mut out = FieldWriter::new();
        out.u8(VERSION);
        out.i32(self.stamp.controller_epoch);
        out.i64(self.stamp.next_offset);
        out.i64(self.wall_ms);
        out.list(self.records.iter(), |out, record| record.encode(out));
        EncodedRound(out.into_bytes())
    }

    pub fn decode(round: &EncodedRound) -> Result<Proposal, Malformed> {
        let mut fields = versioned(&round.0)?;
        let stamp = ImageIndex { controller_epoch: fields.i32()?, next_offset: fields.i64()? };
        let wall_ms = fields.i64()?;
        let records = fields.list(RECORD_BYTES_MIN, MetadataRecord::decode)?;
        ended(&fields)?;
        Ok(Proposal { stamp, wall_ms, records })
    }
}

pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut out = FieldWriter::new();
    out.u8(VERSION);
    put_log_id(&mut out, &entry.log_id);
    match &entry.payload {
        EntryPayload::Blank => out.u8(kind::BLANK),
        EntryPayload::Normal(round) => {
            out.u8(kind::ROUND);
            out.rest(&round.0);
        }
        EntryPayload::Membership(membership) => {
            out.u8(kind::MEMBERSHIP);
            put_membership(&mut out, membership);
        }
    }
    out.into_bytes()
}

pub fn decode_entry(bytes: &[u8]) -> Result<Entry, Malformed> {
    let mut fields = versioned(bytes)?;
    let log_id = log_id(&mut fields)?;
    let payload = match fields.u8()? {
        kind::BLANK => EntryPayload::Blank,
        kind::ROUND => EntryPayload::Normal(EncodedRound(fields.rest().to_vec())),
        kind::BARE_MEMBERSHIP => EntryPayload::Membership(membership(&mut fields, bare_member)?),
        kind::MEMBERSHIP => EntryPayload::Membership(membership(&mut fields, voter_and_member)?),
        _ => return Err(Malformed("an unknown kind of log entry")),
    };
    ended(&fields)?;
    Ok(Entry { log_id, payload })
}

pub fn encode_vote(vote: &Vote) -> Vec<u8> {
    let mut out = FieldWriter::new();
    out.u8(VERSION);
    put_leader(&mut out, &vote.leader_id);
    out.bool(vote.committed);
    out.into_bytes()
}

pub fn decode_vote(bytes: &[u8]) -> Result<Vote, Malformed> {
    let mut fields = versioned(bytes)?;
    let vote = Vote { leader_id: leader(&mut fields)?, committed: fields.bool()? };
    ended(&fields)?;
    Ok(vote)
}

pub fn encode_log_id(id: &LogId) -> Vec<u8> {
    let mut out = FieldWriter::new();
    out.u8(VERSION);
    put_log_id(&mut out, id);
    out.into_bytes()
}

pub fn decode_log_id(bytes: &[u8]) -> Result<LogId, Malformed> {
    let mut fields = versioned(bytes)?;
    let id = log_id(&mut fields)?;
    ended(&fields)?;
    Ok(id)
}

pub fn encode_snapshot(meta: &SnapshotMeta, image: &[u8]) -> Vec<u8> {
    let mut out = FieldWriter::new();
    out.u8(SNAPSHOT_VERSION);
    put_snapshot_meta(&mut out, meta);
    out.rest(image);
    out.into_bytes()
}

pub(super) fn put_snapshot_meta(out: &mut FieldWriter, meta: &SnapshotMeta) {
    out.optional(meta.last_log_id.as_ref(), put_log_id);
    out.optional(meta.last_membership.log_id().as_ref(), put_log_id);
    put_membership(out, meta.last_membership.membership());
}

pub(super) fn snapshot_meta(
    fields: &mut FieldReader<'_>,
    member: fn(&mut FieldReader<'_>) -> Result<(VoterId, Member), Malformed>,
) -> Result<SnapshotMeta, Malformed> {
    let last_log_id = fields.optional(log_id)?;
    let membership_id = fields.optional(log_id)?;
    let last_membership = StoredMembership::new(membership_id, membership(fields, member)?);
    Ok(SnapshotMeta { last_log_id, last_membership })
}

/// What the snapshot is of, and the bytes of its image.
pub fn decode_snapshot(bytes: &[u8]) -> Result<(SnapshotMeta, &[u8]), Malformed> {
    let mut fields = FieldReader::new(bytes);
    let meta = match fields.u8()? {
        VERSION => snapshot_meta(&mut fields, bare_member)?,
        SNAPSHOT_VERSION => snapshot_meta(&mut fields, voter_and_member)?,
        _ => return Err(UNKNOWN_VERSION),
    };
    Ok((meta, fields.rest()))
}

/// The voters that a dynamic quorum begins with.
pub fn encode_first_voters(voters: &BTreeMap<VoterId, Member>) -> Vec<u8> {
    let mut out = FieldWriter::new();
    out.u8(VERSION);
    put_members(&mut out, voters);
    out.into_bytes()
}

pub fn decode_first_voters(bytes: &[u8]) -> Result<BTreeMap<VoterId, Member>, Malformed> {
    let mut fields = versioned(bytes)?;
    let voters = members(&mut fields)?;
    ended(&fields)?;
    Ok(voters)
}

/// Records that a new cluster begins with, in the place of the program's own defaults.
pub fn encode_bootstrap(records: &[MetadataRecord]) -> Vec<u8> {
    let mut out = FieldWriter::new();
    out.u8(VERSION);
    out.list(records.iter(), |out, record| record.encode(out));
    out.into_bytes()
}

pub fn decode_bootstrap(bytes: &[u8]) -> Result<Vec<MetadataRecord>, Malformed> {
    let mut fields = versioned(bytes)?;
    let records = fields.list(RECORD_BYTES_MIN, MetadataRecord::decode)?;
    ended(&fields)?;
    Ok(records)
}

pub(super) fn versioned(bytes: &[u8]) -> Result<FieldReader<'_>, Malformed> {
    let mut fields = FieldReader::new(bytes);
    match fields.u8()? {
        VERSION => Ok(fields),
        _ => Err(UNKNOWN_VERSION),
    }
}

const UNKNOWN_VERSION: Malformed = Malformed("a value of an unknown version: written by a newer release");

pub(super) fn ended(fields: &FieldReader<'_>) -> Result<(), Malformed> {
    if fields.is_empty() { Ok(()) } else { Err(Malformed("bytes behind the last field")) }
}

pub(super) fn put_voter(out: &mut FieldWriter, voter: &VoterId) {
    out.i32(voter.node);
    out.uuid(KafkaUuid(voter.directory));
}

pub(super) fn voter(fields: &mut FieldReader<'_>) -> Result<VoterId, Malformed> {
    Ok(VoterId { node: fields.i32()?, directory: fields.uuid()?.0 })
}

pub(super) fn put_leader(out: &mut FieldWriter, leader: &LeaderId<u64, VoterId>) {
    out.u64(leader.term);
    put_voter(out, &leader.node_id);
}

pub(super) fn leader(fields: &mut FieldReader<'_>) -> Result<LeaderId<u64, VoterId>, Malformed> {
    Ok(LeaderId { term: fields.u64()?, node_id: voter(fields)? })
}

pub(super) fn put_log_id(out: &mut FieldWriter, id: &LogId) {
    put_leader(out, &id.leader_id);
    out.u64(id.index);
}

pub(super) fn log_id(fields: &mut FieldReader<'_>) -> Result<LogId, Malformed> {
    Ok(LogId { leader_id: leader(fields)?, index: fields.u64()? })
}

fn put_membership(out: &mut FieldWriter, membership: &Membership) {
    out.list(membership.get_joint_config().iter(), |out, config| out.list(config.iter(), put_voter));
    let members: Vec<(&VoterId, &Member)> = membership.nodes().collect();
    out.list(members.into_iter(), |out, (voter, member)| {
        put_voter(out, voter);
        put_member(out, member);
    });
}

pub(super) fn put_member(out: &mut FieldWriter, member: &Member) {
    out.list(member.endpoints.iter(), |out, MemberEndpoint { listener, address }| {
        out.str(listener);
        put_address(out, address);
    });
}

pub(super) fn put_address(out: &mut FieldWriter, address: &Address) {
    out.str(&address.host);
    out.u16(address.port);
}

pub(super) fn address(fields: &mut FieldReader<'_>) -> Result<Address, Malformed> {
    Ok(Address { host: fields.str()?.to_owned(), port: fields.u16()? })
}

const VOTER_BYTES: usize = 20;

fn membership(
    fields: &mut FieldReader<'_>,
    member: fn(&mut FieldReader<'_>) -> Result<(VoterId, Member), Malformed>,
) -> Result<Membership, Malformed> {
    let configs = fields.list(4, |fields| Ok(fields.list(VOTER_BYTES, voter)?.into_iter().collect::<BTreeSet<_>>()))?;
    let nodes: BTreeMap<_, _> = fields.list(VOTER_BYTES, member)?.into_iter().collect();
    // A node that never joined has no configuration at all, which `Membership::new` accepts too.
    Membership::new(configs, nodes).map_err(|_| Malformed("a membership whose voters are not its nodes"))
}

fn bare_member(fields: &mut FieldReader<'_>) -> Result<(VoterId, Member), Malformed> {
    Ok((voter(fields)?, Member::default()))
}

pub(super) fn voter_and_member(fields: &mut FieldReader<'_>) -> Result<(VoterId, Member), Malformed> {
    Ok((voter(fields)?, member(fields)?))
}

pub(super) fn member(fields: &mut FieldReader<'_>) -> Result<Member, Malformed> {
    const ENDPOINT_BYTES_MIN: usize = 10;
    let endpoints = fields.list(ENDPOINT_BYTES_MIN, |fields| {
        Ok(MemberEndpoint { listener: fields.str()?.to_owned(), address: address(fields)? })
    })?;
    Ok(Member { endpoints })
}

pub(super) fn members(fields: &mut FieldReader<'_>) -> Result<BTreeMap<VoterId, Member>, Malformed> {
    Ok(fields.list(VOTER_BYTES, voter_and_member)?.into_iter().collect())
}

pub(super) fn put_members(out: &mut FieldWriter, members: &BTreeMap<VoterId, Member>) {
    out.list(members.iter(), |out, (voter, member)| {
        put_voter(out, voter);
        put_member(out, member);
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample_log_id() -> LogId {
        LogId { leader_id: LeaderId { term: 3, node_id: VoterId { node: 1, directory: 0xfeed } }, index: 41 }
    }

    fn sample_membership() -> Membership {
        let voters: BTreeSet<VoterId> = [1, 2].into_iter().map(|node| VoterId { node, directory: 9 }).collect();
        let learner = VoterId { node: 3, directory: 9 };
        let address = Address { host: "kafka-3".into(), port: 9093 };
        let endpoints = vec![MemberEndpoint { listener: "CONTROLLER".into(), address }];
        let mut nodes: BTreeMap<_, _> = voters.iter().map(|id| (*id, Member::default())).collect();
        nodes.insert(learner, Member { endpoints });
        Membership::new(vec![voters.clone(), voters], nodes).unwrap()
    }

    #[test]
    fn everything_reads_back() {
        let log_id = sample_log_id();
        let round = Proposal {
            stamp: ImageIndex { controller_epoch: 4, next_offset: 17 },
            wall_ms: 1_700_000_000_000,
            records: vec![MetadataRecord::NoOp, MetadataRecord::ProducerIds { next: 1000 }],
        };
        assert_eq!(Proposal::decode(&round.encode()), Ok(round.clone()));
        let payloads =
            [EntryPayload::Blank, EntryPayload::Normal(round.encode()), EntryPayload::Membership(sample_membership())];
        for payload in payloads {
            let entry = Entry { log_id, payload };
            assert_eq!(decode_entry(&encode_entry(&entry)), Ok(entry));
        }
        let vote = Vote { leader_id: log_id.leader_id, committed: true };
        assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
        assert_eq!(decode_log_id(&encode_log_id(&log_id)), Ok(log_id));
        let last_membership = StoredMembership::new(Some(log_id), sample_membership());
        let meta = SnapshotMeta { last_log_id: Some(log_id), last_membership };
        assert_eq!(decode_snapshot(&encode_snapshot(&meta, b"image")), Ok((meta, b"image".as_slice())));
        let level = MetadataRecord::FeatureLevel { name: "metadata.version".into(), level: 29 };
        assert_eq!(decode_bootstrap(&encode_bootstrap(std::slice::from_ref(&level))), Ok(vec![level]));
        let nothing = SnapshotMeta::default();
        assert_eq!(decode_snapshot(&encode_snapshot(&nothing, b"")), Ok((nothing, b"".as_slice())));
    }

    #[test]
    fn bytes_on_disk_stay_what_they_are() {
        let id = "00 0000000000000003 00000001 0000000000000000000000000000feed 0000000000000029";
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&encode_log_id(&sample_log_id())), id.replace(' ', ""));
        let blank = Entry { log_id: sample_log_id(), payload: EntryPayload::Blank };
        assert_eq!(hex(&encode_entry(&blank)), format!("{id}00").replace(' ', ""));
        let vote = Vote { leader_id: sample_log_id().leader_id, committed: true };
        let expected = "00 0000000000000003 00000001 0000000000000000000000000000feed 01";
        assert_eq!(hex(&encode_vote(&vote)), expected.replace(' ', ""));
        let round = Proposal { stamp: ImageIndex { controller_epoch: 1, next_offset: 2 }, wall_ms: 3, records: vec![] };
        assert_eq!(hex(&round.encode().0), "0000000001000000000000000200000000000000030000 0000".replace(' ', ""));
    }

    #[test]
    fn a_membership_without_endpoints_still_reads() {
        let voter = "00000001 0000000000000000000000000000feed";
        let id = "00 0000000000000003 00000001 0000000000000000000000000000feed 0000000000000029";
        let bytes = |text: &str| -> Vec<u8> {
            let digits: String = text.split_whitespace().collect();
            (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
        };
        let membership = format!("00000001 00000001 {voter} 00000001 {voter}");
        let entry = decode_entry(&bytes(&format!("{id} 02 {membership}"))).unwrap();
        let EntryPayload::Membership(read) = entry.payload else { panic!() };
        assert_eq!(read.voter_ids().collect::<Vec<_>>(), [VoterId { node: 1, directory: 0xfeed }]);
        let (meta, image) =
            decode_snapshot(&bytes(&format!("00 00 00 {membership} 07"))).map(|(m, i)| (m, i.to_vec())).unwrap();
        assert_eq!((meta.last_membership.membership(), &image[..]), (&read, &[7][..]));
    }

    #[test]
    fn a_newer_version_is_refused() {
        let mut bytes = encode_log_id(&sample_log_id());
        bytes[0] = VERSION + 1;
        assert!(decode_log_id(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn decoders_survive_anything(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_entry(&bytes);
            let _ = decode_vote(&bytes);
            let _ = decode_log_id(&bytes);
            let _ = decode_snapshot(&bytes);
            let _ = decode_bootstrap(&bytes);
            let _ = Proposal::decode(&EncodedRound(bytes));
        }
    }
}
