//! Raw bytes on every port: the connection ends, the node does not.

use crate::{LIMIT, holds_and_serves};
use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use sched_tests::{Cluster, Plan, http, scenario};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection that says nothing sensible is ended within this; the daemon's own timers are 10 s.
const END_LIMIT: Duration = Duration::from_secs(45);
/// Idle connections held at once, at each port.
const IDLE: usize = 300;
/// Printed with a failure by way of the test's source: the same bytes every time.
const SEED: u64 = 0x5eed;

/// What clients of HTTP/2 begin with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Byte strings that a port might be sent.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut random = |length: usize| {
        let mut bytes = vec![0; length];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    let after = |bytes: Vec<u8>| [PREFACE, &bytes].concat();
    // A frame header that announces 16 MiB, of every type.
    let large = |kind: u8| after(vec![0xff, 0xff, 0xff, kind, 0, 0, 0, 0, 1]);
    vec![
        ("a byte", vec![0]),
        ("nothing but zeros", vec![0; 1 << 16]),
        ("random bytes", random(1 << 20)),
        ("a little randomness", random(24)),
        ("the preface alone", PREFACE.to_vec()),
        ("half the preface", PREFACE[..12].to_vec()),
        ("random bytes after the preface", after(random(1 << 16))),
        ("a data frame of 16 MiB", large(0)),
        ("headers of 16 MiB", large(1)),
        ("settings of 16 MiB", large(4)),
        (
            "an endless header block",
            after(
                [
                    &[0, 0, 4, 4, 0, 0, 0, 0, 0][..],
                    &[0, 0x40, 0, 1, 0, 0, 0, 0, 1].repeat(2000),
                ]
                .concat(),
            ),
        ),
        ("a TLS greeting", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("HTTP/1 without end", b"GET /livez HTTP/1.1\r\nHost: x\r\n".to_vec()),
        (
            "HTTP/1 with a header of 1 MiB",
            [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 1 << 20]].concat(),
        ),
        (
            "HTTP/1 with a body that does not come",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n".to_vec(),
        ),
        ("not quite HTTP", b"GET GET GET\r\n\r\n\r\n".to_vec()),
        ("another protocol", b"*1\r\n$4\r\nPING\r\n".to_vec()),
        ("text", "ÄÖÜ 漢字 \r\n".repeat(1000).into_bytes()),
    ]
}

#[test]
fn garbage_ends_the_connection_and_not_the_node() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let leader = cluster.leader().await?;
        let term = cluster.nodes[leader].status().await?.term;
        let samples = samples();
        // All at once: each waits for some timer of the node, and none may wait for another.
        let ports = ports(cluster);
        let pairs = ports
            .iter()
            .flat_map(|address| samples.iter().map(move |sample| (address, sample)));
        let all = join_all(pairs.map(|(address, (what, bytes))| async move {
            let sent = send(address, bytes).await;
            sent.with_context(|| format!("{what} to {address}"))
        }));
        all.await.into_iter().collect::<Result<Vec<()>>>()?;
        holds_and_serves(cluster, 0).await?;
        ensure!(
            cluster.nodes[leader].status().await?.term == term,
            "the leader was deposed by garbage"
        );
        Ok(())
    });
}

#[test]
fn a_path_that_is_none_is_said_to_be_none() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let address = &cluster.nodes[0].client;
        let (status, body) = http::get(address, "/nowhere").await?;
        ensure!(status == 404 && body.contains("/livez"), "{status}: {body}");
        // A call gets gRPC's own answer: status 12, unimplemented.
        let mut stream = TcpStream::connect(address).await?;
        let call = "POST /other.Service/Call HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(call.as_bytes()).await?;
        let mut answer = String::new();
        timeout(END_LIMIT, stream.read_to_string(&mut answer)).await??;
        ensure!(answer.contains("grpc-status: 12"), "{answer}");
        holds_and_serves(cluster, 0).await
    });
}

#[test]
fn connections_that_say_nothing_are_ended_and_do_no_harm() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let mut idle = Vec::new();
        for address in ports(cluster) {
            for _ in 0..IDLE {
                idle.push(TcpStream::connect(&address).await?);
            }
        }
        // While they are there, others are served.
        cluster.cli(&["status"]).await?.done()?;
        let ends = join_all(idle.into_iter().map(|stream| ended(stream, &[])));
        ends.await.into_iter().collect::<Result<Vec<()>>>()?;
        holds_and_serves(cluster, 0).await
    });
}

#[test]
fn connections_that_are_reset_in_the_middle_leave_nothing_behind() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let pid = cluster.nodes[0].pid()?;
        let before = open_files(pid)?;
        for address in ports(cluster) {
            for (_, bytes) in samples() {
                let mut stream = TcpStream::connect(&address).await?;
                // What is sent after a reset is lost, and that is the point.
                let _ = stream.write_all(&bytes[..bytes.len() / 2]).await;
                stream.set_zero_linger()?;
            }
        }
        sched_tests::eventually("the connections are given back", END_LIMIT, async || {
            let now = open_files(pid)?;
            ensure!(now <= before + 20, "{before} open files before, {now} now");
            Ok(())
        })
        .await?;
        holds_and_serves(cluster, 0).await
    });
}

/// Every address on which a node listens.
fn ports(cluster: &Cluster) -> Vec<String> {
    cluster
        .nodes
        .iter()
        .flat_map(|node| [node.client.clone(), node.peer.clone()])
        .collect()
}

/// Sends bytes to a port, and waits for the end of the connection.
async fn send(address: &str, bytes: &[u8]) -> Result<()> {
    let stream = TcpStream::connect(address).await?;
    ended(stream, bytes).await
}

/// Waits until the other side has ended the connection; whatever it says before is taken.
async fn ended(stream: TcpStream, bytes: &[u8]) -> Result<()> {
    let (mut read, mut write) = stream.into_split();
    let talk = async {
        // It may end while we still send; that is its answer.
        let _ = write.write_all(bytes).await;
        let mut answer = vec![0; 64 * 1024];
        // An error is a reset, which is an end too.
        while read.read(&mut answer).await.unwrap_or(0) > 0 {}
    };
    timeout(END_LIMIT, talk).await.context("the connection is still open")
}

fn open_files(pid: u32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
