//! A tunnel to one intercept, used by one thread that waits for its answers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
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
/// How long a link that is up waits at most before it looks whether the others are.
const LOOK_EVERY: Duration = Duration::from_millis(50);
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

/// Opens a link to each intercept, all at the same time, so that none of those that are up falls
/// silent while another is waited for. An intercept is a list of addresses as [`Link::open_any`]
/// takes it; the answers are in its order.
///
/// # Panics
/// When the system has no thread to give.
pub fn open_all(
    intercepts: &[Vec<SocketAddr>],
    security: &Security,
    hello: &Hello,
) -> Vec<Result<(SocketAddr, Link), LinkError>> {
    let opening = AtomicUsize::new(intercepts.len());
    let open = |addresses| {
        let mut opened = Link::open_any(addresses, security, hello);
        opening.fetch_sub(1, Ordering::Relaxed);
        while let Ok((_, link)) = &mut opened
            && opening.load(Ordering::Relaxed) > 0
        {
            link.exchange();
            link.wait(LOOK_EVERY);
        }
        opened
    };
    thread::scope(|scope| {
        let threads: Vec<_> = intercepts
            .iter()
            .map(|addresses| scope.spawn(|| open(addresses)))
            .collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|opened| opened.expect("opening a link does not panic"))
            .collect()
    })
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
            required: Features::NONE,
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

    /// Opens a link to the first of these addresses where it can be.
    ///
    /// # Errors
    /// [`LinkError`]: a refusal, if there is one, else what happened at the first address.
    pub fn open_any(
        addresses: &[SocketAddr],
        security: &Security,
        hello: &Hello,
    ) -> Result<(SocketAddr, Self), LinkError> {
        let mut failure = None;
        for address in addresses {
            match Self::open(*address, security.clone(), hello.clone()) {
                Ok(link) => return Ok((*address, link)),
                Err(error @ LinkError::Key(_)) => failure = Some(error),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or(LinkError::NotListening))
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
            self.wait(left);
        }
    }

    /// Waits until something has come, for so long at most.
    fn wait(&self, limit: Duration) {
        let limit = Timespec::try_from(limit).ok();
        // An error of poll shows in the exchange that follows.
        let _ = poll(&mut [self.interest()], limit.as_ref());
    }

    /// Reads and writes what can be at once, and sorts what came.
    fn exchange(&mut self) {
        self.exchange_at(Instant::now());
    }

    fn exchange_at(&mut self, now: Instant) {
        // First, since what has come is no silence, however late it is read.
        self.read(now);
        if self.client.next_timeout() <= now {
            self.client.timeout(now);
        }
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, mpsc};

    use intercept_lib::tunnel::{SILENCE, ServerEvent, ServerLink};

    use super::*;

    fn hello() -> Hello {
        Hello {
            features: Features::DIAGNOSIS,
            instance: 1,
            shard: 0,
            name: "test".to_owned(),
        }
    }

    fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An intercept that serves one link to its end.
    fn serve(stream: TcpStream) {
        serve_until(stream, &AtomicBool::new(false));
    }

    /// The same, which from a moment on reads and says nothing.
    fn serve_until(mut stream: TcpStream, is_mute: &AtomicBool) {
        let mut link = ServerLink::new(
            &Security::Insecure,
            Ipv4Addr::LOCALHOST.into(),
            Instant::now(),
        );
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            link.receive(Instant::now(), &buffer[..count]);
            while let Some(event) = link.poll_event() {
                if let ServerEvent::Hello(hello) = event {
                    link.accept(hello.features);
                }
            }
            if !is_mute.load(Ordering::Acquire) {
                stream.write_all(link.transmit()).unwrap();
            }
            let count = link.transmit().len();
            link.consume(count);
        }
    }

    #[test]
    fn what_was_not_read_in_time_is_no_silence() {
        let (listener, address) = listen();
        let is_mute = Arc::new(AtomicBool::new(false));
        let mute = Arc::clone(&is_mute);
        let server = thread::spawn(move || serve_until(listener.accept().unwrap().0, &mute));
        let mut link = Link::open(address, Security::Insecure, hello()).unwrap();
        let late = Instant::now() + SILENCE;
        // A ping is due, which is answered.
        link.exchange_at(late - Duration::from_secs(1));
        link.wait(ANSWER_TIME);
        // What is asked from here on stays without an answer, however quick the peer is.
        is_mute.store(true, Ordering::Release);
        link.exchange_at(late + Duration::from_secs(1));
        assert_eq!(link.down, None);
        link.exchange_at(late + 2 * SILENCE);
        assert_eq!(link.down, Some(DownReason::Silent));
        drop(link);
        server.join().unwrap();
    }

    #[test]
    fn links_are_opened_at_the_same_time() {
        let ((first, first_at), (second, second_at)) = (listen(), listen());
        let (other, nobody_at) = listen();
        drop(other);
        let (came, comes) = mpsc::channel();
        // The first says nothing before the second has been called.
        let servers = [
            thread::spawn(move || {
                let stream = first.accept().unwrap().0;
                comes.recv().unwrap();
                serve(stream);
            }),
            thread::spawn(move || {
                let stream = second.accept().unwrap().0;
                came.send(()).unwrap();
                serve(stream);
            }),
        ];
        let calls = [vec![first_at], vec![nobody_at], vec![nobody_at, second_at]];
        let opened = open_all(&calls, &Security::Insecure, &hello());
        let places: Vec<_> = opened
            .into_iter()
            .map(|opened| opened.map(|(address, _)| address))
            .collect();
        assert_eq!(
            places,
            [Ok(first_at), Err(LinkError::NotListening), Ok(second_at)]
        );
        for server in servers {
            server.join().unwrap();
        }
    }
}
