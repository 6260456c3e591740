//! The worker against a leader that the test plays, on paused time; and what the other tests share.

mod agent;
mod contact;
mod grpc;
mod leaving;
mod output;
mod support;

pub(super) use support::{Bench, Play, Said, attempt, command, inline, job, sample, token};
