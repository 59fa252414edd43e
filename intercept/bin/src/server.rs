//! The tunnel server and all housekeeping: one thread around one epoll.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use intercept_lib::LogGate;
use intercept_lib::table::{LinkId, Reset};
use intercept_lib::tunnel::{Hello, RefuseCode, Security, ServerEvent, ServerLink, Unregistration};
use nix::sys::signalfd::SignalFd;
use rustix::event::{Timespec, epoll};

use crate::error::Error;
use crate::journal_file::JournalFile;
use crate::shared::{Link, Shared};
use crate::statistics::Statistics;

/// Links at most.
const MAX_LINKS: usize = 256;
/// Connections that have not said hello yet, at most: the oldest gives way.
const MAX_HALF_OPEN: usize = 64;
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
    /// There is none on an assistant.
    journal: Option<JournalFile>,
    statistics: Statistics,
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
            journal,
            statistics,
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
            let tokens = self.wait(tick_at.saturating_duration_since(Instant::now()))?;
            for token in tokens {
                match token {
                    SIGNALS => {
                        if matches!(self.signals.read_signal(), Ok(Some(_))) {
                            return Ok(());
                        }
                    }
                    token if token < FIRST_CONNECTION => self.accept_all(),
                    token => self.serve(token),
                }
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

    fn wait(&self, timeout: Duration) -> Result<Vec<u64>, Error> {
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
        Ok(events.iter().map(|event| event.data.u64()).collect())
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.accept_all();
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
        let overgrown = self.journal.as_ref().is_some_and(JournalFile::is_overgrown);
        {
            let mut table = shared.table();
            table.timeout(now, &mut self.resets);
            table.take_journal(&mut self.records);
            if overgrown {
                table.snapshot(&mut snapshot);
            }
        }
        self.write_journal(now);
        if overgrown && let Some(journal) = &mut self.journal {
            let result = journal.replace(&snapshot);
            self.complain_of_journal(now, result);
        }
        self.send_resets();
        let links = self.connections.values().filter(|c| c.id.is_some()).count();
        self.statistics.tick(now, &self.shared, links);
    }

    fn accept_all(&mut self) {
        for index in 0..self.listeners.len() {
            loop {
                match self.listeners[index].accept() {
                    Ok((socket, peer)) => {
                        if let Err(error) = self.admit(socket, peer) {
                            self.complain("accept", peer, &format!("lost a connection: {error}"));
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // The peer went away while it waited.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        if let Some(held_back) = self.gate("accept", Instant::now()) {
                            tracing::warn!(%error, held_back, "cannot accept connections");
                        }
                        break;
                    }
                }
            }
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

    /// Reads and writes what a connection is ready for.
    fn serve(&mut self, token: u64) {
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        let link = Arc::clone(&connection.link);
        let mut ended = None;
        loop {
            let now = Instant::now();
            let len = match (&link.socket).read(&mut self.buffer) {
                Ok(0) => {
                    ended = Some("closed by the peer".to_owned());
                    break;
                }
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    ended = Some(error.to_string());
                    break;
                }
            };
            let mut protocol = link.protocol();
            protocol.receive(now, &self.buffer[..len]);
            while let Some(event) = protocol.poll_event() {
                self.events.push(event);
            }
            self.apply(now, token, &link, &mut protocol);
            // A short read has emptied the socket; what comes next is another event.
            if len < self.buffer.len() || protocol.closed().is_some() {
                break;
            }
        }
        if let Err(error) = link.flush(&mut link.protocol()) {
            ended.get_or_insert(error.to_string());
        }
        self.close_if_over(token, ended);
    }

    /// Does what the peer asked for: table first, then journal, then answers.
    fn apply(&mut self, now: Instant, token: u64, link: &Arc<Link>, protocol: &mut ServerLink) {
        if self.events.is_empty() {
            return;
        }
        let events = std::mem::take(&mut self.events);
        let mut answers: Vec<(bool, u32)> = Vec::new();
        for event in &events {
            if let ServerEvent::Hello(hello) = event {
                self.greet(now, token, link, protocol, hello);
            }
        }
        if let Some(id) = self
            .connections
            .get(&token)
            .and_then(|connection| connection.id)
        {
            let mut table = self.shared.table();
            for event in &events {
                match event {
                    ServerEvent::Hello(_) => {}
                    ServerEvent::Register(entry) => {
                        let confirmed = table.register(id, entry).is_ok();
                        match answers.last_mut() {
                            Some((last, count)) if *last == confirmed => *count += 1,
                            _ => answers.push((confirmed, 1)),
                        }
                    }
                    ServerEvent::Unregister(Unregistration { session, tuple }) => {
                        let entry = Unregistration {
                            session: *session,
                            tuple: *tuple,
                        };
                        table.unregister(now, id, &entry);
                    }
                    ServerEvent::Bye => table.link_bye(now, id, &mut self.resets),
                }
            }
            table.take_journal(&mut self.records);
        }
        self.write_journal(now);
        for (confirmed, count) in answers {
            if confirmed {
                protocol.confirm(count);
            } else {
                protocol.conflict(count);
            }
        }
        self.send_resets();
        self.events = events;
        self.events.clear();
    }

    fn greet(
        &mut self,
        now: Instant,
        token: u64,
        link: &Arc<Link>,
        protocol: &mut ServerLink,
        hello: &Hello,
    ) {
        let links = self
            .connections
            .values()
            .filter(|connection| connection.id.is_some())
            .count();
        if links >= MAX_LINKS {
            let text = format!("intercept has {MAX_LINKS} links already");
            return protocol.refuse(RefuseCode::TooManyLinks, &text);
        }
        protocol.accept(hello.features);
        link.grant(protocol.features());
        let (id, replaced) = self
            .shared
            .table()
            .link_up(now, hello.instance, hello.shard);
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.id = Some(id);
        }
        self.shared.links.insert(id, Arc::clone(link));
        tracing::info!(peer = %link.peer, name = hello.name, shard = hello.shard, "link up");
        let old = replaced.and_then(|replaced| {
            self.connections
                .iter()
                .find(|(_, connection)| connection.id == Some(replaced))
        });
        if let Some((&old, _)) = old {
            self.close(old);
        }
    }

    /// Closes a connection if its protocol says so, or for `ended`, and says why.
    fn close_if_over(&mut self, token: u64, ended: Option<String>) {
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        let (link, was_up) = (Arc::clone(&connection.link), connection.id.is_some());
        let closed = link.protocol().closed();
        let (kind, text) = match (closed, ended) {
            (None, None) => return,
            (Some(reason), _) => (reason.kind(), reason.to_string()),
            (None, Some(text)) => ("ended", text),
        };
        self.close(token);
        if was_up {
            tracing::info!(peer = %link.peer, reason = text, "link down");
        } else {
            self.complain(kind, link.peer, &text);
        }
    }

    fn close(&mut self, token: u64) {
        let Some(Connection { link, id }) = self.connections.remove(&token) else {
            return;
        };
        // Packet threads may hold the link for a while, so dropping it does not close it.
        let _ = epoll::delete(&self.epoll, &link.socket);
        let _ = link.socket.shutdown(std::net::Shutdown::Both);
        if let Some(id) = id {
            self.shared.links.remove(id);
            self.shared.table().link_down(Instant::now(), id);
        }
    }

    fn write_journal(&mut self, now: Instant) {
        let result = match &mut self.journal {
            Some(journal) => journal.append(&self.records),
            None => Ok(()),
        };
        self.records.clear();
        self.complain_of_journal(now, result);
    }

    fn complain_of_journal(&mut self, now: Instant, result: io::Result<()>) {
        if let Err(error) = result
            && let Some(held_back) = self.gate("journal", now)
        {
            tracing::error!(%error, held_back,
                "cannot write the journal: after a crash replies may reach real clients");
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
