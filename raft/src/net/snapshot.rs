//! A snapshot on the wire: its manifest, then its files in order, in chunks; checked by size and hash before it is installed.

use super::client::{RpcError, error_of};
use super::peers::Client;
use super::wire;
use crate::runtime;
use crate::types::Vote;
use openraft::errors::{NetworkError, RPCError};
use sched_proto::peer::snapshot_part::Part;
use sched_proto::peer::{Route, SnapshotChunk, SnapshotHead, SnapshotPart};
use sched_storage::{Manifest, ReceivedSnapshot, SnapshotReader, SnapshotWriter, Snapshots};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Bytes of a file in one message.
pub(crate) const CHUNK_BYTES: usize = 512 * 1024;
/// Chunks read ahead of what the network has taken.
const CHUNKS_AHEAD: usize = 4;
/// A receiver that takes no chunk for this long, or a sender that sends none, is treated as gone.
const STALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the receiver may hash, sync and install after the last chunk. It does so at disk speed; tables are a few GiB at most.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(300);
/// Most files of a snapshot.
const FILES_MAX: usize = 100_000;

/// Sends a stored snapshot and returns the receiver's ballot.
pub(crate) async fn send(
    mut client: Client,
    route: Route,
    vote: &Vote,
    reader: SnapshotReader,
    timeout: impl Fn(Duration) -> RpcError,
) -> Result<Vote, RpcError> {
    let head = SnapshotHead {
        route: Some(route),
        ballot: Some(wire::ballot(vote)),
        manifest: reader.manifest().encode().into(),
    };
    let (parts, outbound) = mpsc::channel(CHUNKS_AHEAD);
    let feed = feed(parts, head, reader);
    let call = client.snapshot(ReceiverStream::new(outbound));
    tokio::pin!(feed, call);
    let mut fed = false;
    loop {
        tokio::select! {
            reply = &mut call => {
                let reply = reply.map_err(|e| error_of(&e))?.into_inner();
                return wire::vote(reply.ballot.as_ref()).map_err(|e| error_of(&e));
            }
            result = &mut feed, if !fed => match result {
                Ok(()) => fed = true,
                Err(Feed::Stalled) => return Err(timeout(STALL_TIMEOUT)),
                // The call knows better why nobody takes the parts any more.
                Err(Feed::Closed) => fed = true,
                Err(Feed::Read(why)) => return Err(RPCError::Network(NetworkError::from_string(why))),
            },
            () = tokio::time::sleep(INSTALL_TIMEOUT), if fed => return Err(timeout(INSTALL_TIMEOUT)),
        }
    }
}

enum Feed {
    Stalled,
    Closed,
    Read(String),
}

async fn feed(parts: mpsc::Sender<SnapshotPart>, head: SnapshotHead, reader: SnapshotReader) -> Result<(), Feed> {
    let put = async |part: Part| {
        let part = SnapshotPart { part: Some(part) };
        match parts.send_timeout(part, STALL_TIMEOUT).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Feed::Stalled),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Feed::Closed),
        }
    };
    put(Part::Head(head)).await?;
    let files = reader.manifest().files.clone();
    for (number, file) in (0u32..).zip(files) {
        let mut offset = 0;
        while offset < file.size {
            let (reader, name) = (reader.clone(), file.name.clone());
            let read = runtime::blocking(move || reader.read(&name, offset, CHUNK_BYTES)).await;
            let data = read
                .map_err(|e| Feed::Read(e.to_string()))?
                .map_err(|e| Feed::Read(e.to_string()))?;
            if data.is_empty() {
                return Err(Feed::Read(format!(
                    "{} ends at {offset} instead of {}",
                    file.name, file.size
                )));
            }
            let chunk = SnapshotChunk {
                file: number,
                offset,
                data: data.clone(),
            };
            offset += data.len() as u64;
            put(Part::Chunk(chunk)).await?;
        }
    }
    Ok(())
}

/// Reads the manifest of a head.
pub(crate) fn manifest(head: &SnapshotHead) -> Result<Manifest, Status> {
    let manifest = Manifest::decode(&head.manifest).map_err(|e| Status::invalid_argument(format!("manifest: {e}")))?;
    if manifest.files.len() > FILES_MAX {
        return Err(Status::invalid_argument(format!(
            "{} files exceed {FILES_MAX}",
            manifest.files.len()
        )));
    }
    Ok(manifest)
}

/// Takes the next part of a snapshot, or finds that the sender has stalled.
pub(crate) async fn next_part(inbound: &mut Streaming<SnapshotPart>) -> Result<Option<Part>, Status> {
    let message = tokio::time::timeout(STALL_TIMEOUT, inbound.message()).await;
    match message.map_err(|_| Status::deadline_exceeded("the sender of the snapshot has stalled"))?? {
        None => Ok(None),
        Some(SnapshotPart { part: Some(part) }) => Ok(Some(part)),
        Some(SnapshotPart { part: None }) => Err(Status::invalid_argument("a part is missing")),
    }
}

/// Takes all chunks of a snapshot whose head has arrived, and checks them.
pub(crate) async fn receive(
    snapshots: &Snapshots,
    manifest: Manifest,
    inbound: &mut Streaming<SnapshotPart>,
) -> Result<ReceivedSnapshot, Status> {
    let snapshots = snapshots.clone();
    let files = manifest.files.clone();
    let mut writer = blocking(move || snapshots.begin_receive(manifest)).await?;
    while let Some(part) = next_part(inbound).await? {
        let Part::Chunk(chunk) = part else {
            return Err(Status::invalid_argument("a second head"));
        };
        let name = files.get(chunk.file as usize).map(|file| file.name.clone());
        let name = name.ok_or_else(|| Status::invalid_argument(format!("there is no file {}", chunk.file)))?;
        writer = blocking(move || write(writer, &name, &chunk)).await?;
    }
    blocking(move || writer.finish()).await
}

fn write(
    mut writer: SnapshotWriter,
    name: &str,
    chunk: &SnapshotChunk,
) -> Result<SnapshotWriter, sched_storage::StorageError> {
    writer.write_chunk(name, chunk.offset, &chunk.data)?;
    Ok(writer)
}

/// Runs `work` off the async threads. What fails here is refused, not fatal: nothing of ours was touched yet.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, sched_storage::StorageError> + Send + 'static,
) -> Result<T, Status> {
    let done = runtime::blocking(work)
        .await
        .map_err(|e| Status::internal(e.to_string()))?;
    done.map_err(|e| Status::aborted(e.to_string()))
}
