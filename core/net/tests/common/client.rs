//! Connections of [`Sockets`] and what was told of them.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tcpcopy_net::sockets::{SocketConfig, SocketEvent, SocketFailure, Sockets};

use super::PATIENCE;

/// All that was told of one connection.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// The names of the events, in order; the same one after another only once.
    pub(crate) story: Vec<&'static str>,
    pub(crate) received: Vec<u8>,
    /// Whether the latest bytes were said to be the last that wait.
    pub(crate) is_drained: bool,
    pub(crate) unacknowledged: Option<u64>,
    pub(crate) ends: usize,
    pub(crate) failure: Option<SocketFailure>,
    /// Times that room was told of.
    pub(crate) rooms: usize,
}

/// An owner of sockets that writes down what it is told.
pub(crate) struct Client {
    pub(crate) sockets: Sockets,
    pub(crate) accounts: BTreeMap<u64, Account>,
    /// Turns a service may have.
    pub(crate) limit: usize,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self::with(&SocketConfig::default())
    }

    pub(crate) fn with(config: &SocketConfig) -> Self {
        Self {
            sockets: Sockets::open(config).unwrap(),
            accounts: BTreeMap::new(),
            limit: 64,
        }
    }

    pub(crate) fn of(&self, token: u64) -> &Account {
        &self.accounts[&token]
    }

    pub(crate) fn connect(&mut self, token: u64, target: SocketAddr) -> SocketAddr {
        self.connect_with(token, target, b"")
    }

    pub(crate) fn connect_with(
        &mut self,
        token: u64,
        target: SocketAddr,
        preamble: &[u8],
    ) -> SocketAddr {
        self.accounts.insert(token, Account::default());
        self.sockets
            .connect(token, target, preamble.to_vec())
            .unwrap()
    }

    /// Why there is no connection, whether at once or later.
    pub(crate) fn failure_of(&mut self, token: u64, target: SocketAddr) -> SocketFailure {
        self.accounts.insert(token, Account::default());
        if let Err(failure) = self.sockets.connect(token, target, Vec::new()) {
            return failure;
        }
        self.until(token, |account| account.failure.is_some());
        self.of(token).failure.unwrap()
    }

    /// Connects and accepts.
    pub(crate) fn pair(&mut self, token: u64, listener: &TcpListener) -> TcpStream {
        let local = self.connect(token, listener.local_addr().unwrap());
        let (server, peer) = listener.accept().unwrap();
        assert_eq!(peer, local, "the endpoint that connect told");
        self.until(token, |account| account.story.contains(&"connected"));
        server
    }

    /// One service; whether more waits.
    pub(crate) fn service(&mut self) -> bool {
        let accounts = &mut self.accounts;
        self.sockets
            .service(Instant::now(), self.limit, |token, event| {
                accounts.get_mut(&token).unwrap().note(event);
            })
            .unwrap()
    }

    /// Serves until the account is as wished.
    pub(crate) fn until(&mut self, token: u64, wished: impl Fn(&Account) -> bool) {
        self.until_all(|client| wished(client.of(token)));
    }

    pub(crate) fn until_all(&mut self, wished: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        let mut more = true;
        while !wished(self) {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.sockets);
            if !more {
                self.wait();
            }
            more = self.service();
        }
    }

    /// Waits as an owner would: for the descriptor or the time.
    fn wait(&self) {
        let due = self.sockets.next_timeout();
        let timeout = due.map_or(PATIENCE, |due| {
            due.saturating_duration_since(Instant::now())
        });
        let timeout = Timespec::try_from(timeout).unwrap();
        let mut descriptors = [PollFd::new(&self.sockets, PollFlags::IN)];
        let ready = poll(&mut descriptors, Some(&timeout)).unwrap();
        assert!(ready > 0 || due.is_some(), "nothing within {PATIENCE:?}");
    }

    /// Sends all of it, with patience.
    pub(crate) fn send_all(&mut self, token: u64, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            let rooms = self.of(token).rooms;
            rest = &rest[self.sockets.send(token, rest)..];
            if rest.is_empty() {
                return;
            }
            self.until(token, |account| account.rooms > rooms);
        }
    }
}

impl Account {
    fn note(&mut self, event: SocketEvent<'_>) {
        assert_eq!(self.failure, None, "nothing after a failure: {event:?}");
        let name = match event {
            SocketEvent::Connected => "connected",
            SocketEvent::Writable => {
                self.rooms += 1;
                "writable"
            }
            SocketEvent::Received { bytes, is_last } => {
                assert!(is_last || !bytes.is_empty(), "bytes or an end of them");
                self.received.extend_from_slice(bytes);
                self.is_drained = is_last;
                "received"
            }
            SocketEvent::Acknowledged { unacknowledged } => {
                self.unacknowledged = Some(unacknowledged);
                "acknowledged"
            }
            SocketEvent::Finished => {
                self.ends += 1;
                "finished"
            }
            SocketEvent::Failed(failure) => {
                self.failure = Some(failure);
                "failed"
            }
        };
        if self.story.last() != Some(&name) {
            self.story.push(name);
        }
    }
}
