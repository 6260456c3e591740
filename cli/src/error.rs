//! What can go wrong, and the exit code it means.

use sched_client::ClientError;
use std::fmt;
use std::io;

/// Refused by the cluster, or what was waited for has failed.
pub(crate) const REFUSED: u8 = 1;
/// What was asked for makes no sense; nothing was sent.
pub(crate) const USAGE: u8 = 2;
/// No node answered.
pub(crate) const UNREACHABLE: u8 = 3;
/// No such task or run.
pub(crate) const NOT_FOUND: u8 = 4;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum CliError {
    /// What was asked for makes no sense.
    Usage(String),
    /// A call failed.
    Client(Box<ClientError>),
    /// A call for one of several things failed.
    About(String, Box<ClientError>),
    /// Everything was answered, and the answer is not success; said already.
    Said(u8),
    /// The data could not be written.
    Output(io::Error),
}

impl CliError {
    /// Returns the exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            CliError::Usage(_) => USAGE,
            CliError::Client(error) | CliError::About(_, error) => client_code(error),
            CliError::Said(code) => *code,
            // The reader has seen enough: `schedcli list | head`.
            CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            CliError::Output(_) => REFUSED,
        }
    }

    /// Whether nothing is to be said about it.
    pub(crate) fn is_silent(&self) -> bool {
        match self {
            CliError::Said(_) => true,
            CliError::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }
}

fn client_code(error: &ClientError) -> u8 {
    match error {
        ClientError::Endpoint { .. } | ClientError::Invalid(_) => USAGE,
        ClientError::Unreachable { .. } | ClientError::Protocol { .. } => UNREACHABLE,
        ClientError::Refused(_) if error.is_not_found() => NOT_FOUND,
        ClientError::Refused(_) => REFUSED,
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CliError::Usage(problem) => f.write_str(problem),
            CliError::Client(error) => error.fmt(f),
            CliError::About(what, error) => write!(f, "{what}: {error}"),
            CliError::Said(_) => Ok(()),
            CliError::Output(error) => write!(f, "standard output: {error}"),
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        CliError::Client(Box::new(error))
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        CliError::Output(error)
    }
}
