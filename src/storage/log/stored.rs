//! Taking up the logs that a directory holds: their rows are read, no batch is.
//!
//! Rows of one kind lie side by side, whichever log they belong to. So each kind is read once from end to end: a look
//! for each log would cost a start with many partitions most of its time, and most of them have no such rows.

use std::collections::{BTreeMap, VecDeque};

use super::{Chunk, LogHome, PartitionLog};
use crate::ids::Offset;
use crate::storage::engine::Poisoned;
use crate::storage::epochs::Epochs;
use crate::storage::keys::{self, Family, Kind, LogNumber};
use crate::storage::producers::Producers;
use crate::storage::state::{self, LogState, Standing};

/// What is stored of logs besides their state, by the number of the log.
#[derive(Default)]
struct Rows {
    epochs: BTreeMap<LogNumber, Epochs>,
    producers: BTreeMap<LogNumber, Producers>,
    closed: BTreeMap<LogNumber, VecDeque<Chunk>>,
    cleaned_to: BTreeMap<LogNumber, Offset>,
    standings: BTreeMap<LogNumber, Standing>,
}

impl PartitionLog {
    /// Takes up every log of a directory. Blocking.
    pub fn open_all(home: &LogHome) -> Result<Vec<PartitionLog>, Poisoned> {
        let mut rows = Rows::read(home)?;
        let mut logs = Vec::new();
        visit(home, Kind::Log, "state", &mut |number, _, row| {
            let Some(state) = LogState::decode(row) else { return false };
            logs.push(rows.log(home.clone(), number, state));
            true
        })?;
        Ok(logs)
    }
}

impl Rows {
    fn read(home: &LogHome) -> Result<Rows, Poisoned> {
        let mut rows = Rows::default();
        let Rows { epochs, producers, closed, cleaned_to, standings } = &mut rows;
        visit(home, Kind::Epochs, "epochs", &mut |log, _, row| {
            Epochs::decode(row).map(|history| epochs.insert(log, history)).is_some()
        })?;
        visit(home, Kind::Producer, "producer", &mut |log, key, row| {
            let decoded = producers.entry(log).or_default().decode_one(row).ok();
            decoded.is_some() && decoded == keys::number_of(key)
        })?;
        visit(home, Kind::Chunk, "chunk", &mut |log, _, row| {
            let chunk = state::decode_chunk(row);
            chunk.map(|chunk| closed.entry(log).or_default().push_back(chunk)).is_some()
        })?;
        visit(home, Kind::Cleaned, "cleaned", &mut |log, _, row| {
            state::decode_cleaned(row).map(|offset| cleaned_to.insert(log, offset)).is_some()
        })?;
        visit(home, Kind::Standing, "standing", &mut |log, _, row| {
            Standing::decode(row).map(|standing| standings.insert(log, standing)).is_some()
        })?;
        Ok(rows)
    }

    fn log(&mut self, home: LogHome, number: LogNumber, state: LogState) -> PartitionLog {
        let cleaned_to = self.cleaned_to.remove(&number);
        PartitionLog {
            home,
            number,
            epochs: self.epochs.remove(&number).unwrap_or_default(),
            producers: self.producers.remove(&number).unwrap_or_default(),
            closed: self.closed.remove(&number).unwrap_or_default(),
            open_since: if state.open.bytes > 0 { state.open.max_timestamp } else { -1 },
            cleaned_to: cleaned_to.unwrap_or_default(),
            compacted: cleaned_to.is_some(),
            standing: self.standings.remove(&number).unwrap_or(Standing::Settled),
            state,
        }
    }
}

/// What is told of a row: its log, its key, its value. It says whether it could be read.
type Visit<'a> = dyn FnMut(LogNumber, &[u8], &[u8]) -> bool + 'a;

/// Shows every row of a kind.
fn visit(home: &LogHome, kind: Kind, what: &str, take: &mut Visit<'_>) -> Result<(), Poisoned> {
    let mut broken = None;
    home.engine.scan(Family::State, keys::kind_range(kind), &mut |key, row| {
        let log = keys::log_of(key);
        if !log.is_some_and(|log| take(log, key, &row)) {
            broken = Some(format!("malformed {what} row of log {log:?}"));
        }
        broken.is_none()
    })?;
    broken.map_or(Ok(()), |reason| Err(Poisoned(reason)))
}
