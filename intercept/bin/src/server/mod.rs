//! The tunnel server and all housekeeping: one thread around one epoll.

mod connection;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use intercept_lib::LogGate;
use intercept_lib::table::{LinkId, Reset};
use intercept_lib::tunnel::{RefuseCode, Security, ServerEvent, ServerLink};
use nix::sys::signalfd::SignalFd;
use rustix::event::{Timespec, epoll};

use crate::diagnosis::Diagnostician;
use crate::error::Error;
use crate::journal_file::JournalFile;
use crate::shared::{Link, Shared};
use crate::statistics::Statistics;

/// Connections that have not said hello yet, at most: the oldest gives way.
const MAX_HALF_OPEN: usize = 64;
/// Connections accepted from a listener before others have their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Time between two rounds of housekeeping.
const TICK: Duration = Duration::from_millis(250);
/// Longest wait at the end for targets to take note of their resets.
const LINGER: Duration = Duration::from_secs(1);
/// Silence of all targets after which the wait at the end is over.
const LINGER_QUIET: Duration = Duration::from_millis(150);
/// Bytes read from a connection at once.
const READ_LEN: usize = 64 << 10;
/// Epoll token of the signals.
const SIGNALS: u64 = 0;
/// Epoll token of the first listener.
const FIRST_LISTENER: u64 = 1;
/// Epoll token of the first connection.
const FIRST_CONNECTION: u64 = 1 << 16;

/// A tunnel connection as the server keeps it.
#[derive(Debug)]
struct Connection {
    link: Arc<Link>,
    /// The table's number for it, once its hello was accepted.
    id: Option<LinkId>,
}

/// The tunnel server.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    security: Security,
    epoll: OwnedFd,
    listeners: Vec<TcpListener>,
    signals: SignalFd,
    connections: BTreeMap<u64, Connection>,
    next_token: u64,
    /// Connections that had more to read than their turn allowed; the kernel does not name them
    /// again.
    unfinished: BTreeSet<u64>,
    /// Whether the listeners may have more connections.
    accept_more: bool,
    /// There is none on an assistant.
    journal: Option<JournalFile>,
    statistics: Statistics,
    diagnostician: Diagnostician,
    gates: BTreeMap<&'static str, LogGate>,
    buffer: Box<[u8]>,
    events: Vec<ServerEvent>,
    records: Vec<u8>,
    resets: Vec<Reset>,
}

impl Server {
    /// Makes a server of what was opened before.
    ///
    /// # Errors
    /// [`Error::Io`] when the kernel has no epoll to give.
    pub(crate) fn new(
        shared: Arc<Shared>,
        security: Security,
        listeners: Vec<TcpListener>,
        signals: SignalFd,
        journal: Option<JournalFile>,
        statistics: Statistics,
    ) -> Result<Self, Error> {
        let failed = |errno: rustix::io::Errno| Error::io("set up the event loop", errno);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let read = epoll::EventFlags::IN;
        epoll::add(&epoll, &signals, epoll::EventData::new_u64(SIGNALS), read).map_err(failed)?;
        for (token, listener) in (FIRST_LISTENER..).zip(&listeners) {
            // Edge-triggered: without file descriptors for another connection the loop goes on,
            // and tries again at the next tick.
            let flags = read | epoll::EventFlags::ET;
            let data = epoll::EventData::new_u64(token);
            epoll::add(&epoll, listener, data, flags).map_err(failed)?;
        }
        Ok(Self {
            shared,
            security,
            epoll,
            listeners,
            signals,
            connections: BTreeMap::new(),
            next_token: FIRST_CONNECTION,
            unfinished: BTreeSet::new(),
            accept_more: false,
            journal,
            statistics,
            diagnostician: Diagnostician::default(),
            gates: BTreeMap::new(),
            buffer: vec![0; READ_LEN].into_boxed_slice(),
            events: Vec::new(),
            records: Vec::new(),
            resets: Vec::new(),
        })
    }

    /// Serves until a signal asks for the end, or one of the packet threads ends.
    ///
    /// # Errors
    /// [`Error::Stopped`] with the thread's name and reason.
    pub(crate) fn run(&mut self, threads: &mut Vec<JoinHandle<Error>>) -> Result<(), Error> {
        let mut tick_at = Instant::now() + TICK;
        loop {
            for token in self.wait(tick_at)? {
                match token {
                    SIGNALS => {
                        if matches!(self.signals.read_signal(), Ok(Some(_))) {
                            return Ok(());
                        }
                    }
                    token if token < FIRST_CONNECTION => self.accept_more = true,
                    token => self.serve(token),
                }
            }
            // After the others, so that a flood does not push out who has just said hello.
            if self.accept_more {
                self.accept();
            }
            if Instant::now() >= tick_at {
                tick_at = Instant::now() + TICK;
                self.tick();
                if let Some(index) = threads.iter().position(JoinHandle::is_finished) {
                    let thread = threads.swap_remove(index);
                    let name = thread.thread().name().unwrap_or("a thread").to_owned();
                    let reason = match thread.join() {
                        Ok(error) => error.to_string(),
                        Err(_) => "it panicked".to_owned(),
                    };
                    return Err(Error::Stopped(name, reason));
                }
            }
        }
    }

    /// Ends all links and resets all sessions at the target, then waits until the target has
    /// taken note: what it still says in the meantime is dropped and answered exactly.
    pub(crate) fn shut_down(&mut self) {
        while let Some((_, connection)) = self.connections.pop_first() {
            let mut protocol = connection.link.protocol();
            protocol.refuse(RefuseCode::ShuttingDown, "intercept is shutting down");
            let _ = connection.link.flush(&mut protocol);
            let _ = connection.link.socket.shutdown(std::net::Shutdown::Both);
        }
        self.listeners.clear();
        let mut resets = Vec::new();
        self.shared.table().reset_all(Instant::now(), &mut resets);
        self.shared.resetter.send(&resets);
        if !resets.is_empty() {
            self.linger();
        }
        if let Some(journal) = self.journal.take() {
            journal.remove();
        }
        self.statistics.log(&self.shared, 0);
    }

    /// Waits until no target has said anything for a moment.
    fn linger(&self) {
        let heard = || {
            let counts = self.shared.table().counts();
            counts.late_packets + counts.session_packets
        };
        let end = Instant::now() + LINGER;
        let mut before = heard();
        while Instant::now() < end {
            std::thread::sleep(LINGER_QUIET);
            let now = heard();
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// Waits for events, until a time at most; returns the tokens of what is ready.
    fn wait(&mut self, end: Instant) -> Result<BTreeSet<u64>, Error> {
        let mut tokens = std::mem::take(&mut self.unfinished);
        let timeout = if tokens.is_empty() && !self.accept_more {
            end.saturating_duration_since(Instant::now())
        } else {
            Duration::ZERO
        };
        let mut events = Vec::with_capacity(64);
        let timeout = Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::io("wait for events", errno)),
        }
        tokens.extend(events.iter().map(|event| event.data.u64()));
        Ok(tokens)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.accept();
        self.diagnostician.tick(now);
        for token in self.connections.keys().copied().collect::<Vec<_>>() {
            let Some(connection) = self.connections.get(&token) else {
                continue;
            };
            let link = Arc::clone(&connection.link);
            link.protocol().timeout(now);
            self.close_if_over(token, None);
        }
        let shared = Arc::clone(&self.shared);
        let mut snapshot = Vec::new();
        let rewrite = self
            .journal
            .as_ref()
            .is_some_and(JournalFile::wants_rewrite);
        {
            let mut table = shared.table();
            table.timeout(now, &mut self.resets);
            table.take_journal(&mut self.records);
            if rewrite {
                table.snapshot(&mut snapshot);
            }
        }
        self.write_journal(now);
        if rewrite && let Some(journal) = &mut self.journal {
            let result = journal.replace(&snapshot);
            self.complain_of_journal(now, result);
        }
        self.send_resets();
        let links = self.connections.values().filter(|c| c.id.is_some()).count();
        self.statistics.tick(now, &self.shared, links);
    }

    /// Accepts connections, so many from each listener.
    fn accept(&mut self) {
        self.accept_more = false;
        for index in 0..self.listeners.len() {
            let mut emptied = false;
            for _ in 0..ACCEPTS_PER_TURN {
                match self.listeners[index].accept() {
                    Ok((socket, peer)) => {
                        if let Err(error) = self.admit(socket, peer) {
                            self.complain("accept", peer, &format!("lost a connection: {error}"));
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        emptied = true;
                        break;
                    }
                    // The peer went away while it waited.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        if let Some(held_back) = self.gate("accept", Instant::now()) {
                            tracing::warn!(%error, held_back, "cannot accept connections");
                        }
                        emptied = true;
                        break;
                    }
                }
            }
            self.accept_more |= !emptied;
        }
    }

    fn admit(&mut self, socket: std::net::TcpStream, peer: std::net::SocketAddr) -> io::Result<()> {
        let half_open = |(_, connection): &(&u64, &Connection)| connection.id.is_none();
        if self.connections.iter().filter(half_open).count() >= MAX_HALF_OPEN
            && let Some((&oldest, _)) = self.connections.iter().find(half_open)
        {
            self.close(oldest);
            self.complain("half-open", peer, "too many connections without a hello");
        }
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let token = self.next_token;
        self.next_token += 1;
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        epoll::add(
            &self.epoll,
            &socket,
            epoll::EventData::new_u64(token),
            flags,
        )?;
        let protocol = ServerLink::new(&self.security, peer.ip(), Instant::now());
        let link = Arc::new(Link::new(socket, peer, protocol));
        self.connections
            .insert(token, Connection { link, id: None });
        Ok(())
    }

    /// Appends the table's records to the journal; returns whether they are there.
    fn write_journal(&mut self, now: Instant) -> bool {
        let result = match &mut self.journal {
            Some(journal) => journal.append(&self.records),
            None => Ok(()),
        };
        self.records.clear();
        let written = result.is_ok();
        self.complain_of_journal(now, result);
        written
    }

    fn complain_of_journal(&mut self, now: Instant, result: io::Result<()>) {
        if let Err(error) = result
            && let Some(held_back) = self.gate("journal", now)
        {
            tracing::error!(%error, held_back,
                "cannot write the journal: no session is taken in until it can be written again, \
                 and after a crash replies may reach real clients");
        }
    }

    fn send_resets(&mut self) {
        self.shared.resetter.send(&self.resets);
        self.resets.clear();
    }

    fn complain(&mut self, kind: &'static str, peer: std::net::SocketAddr, text: &str) {
        if let Some(held_back) = self.gate(kind, Instant::now()) {
            tracing::warn!(%peer, held_back, "refused a connection: {text}");
        }
    }

    fn gate(&mut self, kind: &'static str, now: Instant) -> Option<u64> {
        self.gates.entry(kind).or_default().pass(now)
    }
}
