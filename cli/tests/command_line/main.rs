//! The built `schedcli` against a cluster in memory: its help, its data in every form, its messages and exit codes.
//!
//! `UPDATE_GOLDEN=1` rewrites the expected texts; read the diff.

mod calendars;
mod definitions;
mod docs;
mod enqueue;
mod golden;
mod messages;
mod support;
mod verbs;
mod wrong_values;
