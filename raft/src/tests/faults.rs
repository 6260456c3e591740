//! Bad peers and broken nodes.

use super::support::*;
use crate::types::Commands;
use sched_proto::peer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_its_connection_and_nothing_else() {
    let mut cluster = Cluster::formed(1, |_| {}).await;
    let address = cluster.nodes[0].address;
    for garbage in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        &[0xff; 4096],
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\nnonsense",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        // An orderly end or a reset: both are ends.
        let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    }
    // The preface alone, and then frames that are none.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&[0x55; 1024]).await.unwrap();
    let mut answer = Vec::new();
    let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    // Half of the preface and then nothing.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0").await.unwrap();
    let mut answer = Vec::new();
    let _ = within("the end of a silent connection", stream.read_to_end(&mut answer)).await;
    submit_one(cluster.nodes[0].replica()).await.unwrap();
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_for_others_are_refused() {
    let mut cluster = Cluster::formed(1, |_| {}).await;
    let replica = cluster.nodes[0].replica().clone();
    let node = replica.node().0;
    let name = replica.core().peers.cluster().unwrap().to_vec();
    let good = peer::Route {
        cluster: name.into(),
        from: 5,
        to: node,
        group: 0,
    };
    let address = cluster.nodes[0].address.to_string();
    let mut client = replica.core().peers.dial(&address).unwrap();
    let ballot = Some(peer::Ballot {
        term: 1,
        node: 5,
        committed: false,
    });
    for bad in [
        None,
        Some(peer::Route {
            cluster: vec![1; 16].into(),
            ..good.clone()
        }),
        Some(peer::Route {
            to: node + 1,
            ..good.clone()
        }),
        Some(peer::Route {
            group: 1,
            ..good.clone()
        }),
        Some(peer::Route {
            from: node,
            ..good.clone()
        }),
    ] {
        let request = peer::VoteRequest {
            route: bad.clone(),
            ballot,
            last: None,
            transfer: false,
        };
        assert_eq!(
            client.pre_vote(request.clone()).await.unwrap_err().code(),
            Code::FailedPrecondition,
            "{bad:?}"
        );
        assert_eq!(
            client.vote(request).await.unwrap_err().code(),
            Code::FailedPrecondition,
            "{bad:?}"
        );
        let append = peer::AppendRequest {
            route: bad.clone(),
            ..Default::default()
        };
        assert_eq!(
            client.append(append.clone()).await.unwrap_err().code(),
            Code::FailedPrecondition,
            "{bad:?}"
        );
        let mut replies = client
            .append_stream(tokio_stream::iter([append]))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            replies.message().await.unwrap_err().code(),
            Code::FailedPrecondition,
            "{bad:?}"
        );
        let head = peer::SnapshotHead {
            route: bad.clone(),
            ..Default::default()
        };
        let part = peer::SnapshotPart {
            part: Some(peer::snapshot_part::Part::Head(head)),
        };
        let refused = client.snapshot(tokio_stream::iter([part])).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{bad:?}");
        let read = peer::ReadIndexRequest { route: bad.clone() };
        assert_eq!(
            client.read_index(read).await.unwrap_err().code(),
            Code::FailedPrecondition,
            "{bad:?}"
        );
    }
    // Right route, wrong content: refused, and the node lives on.
    let entries = vec![bytes::Bytes::from_static(b"no record")];
    let leader = Some(peer::Ballot {
        term: 1,
        node: 5,
        committed: true,
    });
    let append = peer::AppendRequest {
        route: Some(good.clone()),
        ballot: leader,
        entries,
        ..Default::default()
    };
    assert_eq!(client.append(append).await.unwrap_err().code(), Code::InvalidArgument);
    let other = Some(peer::Ballot {
        term: 9,
        node: 6,
        committed: false,
    });
    let vote = peer::VoteRequest {
        route: Some(good),
        ballot: other,
        last: None,
        transfer: false,
    };
    assert_eq!(
        client.vote(vote).await.unwrap_err().code(),
        Code::InvalidArgument,
        "a candidate asks for itself"
    );
    assert!(replica.metrics().peer_refused >= 5 * 6);
    submit_one(&replica).await.unwrap();
    drop((client, replica));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_cannot_be_applied_stops_the_node_and_says_what_to_do() {
    let mut cluster = Cluster::formed(1, |options| options.propose_timeout_ms = 2_000).await;
    let replica = cluster.nodes[0].replica().clone();
    submit_one(&replica).await.unwrap();
    let junk = Commands(bytes::Bytes::from_static(b"written by a release of the future"));
    replica.core().raft.write(junk).await.unwrap();
    let mut fatal = cluster.nodes[0].fatal.subscribe();
    let told = within("the fatal hook", fatal.wait_for(|told| !told.is_empty()))
        .await
        .unwrap()
        .clone();
    assert_eq!(told.len(), 1);
    assert!(
        told[0].problem.contains("cannot be read by this release"),
        "{}",
        told[0]
    );
    assert!(
        told[0]
            .to_string()
            .contains(&cluster.nodes[0].dir.path().display().to_string()),
        "{}",
        told[0]
    );
    assert!(submit_one(&replica).await.is_err());
    drop(replica);
    cluster.stop_all().await;
}

/// A follower whose folder is put back as it was before is taken for gone; the leader goes on, with the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_went_backwards_takes_nobody_with_it() {
    let mut cluster = Cluster::formed(3, |_| {}).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower(leader);
    submit_one(cluster.nodes[leader].replica()).await.unwrap();
    cluster.stop(follower).await;
    let backup = tempfile::tempdir().unwrap();
    copy(cluster.nodes[follower].dir.path(), backup.path());
    let replica = cluster.start(follower).await;
    for _ in 0..20 {
        submit_one(cluster.nodes[leader].replica()).await.unwrap();
    }
    // Only what the leader has heard of is missed: having applied it is not enough.
    let (leads, lags) = (cluster.nodes[leader].replica().clone(), replica.node());
    let acknowledged = || {
        let mut members = leads.members().into_iter();
        members.any(|member| member.node == lags && member.lag_entries == Some(0))
    };
    within("the leader to hear that the follower has everything", async {
        while !acknowledged() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    drop(leads);
    drop(replica);
    cluster.stop(follower).await;
    std::fs::remove_dir_all(cluster.nodes[follower].dir.path()).unwrap();
    copy(backup.path(), cluster.nodes[follower].dir.path());
    drop(cluster.start(follower).await);
    let before = cluster.nodes[leader].replica().metrics().term;
    for _ in 0..20 {
        submit_one(cluster.nodes[leader].replica()).await.unwrap();
    }
    let reached = |cluster: &Cluster| {
        let members = cluster.nodes[leader].replica().members();
        members.iter().filter(|member| member.reachable == Some(true)).count()
    };
    within("the leader to take it for gone", async {
        while reached(&cluster) != 2 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    submit_one(cluster.nodes[leader].replica()).await.unwrap();
    assert_eq!(
        cluster.nodes[leader].replica().metrics().term,
        before,
        "nobody else had to lead"
    );
    assert!(cluster.nodes[leader].fatal.borrow().is_empty());
    cluster.stop_all().await;
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
