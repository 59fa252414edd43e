//! `tcpcopy ctl`: the asking side of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Args, Subcommand};

use super::{Answer, Request};

/// How long an answer may take: a busy shard tells its figures within a turn.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// The command line of `tcpcopy ctl`.
#[derive(Clone, Debug, Args)]
pub struct CtlOptions {
    /// The socket that the running tcpcopy was given with --control
    #[arg(long, value_name = "SOCKET")]
    control: PathBuf,
    /// What to do.
    #[command(subcommand)]
    action: Action,
    /// Prints this help
    #[arg(short = 'h', long, action = ArgAction::Help, global = true)]
    help: Option<bool>,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Prints the figures so far, as JSON
    Status,
    /// Replays nothing more for now; live traffic is counted as `paused`, a file stands still
    Pause,
    /// Goes on after a pause
    Resume,
    /// Sessions for each new connection, 1 to 1023, as -n
    Multiplier {
        /// Such as 1.5
        count: String,
    },
    /// Per cent of the new connections, as -r
    Percent {
        /// Such as 2.5
        percent: String,
    },
    /// Bound on connections (N) or requests (Nrps) a second, as --rate; off takes it away
    Rate {
        /// Such as 100, 500rps or off
        rate: String,
    },
    /// Ends the replay once everything captured is delivered
    Stop {
        /// Drops what is not delivered yet
        #[arg(long)]
        now: bool,
    },
}

/// Asks, prints the answer, and says whether it was done.
pub fn run(options: &CtlOptions) -> ExitCode {
    let request = match &options.action {
        Action::Status => Request::Status,
        Action::Pause => Request::Pause,
        Action::Resume => Request::Resume,
        Action::Multiplier { count } => Request::Multiplier(count.clone()),
        Action::Percent { percent } => Request::Percent(percent.clone()),
        Action::Rate { rate } => Request::Rate(rate.clone()),
        Action::Stop { now } => Request::Stop { now: *now },
    };
    let path = options.control.display();
    let problem = match ask(&options.control, &request) {
        Ok(Answer::Done) => return ExitCode::SUCCESS,
        Ok(Answer::Status(figures)) => {
            let text = serde_json::to_string_pretty(&figures).unwrap_or_default();
            // Whoever read the output may be gone.
            let _ = writeln!(io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Answer::Refused(reason)) => reason,
        Err(error) => format!(
            "can't ask tcpcopy at {path}: {error}\n\n\
             hint: start it with --control {path}, and ask as the same user"
        ),
    };
    let _ = writeln!(io::stderr(), "tcpcopy: {problem}");
    ExitCode::FAILURE
}

fn ask(path: &std::path::Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}
