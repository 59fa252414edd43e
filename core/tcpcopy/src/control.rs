//! The control socket: a running replay is asked and changed over a Unix socket.
//!
//! One line of JSON asks ([`protocol::Request`]), one line answers ([`protocol::Answer`]), then the
//! connection ends. The socket is as private as its directory and mode make it: only its owner may
//! connect.

mod client;
mod protocol;
mod server;

pub use client::{CtlOptions, run};
pub use protocol::{Answer, Request};
pub use server::{ControlSocket, Question};
