//! When a task runs.
