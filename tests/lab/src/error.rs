//! What can go wrong in a lab, in words that tell the reader what to do.

use std::io;
use std::time::Duration;

/// A failure of the lab itself or of a program that ran in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The caller may not make namespaces.
    #[error(
        "the lab makes network namespaces and may not: it runs as uid {uid}\n\n\
         hint: run it as root, for example `sudo -E env PATH=\"$PATH\" cargo xtask test`"
    )]
    NotRoot {
        /// The effective user id of this process.
        uid: u32,
    },
    /// Programs are missing that the lab starts.
    #[error("missing on this machine: {programs}\n\nhint: {command}")]
    Missing {
        /// The programs, with commas between them.
        programs: String,
        /// The exact command that installs them.
        command: String,
    },
    /// The namespaces could not be made.
    #[error("the lab could not be made: {detail}")]
    Start {
        /// What the failing command printed.
        detail: String,
    },
    /// A program could not be started.
    #[error("could not start `{command}`")]
    Spawn {
        /// The command line.
        command: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A program ended otherwise than with status 0.
    #[error("`{command}` on {host} ended with {status}\n{stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// The host that it ran on.
        host: String,
        /// Its exit status in words.
        status: String,
        /// The end of what it printed.
        stderr: String,
    },
    /// Something did not happen in time.
    #[error("waited {waited:?} in vain for {what}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// A program printed something that the lab does not understand.
    #[error("could not read the output of {program}: {detail}")]
    Unreadable {
        /// The program.
        program: &'static str,
        /// The offending text.
        detail: String,
    },
    /// An operation on a file of the lab failed.
    #[error("could not {operation} {path}")]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl LabError {
    pub(crate) fn io(operation: &'static str, path: impl ToString, source: io::Error) -> Self {
        Self::Io {
            operation,
            path: path.to_string(),
            source,
        }
    }
}
