//! beanstalkd, one server with a binlog that is synced at every write: a task is a job. Its life is put, reserve, delete.

use super::process::{Servers, listens, program};
use super::{Caller, Work, closed, payload};
use crate::load::Report;
use crate::ports;
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// One server on this machine; it is not replicated.
#[derive(Debug)]
pub struct Beanstalk {
    servers: Servers,
    address: String,
}

impl Beanstalk {
    /// Starts it, or returns nothing where beanstalkd is not installed.
    ///
    /// # Errors
    /// It does not listen.
    pub async fn start() -> Result<Option<Self>> {
        let Some(beanstalkd) = program("beanstalkd") else {
            return Ok(None);
        };
        let mut servers = Servers::new("beanstalkd")?;
        let port = ports::free(1)?.first().copied().context("one port was asked for")?;
        let folder = servers.folder().display().to_string();
        servers.start(
            &beanstalkd,
            &["-l", "127.0.0.1", "-p", &port.to_string(), "-b", &folder, "-f", "0"],
        )?;
        let address = format!("127.0.0.1:{port}");
        listens(&address).await?;
        Ok(Some(Self { servers, address }))
    }

    /// Lets so many callers work, each with a connection of its own.
    ///
    /// # Errors
    /// It takes no connections.
    pub async fn measure(&self, callers: usize, work: Work, duration: Duration) -> Result<Report> {
        let mut all = Vec::new();
        for _ in 0..callers {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            all.push(Job {
                stream: BufReader::new(stream),
                work,
                payload: payload(),
            });
        }
        closed("beanstalkd", all, duration, &self.servers.pids()).await
    }
}

struct Job {
    stream: BufReader<TcpStream>,
    work: Work,
    payload: Arc<[u8]>,
}

impl Job {
    /// Says something and reads the line that answers it.
    async fn ask(&mut self, bytes: &[u8]) -> Result<String> {
        self.stream.write_all(bytes).await?;
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        Ok(line.trim_end().to_owned())
    }
}

impl Caller for Job {
    async fn once(&mut self) -> Result<u64> {
        let mut put = format!("put 0 0 60 {}\r\n", self.payload.len()).into_bytes();
        put.extend_from_slice(&self.payload);
        put.extend_from_slice(b"\r\n");
        let answer = self.ask(&put).await?;
        ensure!(answer.starts_with("INSERTED"), "put: {answer:?}");
        if self.work == Work::Cycle {
            let answer = self.ask(b"reserve\r\n").await?;
            let mut words = answer.split(' ');
            ensure!(words.next() == Some("RESERVED"), "reserve: {answer:?}");
            let id = words.next().context("reserve: no id")?.to_owned();
            let bytes: usize = words.next().context("reserve: no length")?.parse()?;
            let mut body = vec![0; bytes + 2];
            self.stream.read_exact(&mut body).await?;
            let answer = self.ask(format!("delete {id}\r\n").as_bytes()).await?;
            ensure!(answer == "DELETED", "delete: {answer:?}");
        }
        Ok(1)
    }
}
