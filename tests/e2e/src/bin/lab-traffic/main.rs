//! The traffic that no ready-made program makes: bodies whose hashes are written down, very many idle
//! connections, and a protocol of lines.

#![forbid(unsafe_code)]

mod idle;
mod journal;
mod lines;
mod listen;
mod noise;
mod record;
mod store;
mod transfer;
mod upload;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

/// What this run of the program is.
#[derive(Debug, Parser)]
enum Role {
    /// An HTTP server that writes down the hash of every body it receives.
    Serve {
        /// The port to listen on.
        #[arg(long)]
        port: u16,
        /// The file that gets one line per body.
        #[arg(long)]
        journal: PathBuf,
    },
    /// An HTTP server that writes down the hash of all that each connection brought.
    Record {
        /// The port to listen on.
        #[arg(long)]
        port: u16,
        /// The file that gets one line per connection that has ended.
        #[arg(long)]
        journal: PathBuf,
    },
    /// A client that uploads and downloads bodies of random sizes and checks what it gets.
    Transfer {
        /// The server.
        #[arg(long)]
        server: SocketAddr,
        /// How many bodies to upload, and how many to download.
        #[arg(long)]
        bodies: u64,
        /// The size of the largest body, in bytes.
        #[arg(long)]
        max_bytes: u64,
        /// How many connections carry them.
        #[arg(long, default_value_t = 8)]
        connections: u64,
    },
    /// A client that uploads in every way of HTTP/1.1, pipelines questions, and checks what it gets.
    Upload {
        /// The server.
        #[arg(long)]
        server: SocketAddr,
        /// How many bodies to upload.
        #[arg(long)]
        bodies: u64,
        /// The size of the largest body, in bytes.
        #[arg(long)]
        max_bytes: u64,
        /// How many connections carry them.
        #[arg(long, default_value_t = 8)]
        connections: u64,
    },
    /// A server that answers each line with a line, and writes down what each connection brought.
    ServeLines {
        /// The port to listen on.
        #[arg(long)]
        port: u16,
        /// The file that gets one line per connection that has ended.
        #[arg(long)]
        journal: PathBuf,
    },
    /// A client that asks lines and waits for their answers.
    AskLines {
        /// The server.
        #[arg(long)]
        server: SocketAddr,
        /// How many connections to open at once.
        #[arg(long)]
        connections: u64,
        /// How many lines to ask on each.
        #[arg(long)]
        lines: u64,
    },
    /// A server that answers one line per connection and holds the connections.
    Accept {
        /// The port to listen on.
        #[arg(long)]
        port: u16,
        /// How many processes share the connections.
        #[arg(long)]
        processes: u32,
        /// The file that gets one line per connection.
        #[arg(long)]
        journal: PathBuf,
    },
    /// One process of `accept`; the listening socket is its standard input.
    AcceptWorker {
        /// The file that gets one line per connection.
        #[arg(long)]
        journal: PathBuf,
    },
    /// A client that opens connections, asks one line on each, and holds them.
    Connect {
        /// The server.
        #[arg(long)]
        server: SocketAddr,
        /// How many connections to open.
        #[arg(long)]
        connections: u32,
    },
}

fn main() -> io::Result<()> {
    match Role::parse() {
        Role::Serve { port, journal } => store::serve(port, &journal),
        Role::Record { port, journal } => record::serve(port, &journal),
        Role::Transfer {
            server,
            bodies,
            max_bytes,
            connections,
        } => transfer::run(server, bodies, max_bytes, connections),
        Role::Upload {
            server,
            bodies,
            max_bytes,
            connections,
        } => upload::run(server, bodies, max_bytes, connections),
        Role::ServeLines { port, journal } => lines::serve(port, &journal),
        Role::AskLines {
            server,
            connections,
            lines,
        } => lines::ask(server, connections, lines),
        Role::Accept {
            port,
            processes,
            journal,
        } => idle::accept(port, processes, &journal),
        Role::AcceptWorker { journal } => idle::accept_worker(&journal),
        Role::Connect {
            server,
            connections,
        } => idle::connect(server, connections),
    }
}
