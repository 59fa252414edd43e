//! Requests that outlive their session, and those that a hole in the capture has cut.

use bytes::Bytes;

use super::Session;
use crate::gate::{Exchange, StreamEnd};
use crate::ledger::{DropReason, Ledger};
use crate::time::Instant;

/// Exchanges that go on in a new session, because the target has closed the old one.
#[derive(Debug)]
pub(crate) struct Carried {
    chunks: Vec<Bytes>,
    exchanges: Vec<Exchange>,
    end: Option<StreamEnd>,
}

impl Carried {
    pub(crate) fn byte_count(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }

    pub(crate) fn request_count(&self) -> u64 {
        self.exchanges.len() as u64
    }
}

impl Session {
    /// Takes out the exchanges that can go on in a new session: those of which no byte has left.
    /// `None` when there are none, or when this session got nothing through either.
    pub(crate) fn take_unsent(&mut self) -> Option<Carried> {
        if !self.channel.got_through() {
            return None;
        }
        let unsent = self.gate.take_unsent(self.channel.sent())?;
        let mut exchanges: Vec<Exchange> = unsent.exchanges.into();
        let seen_before = exchanges[0].seen_total;
        exchanges[0].seen = 0;
        for exchange in &mut exchanges {
            exchange.start -= unsent.from;
            exchange.seen_total -= seen_before;
        }
        let end = unsent.end.map(|end| StreamEnd {
            seen_total: end.seen_total.saturating_sub(seen_before),
            ..end
        });
        Some(Carried {
            chunks: self.channel.take_from(unsent.from),
            exchanges,
            end,
        })
    }

    /// Goes on with what another session could not send. It is in the account already.
    pub(crate) fn adopt(&mut self, now: Instant, carried: Carried, ledger: &mut Ledger) {
        for exchange in carried.exchanges {
            self.seen_total = exchange.seen_total;
            self.gate.begin(exchange);
        }
        for chunk in carried.chunks {
            self.channel.push(chunk);
        }
        if let Some(end) = carried.end {
            self.seen_total = end.seen_total;
            self.gate.end(end);
            if !end.abort {
                self.channel.finish();
            }
        }
        self.pass(now, ledger);
    }

    /// The capture has a permanent hole after the last byte pushed: what belongs to the broken
    /// exchange and has not left is given up, the rest is delivered, then the session aborts.
    pub(crate) fn cut(&mut self, now: Instant, reason: DropReason, ledger: &mut Ledger) {
        if let Some(start) = self.gate.drop_newest_exchange() {
            ledger.requests.drop(reason, 1);
            let from = start.max(self.channel.sent());
            let given_up: usize = self.channel.take_from(from).iter().map(Bytes::len).sum();
            ledger.bytes.drop(reason, given_up as u64);
        }
        self.end_stream(now, true, 0, ledger);
    }
}
