//! From the command line to the exit status.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::capture;
use crate::command_line::{Command, CommandLine};
use crate::control;
use crate::doctor;
use crate::plugin;
use crate::start::start;
use crate::supervise::supervise;

/// Runs the program: exit status 0 when it was stopped in good order, 1 when intercept was lost or
/// a part failed, 2 when it could not run.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    /// Could not run.
    const COULD_NOT_RUN: u8 = 2;
    let line = match CommandLine::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => {
            // Help and version go to standard output with status 0; a reader that has gone away
            // is no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(COULD_NOT_RUN));
        }
    };
    match line.command {
        Some(Command::Capture(options)) => return capture::run(options),
        Some(Command::Ctl(options)) => return control::run(&options),
        Some(Command::Doctor(options)) => return doctor::run(&options),
        Some(Command::Plugin(command)) => return plugin::run(&command),
        None => {}
    }
    match start(line.options) {
        Ok(running) => supervise(running),
        Err(error) => {
            let _ = io::stderr().write_all(error.user_text().as_bytes());
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}
