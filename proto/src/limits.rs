//! Bounds of the client-facing wire that both sides keep. Those of the state machine are in `sched_core::limits`.

/// Largest message either side decodes, in bytes: a batch of submits and a page of tasks fit, garbage does not.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a client packs into one batch, in bytes: half of [`MESSAGE_BYTES_MAX`], because the last item may be a large one.
pub const BATCH_BYTES_TARGET: usize = MESSAGE_BYTES_MAX / 2;
/// Items of one `SubmitMany`: they fit one entry of the log.
pub const SUBMIT_MANY_ITEMS_MAX: usize = 1000;
/// Entries of a page when the caller does not say.
pub const PAGE_ITEMS_DEFAULT: u32 = 100;
/// Most entries of a page.
pub const PAGE_ITEMS_MAX: u32 = 1000;
/// Longest cursor of a page, in bytes: it carries a key, nothing else.
pub const CURSOR_BYTES_MAX: usize = 1024;
/// Longest single `Wait`; clients ask again.
pub const WAIT_MS_MAX: u64 = 30_000;
/// Most bytes of output in one `LogsChunk`.
pub const LOGS_CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Longest message of a refusal, in bytes. It travels in HTTP/2 headers twice (as text and in the details), and a peer drops
/// the connection when its headers exceed 16 KiB.
pub const FAILURE_MESSAGE_BYTES_MAX: usize = 2 * 1024;
/// Timeout of an HTTP action when the caller does not say, in milliseconds.
pub const HTTP_TIMEOUT_MS_DEFAULT: u64 = 30_000;
