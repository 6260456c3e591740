//! The tables as openraft wants them: applies committed entries, builds and installs snapshots.
//!
//! A run of committed entries is applied on top of one staged view and written in one batch, together with how far it goes
//! and the membership in force: after a crash the tables are a state the log went through, never a mixture. Everything
//! that touches the disk runs off the async threads.

use crate::fault::FaultCell;
use crate::record::{decode_membership, encode_membership, id_of, position_of};
use crate::runtime::blocking;
use crate::shared::{AppliedTo, Board};
use crate::types::{Commands, LogEntry, LogId, Replies, SnapshotMeta, StoredMembership, TypeConfig, term_of};
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use sched_core::apply::{Position, apply_entry};
use sched_core::codec::{self, Kind};
use sched_core::command::{Effect, Entry};
use sched_core::tables::Staged;
use sched_storage::{
    Applied, Checkpoint, ReceivedSnapshot, SnapshotInfo, SnapshotReader, Snapshots, StateStore, StorageError,
};
use std::io;

/// Entries applied in one batch: bounds the memory of what is staged and the time until the first of them is answered.
const BATCH_ENTRIES_MAX: usize = 128;
/// Bytes of entries applied in one batch, for the same reason.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A snapshot on its way through openraft, which does not look into it.
pub(crate) enum SnapshotData {
    /// One of our own, to be read.
    Stored(SnapshotReader),
    /// One of a peer, whole and verified, to be installed.
    Received(ReceivedSnapshot),
}

pub(crate) type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotData>;

/// The tables of one group.
pub(crate) struct Machine {
    state: StateStore,
    snapshots: Snapshots,
    board: Board,
    faults: FaultCell,
    membership: StoredMembership,
}

type Item = (LogEntry, Option<ApplyResponder<TypeConfig>>);

/// What one batch did.
struct Done {
    last: LogId,
    membership: StoredMembership,
    effects: Vec<Effect>,
    replies: Vec<(ApplyResponder<TypeConfig>, Replies)>,
    entries: usize,
    items: usize,
}

impl Machine {
    /// Opens the tables and says how far they are.
    pub(crate) fn open(
        state: StateStore,
        snapshots: Snapshots,
        board: Board,
        faults: FaultCell,
    ) -> Result<Self, io::Error> {
        let mut machine = Self {
            state,
            snapshots,
            board,
            faults,
            membership: StoredMembership::default(),
        };
        machine.reload()?;
        Ok(machine)
    }

    /// Reads how far the tables are, at the start and after they were replaced.
    fn reload(&mut self) -> Result<Option<LogId>, io::Error> {
        let applied = self.state.applied().map_err(|e| self.faults.note(e))?;
        let meta = meta_of(&applied).map_err(|e| self.faults.note(e))?;
        self.membership = meta.last_membership;
        if let Some(last) = &meta.last_log_id {
            self.board.applied.send_replace(AppliedTo {
                index: last.index(),
                term: term_of(last),
            });
        }
        Ok(meta.last_log_id)
    }

    async fn apply_batch(&mut self, batch: Vec<Item>) -> Result<(), io::Error> {
        let (state, membership) = (self.state.clone(), self.membership.clone());
        let done = self
            .blocking(move || apply_all(&state, membership, batch))
            .await?
            .map_err(|e| self.faults.note(e))?;
        let Some(done) = done else { return Ok(()) };
        let counters = &self.board.counters;
        counters.applied_entries.add(done.entries);
        counters.applied_items.add(done.items);
        counters.applied_batches.add(1);
        self.membership = done.membership;
        // Whoever waits for the tables may look now; after that the proposers get their answers.
        self.board.applied.send_replace(AppliedTo {
            index: done.last.index(),
            term: term_of(&done.last),
        });
        for (responder, replies) in done.replies {
            responder.send(replies);
        }
        if !done.effects.is_empty() {
            // Nobody listens: nobody needs the hints.
            let _ = self.board.effects.send(done.effects.into());
        }
        Ok(())
    }

    /// Runs `work` off the async threads; a panic in it is a failure of this node.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, io::Error> {
        blocking(work)
            .await
            .map_err(|e| self.faults.note(format!("a task on the tables ended early: {e}")))
    }

    fn open_snapshot(&self, info: &SnapshotInfo) -> Result<Snapshot, io::Error> {
        let reader = self.snapshots.open(&info.id).map_err(|e| self.faults.note(e))?;
        let meta = meta_of(&info.applied).map_err(|e| self.faults.note(e))?;
        Ok(Snapshot {
            meta,
            snapshot: SnapshotData::Stored(reader),
        })
    }
}

/// Applies a batch of entries and writes it.
fn apply_all(
    state: &StateStore,
    mut membership: StoredMembership,
    batch: Vec<Item>,
) -> Result<Option<Done>, ApplyError> {
    let mut staged = Staged::new(state.latest());
    let mut effects = Vec::new();
    let mut replies = Vec::new();
    let (mut last, mut items) = (None, 0);
    let entries = batch.len();
    for (entry, responder) in batch {
        let id = entry.id();
        let mut answers = Vec::new();
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(new) => membership = StoredMembership::new(Some(id), new),
            EntryPayload::Normal(Commands(bytes)) => {
                let entry: Entry =
                    codec::decode(Kind::Entry, &bytes).map_err(|e| ApplyError::Unknown(id.index(), e))?;
                let at = Position {
                    index: id.index(),
                    term: term_of(&id),
                };
                items += entry.items.len();
                for outcome in apply_entry(&mut staged, at, &entry)? {
                    effects.extend(outcome.effects);
                    answers.push(outcome.reply);
                }
            }
        }
        if let Some(responder) = responder {
            replies.push((responder, Replies(answers)));
        }
        last = Some(id);
    }
    let Some(last) = last else { return Ok(None) };
    let applied = Applied {
        last: Some(position_of(&last)),
        membership: encode_membership(&membership),
    };
    state.write(staged.into_changes(), &applied)?;
    Ok(Some(Done {
        last,
        membership,
        effects,
        replies,
        entries,
        items,
    }))
}

/// Why a committed entry could not be applied. All of these stop the node.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error(transparent)]
    Fault(#[from] sched_core::Fault),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(
        "log entry {0} cannot be read by this release: {1}; if another node of the cluster runs a newer release, run that one here too"
    )]
    Unknown(u64, codec::DecodeError),
}

/// Returns openraft's description of how far tables or a snapshot go.
pub(crate) fn meta_of(applied: &Applied) -> Result<SnapshotMeta, String> {
    let last_membership = decode_membership(&applied.membership)
        .map_err(|e| format!("the membership beside the tables is damaged: {e}"))?;
    Ok(SnapshotMeta {
        last_log_id: applied.last.as_ref().map(id_of),
        last_membership,
    })
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let last = self.reload()?;
        Ok((last, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut more = true;
        while more {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while batch.len() < BATCH_ENTRIES_MAX && bytes < BATCH_BYTES_MAX {
                let Some(next) = entries.next().await else {
                    more = false;
                    break;
                };
                let (entry, responder) = next?;
                if let EntryPayload::Normal(Commands(commands)) = &entry.payload {
                    bytes += commands.len();
                }
                batch.push((entry, responder));
            }
            if !batch.is_empty() {
                self.apply_batch(batch).await?;
            }
        }
        Ok(())
    }

    /// Takes the checkpoint here, between two applies; the slow rest runs beside the applies that follow.
    async fn get_snapshot_builder(&mut self) -> Builder {
        let snapshots = self.snapshots.clone();
        let checkpoint = match self.blocking(move || snapshots.checkpoint()).await {
            Ok(checkpoint) => checkpoint.map_err(|e| self.faults.note(e)),
            Err(e) => Err(e),
        };
        Builder {
            checkpoint: Some(checkpoint),
            snapshots: self.snapshots.clone(),
            board: self.board.clone(),
            faults: self.faults.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), io::Error> {
        let snapshots = self.snapshots.clone();
        let installed = self.blocking(move || {
            let received = match snapshot {
                SnapshotData::Received(received) => received,
                SnapshotData::Stored(reader) => copy(&snapshots, &reader)?,
            };
            snapshots.install(received)
        });
        let info = installed.await?.map_err(|e| self.faults.note(e))?;
        self.reload()?;
        self.board.counters.snapshots_installed.add(1);
        tracing::info!(snapshot = %info.id, bytes = info.total_bytes, last = ?meta.last_log_id, "snapshot installed");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        self.snapshots
            .newest()
            .map(|info| self.open_snapshot(&info))
            .transpose()
    }
}

/// Makes a stored snapshot one that can be installed: after a crash it may be ahead of the tables, which are not synced.
fn copy(snapshots: &Snapshots, reader: &SnapshotReader) -> Result<ReceivedSnapshot, StorageError> {
    const STEP: usize = 1024 * 1024;
    let manifest = reader.manifest().clone();
    let mut writer = snapshots.begin_receive(manifest.clone())?;
    for file in &manifest.files {
        let mut offset = 0;
        while offset < file.size {
            let bytes = reader.read(&file.name, offset, STEP)?;
            if bytes.is_empty() {
                // A file that is too short: `finish` finds it by its size.
                break;
            }
            writer.write_chunk(&file.name, offset, &bytes)?;
            offset += bytes.len() as u64;
        }
    }
    writer.finish()
}

/// A checkpoint that becomes a snapshot.
pub(crate) struct Builder {
    checkpoint: Option<Result<Checkpoint, io::Error>>,
    snapshots: Snapshots,
    board: Board,
    faults: FaultCell,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let Some(checkpoint) = self.checkpoint.take() else {
            return Err(io::Error::other("a snapshot builder builds one snapshot"));
        };
        let (checkpoint, snapshots) = (checkpoint?, self.snapshots.clone());
        let sealed = blocking(move || {
            let info = checkpoint.seal()?;
            let reader = snapshots.open(&info.id)?;
            Ok::<_, StorageError>((info, reader))
        });
        let (info, reader) = sealed
            .await
            .map_err(|e| self.faults.note(e))?
            .map_err(|e| self.faults.note(e))?;
        self.board.counters.snapshots_built.add(1);
        tracing::info!(snapshot = %info.id, bytes = info.total_bytes, last = ?info.applied.index(), "snapshot built");
        let meta = meta_of(&info.applied).map_err(|e| self.faults.note(e))?;
        Ok(Snapshot {
            meta,
            snapshot: SnapshotData::Stored(reader),
        })
    }
}
