//! The output of runs: read from the worker that has it, through the leader, at the pace of the reader.

use super::errors;
use super::reads::{barrier, find_run};
use crate::leader::OutputError;
use crate::shared::Shared;
use crate::worker::wire::run_id_to_wire;
use bytes::Bytes;
use futures::Stream;
use sched_core::ids::RunId;
use sched_core::run::Run;
use sched_proto::convert::{self, from_wire};
use sched_proto::limits::LOGS_CHUNK_BYTES_MAX;
use sched_proto::v1::{FailureKind, LogsChunk, LogsRequest};
use sched_proto::worker::{OutputChunk, OutputRequest, OutputStatus};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// How long a worker may wait for more output before it answers.
const FOLLOW_WAIT: Duration = Duration::from_secs(10);
/// For a worker's answer, beyond what it may wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Before a busy or absent worker is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long a follower of a live run waits for its worker to come back: longer than its lease.
const ABSENT_MAX: Duration = Duration::from_secs(15);
/// Most bytes of a tail: kept in memory while the output is read through.
const TAIL_BYTES_MAX: u64 = 1024 * 1024;
/// Chunks on their way to the reader.
const CHUNKS: usize = 4;

type Sender = mpsc::Sender<Result<LogsChunk, Status>>;

/// Reads the output of an attempt. `permit` is held until the reader or the output ends.
pub(super) async fn stream(
    shared: Arc<Shared>,
    call: LogsRequest,
    permit: OwnedSemaphorePermit,
) -> Result<impl Stream<Item = Result<LogsChunk, Status>>, Status> {
    let id = from_wire::run_id(call.run).map_err(|e| errors::rejected(&e))?;
    if let Some(tail) = call.tail.filter(|tail| *tail > TAIL_BYTES_MAX) {
        return Err(errors::invalid(
            "tail",
            format!("{tail}; expected at most {TAIL_BYTES_MAX}"),
        ));
    }
    barrier(&shared).await?;
    let run = find_run(&shared.replica.view(), id)?;
    if call.attempt > run.attempts_count {
        let text = format!(
            "attempt {} of run {id}, which has had {}",
            call.attempt, run.attempts_count
        );
        return Err(errors::not_found(text));
    }
    let (tx, rx) = mpsc::channel(CHUNKS);
    tokio::spawn(async move {
        let _held = permit;
        let reader = Reader {
            shared,
            id,
            attempt: call.attempt,
            follow: call.follow,
            tx: tx.clone(),
        };
        let read = async {
            match call.tail {
                Some(tail) => reader.tail(tail).await,
                None => reader.from(call.offset).await,
            }
        };
        tokio::select! {
            result = read => if let Err(status) = result {
                // The reader may have left.
                let _ = tx.send(Err(status)).await;
            },
            () = tx.closed() => {}
        }
    });
    Ok(ReceiverStream::new(rx))
}

struct Reader {
    shared: Arc<Shared>,
    id: RunId,
    /// 0 for the newest.
    attempt: u32,
    follow: bool,
    tx: Sender,
}

/// A piece of output as the worker or the run's record has it.
enum Piece {
    Chunk(OutputChunk),
    /// The worker has none: what the record kept.
    Record(Bytes),
    /// Nothing yet.
    Nothing,
}

impl Reader {
    /// Writes everything from an offset on.
    async fn from(&self, mut offset: u64) -> Result<(), Status> {
        let attempt = self.started().await?;
        if attempt == 0 {
            return self.send(0, offset, Bytes::new(), true, false).await;
        }
        loop {
            match self.read(attempt, offset, self.follow).await? {
                Piece::Chunk(chunk) => {
                    offset = chunk.next_offset.max(chunk.offset + chunk.data.len() as u64);
                    // Someone who does not follow has read all there is now.
                    let end = chunk.end || (!self.follow && chunk.data.is_empty());
                    if end || !chunk.data.is_empty() {
                        self.send(attempt, chunk.offset, chunk.data, end, false).await?;
                    }
                    if end {
                        return Ok(());
                    }
                }
                Piece::Record(tail) => {
                    let tail = if offset > 0 { Bytes::new() } else { tail };
                    return self.send(attempt, offset, tail, true, true).await;
                }
                Piece::Nothing if self.follow => {}
                Piece::Nothing => return self.send(attempt, offset, Bytes::new(), true, false).await,
            }
        }
    }

    /// Writes the last bytes, then goes on when following. The worker does not say how much there is: it is read through.
    async fn tail(&self, bytes: u64) -> Result<(), Status> {
        let attempt = self.started().await?;
        let keep = usize::try_from(bytes).unwrap_or(usize::MAX);
        let (mut offset, mut kept, mut ended) = (0, Vec::new(), attempt == 0);
        while !ended {
            match self.read(attempt, offset, false).await? {
                Piece::Chunk(chunk) => {
                    offset = chunk.next_offset.max(chunk.offset + chunk.data.len() as u64);
                    ended = chunk.end;
                    if chunk.data.is_empty() {
                        break;
                    }
                    kept.extend_from_slice(&chunk.data);
                    let over = kept.len().saturating_sub(keep);
                    kept.drain(..over);
                }
                Piece::Record(tail) => {
                    let from = tail.len().saturating_sub(keep);
                    return self.send(attempt, 0, tail.slice(from..), true, true).await;
                }
                Piece::Nothing => break,
            }
        }
        let ended = ended || !self.follow;
        let start = offset.saturating_sub(kept.len() as u64);
        let mut rest = Bytes::from(kept);
        let mut at = start;
        while rest.len() > LOGS_CHUNK_BYTES_MAX {
            let part = rest.split_to(LOGS_CHUNK_BYTES_MAX);
            let next = at + part.len() as u64;
            self.send(attempt, at, part, false, false).await?;
            at = next;
        }
        self.send(attempt, at, rest, ended, false).await?;
        if ended { Ok(()) } else { self.from(offset).await }
    }

    async fn send(&self, attempt: u32, offset: u64, data: Bytes, end: bool, tail_only: bool) -> Result<(), Status> {
        let chunk = LogsChunk {
            offset,
            data,
            attempt,
            end,
            tail_only,
        };
        // Whether the reader has left is noticed outside.
        let _ = self.tx.send(Ok(chunk)).await;
        Ok(())
    }

    fn run(&self) -> Result<Run, Status> {
        find_run(&self.shared.replica.view(), self.id)
    }

    /// Returns the number of the attempt; 0 when there is none and none is waited for.
    async fn started(&self) -> Result<u32, Status> {
        let watch = self.shared.waits.watch(self.id.task);
        loop {
            let mut changed = pin!(watch.changed());
            changed.as_mut().enable();
            let run = self.run()?;
            if self.attempt > 0 {
                return Ok(self.attempt);
            }
            if run.attempts_count > 0 || run.state.is_terminal() || !self.follow {
                return Ok(run.attempts_count);
            }
            tokio::select! {
                () = changed => {}
                () = self.shared.stopping.cancelled() => return Err(errors::stopping()),
            }
        }
    }

    /// Reads a piece at an offset. With `wait`, waits for one.
    async fn read(&self, attempt: u32, offset: u64, wait: bool) -> Result<Piece, Status> {
        let mut absent = Duration::ZERO;
        loop {
            let run = self.run()?;
            let newest = attempt == run.attempts_count;
            // The attempt has ended when its run goes on without it.
            let live = newest && run.state.holder().is_some();
            match self.ask(&run, attempt, offset, wait && live).await {
                Ok(chunk) => match chunk.status() {
                    OutputStatus::Ok => return Ok(Piece::Chunk(chunk)),
                    OutputStatus::NotFound if live && !wait => return Ok(Piece::Nothing),
                    // It is about to start, or it writes nothing.
                    OutputStatus::NotFound if live => self.changed().await?,
                    OutputStatus::NotFound => return Ok(record(run, newest)),
                    OutputStatus::Busy => sleep(ASK_AGAIN).await,
                    OutputStatus::Failed | OutputStatus::Unspecified => {
                        let text = format!("the worker cannot read the output of run {}: {}", self.id, chunk.reason);
                        return Err(convert::status(&convert::failure(FailureKind::WorkerUnreachable, text)));
                    }
                },
                Err(OutputError::Busy) => sleep(ASK_AGAIN).await,
                Err(OutputError::Unreachable) if !live && newest => return Ok(record(run, newest)),
                Err(OutputError::Unreachable) if live && wait && absent < ABSENT_MAX => {
                    sleep(ASK_AGAIN).await;
                    absent += ASK_AGAIN;
                }
                Err(OutputError::Unreachable) => return Err(self.unreachable(&run, attempt)),
            }
        }
    }

    fn unreachable(&self, run: &Run, attempt: u32) -> Status {
        let text = match worker_of(run, attempt) {
            Some(worker) => format!(
                "worker {worker:?}, which has the output of run {}, does not answer",
                self.id
            ),
            None => format!(
                "attempt {attempt} of run {} is too long ago: its worker is not known any more",
                self.id
            ),
        };
        convert::status(&convert::failure(FailureKind::WorkerUnreachable, text))
    }

    /// Waits for a change of the task, but not for ever: output comes without one.
    async fn changed(&self) -> Result<(), Status> {
        let watch = self.shared.waits.watch(self.id.task);
        tokio::select! {
            _ = timeout(ASK_AGAIN, watch.changed()) => Ok(()),
            () = self.shared.stopping.cancelled() => Err(errors::stopping()),
        }
    }

    async fn ask(&self, run: &Run, attempt: u32, offset: u64, wait: bool) -> Result<OutputChunk, OutputError> {
        let worker = worker_of(run, attempt).ok_or(OutputError::Unreachable)?;
        let term = self.shared.terms.current().ok_or(OutputError::Unreachable)?;
        let link = term.hub.link_of_worker(worker).ok_or(OutputError::Unreachable)?;
        let wait = if wait { FOLLOW_WAIT } else { Duration::ZERO };
        let request = OutputRequest {
            request: 0,
            run: Some(run_id_to_wire(self.id)),
            attempt_number: attempt,
            offset,
            limit: u32::try_from(LOGS_CHUNK_BYTES_MAX).unwrap_or(u32::MAX),
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        };
        let answer = timeout(wait + ANSWER_TIMEOUT, link.output(request)).await;
        let mut chunk = answer.map_err(|_| OutputError::Unreachable)??;
        // A worker that sends more than it was asked for does not make the reader's messages larger.
        if chunk.data.len() > LOGS_CHUNK_BYTES_MAX {
            chunk.data.truncate(LOGS_CHUNK_BYTES_MAX);
            chunk.next_offset = chunk.offset + chunk.data.len() as u64;
            chunk.end = false;
        }
        Ok(chunk)
    }
}

/// Returns the worker of an attempt, when the run's record still describes it.
fn worker_of(run: &Run, attempt: u32) -> Option<&str> {
    let from_end = run.attempts_count.checked_sub(attempt)?;
    let at = run.attempts.len().checked_sub(1 + usize::try_from(from_end).ok()?)?;
    run.attempts.get(at).map(|attempt| attempt.worker.as_str())
}

/// What the record has of an attempt without output at its worker: the tail of the newest reported one.
fn record(run: Run, newest: bool) -> Piece {
    Piece::Record(if newest { run.output_tail.into() } else { Bytes::new() })
}
