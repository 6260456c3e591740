//! The one HTTP/1.1 exchange that probes and scrapers need.

use anyhow::{Context, Result};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest exchange.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest answer read.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Asks for a path as a kubelet or Prometheus would, and returns status and body.
///
/// # Errors
/// No connection, no answer within 5 s, or an answer that is not HTTP.
pub async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(BYTES_MAX).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(LIMIT, exchange).await;
    let answer = answer.with_context(|| format!("{address}{path}: no answer within {LIMIT:?}"))?;
    let answer = answer.with_context(|| format!("{address}{path}"))?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .with_context(|| format!("{address}{path}: not HTTP: {text:.100?}"))?;
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("{address}{path}: no status in {head:.100?}"))?;
    Ok((status, body.to_owned()))
}

/// Reads one metric of a node, without labels.
///
/// # Errors
/// No answer, or no such metric.
pub async fn metric(address: &str, name: &str) -> Result<f64> {
    let (_, page) = get(address, "/metrics").await?;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.with_context(|| format!("{address}/metrics has no {name}"))?;
    value
        .trim()
        .parse()
        .with_context(|| format!("{name} of {address} is {value:?}"))
}
