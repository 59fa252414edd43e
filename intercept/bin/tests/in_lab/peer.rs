//! The other end of a tunnel: what tcpcopy would be.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use intercept_lib::tunnel::{
    Backoff, ClientConfig, ClientEvent, DownReason, Features, Hello, Registration, Security,
    TunnelClient, TunnelKey,
};
use tcpcopy_packet::FourTuple;

use crate::bench::{Bench, SOON};

/// Longest pause in reading, so that heartbeats are sent.
const READ_TIMEOUT: Duration = Duration::from_millis(50);

/// A reply as the peer got it.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) session: u64,
    pub(crate) payload_len: u32,
    pub(crate) tcp: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// A tunnel client with its connection and all it has heard.
pub(crate) struct Peer {
    stream: TcpStream,
    client: TunnelClient,
    pub(crate) up: Option<Features>,
    pub(crate) confirmed: Vec<u64>,
    pub(crate) conflicts: Vec<u64>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) down: Option<DownReason>,
}

/// The key that both ends use in tests.
pub(crate) fn key(byte: u8) -> TunnelKey {
    TunnelKey::from_bytes([byte; 32])
}

/// A client's first words.
pub(crate) fn hello(instance: u64) -> Hello {
    Hello {
        features: Features::NONE,
        instance,
        shard: 0,
        name: "test".into(),
    }
}

impl Peer {
    /// Connects from a host; the link is not up yet.
    pub(crate) fn dial(
        bench: &Bench,
        from: &str,
        to: SocketAddr,
        security: Security,
        hello: Hello,
    ) -> Self {
        let stream = bench.connect(from, to);
        stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        let now = Instant::now();
        let config = ClientConfig {
            security,
            hello,
            required: Features::NONE,
            backoff: Backoff::default(),
        };
        let mut client = TunnelClient::new(config, now);
        client.timeout(now);
        assert!(matches!(client.poll_event(), Some(ClientEvent::Connect)));
        client.connected(now);
        Self {
            stream,
            client,
            up: None,
            confirmed: Vec::new(),
            conflicts: Vec::new(),
            replies: Vec::new(),
            down: None,
        }
    }

    /// Connects from the target itself, in the clear, and waits until the link is up.
    pub(crate) fn local(bench: &Bench, instance: u64) -> Self {
        let to = crate::bench::tunnel_at(std::net::Ipv4Addr::LOCALHOST);
        let mut peer = Self::dial(bench, "target", to, Security::LoopbackOnly, hello(instance));
        peer.wait("the link", |peer| peer.up.is_some());
        peer
    }

    /// Registers a tuple and waits for the confirmation.
    pub(crate) fn register(&mut self, session: u64, tuple: FourTuple) {
        assert!(self.client.register(&Registration {
            session,
            tuple,
            iss: 0
        }));
        self.wait("the confirmation", |peer| peer.confirmed.contains(&session));
    }

    /// Asks for a registration that will be refused.
    pub(crate) fn register_in_vain(&mut self, session: u64, tuple: FourTuple) {
        assert!(self.client.register(&Registration {
            session,
            tuple,
            iss: 0
        }));
        self.wait("the refusal", |peer| peer.conflicts.contains(&session));
    }

    /// Waits until a reply for a session has come that carries payload, and returns it.
    pub(crate) fn reply_with_payload(&mut self, session: u64) -> Reply {
        let wanted = |reply: &&Reply| reply.session == session && reply.payload_len > 0;
        self.wait("a reply", |peer| {
            peer.replies.iter().any(|reply| wanted(&reply))
        });
        self.replies.iter().find(wanted).cloned().unwrap()
    }

    /// Exchanges bytes until something holds.
    pub(crate) fn wait(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + SOON;
        while !done(self) {
            assert!(
                Instant::now() < end,
                "waited for {what} in vain; down: {:?}",
                self.down
            );
            self.exchange();
        }
    }

    /// Exchanges bytes for a while.
    pub(crate) fn idle(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.exchange();
        }
    }

    fn exchange(&mut self) {
        self.client.timeout(Instant::now());
        let bytes = self.client.transmit().to_vec();
        if !bytes.is_empty() {
            self.client.consume(bytes.len());
            if let Err(error) = self.stream.write_all(&bytes) {
                self.client
                    .disconnected(Instant::now(), Some(error.to_string()));
            }
        }
        let mut buffer = [0; 65_536];
        let now = Instant::now();
        match self.stream.read(&mut buffer) {
            Ok(0) => self.client.disconnected(now, None),
            Ok(len) => self.client.receive(now, &buffer[..len]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => self.client.disconnected(now, Some(error.to_string())),
        }
        while let Some(event) = self.client.poll_event() {
            match event {
                ClientEvent::Up { features } => self.up = Some(features),
                ClientEvent::Confirmed(session) => self.confirmed.push(session),
                ClientEvent::Conflict(session) => self.conflicts.push(session),
                ClientEvent::Reply(reply) => self.replies.push(Reply {
                    session: reply.session,
                    payload_len: reply.payload_len,
                    tcp: reply.tcp.to_vec(),
                    payload: reply.payload.to_vec(),
                }),
                ClientEvent::Down { reason, .. } => {
                    self.down.get_or_insert(reason);
                }
                ClientEvent::Connect | ClientEvent::Overflow(_) | ClientEvent::Diagnosis(_) => {}
            }
        }
    }
}

impl Reply {
    /// The segment's acknowledgement number.
    pub(crate) fn ack(&self) -> u32 {
        u32::from_be_bytes([self.tcp[8], self.tcp[9], self.tcp[10], self.tcp[11]])
    }

    /// The segment's sequence number.
    pub(crate) fn seq(&self) -> u32 {
        u32::from_be_bytes([self.tcp[4], self.tcp[5], self.tcp[6], self.tcp[7]])
    }
}
