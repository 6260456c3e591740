//! NATS JetStream, three servers, a stream with three replicas that syncs always: a task is a message. Its life is published,
//! fetched by a consumer, acknowledged.

use super::process::{Servers, listens};
use super::{Caller, Work, closed, payload};
use crate::load::Report;
use crate::{binaries, eventually, ports};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Connections that callers share.
const CONNECTIONS: usize = 8;
/// Longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Subscriptions below it are for all answers of a connection.
const FIRST_SID: u64 = 2;
const STREAM: &str = "TASKS";
const CONSUMER: &str = "WORKERS";

/// Three servers on this machine.
#[derive(Debug)]
pub struct Nats {
    servers: Servers,
    addresses: Vec<String>,
}

impl Nats {
    /// Starts them, or returns nothing where the server is not installed (`scripts/setup.sh peers` does).
    ///
    /// # Errors
    /// They do not form a cluster.
    pub async fn start() -> Result<Option<Self>> {
        let Some(server) = program() else { return Ok(None) };
        let mut servers = Servers::new("nats")?;
        let ports = ports::free(6)?;
        let (clients, routes) = ports.split_at(3);
        let all: Vec<_> = routes
            .iter()
            .map(|port| format!("\"nats-route://127.0.0.1:{port}\""))
            .collect();
        for index in 0..3 {
            let store = servers.folder().join(format!("n{index}"));
            let file = servers.folder().join(format!("n{index}.conf"));
            let (client, route) = (clients[index], routes[index]);
            std::fs::write(
                &file,
                format!(
                    "server_name: n{index}\nlisten: \"127.0.0.1:{client}\"\n\
                     jetstream {{ store_dir: \"{}\", max_file_store: 20GB, max_memory_store: 1GB, sync_interval: always }}\n\
                     cluster {{ name: peers, listen: \"127.0.0.1:{route}\", routes: [ {} ] }}\n",
                    store.display(),
                    all.join(", ")
                ),
            )?;
            servers.start(&server, &["-c".as_ref(), file.as_os_str()])?;
        }
        let addresses: Vec<_> = clients.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        for address in &addresses {
            listens(address).await?;
        }
        Ok(Some(Self { servers, addresses }))
    }

    /// Lets so many callers work, spread over the servers.
    ///
    /// # Errors
    /// The stream cannot be made.
    pub async fn measure(&self, callers: usize, work: Work, duration: Duration) -> Result<Report> {
        let mut connections = Vec::new();
        for index in 0..CONNECTIONS.min(callers) {
            let address = &self.addresses[index % self.addresses.len()];
            connections.push(Connection::open(address, index).await?);
        }
        eventually("the stream is there", Duration::from_secs(30), async || {
            make_stream(&connections[0]).await
        })
        .await?;
        let all = (0..callers)
            .map(|index| Publisher {
                connection: connections[index % connections.len()].clone(),
                subject: format!("q.{index}"),
                work,
                payload: Bytes::copy_from_slice(&payload()),
            })
            .collect();
        closed("NATS JetStream", all, duration, &self.servers.pids()).await
    }
}

/// Debian's server cannot sync always; the one that can comes as a Python package.
fn program() -> Option<PathBuf> {
    let file = binaries::repository().join(".tools/peers/bin/nats-server");
    file.is_file().then_some(file)
}

async fn make_stream(connection: &Connection) -> Result<()> {
    let stream = json!({
        "name": STREAM, "subjects": ["q.>"], "num_replicas": 3, "storage": "file", "retention": "workqueue",
    });
    // What an earlier measurement left is not measured again.
    let _ = connection.api(&format!("STREAM.DELETE.{STREAM}"), &json!({})).await;
    connection.api(&format!("STREAM.CREATE.{STREAM}"), &stream).await?;
    let consumer = json!({
        "stream_name": STREAM,
        "config": {"durable_name": CONSUMER, "ack_policy": "explicit", "max_ack_pending": 10_000},
    });
    connection
        .api(&format!("CONSUMER.DURABLE.CREATE.{STREAM}.{CONSUMER}"), &consumer)
        .await
}

struct Publisher {
    connection: Connection,
    subject: String,
    work: Work,
    payload: Bytes,
}

impl Caller for Publisher {
    async fn once(&mut self) -> Result<u64> {
        let under_way = match self.work {
            Work::Enqueue(under_way) => under_way,
            Work::Cycle => 1,
        };
        let mut answers = Vec::with_capacity(under_way);
        for _ in 0..under_way {
            answers.push(self.connection.ask(&self.subject, &self.payload).await?);
        }
        for answer in answers {
            let message = answered(answer).await?;
            ensure!(
                !message.body.windows(7).any(|bytes| bytes == b"\"error\""),
                "{}",
                String::from_utf8_lossy(&message.body)
            );
        }
        if self.work == Work::Cycle {
            let next = format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER}");
            let message = answered(self.connection.fetch(&next, &Bytes::from_static(b"1")).await?).await?;
            let reply = message.reply.context("a message that asks for no acknowledgement")?;
            // A reply is asked for, so that the acknowledgement is known to be kept.
            answered(self.connection.ask(&reply, &Bytes::from_static(b"+ACK")).await?).await?;
        }
        Ok(under_way as u64)
    }
}

async fn answered(answer: oneshot::Receiver<Message>) -> Result<Message> {
    Ok(timeout(ANSWER_LIMIT, answer).await.context("NATS does not answer")??)
}

/// What came to an inbox.
struct Message {
    reply: Option<String>,
    body: Vec<u8>,
}

/// Who waits, by the last word of the inbox.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Message>>>>;

/// A connection that many share: answers are told apart by their inbox.
#[derive(Clone)]
struct Connection {
    out: mpsc::Sender<Vec<u8>>,
    waiting: Waiting,
    inbox: String,
    next: Arc<AtomicU64>,
}

impl Connection {
    async fn open(address: &str, index: usize) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        let mut info = String::new();
        read.read_line(&mut info).await?;
        ensure!(info.starts_with("INFO "), "not a NATS server: {info:?}");
        let inbox = format!("_INBOX.peer{index}");
        let hello = json!({"verbose": false, "pedantic": false, "lang": "sched", "version": "1", "headers": false});
        write
            .write_all(format!("CONNECT {hello}\r\nSUB {inbox}.* 1\r\nPING\r\n").as_bytes())
            .await?;
        let (out, mut queue) = mpsc::channel::<Vec<u8>>(1024);
        let pong = out.clone();
        tokio::spawn(async move {
            while let Some(mut bytes) = queue.recv().await {
                // Whatever else waits goes in the same write.
                while let Ok(more) = queue.try_recv() {
                    bytes.extend_from_slice(&more);
                }
                if write.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        let waiting = Waiting::default();
        let heard = Arc::clone(&waiting);
        tokio::spawn(async move {
            if let Err(error) = listen(read, &heard, &pong).await {
                eprintln!("NATS: {error:#}");
            }
            // Nobody waits for ever.
            heard.lock().unwrap_or_else(PoisonError::into_inner).clear();
        });
        Ok(Self {
            out,
            waiting,
            inbox,
            next: Arc::default(),
        })
    }

    /// Publishes, and returns what will hold the answer.
    async fn ask(&self, subject: &str, body: &Bytes) -> Result<oneshot::Receiver<Message>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.send(number, String::new(), subject, body).await
    }

    /// The same for a message of the stream: it comes under its own subject, so that only a subscription of its own tells for whom it is.
    async fn fetch(&self, subject: &str, body: &Bytes) -> Result<oneshot::Receiver<Message>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let sid = number + FIRST_SID;
        let before = format!("SUB {}.one.{number} {sid}\r\nUNSUB {sid} 1\r\n", self.inbox);
        self.send(number, before, subject, body).await
    }

    async fn send(
        &self,
        number: u64,
        before: String,
        subject: &str,
        body: &Bytes,
    ) -> Result<oneshot::Receiver<Message>> {
        let (answer, answered) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(number, answer);
        let one = if before.is_empty() { "" } else { "one." };
        let publish = format!("{before}PUB {subject} {}.{one}{number} {}\r\n", self.inbox, body.len());
        let mut bytes = publish.into_bytes();
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n");
        self.out.send(bytes).await.context("the connection is gone")?;
        Ok(answered)
    }

    async fn api(&self, call: &str, body: &Value) -> Result<()> {
        let body = Bytes::from(body.to_string());
        let message = answered(self.ask(&format!("$JS.API.{call}"), &body).await?).await?;
        let reply: Value = serde_json::from_slice(&message.body)?;
        if let Some(error) = reply.get("error") {
            bail!("{call}: {error}");
        }
        Ok(())
    }
}

async fn listen(
    mut read: BufReader<tokio::net::tcp::OwnedReadHalf>,
    waiting: &Waiting,
    pong: &mpsc::Sender<Vec<u8>>,
) -> Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        if read.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("MSG") => {
                let words: Vec<&str> = words.collect();
                // MSG subject sid [reply] bytes
                let (subject, sid, reply, bytes) = match words[..] {
                    [subject, sid, bytes] => (subject, sid, None, bytes),
                    [subject, sid, reply, bytes] => (subject, sid, Some(reply.to_owned()), bytes),
                    _ => bail!("{line:?}"),
                };
                let number = match sid.parse::<u64>()?.checked_sub(FIRST_SID) {
                    Some(number) => Some(number),
                    None => subject.rsplit('.').next().and_then(|word| word.parse().ok()),
                };
                let mut body = vec![0; bytes.parse::<usize>()? + 2];
                read.read_exact(&mut body).await?;
                body.truncate(body.len() - 2);
                let answer = number
                    .and_then(|number: u64| waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&number));
                if let Some(answer) = answer {
                    // Who has given up needs no answer.
                    let _ = answer.send(Message { reply, body });
                }
            }
            Some("PING") => pong.send(b"PONG\r\n".to_vec()).await?,
            Some("-ERR") => bail!("{line}"),
            _ => {}
        }
    }
}
