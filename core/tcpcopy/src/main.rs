//! The tcpcopy program; everything is in its library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    tcpcopy::run(std::env::args_os())
}
