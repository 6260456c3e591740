//! `schedcli`: the command line of the scheduler.
//!
//! Data goes to standard output, talk to standard error. Exit codes: 0 done, 1 refused, 2 wrong usage, 3 nobody answered,
//! 4 no such task or run.
#![forbid(unsafe_code)]

mod args;
mod build;
mod change;
mod document;
mod error;
mod ics;
mod input;
mod notify;
mod output;
mod table;
mod verbs;
mod view;
mod when;
mod yaml;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Wrong usage ends here, with exit code 2; help and version with 0.
    let args = args::Cli::parse();
    match verbs::carry_out(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_silent() {
                eprintln!("schedcli: {}", output::visible(&error.to_string()));
            }
            ExitCode::from(error.code())
        }
    }
}
