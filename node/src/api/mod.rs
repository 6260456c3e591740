//! The client port: gRPC for clients and workers, and `/livez`, `/readyz`, `/metrics` for the rest of the world.

mod calendars;
mod changes;
mod check;
mod definitions;
mod errors;
mod gate;
mod http;
mod incoming;
mod lists;
mod logs;
mod members;
mod origin;
mod overview;
mod reads;
mod service;
mod submit;
mod workers;

use crate::leader::Gateway;
use crate::shared::Shared;
use gate::Gate;
use incoming::Incoming;
use sched_proto::limits::MESSAGE_BYTES_MAX;
use sched_proto::v1::scheduler_server::SchedulerServer;
use sched_proto::worker::worker_gateway_server::WorkerGatewayServer;
use service::Api;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;

/// Largest message of a worker: a batch of results with their tails.
const WORKER_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// HTTP/2 windows: a whole batch is on its way without waiting.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Calls in progress on one connection.
const STREAMS_MAX: u32 = 1024;
/// A connection whose other end is silent is ended after both together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Metadata of a call.
const HEADER_BYTES_MAX: u32 = 32 * 1024;

/// Returns what clients and workers call.
pub(crate) fn grpc(shared: &Arc<Shared>) -> Routes {
    let scheduler = SchedulerServer::new(Api::new(shared.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let workers = WorkerGatewayServer::new(Gateway::new(shared.clone()))
        .max_decoding_message_size(WORKER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(WORKER_MESSAGE_BYTES_MAX);
    Routes::new(Gate::new(shared.clone(), scheduler)).add_service(workers)
}

/// Serves the client port until `stop`, then answers what is in progress.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let routes = grpc(&shared).into_axum_router().merge(http::router(shared.clone()));
    let routes = Routes::from(routes.fallback(http::nothing_here));
    let incoming = Incoming::new(listener, shared.clone());
    Server::builder()
        .accept_http1(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(4 * WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming.accept(), stop)
        .await
}
