//! The requests of a connection, and which answer belongs to which.

use std::collections::VecDeque;

use crate::framing::Kind;

/// Requests without an answer at most: a client that sends more at once is no client of a server.
const UNANSWERED: usize = 10_000;

/// The requests that an answer is still to come for, in order.
#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    list: VecDeque<Exchange>,
    /// The number of the first.
    first: u64,
}

/// A request.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) kind: Kind,
    /// It was to be the last of its connection.
    pub(crate) is_last: bool,
    fate: Fate,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// That is not decided.
    Open,
    /// The target was asked.
    Asked,
    /// The target has answered, or was not asked.
    Done,
}

impl Exchanges {
    /// Adds a request: its number, or `None` where there are too many.
    pub(crate) fn add(&mut self, kind: Kind, is_last: bool) -> Option<u64> {
        if self.list.len() == UNANSWERED {
            return None;
        }
        self.list.push_back(Exchange {
            kind,
            is_last,
            fate: Fate::Open,
        });
        Some(self.first + self.list.len() as u64 - 1)
    }

    /// The target is asked.
    pub(crate) fn ask(&mut self, number: u64) {
        if let Some(exchange) = self.find_mut(number) {
            exchange.fate = Fate::Asked;
        }
    }

    /// What the target answers next.
    pub(crate) fn asked(&self) -> Option<(u64, &Exchange)> {
        let mut open = self.list.iter().zip(self.first..);
        let (exchange, number) = open.find(|(it, _)| it.fate != Fate::Done)?;
        (exchange.fate == Fate::Asked).then_some((number, exchange))
    }

    /// The target's answer is complete, or will never be.
    pub(crate) fn finish(&mut self, number: u64) {
        if let Some(exchange) = self.find_mut(number) {
            exchange.fate = Fate::Done;
        }
        while self.list.front().is_some_and(|it| it.fate == Fate::Done) {
            self.list.pop_front();
            self.first += 1;
        }
        if self.list.is_empty() {
            self.list = VecDeque::new();
        }
    }

    fn find_mut(&mut self, number: u64) -> Option<&mut Exchange> {
        let at = number.checked_sub(self.first)?;
        self.list.get_mut(usize::try_from(at).ok()?)
    }
}
