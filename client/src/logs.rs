//! The output of a run as a stream that goes on where it was when a connection breaks.

use crate::call::{Call, Caller};
use crate::error::ClientError;
use futures::Stream;
use futures::stream::{BoxStream, StreamExt as _};
use sched_core::ids::RunId;
use sched_proto::convert::{failure_of, is_worth_another_try, to_wire};
use sched_proto::v1;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Streaming;

/// Breaks in a row, without a byte between them, after which a stream gives up.
const BREAKS_MAX: u32 = 5;

/// Which output to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogsOf {
    /// The run.
    pub run: RunId,
    /// Which attempt, from 1; nothing means the newest.
    pub attempt: Option<u32>,
    /// First byte to read.
    pub offset: u64,
    /// Only so many of the last bytes.
    pub tail: Option<u64>,
    /// Go on until the attempt has ended.
    pub follow: bool,
}

impl LogsOf {
    /// Returns the whole output there is now of the newest attempt of a run.
    pub fn run(run: RunId) -> Self {
        Self {
            run,
            attempt: None,
            offset: 0,
            tail: None,
            follow: false,
        }
    }
}

/// Pieces of output, in order. Ends after the first error.
pub struct LogStream {
    chunks: BoxStream<'static, Result<v1::LogsChunk, ClientError>>,
}

impl std::fmt::Debug for LogStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStream").finish_non_exhaustive()
    }
}

impl Stream for LogStream {
    type Item = Result<v1::LogsChunk, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll_next_unpin(cx)
    }
}

/// Where a reader is.
struct Reader {
    caller: Arc<Caller>,
    request: v1::LogsRequest,
    open: Option<Streaming<v1::LogsChunk>>,
    /// In a row, without a byte between them.
    breaks: u32,
    done: bool,
}

impl LogStream {
    pub(crate) fn new(caller: Arc<Caller>, of: LogsOf) -> Self {
        let request = v1::LogsRequest {
            run: Some(to_wire::run_id(of.run)),
            attempt: of.attempt.unwrap_or(0),
            offset: of.offset,
            follow: of.follow,
            tail: of.tail,
        };
        let reader = Reader {
            caller,
            request,
            open: None,
            breaks: 0,
            done: false,
        };
        let chunks = futures::stream::unfold(reader, |mut reader| async move {
            let chunk = reader.next().await?;
            reader.done |= chunk.is_err();
            Some((chunk, reader))
        });
        Self { chunks: chunks.boxed() }
    }
}

impl Reader {
    async fn next(&mut self) -> Option<Result<v1::LogsChunk, ClientError>> {
        while !self.done {
            let stream = match self.open.take() {
                Some(stream) => stream,
                None => match self.connect().await {
                    Ok(stream) => stream,
                    Err(error) => return Some(Err(error)),
                },
            };
            match self.read(stream).await {
                Ok(Some(chunk)) => return Some(Ok(chunk)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    async fn connect(&mut self) -> Result<Streaming<v1::LogsChunk>, ClientError> {
        let options = self.caller.options;
        let limits = Call {
            deadline: options.deadline,
            attempt_timeout: options.attempt_timeout,
            poll: std::time::Duration::ZERO,
            changes: false,
        };
        if self.breaks > 0 {
            tokio::time::sleep(self.caller.backoff(self.breaks)).await;
        }
        let request = self.request;
        self.caller
            .call(limits, |mut node| async move { node.logs(request).await })
            .await
    }

    /// Reads one piece; nothing when the stream has ended or broken, and is to be opened again unless `done`.
    async fn read(&mut self, mut stream: Streaming<v1::LogsChunk>) -> Result<Option<v1::LogsChunk>, ClientError> {
        match stream.message().await {
            Ok(Some(chunk)) => {
                self.breaks = 0;
                self.done = chunk.end;
                // From here on the place is known exactly: what comes next is the byte after this piece, of the same attempt.
                self.request.attempt = chunk.attempt;
                self.request.offset = chunk.offset + chunk.data.len() as u64;
                self.request.tail = None;
                self.open = Some(stream);
                Ok(Some(chunk))
            }
            // Whoever follows is told by `end` that it was all; without it the node has gone away.
            Ok(None) if self.request.follow => self.broken("the stream ended before the output did".to_owned()),
            Ok(None) => {
                self.done = true;
                Ok(None)
            }
            Err(status) => match failure_of(&status) {
                Some(failure) if !is_worth_another_try(failure.kind()) => Err(ClientError::Refused(failure)),
                _ => self.broken(crate::call::what_happened(&status)),
            },
        }
    }

    fn broken(&mut self, what: String) -> Result<Option<v1::LogsChunk>, ClientError> {
        self.breaks += 1;
        if self.breaks <= BREAKS_MAX {
            return Ok(None);
        }
        let endpoint = self
            .caller
            .targets
            .in_order()
            .first()
            .map(|target| target.address.to_string());
        Err(ClientError::Protocol {
            endpoint: endpoint.unwrap_or_default(),
            problem: format!("the output broke off {BREAKS_MAX} times in a row: {what}"),
        })
    }
}
