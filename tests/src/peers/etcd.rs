//! etcd, three members: a task is a key. Its whole life is three writes: put, marked as taken, deleted.

use super::process::{Servers, listens, program};
use super::{Caller, Work, closed, payload};
use crate::load::Report;
use crate::{eventually, ports};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::time::Duration;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// Connections that callers share.
const CONNECTIONS: usize = 8;

/// Three members on this machine.
#[derive(Debug)]
pub struct Etcd {
    servers: Servers,
    clients: Vec<String>,
}

impl Etcd {
    /// Starts them, or returns nothing where etcd is not installed.
    ///
    /// # Errors
    /// They do not form a cluster.
    pub async fn start() -> Result<Option<Self>> {
        let Some(etcd) = program("etcd") else { return Ok(None) };
        let mut servers = Servers::new("etcd")?;
        let ports = ports::free(6)?;
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let (clients, peers) = ports.split_at(3);
        let cluster: Vec<_> = (0..3).map(|index| format!("n{index}={}", url(&peers[index]))).collect();
        for index in 0..3 {
            let (client, peer) = (url(&clients[index]), url(&peers[index]));
            let data = servers.folder().join(format!("n{index}")).display().to_string();
            let arguments = [
                "--name",
                &format!("n{index}"),
                "--data-dir",
                &data,
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
                "--initial-cluster",
                &cluster.join(","),
                "--initial-cluster-state",
                "new",
                "--quota-backend-bytes",
                "8589934592",
                "--log-level",
                "error",
            ];
            servers.start(&etcd, &arguments)?;
        }
        for client in clients {
            listens(&format!("127.0.0.1:{client}")).await?;
        }
        let clients: Vec<String> = clients.iter().map(url).collect();
        let first = Endpoint::from_shared(clients[0].clone())?.connect_lazy();
        eventually("etcd has a leader", Duration::from_secs(30), async || {
            let mut caller = caller(first.clone(), Work::Enqueue(1), 0);
            caller.once().await.map(drop)
        })
        .await?;
        Ok(Some(Self { servers, clients }))
    }

    /// Lets so many callers work at the leader.
    ///
    /// # Errors
    /// There is no leader.
    pub async fn measure(&self, callers: usize, work: Work, duration: Duration) -> Result<Report> {
        let leader = self.leader().await?;
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS.min(callers) {
            channels.push(
                Endpoint::from_shared(leader.clone())?
                    .tcp_nodelay(true)
                    .connect()
                    .await?,
            );
        }
        let callers = (0..callers)
            .map(|index| caller(channels[index % channels.len()].clone(), work, index))
            .collect();
        closed("etcd", callers, duration, &self.servers.pids()).await
    }

    async fn leader(&self) -> Result<String> {
        for client in &self.clients {
            let mut grpc = Grpc::new(Endpoint::from_shared(client.clone())?.connect().await?);
            let status: StatusResponse = unary(&mut grpc, "/etcdserverpb.Maintenance/Status", Empty {}).await?;
            if status.header.is_some_and(|header| header.member_id == status.leader) {
                return Ok(client.clone());
            }
        }
        anyhow::bail!("no member of etcd leads")
    }
}

struct Put {
    grpc: Grpc<Channel>,
    work: Work,
    index: usize,
    next: u64,
    value: Arc<[u8]>,
}

fn caller(channel: Channel, work: Work, index: usize) -> Put {
    Put {
        grpc: Grpc::new(channel),
        work,
        index,
        next: 0,
        value: payload(),
    }
}

impl Caller for Put {
    async fn once(&mut self) -> Result<u64> {
        self.next += 1;
        let key = format!("t/{:04x}/{:08x}", self.index, self.next).into_bytes();
        let put = PutRequest {
            key: key.clone(),
            value: self.value.to_vec(),
        };
        let _: Empty = unary(&mut self.grpc, "/etcdserverpb.KV/Put", put).await?;
        if self.work == Work::Cycle {
            let taken = PutRequest {
                key: key.clone(),
                value: b"taken".to_vec(),
            };
            let _: Empty = unary(&mut self.grpc, "/etcdserverpb.KV/Put", taken).await?;
            let delete = DeleteRangeRequest { key };
            let _: Empty = unary(&mut self.grpc, "/etcdserverpb.KV/DeleteRange", delete).await?;
        }
        Ok(1)
    }
}

async fn unary<Q, A>(grpc: &mut Grpc<Channel>, path: &'static str, message: Q) -> Result<A>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    grpc.ready().await.context("etcd")?;
    let codec = ProstCodec::<Q, A>::default();
    let reply = grpc
        .unary(tonic::Request::new(message), PathAndQuery::from_static(path), codec)
        .await?;
    Ok(reply.into_inner())
}

// The parts of etcd's messages that are used here; the numbers are those of its `rpc.proto`.

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DeleteRangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}
