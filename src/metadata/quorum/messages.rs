//! What members of the quorum, and brokers outside it, say to each other over the private API.
//!
//! The bytes are ours, so that nodes with different releases of the library understand each other. A request is
//! version u8, cluster id, sender (node and directory), addressee (the same, if it must be somebody certain), kind u8,
//! fields. A response is version u8, a flag whether it was served, then the fields or a sentence why not.
//!
//! Invariant: what comes from another node is never trusted: lengths are checked against what is there. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse};

use crate::ids::{BrokerId, KafkaUuid};
use crate::metadata::fields::{FieldReader, FieldWriter, Malformed};
use crate::metadata::image::ImageIndex;
use crate::metadata::quorum::format;
use crate::metadata::quorum::types::{EncodedRound, LogId, Member, QuorumTypes, SnapshotMeta, Vote, VoterId};
use crate::metadata::quorum::voters::VoterChange;
use crate::peer::Address;

const VERSION: u8 = 0;

/// The fewest bytes of an entry and of a round, with their lengths.
const ENTRY_BYTES_MIN: usize = 42;
const ROUND_BYTES_MIN: usize = 29;

mod kind {
    pub const APPEND: u8 = 1;
    pub const VOTE: u8 = 2;
    pub const PRE_VOTE: u8 = 3;
    pub const SNAPSHOT: u8 = 4;
    pub const TRANSFER: u8 = 5;
    pub const PULL: u8 = 6;
    pub const STANDING: u8 = 7;
    pub const CHANGE: u8 = 8;
}

/// Who says it, and to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// Zero if the sender does not know it yet.
    pub cluster_id: KafkaUuid,
    pub from: VoterId,
    /// The only node that may act on it.
    pub to: Option<VoterId>,
}

/// A question to a controller.
#[derive(Clone, Debug)]
pub enum Question {
    Append(AppendEntriesRequest<QuorumTypes>),
    Vote(VoteRequest<QuorumTypes>),
    PreVote(VoteRequest<QuorumTypes>),
    Snapshot(SnapshotPart),
    Transfer(TransferLeaderRequest<QuorumTypes>),
    Pull(Pull),
    /// What the other knows of the sender: asked by a voter that starts with nothing.
    Standing,
    /// A change of the voters, which the leader is asked for.
    Change {
        id: VoterId,
        change: VoterChange,
    },
}

/// A piece of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotPart {
    /// Of the leader that sends it.
    pub vote: Vote,
    pub meta: SnapshotMeta,
    pub total_bytes: u64,
    /// Where in the snapshot `bytes` begin.
    pub at: u64,
    pub bytes: Bytes,
}

/// What a node outside the quorum wants to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pull {
    /// What it has.
    pub index: ImageIndex,
    /// The first entry of the raft log that is not part of what it has.
    pub next_entry: u64,
    /// How long it waits for news, in milliseconds.
    pub wait_ms: u32,
}

/// The answer to a [`Question`] of the same name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Append(AppendEntriesResponse<QuorumTypes>),
    /// To both kinds of vote.
    Vote(VoteResponse<QuorumTypes>),
    /// The vote of whoever got the piece of a snapshot: a higher one means that the sender leads no more.
    Snapshot(Vote),
    /// Whether the transfer goes on.
    Transfer(bool),
    Pull(News),
    Standing(Standing),
    /// A Kafka error code, 0 if it is done, and what there is to say.
    Change {
        code: i16,
        why: String,
    },
}

/// What came after the index that was pulled from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct News {
    /// The newest leader the asked one knows, and where it listens.
    pub leader: Option<(BrokerId, Option<Address>)>,
    /// Who votes, and where they listen if that is no setting.
    pub voters: BTreeMap<VoterId, Member>,
    /// The first entry of the raft log that is not part of what is sent.
    pub next_entry: u64,
    pub payload: NewsPayload,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NewsPayload {
    /// Rounds that follow each other and the index that was pulled from; none if there is no news.
    Rounds(Vec<EncodedRound>),
    /// The image as bytes: what was pulled from is too long ago.
    Snapshot(Bytes),
}

/// What a voter knows of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The other has voted for this one, or has acknowledged something to it: it had a disk with a log then.
    pub has_heard_of_you: bool,
}

/// Bytes as the writer made them; a request is small but for its entries.
pub fn encode_question(envelope: &Envelope, question: &Question) -> Bytes {
    let mut out = FieldWriter::new();
    out.u8(VERSION);
    out.uuid(envelope.cluster_id);
    format::put_voter(&mut out, &envelope.from);
    out.optional(envelope.to.as_ref(), format::put_voter);
    match question {
        Question::Append(append) => {
            out.u8(kind::APPEND);
            put_vote(&mut out, &append.vote);
            out.optional(append.prev_log_id.as_ref(), format::put_log_id);
            out.optional(append.leader_commit.as_ref(), format::put_log_id);
            out.list(append.entries.iter(), |out, entry| out.bytes(&format::encode_entry(entry)));
        }
        Question::Vote(vote) => {
            out.u8(kind::VOTE);
            put_candidacy(&mut out, vote);
        }
        Question::PreVote(vote) => {
            out.u8(kind::PRE_VOTE);
            put_candidacy(&mut out, vote);
        }
        Question::Snapshot(part) => {
            out.u8(kind::SNAPSHOT);
            put_vote(&mut out, &part.vote);
            format::put_snapshot_meta(&mut out, &part.meta);
            out.u64(part.total_bytes);
            out.u64(part.at);
            out.rest(&part.bytes);
        }
        Question::Transfer(transfer) => {
            out.u8(kind::TRANSFER);
            put_vote(&mut out, transfer.from_leader());
            format::put_voter(&mut out, transfer.to_node_id());
            out.optional(transfer.last_log_id(), format::put_log_id);
        }
        Question::Pull(Pull { index, next_entry, wait_ms }) => {
            out.u8(kind::PULL);
            out.i32(index.controller_epoch);
            out.i64(index.next_offset);
            out.u64(*next_entry);
            out.u32(*wait_ms);
        }
        Question::Standing => out.u8(kind::STANDING),
        Question::Change { id, change } => {
            out.u8(kind::CHANGE);
            format::put_voter(&mut out, id);
            let (change, member) = match change {
                VoterChange::Add(member) => (0, Some(member)),
                VoterChange::Remove => (1, None),
                VoterChange::Update(member) => (2, Some(member)),
            };
            out.u8(change);
            out.optional(member, format::put_member);
        }
    }
    out.into_bytes().into()
}

pub fn decode_question(body: &Bytes) -> Result<(Envelope, Question), Malformed> {
    let mut fields = format::versioned(body)?;
    let cluster_id = fields.uuid()?;
    let from = format::voter(&mut fields)?;
    let to = fields.optional(format::voter)?;
    let question = match fields.u8()? {
        kind::APPEND => {
            let vote = vote(&mut fields)?;
            let prev_log_id = fields.optional(format::log_id)?;
            let leader_commit = fields.optional(format::log_id)?;
            let entries = fields.list(ENTRY_BYTES_MIN, |fields| format::decode_entry(fields.bytes()?))?;
            Question::Append(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
        }
        kind::VOTE => Question::Vote(candidacy(&mut fields)?),
        kind::PRE_VOTE => Question::PreVote(candidacy(&mut fields)?),
        kind::SNAPSHOT => {
            let vote = vote(&mut fields)?;
            let meta = format::snapshot_meta(&mut fields, format::voter_and_member)?;
            let (total_bytes, at) = (fields.u64()?, fields.u64()?);
            Question::Snapshot(SnapshotPart { vote, meta, total_bytes, at, bytes: body.slice_ref(fields.rest()) })
        }
        kind::TRANSFER => {
            let (vote, to) = (vote(&mut fields)?, format::voter(&mut fields)?);
            Question::Transfer(TransferLeaderRequest::new(vote, to, fields.optional(format::log_id)?))
        }
        kind::PULL => {
            let index = ImageIndex { controller_epoch: fields.i32()?, next_offset: fields.i64()? };
            Question::Pull(Pull { index, next_entry: fields.u64()?, wait_ms: fields.u32()? })
        }
        kind::STANDING => Question::Standing,
        kind::CHANGE => {
            let id = format::voter(&mut fields)?;
            let change = match (fields.u8()?, fields.optional(format::member)?) {
                (0, Some(member)) => VoterChange::Add(member),
                (1, None) => VoterChange::Remove,
                (2, Some(member)) => VoterChange::Update(member),
                _ => return Err(Malformed("an unknown change of a voter")),
            };
            Question::Change { id, change }
        }
        _ => return Err(Malformed("a question of an unknown kind: asked by a newer release")),
    };
    format::ended(&fields)?;
    Ok((Envelope { cluster_id, from, to }, question))
}

/// An answer, or why there is none.
pub fn encode_answer(answer: &Result<Answer, String>) -> Bytes {
    let mut out = FieldWriter::new();
    out.u8(VERSION);
    out.bool(answer.is_ok());
    match answer {
        Err(why) => out.str(why),
        Ok(answer) => put_answer(&mut out, answer),
    }
    out.into_bytes().into()
}

fn put_answer(out: &mut FieldWriter, answer: &Answer) {
    match answer {
        Answer::Append(append) => {
            out.u8(kind::APPEND);
            match append {
                AppendEntriesResponse::Success => out.u8(0),
                AppendEntriesResponse::PartialSuccess(last) => {
                    out.u8(1);
                    out.optional(last.as_ref(), format::put_log_id);
                }
                AppendEntriesResponse::Conflict => out.u8(2),
                AppendEntriesResponse::HigherVote(vote) => {
                    out.u8(3);
                    put_vote(out, vote);
                }
            }
        }
        Answer::Vote(VoteResponse { vote, vote_granted, last_log_id }) => {
            out.u8(kind::VOTE);
            put_vote(out, vote);
            out.bool(*vote_granted);
            out.optional(last_log_id.as_ref(), format::put_log_id);
        }
        Answer::Snapshot(vote) => {
            out.u8(kind::SNAPSHOT);
            put_vote(out, vote);
        }
        Answer::Transfer(goes_on) => {
            out.u8(kind::TRANSFER);
            out.bool(*goes_on);
        }
        Answer::Pull(News { leader, voters, next_entry, payload }) => {
            out.u8(kind::PULL);
            out.optional(leader.as_ref(), |out, (id, address)| {
                out.broker(*id);
                out.optional(address.as_ref(), format::put_address);
            });
            format::put_members(out, voters);
            out.u64(*next_entry);
            match payload {
                NewsPayload::Rounds(rounds) => {
                    out.u8(0);
                    out.list(rounds.iter(), |out, round| out.bytes(&round.0));
                }
                NewsPayload::Snapshot(image) => {
                    out.u8(1);
                    out.rest(image);
                }
            }
        }
        Answer::Standing(Standing { has_heard_of_you }) => {
            out.u8(kind::STANDING);
            out.bool(*has_heard_of_you);
        }
        Answer::Change { code, why } => {
            out.u8(kind::CHANGE);
            out.i16(*code);
            out.str(why);
        }
    }
}

pub fn decode_answer(body: &Bytes) -> Result<Result<Answer, String>, Malformed> {
    let mut fields = format::versioned(body)?;
    if !fields.bool()? {
        return Ok(Err(fields.str()?.to_owned()));
    }
    let answer = match fields.u8()? {
        kind::APPEND => Answer::Append(match fields.u8()? {
            0 => AppendEntriesResponse::Success,
            1 => AppendEntriesResponse::PartialSuccess(fields.optional(format::log_id)?),
            2 => AppendEntriesResponse::Conflict,
            3 => AppendEntriesResponse::HigherVote(vote(&mut fields)?),
            _ => return Err(Malformed("an unknown outcome of an append")),
        }),
        kind::VOTE => {
            let (vote, vote_granted) = (vote(&mut fields)?, fields.bool()?);
            Answer::Vote(VoteResponse { vote, vote_granted, last_log_id: fields.optional(format::log_id)? })
        }
        kind::SNAPSHOT => Answer::Snapshot(vote(&mut fields)?),
        kind::TRANSFER => Answer::Transfer(fields.bool()?),
        kind::PULL => {
            let leader = fields.optional(|fields| Ok((fields.broker()?, fields.optional(format::address)?)))?;
            let voters = format::members(&mut fields)?;
            let next_entry = fields.u64()?;
            let payload = match fields.u8()? {
                0 => NewsPayload::Rounds(
                    fields.list(ROUND_BYTES_MIN, |fields| Ok(EncodedRound(fields.bytes()?.to_vec())))?,
                ),
                1 => NewsPayload::Snapshot(body.slice_ref(fields.rest())),
                _ => return Err(Malformed("an unknown kind of news")),
            };
            Answer::Pull(News { leader, voters, next_entry, payload })
        }
        kind::STANDING => Answer::Standing(Standing { has_heard_of_you: fields.bool()? }),
        kind::CHANGE => Answer::Change { code: fields.i16()?, why: fields.str()?.to_owned() },
        _ => return Err(Malformed("an answer of an unknown kind")),
    };
    format::ended(&fields)?;
    Ok(Ok(answer))
}

fn put_vote(out: &mut FieldWriter, vote: &Vote) {
    format::put_leader(out, &vote.leader_id);
    out.bool(vote.committed);
}

fn vote(fields: &mut FieldReader<'_>) -> Result<Vote, Malformed> {
    Ok(Vote { leader_id: format::leader(fields)?, committed: fields.bool()? })
}

fn put_candidacy(out: &mut FieldWriter, request: &VoteRequest<QuorumTypes>) {
    put_vote(out, &request.vote);
    out.optional(request.last_log_id.as_ref(), format::put_log_id);
    out.bool(request.leadership_transfer);
}

fn candidacy(fields: &mut FieldReader<'_>) -> Result<VoteRequest<QuorumTypes>, Malformed> {
    let vote = vote(fields)?;
    let last_log_id: Option<LogId> = fields.optional(format::log_id)?;
    Ok(VoteRequest { vote, last_log_id, leadership_transfer: fields.bool()? })
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use proptest::prelude::*;

    use super::*;
    use crate::metadata::quorum::format::Proposal;
    use crate::metadata::quorum::types::{Entry, MemberEndpoint};
    use crate::metadata::record::MetadataRecord;

    fn voter(node: i32) -> VoterId {
        VoterId { node, directory: 7 }
    }

    fn member() -> Member {
        let address = Address { host: "kafka-1".into(), port: 9093 };
        Member { endpoints: vec![MemberEndpoint { listener: "CONTROLLER".into(), address }] }
    }

    fn ids() -> (Vote, LogId) {
        let vote = Vote::new_committed(3, voter(1));
        (vote, LogId { leader_id: vote.leader_id, index: 41 })
    }

    fn round() -> EncodedRound {
        let stamp = ImageIndex { controller_epoch: 4, next_offset: 17 };
        Proposal { stamp, wall_ms: 5, records: vec![MetadataRecord::NoOp] }.encode()
    }

    fn questions() -> Vec<Question> {
        let (vote, id) = ids();
        let entries = [EntryPayload::Blank, EntryPayload::Normal(round())].map(|payload| Entry { log_id: id, payload });
        let append = AppendEntriesRequest { vote, prev_log_id: Some(id), entries: entries.into(), leader_commit: None };
        let candidacy = VoteRequest { vote, last_log_id: Some(id), leadership_transfer: true };
        let meta = SnapshotMeta { last_log_id: Some(id), ..SnapshotMeta::default() };
        let bytes = Bytes::from_static(b"piece");
        vec![
            Question::Append(append),
            Question::Vote(candidacy.clone()),
            Question::PreVote(candidacy),
            Question::Snapshot(SnapshotPart { vote, meta, total_bytes: 100, at: 5, bytes }),
            Question::Transfer(TransferLeaderRequest::new(vote, voter(2), Some(id))),
            Question::Pull(Pull { index: ImageIndex::default(), next_entry: 9, wait_ms: 500 }),
            Question::Standing,
            Question::Change { id: voter(3), change: VoterChange::Add(member()) },
            Question::Change { id: voter(3), change: VoterChange::Remove },
        ]
    }

    fn answers() -> Vec<Result<Answer, String>> {
        let (vote, id) = ids();
        let address = Address { host: "kafka-1".into(), port: 9093 };
        let voters = BTreeMap::from([(voter(1), member())]);
        let leader = Some((BrokerId(1), Some(address)));
        let news = |payload| News { leader: leader.clone(), voters: voters.clone(), next_entry: 3, payload };
        vec![
            Err("no".into()),
            Ok(Answer::Append(AppendEntriesResponse::Success)),
            Ok(Answer::Append(AppendEntriesResponse::PartialSuccess(Some(id)))),
            Ok(Answer::Append(AppendEntriesResponse::Conflict)),
            Ok(Answer::Append(AppendEntriesResponse::HigherVote(vote))),
            Ok(Answer::Vote(VoteResponse { vote, vote_granted: true, last_log_id: None })),
            Ok(Answer::Snapshot(vote)),
            Ok(Answer::Transfer(true)),
            Ok(Answer::Pull(news(NewsPayload::Rounds(vec![round()])))),
            Ok(Answer::Pull(news(NewsPayload::Snapshot(Bytes::from_static(b"image"))))),
            Ok(Answer::Standing(Standing { has_heard_of_you: true })),
            Ok(Answer::Change { code: 7, why: "later".into() }),
        ]
    }

    #[test]
    fn everything_reads_back_and_no_prefix_does() {
        let envelope = Envelope { cluster_id: KafkaUuid(9), from: voter(1), to: Some(voter(2)) };
        for question in questions() {
            let bytes = encode_question(&envelope, &question);
            let (read_envelope, read) = decode_question(&bytes).unwrap();
            assert_eq!((read_envelope, format!("{read:?}")), (envelope, format!("{question:?}")));
            let rest_is_bytes = if matches!(question, Question::Snapshot(_)) { 5 } else { 0 };
            for end in 0..bytes.len() - rest_is_bytes {
                assert!(decode_question(&bytes.slice(..end)).is_err(), "{question:?} at {end}");
            }
        }
        for answer in answers() {
            let bytes = encode_answer(&answer);
            assert_eq!(decode_answer(&bytes), Ok(answer));
        }
    }

    proptest! {
        #[test]
        fn decoders_survive_anything(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 1u8..9) {
            let bytes = Bytes::from(bytes);
            let _ = decode_question(&bytes);
            let _ = decode_answer(&bytes);
            let envelope = Envelope { cluster_id: KafkaUuid(9), from: voter(1), to: None };
            let mut lying = encode_question(&envelope, &Question::Standing).to_vec();
            *lying.last_mut().unwrap() = kind;
            lying.extend_from_slice(&bytes);
            let _ = decode_question(&Bytes::from(lying));
        }
    }
}
