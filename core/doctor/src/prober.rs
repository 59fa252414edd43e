//! One probe: registered, sent, awaited, and cleaned up after.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use intercept_lib::tunnel::{Diagnosis, Probe, Registration, Seen, Unregistration};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tcpcopy_net::NetError;
use tcpcopy_net::raw::{RawConfig, RawSender, SendErrors};
use tcpcopy_packet::{Endpoint, FourTuple, SegmentBuilder, TcpFlags, TcpOptions};

use crate::link::{Link, LinkError, Reply};
use crate::watch::Watch;

/// How long an answer is waited for.
const ANSWER_TIME: Duration = Duration::from_millis(2_500);
/// When the probe is sent again: one lost packet is no finding.
const REPEAT_AFTER: Duration = Duration::from_secs(1);
/// Time for what was seen on a device to come to those who watch it, after an answer.
const SETTLE_TIME: Duration = Duration::from_millis(30);
/// Longest pause between two looks at the own devices.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The lowest source port of a probe, above those that clients use by default.
const FIRST_PORT: u16 = 61_000;
/// Source ports tried until one belongs to no session.
const PORTS_TRIED: u16 = 8;
/// The MSS a probe offers, in bytes: Ethernet's over IPv4.
const MSS: u16 = 1460;
/// The window a probe offers, in bytes.
const WINDOW: u16 = 64_240;

/// Why a probe could not be tried at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// A tunnel broke.
    #[error("the tunnel to {name}: {source}")]
    Link {
        /// The intercept.
        name: String,
        /// What happened.
        source: LinkError,
    },
    /// Capture or raw sending.
    #[error(transparent)]
    Net(#[from] NetError),
    /// No source port was free.
    #[error("all source ports tried belong to sessions of a running tcpcopy")]
    NoPort,
}

/// An intercept that is asked about probes.
#[derive(Debug)]
pub struct Witness {
    /// As the user named it.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Whether answers have to come to it; otherwise it only tells what it sees.
    pub is_registrar: bool,
    /// The tunnel.
    pub link: Link,
}

/// Whether the target took or refused a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A SYN-ACK: somebody listens.
    Accepted,
    /// A RST: nobody does.
    Refused,
}

/// What became of a packet to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The kernel took it.
    Taken,
    /// A firewall rule of this host, or its connection tracking, dropped it (`EPERM`).
    NotPermitted,
    /// There is no route.
    NoRoute,
    /// Any other refusal.
    Failed,
}

/// All that is known of one probe.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Who it was sent to, and in whose name.
    pub tuple: FourTuple,
    /// What became of the SYN.
    pub sent: Sent,
    /// The answer that an intercept reported, which one it was, and after how long.
    pub reported: Option<(Answer, usize, Duration)>,
    /// The answer that this host saw itself.
    pub direct: Option<Answer>,
    /// What became of the acknowledgement that followed a SYN-ACK.
    pub followed: Option<Sent>,
    /// What the witnesses say, in their order.
    pub diagnoses: Vec<Option<Diagnosis>>,
}

/// Sends probes.
#[derive(Debug)]
pub struct Prober {
    witnesses: Vec<Witness>,
    sender: RawSender,
    next_session: u64,
    random: RandomState,
}

impl Prober {
    /// Makes a prober that registers with, and asks, these intercepts.
    ///
    /// # Errors
    /// [`NetError`] when there is no raw socket to be had.
    pub fn new(witnesses: Vec<Witness>) -> Result<Self, NetError> {
        Ok(Self {
            witnesses,
            sender: RawSender::open(&RawConfig::default())?,
            next_session: 1,
            random: RandomState::new(),
        })
    }

    /// The intercepts asked.
    #[must_use]
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// Adds one more intercept to be asked.
    pub fn add_witness(&mut self, witness: Witness) {
        self.witnesses.push(witness);
    }

    /// Ends all tunnels in good order.
    pub fn close(self) {
        for witness in self.witnesses {
            witness.link.close();
        }
    }

    /// Sends a SYN to the target in the name of `source`, waits for its answer, and leaves nothing
    /// behind.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn probe(&mut self, target: Endpoint, source: IpAddr) -> Result<Trial, ProbeError> {
        let registration = self.register(target, source)?;
        let probe = Probe {
            tuple: registration.tuple,
            iss: registration.iss,
        };
        // The first question makes every witness look out, so it comes before the probe.
        self.diagnose(&probe)?;
        let mut watch = Watch::open(probe)?;
        let mut trial = Trial {
            tuple: probe.tuple,
            sent: Sent::Taken,
            reported: None,
            direct: None,
            followed: None,
            diagnoses: Vec::new(),
        };
        let outcome = self.send_and_await(&registration, &mut watch, &mut trial);
        if outcome.is_ok() {
            std::thread::sleep(SETTLE_TIME);
            trial.diagnoses = self.diagnose(&probe)?;
            trial.direct = direct(&mut watch);
        }
        self.clean_up(&registration, &trial);
        outcome.map(|()| trial)
    }

    fn register(&mut self, target: Endpoint, source: IpAddr) -> Result<Registration, ProbeError> {
        for _ in 0..PORTS_TRIED {
            let session = self.next_session;
            self.next_session += 1;
            let random = self.random.hash_one((session, target, source));
            let port = FIRST_PORT + (random % u64::from(u16::MAX - FIRST_PORT)) as u16;
            let registration = Registration {
                session,
                tuple: FourTuple::new(Endpoint::new(source, port), target),
                iss: (random >> 32) as u32,
            };
            if self.register_with_all(&registration)? {
                return Ok(registration);
            }
            self.unregister(&registration);
        }
        Err(ProbeError::NoPort)
    }

    fn register_with_all(&mut self, registration: &Registration) -> Result<bool, ProbeError> {
        let mut all = true;
        for witness in self.witnesses.iter_mut().filter(|w| w.is_registrar) {
            let confirmed = witness.link.register(registration);
            all &= confirmed.map_err(|source| ProbeError::Link {
                name: witness.name.clone(),
                source,
            })?;
        }
        Ok(all)
    }

    fn unregister(&mut self, registration: &Registration) {
        let entry = Unregistration {
            session: registration.session,
            tuple: registration.tuple,
        };
        for witness in self.witnesses.iter_mut().filter(|w| w.is_registrar) {
            witness.link.unregister(&entry);
        }
    }

    fn diagnose(&mut self, probe: &Probe) -> Result<Vec<Option<Diagnosis>>, ProbeError> {
        let ask = |witness: &mut Witness| {
            let diagnosis = witness.link.diagnose(probe);
            diagnosis.map_err(|source| ProbeError::Link {
                name: witness.name.clone(),
                source,
            })
        };
        self.witnesses.iter_mut().map(ask).collect()
    }

    fn send_and_await(
        &mut self,
        registration: &Registration,
        watch: &mut Watch,
        trial: &mut Trial,
    ) -> Result<(), ProbeError> {
        let syn = syn(registration);
        let start = Instant::now();
        trial.sent = self.send(&syn);
        let mut repeated = false;
        while trial.sent == Sent::Taken && start.elapsed() < ANSWER_TIME {
            if let Some((reply, index)) = self.reply(registration.session)? {
                let answer = answer_of(reply.flags);
                trial.reported = Some((answer, index, start.elapsed()));
                if answer == Answer::Accepted {
                    trial.followed = Some(self.send(&acknowledgement(&syn, reply.seq)));
                }
                break;
            }
            if !repeated && start.elapsed() >= REPEAT_AFTER {
                repeated = true;
                self.send(&syn);
            }
            self.wait(watch);
            // Noted as it goes: the own kernel's RST ends what is seen.
            trial.direct = direct(watch);
        }
        Ok(())
    }

    /// The first answer to the probe that a witness reports.
    fn reply(&mut self, session: u64) -> Result<Option<(Reply, usize)>, ProbeError> {
        let mut found = None;
        for (index, witness) in self.witnesses.iter_mut().enumerate() {
            let replies = witness.link.replies().map_err(|source| ProbeError::Link {
                name: witness.name.clone(),
                source,
            })?;
            let reply = replies.into_iter().find(|reply| reply.session == session);
            found = found.or(reply.map(|reply| (reply, index)));
        }
        Ok(found)
    }

    fn wait(&self, watch: &Watch) {
        let mut fds: Vec<PollFd<'_>> = self.witnesses.iter().map(|w| w.link.interest()).collect();
        fds.push(PollFd::new(watch.ring(), PollFlags::IN));
        // An error shows where the descriptor is read.
        let _ = poll(&mut fds, Timespec::try_from(LOOK_EVERY).ok().as_ref());
    }

    fn send(&mut self, segment: &SegmentBuilder) -> Sent {
        let mut packet = Vec::new();
        let before = self.sender.counters().errors;
        if segment.write(std::iter::empty(), &mut packet).is_err() {
            return Sent::Failed;
        }
        self.sender.push(&packet);
        self.sender.flush();
        fate(before, self.sender.counters().errors)
    }

    /// Resets the target's half-open connection and ends the session.
    fn clean_up(&mut self, registration: &Registration, trial: &Trial) {
        let is_closed = matches!(trial.reported, Some((Answer::Refused, ..)));
        if trial.sent == Sent::Taken && !is_closed {
            // The exact number it expects (RFC 5961 section 3.2).
            self.send(&SegmentBuilder {
                seq: registration.iss.wrapping_add(1),
                flags: TcpFlags::RST,
                ..SegmentBuilder::new(registration.tuple)
            });
        }
        self.unregister(registration);
    }
}

impl Trial {
    /// The first answer seen by anyone.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        let seen = |what| self.diagnoses.iter().flatten().any(|d| d.has_seen(what));
        let witnessed = |kinds: [Seen; 2], answer| {
            let any = kinds.into_iter().any(seen);
            any.then_some(answer)
        };
        let reported = self.reported.map(|(answer, ..)| answer);
        reported
            .or(self.direct)
            .or_else(|| witnessed([Seen::AnswerLeft, Seen::AnswerArrived], Answer::Accepted))
            .or_else(|| witnessed([Seen::ResetLeft, Seen::ResetArrived], Answer::Refused))
    }
}

/// The address from which this host talks to another.
///
/// # Errors
/// What the kernel says, above all that there is no route.
pub fn own_address_towards(target: Endpoint) -> std::io::Result<IpAddr> {
    let any: IpAddr = match target.address {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(SocketAddr::from(target))?;
    Ok(socket.local_addr()?.ip())
}

fn syn(registration: &Registration) -> SegmentBuilder {
    SegmentBuilder {
        seq: registration.iss,
        flags: TcpFlags::SYN,
        window: WINDOW,
        options: TcpOptions {
            mss: Some(MSS),
            ..TcpOptions::default()
        },
        ..SegmentBuilder::new(registration.tuple)
    }
}

/// What a client says next, but for its acknowledgement number, which is one too low: the target
/// refuses it, so that no server ever has to accept a connection of a probe. It shows whether this
/// host lets packets out whose handshake its connection tracking has not seen.
fn acknowledgement(syn: &SegmentBuilder, target_iss: u32) -> SegmentBuilder {
    SegmentBuilder {
        seq: syn.seq.wrapping_add(1),
        ack: target_iss,
        flags: TcpFlags::ACK,
        options: TcpOptions::default(),
        ..*syn
    }
}

fn answer_of(flags: TcpFlags) -> Answer {
    if flags.contains(TcpFlags::RST) {
        Answer::Refused
    } else {
        Answer::Accepted
    }
}

fn direct(watch: &mut Watch) -> Option<Answer> {
    let answer = |what| match what {
        Seen::AnswerArrived => Some(Answer::Accepted),
        Seen::ResetArrived => Some(Answer::Refused),
        Seen::ProbeArrived | Seen::AnswerLeft | Seen::ResetLeft => None,
    };
    watch.sightings().iter().find_map(|s| answer(s.what))
}

fn fate(before: SendErrors, after: SendErrors) -> Sent {
    if after.eperm > before.eperm {
        Sent::NotPermitted
    } else if after.enetunreach > before.enetunreach || after.ehostunreach > before.ehostunreach {
        Sent::NoRoute
    } else if after.total() > before.total() {
        Sent::Failed
    } else {
        Sent::Taken
    }
}
