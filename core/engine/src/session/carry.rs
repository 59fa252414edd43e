//! Requests that outlive their session, and those that a hole in the capture has cut.

use bytes::Bytes;

use super::past::{Beginning, Repeat};
use super::{Context, Session};
use crate::gate::{Exchange, StreamEnd};
use crate::ledger::{DropReason, Ledger};
use crate::plugin::{Direction, Event};
use crate::time::Instant;

/// Requests that go on in a new session, because the target has closed the old one.
#[derive(Debug)]
pub(crate) struct Carried {
    what: What,
    end: Option<StreamEnd>,
    byte_count: u64,
    request_count: u64,
}

#[derive(Debug)]
enum What {
    /// What was to be sent is sent.
    Bytes(Vec<Bytes>, Vec<Exchange>),
    /// A plugin hears again what the client said.
    Said(Vec<Repeat>),
}

impl Carried {
    pub(crate) fn byte_count(&self) -> u64 {
        self.byte_count
    }

    pub(crate) fn request_count(&self) -> u64 {
        self.request_count
    }
}

impl Session {
    /// Takes out the requests that can go on in a new session: those of which no byte has left.
    /// `None` when there are none, or when this session got nothing through either.
    pub(crate) fn take_unsent(&mut self, ledger: &mut Ledger) -> Option<Carried> {
        if !self.channel.got_through() {
            return None;
        }
        if self.plugin.is_some() {
            return self.take_unsent_said(ledger);
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
        let chunks = self.channel.take_from(unsent.from);
        Some(Carried {
            byte_count: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
            request_count: exchanges.len() as u64,
            what: What::Bytes(chunks, exchanges),
            end,
        })
    }

    /// The same where a plugin stands between: what the client said since the first of them.
    fn take_unsent_said(&mut self, ledger: &mut Ledger) -> Option<Carried> {
        let plugged = self.plugin.as_mut().filter(|it| it.may_repeat())?;
        let from = plugged.past.output()?;
        if self.gate.has_ended() && !self.gate.is_held() && self.channel.end() == from {
            // The plugin has heard all and sends nothing: it has left them out.
            return None;
        }
        // It is for the other session to leave them out again.
        let left_out = plugged.past.left_out();
        ledger
            .requests
            .take_back(DropReason::PluginDropped, left_out);
        let mut repeats = plugged.past.take();
        repeats[0].what = Beginning::Request(0);
        let byte_count = repeats.iter().map(Repeat::byte_count).sum();
        let unfollowed = plugged.intake.take_back(from) - byte_count;
        plugged.intake.take(unfollowed);
        let credit = std::mem::take(&mut plugged.credit);
        self.channel.take_from(from);
        Some(Carried {
            byte_count,
            request_count: self.gate.take_from(from) + credit + left_out,
            what: What::Said(repeats),
            end: self.gate.take_end(),
        })
    }

    /// Goes on with what another session could not send. It is in the account already.
    pub(crate) fn adopt(&mut self, now: Instant, carried: Carried, cx: &mut Context<'_>) {
        match carried.what {
            What::Bytes(chunks, exchanges) => {
                for exchange in exchanges {
                    self.seen_total = exchange.seen_total;
                    self.gate.begin(exchange);
                }
                for chunk in chunks {
                    self.channel.push(chunk);
                }
            }
            What::Said(repeats) => {
                if let Some(plugged) = &mut self.plugin {
                    plugged.credit = carried.request_count;
                }
                for repeat in repeats {
                    match repeat.what {
                        Beginning::Request(seen) => self.begin(repeat.at, seen, cx.ledger),
                        Beginning::Gap(missing) => {
                            let direction = Direction::Client;
                            self.call(now, Event::Gap { direction, missing }, cx);
                        }
                    }
                    for chunk in repeat.chunks {
                        self.take_in(now, chunk, cx);
                    }
                }
                if let Some(end) = carried.end {
                    self.end_stream(now, end.abort, end.seen, cx);
                }
                return;
            }
        }
        if let Some(end) = carried.end {
            self.seen_total = end.seen_total;
            self.gate.end(end);
            if !end.abort {
                self.channel.finish();
            }
        }
        self.pass(now, cx.ledger);
    }

    /// The capture has a permanent hole after the last byte pushed: what belongs to the broken
    /// exchange and has not left is given up, the rest is delivered, then the session aborts.
    pub(crate) fn cut(&mut self, now: Instant, reason: DropReason, cx: &mut Context<'_>) {
        if let Some(start) = self.gate.drop_newest_exchange() {
            cx.ledger.requests.drop(reason, 1);
            let from = start.max(self.channel.sent());
            let chunks = self.channel.take_from(from);
            let given_up = match &mut self.plugin {
                Some(plugged) => plugged.intake.take_back(from),
                None => chunks.iter().map(|chunk| chunk.len() as u64).sum(),
            };
            cx.ledger.bytes.drop(reason, given_up);
        }
        self.end_stream(now, true, 0, cx);
    }
}
