//! Very many connections that do nothing: more than one process may open, so several share them.

use std::env;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::journal::Journal;
use crate::listen::listen_on;

/// What a client asks, once a connection.
const QUESTION: [u8; 6] = *b"hello\n";

/// What the server answers.
const ANSWER: [u8; 3] = *b"ok\n";

/// Files of a process beside its connections.
const OTHER_FILES: u64 = 100;

/// How long one connection may keep the ones behind it waiting.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Starts the processes that share the listening socket and waits for them.
pub(crate) fn accept(port: u16, processes: u32, journal: &Path) -> io::Result<()> {
    let socket = OwnedFd::from(listen_on(port)?);
    let start = || {
        Command::new(env::current_exe()?)
            .args(["accept-worker", "--journal"])
            .arg(journal)
            .stdin(Stdio::from(socket.try_clone()?))
            .spawn()
    };
    let workers: Vec<_> = (0..processes).map(|_| start()).collect::<io::Result<_>>()?;
    workers
        .into_iter()
        .try_for_each(|mut worker| worker.wait().map(drop))
}

/// Accepts as many connections as this process may hold, then holds them.
pub(crate) fn accept_worker(journal: &Path) -> io::Result<()> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    let journal = Journal::open(journal)?;
    let (sender, receiver) = mpsc::channel::<TcpStream>();
    let answering = thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in receiver {
            match answer(&mut stream) {
                Ok(()) => journal.line("answered")?,
                Err(error) => journal.line(&format!("failed: {error}"))?,
            }
            held.push(stream);
        }
        hold(held)
    });
    for _ in 0..connection_limit()? {
        let (stream, _) = listener.accept()?;
        if sender.send(stream).is_err() {
            break;
        }
    }
    answering
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the answering thread panicked")))
}

fn answer(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(QUESTION_TIMEOUT))?;
    let mut question = QUESTION;
    stream.read_exact(&mut question)?;
    stream.write_all(&ANSWER)
}

/// Opens the connections one after the other, prints `held`, and holds them.
pub(crate) fn connect(server: SocketAddr, connections: u32) -> io::Result<()> {
    connection_limit()?;
    let mut held = Vec::new();
    for _ in 0..connections {
        let mut stream = TcpStream::connect(server)?;
        stream.write_all(&QUESTION)?;
        stream.read_exact(&mut { ANSWER })?;
        held.push(stream);
    }
    writeln!(io::stdout(), "held {}", held.len())?;
    hold(held)
}

/// Keeps the connections until this process is killed.
fn hold(held: Vec<TcpStream>) -> io::Result<()> {
    loop {
        thread::park();
        // Woken for no reason, which park may be.
        if held.is_empty() {
            return Ok(());
        }
    }
}

/// Raises the limit of open files as far as it goes and returns how many connections fit.
fn connection_limit() -> io::Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most.saturating_sub(OTHER_FILES))
}
