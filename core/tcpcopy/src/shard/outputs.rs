//! The output side of a shard: what the engine wants done.

use std::time::Duration;

use intercept_lib::tunnel::{Registration, Unregistration};
use tcpcopy_engine::{Engine, Instant, Output, SessionRecord};
use tcpcopy_net::raw::{RawSender, SendCounters, SendErrors};

use crate::tunnel::Tunnel;

/// Does what the engine asks for.
#[derive(Debug)]
pub(super) struct Outputs {
    sender: RawSender,
}

/// What is left to do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Something that waits already.
    More,
    /// Nothing, until then or until the next input.
    Until(Option<Instant>),
}

impl Next {
    pub(super) fn is_drained(self) -> bool {
        matches!(self, Self::Until(_))
    }

    /// How long to sleep at most.
    pub(super) fn sleep(self, now: Instant) -> Duration {
        match self {
            Self::More => Duration::ZERO,
            Self::Until(None) => Duration::MAX,
            Self::Until(Some(at)) => at.since(now),
        }
    }
}

impl Outputs {
    pub(super) fn new(sender: RawSender) -> Self {
        Self { sender }
    }

    /// Does at most `limit` things, and sends what they brought about.
    pub(super) fn emit(
        &mut self,
        engine: &mut Engine,
        tunnel: &mut Tunnel,
        now: Instant,
        limit: usize,
    ) -> Next {
        let mut next = Next::More;
        for _ in 0..limit {
            match engine.poll_output(now) {
                Output::Packet(packet) => self.sender.push(packet),
                Output::Register(asked) => tunnel.register(&Registration {
                    session: asked.session.as_u64(),
                    tuple: asked.tuple,
                    iss: asked.iss,
                }),
                Output::Unregister { session, tuple } => tunnel.unregister(&Unregistration {
                    session: session.as_u64(),
                    tuple,
                }),
                Output::Record(record) => log(&record),
                Output::Timeout(at) => {
                    next = Next::Until(at);
                    break;
                }
            }
        }
        self.sender.flush();
        next
    }

    pub(super) fn counters(&self) -> SendCounters {
        self.sender.counters()
    }
}

fn log(record: &SessionRecord) {
    tracing::debug!(
        session = ?record.session,
        client = %record.client,
        tuple = %record.tuple,
        captured_bytes = record.captured_bytes,
        delivered_bytes = record.delivered_bytes,
        received_bytes = record.received_bytes,
        reason = record.reason.map(|reason| reason.name()),
        "session ended"
    );
}

/// The sender's refusals in the ledger's terms.
pub(super) fn send_errors(errors: &SendErrors) -> tcpcopy_engine::SendErrors {
    tcpcopy_engine::SendErrors {
        not_permitted: errors.eperm,
        no_buffers: errors.enobufs + errors.eagain,
        too_large: errors.emsgsize,
        unreachable: errors.enetunreach + errors.ehostunreach,
        other: errors.other + errors.unsendable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_send_error_is_forgotten() {
        let errors = SendErrors {
            eperm: 1,
            enobufs: 2,
            emsgsize: 4,
            enetunreach: 8,
            ehostunreach: 16,
            eagain: 32,
            other: 64,
            unsendable: 128,
        };
        assert_eq!(send_errors(&errors).total(), errors.total());
    }

    #[test]
    fn sleeps_until_the_engine_is_due() {
        let now = Instant::from_micros(1_000);
        assert_eq!(Next::More.sleep(now), Duration::ZERO);
        assert_eq!(Next::Until(None).sleep(now), Duration::MAX);
        let later = Next::Until(Some(Instant::from_micros(1_250)));
        assert_eq!(later.sleep(now), Duration::from_micros(250));
        let past = Next::Until(Some(Instant::from_micros(10)));
        assert_eq!(past.sleep(now), Duration::ZERO);
    }
}
