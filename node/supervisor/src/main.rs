//! The program of supervisors; the daemon starts it, and nobody else.
#![forbid(unsafe_code)]

use sched_supervisor::SUPERVISOR_ARG;
use std::process::ExitCode;

/// A mistake in what was asked for.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|arg| arg != SUPERVISOR_ARG) {
        eprintln!("schednode starts this program for each command that it runs; there is nothing to start by hand");
        return ExitCode::from(USAGE);
    }
    sched_supervisor::main(args)
}
