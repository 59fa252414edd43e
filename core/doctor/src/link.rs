//! A tunnel to one intercept, used by one thread that waits for its answers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use intercept_lib::tunnel::{
    Backoff, ChannelError, ClientConfig, ClientEvent, Diagnosis, DownReason, Features, Hello,
    Probe, RefuseCode, Registration, Security, TunnelClient, Unregistration,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Time a connection may take to come about.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// Time an answer of intercept may take.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;

/// A reply as intercept reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The number of the session.
    pub session: u64,
    /// The segment's sequence number.
    pub seq: u32,
    /// The segment's control bits.
    pub flags: tcpcopy_packet::TcpFlags,
}

/// Why there is no tunnel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The host is there, and nobody listens on the port.
    #[error("nobody listens there")]
    NotListening,
    /// The two ends don't have the same key, or one of them has none.
    #[error("{0}")]
    Key(String),
    /// Anything else.
    #[error("{0}")]
    Unreachable(String),
}

impl From<DownReason> for LinkError {
    fn from(reason: DownReason) -> Self {
        let text = reason.to_string();
        match reason {
            DownReason::KeyRejected
            | DownReason::Channel(
                ChannelError::Key
                | ChannelError::KeyMissingHere
                | ChannelError::KeyMissingThere
                | ChannelError::Insecure,
            )
            | DownReason::Refused {
                code: RefuseCode::Insecure,
                ..
            } => Self::Key(text),
            _ => Self::Unreachable(text),
        }
    }
}

/// A tunnel to one intercept.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    client: TunnelClient,
    features: Option<Features>,
    down: Option<DownReason>,
    registered: Vec<(u64, bool)>,
    replies: Vec<Reply>,
    diagnosis: Option<Diagnosis>,
}

impl Link {
    /// Connects and waits until the tunnel is up.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn open(address: SocketAddr, security: Security, hello: Hello) -> Result<Self, LinkError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::ConnectionRefused => LinkError::NotListening,
            _ => LinkError::Unreachable(error.to_string()),
        };
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIME).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let now = Instant::now();
        let config = ClientConfig {
            security,
            hello,
            backoff: Backoff::default(),
        };
        let mut client = TunnelClient::new(config, now);
        client.timeout(now);
        while client.poll_event().is_some() {}
        client.connected(now);
        let mut link = Self {
            stream,
            client,
            features: None,
            down: None,
            registered: Vec::new(),
            replies: Vec::new(),
            diagnosis: None,
        };
        link.await_until("the hello", |link| link.features.is_some())?;
        Ok(link)
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`] when the connection is gone.
    pub fn peer(&self) -> Result<SocketAddr, LinkError> {
        let peer = self.stream.peer_addr();
        peer.map_err(|error| LinkError::Unreachable(error.to_string()))
    }

    /// Registers a session; the answer is whether intercept took it.
    ///
    /// # Errors
    /// [`LinkError`] when the tunnel broke.
    pub fn register(&mut self, registration: &Registration) -> Result<bool, LinkError> {
        self.registered.clear();
        self.client.register(registration);
        self.await_until("the confirmation", |link| !link.registered.is_empty())?;
        Ok(self
            .registered
            .iter()
            .all(|(_, is_confirmed)| *is_confirmed))
    }

    /// Ends a session.
    pub fn unregister(&mut self, unregistration: &Unregistration) {
        self.client.unregister(unregistration);
    }

    /// Asks what intercept sees of a probe; from the first question on it looks for it. `None` from
    /// an intercept that doesn't know the question.
    ///
    /// # Errors
    /// [`LinkError`] when the tunnel broke.
    pub fn diagnose(&mut self, probe: &Probe) -> Result<Option<Diagnosis>, LinkError> {
        let known = |features: Features| features.contains(Features::DIAGNOSIS);
        if !self.features.is_some_and(known) {
            return Ok(None);
        }
        self.diagnosis = None;
        self.client.diagnose(probe);
        let iss = probe.iss;
        let answered = move |link: &Self| link.diagnosis.as_ref().is_some_and(|d| d.iss == iss);
        self.await_until("the diagnosis", answered)?;
        Ok(self.diagnosis.take())
    }

    /// The replies reported since the last call; reads what is there without waiting.
    ///
    /// # Errors
    /// [`LinkError`] when the tunnel broke.
    pub fn replies(&mut self) -> Result<Vec<Reply>, LinkError> {
        self.exchange();
        match &self.down {
            Some(reason) => Err(reason.clone().into()),
            None => Ok(std::mem::take(&mut self.replies)),
        }
    }

    /// What to wait for.
    #[must_use]
    pub fn interest(&self) -> PollFd<'_> {
        PollFd::new(&self.stream, PollFlags::IN)
    }

    /// Says goodbye, so that intercept ends at once what it holds.
    pub fn close(mut self) {
        self.client.bye();
        self.exchange();
    }

    fn await_until(
        &mut self,
        what: &str,
        is_done: impl Fn(&Self) -> bool,
    ) -> Result<(), LinkError> {
        let deadline = Instant::now() + ANSWER_TIME;
        loop {
            self.exchange();
            if is_done(self) {
                return Ok(());
            }
            if let Some(reason) = &self.down {
                return Err(reason.clone().into());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = format!("no answer within {} s: {what}", ANSWER_TIME.as_secs());
                return Err(LinkError::Unreachable(text));
            }
            // An error of poll shows in the exchange that follows.
            let _ = poll(
                &mut [self.interest()],
                Timespec::try_from(left).ok().as_ref(),
            );
        }
    }

    /// Writes and reads what can be at once, and sorts what came.
    fn exchange(&mut self) {
        let now = Instant::now();
        if self.client.next_timeout() <= now {
            self.client.timeout(now);
        }
        self.tell();
        self.write(now);
        self.read(now);
        self.tell();
        self.write(now);
    }

    fn write(&mut self, now: Instant) {
        while !self.client.transmit().is_empty() {
            match self.stream.write(self.client.transmit()) {
                Ok(count) => self.client.consume(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What a doctor says always fits an empty send buffer; if the peer stopped
                // reading, its silence ends the wait.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.client.disconnected(now, Some(error.to_string())),
            }
        }
    }

    fn read(&mut self, now: Instant) {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return self.client.disconnected(now, None),
                Ok(count) => self.client.receive(now, &buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.client.disconnected(now, Some(error.to_string())),
            }
            if self.down.is_some() {
                return;
            }
            self.tell();
        }
    }

    fn tell(&mut self) {
        while let Some(event) = self.client.poll_event() {
            match event {
                ClientEvent::Up { features } => self.features = Some(features),
                ClientEvent::Confirmed(session) => self.registered.push((session, true)),
                ClientEvent::Conflict(session) => self.registered.push((session, false)),
                ClientEvent::Reply(record) => {
                    let seq = record.tcp[4..8].try_into().map_or(0, u32::from_be_bytes);
                    self.replies.push(Reply {
                        session: record.session,
                        seq,
                        flags: tcpcopy_packet::TcpFlags::from_bits(record.tcp[13]),
                    });
                }
                ClientEvent::Diagnosis(diagnosis) => self.diagnosis = Some(diagnosis),
                ClientEvent::Down { reason, .. } => {
                    self.down.get_or_insert(reason);
                }
                // One connection is all a doctor tries.
                ClientEvent::Connect | ClientEvent::Overflow(_) => {}
            }
        }
    }
}
