//! The requests of a connection, and which answer belongs to which.

use std::collections::VecDeque;

use crate::framing::Kind;
use crate::values::Learnt;

/// Requests without an answer at most: a client that sends more at once is no client of a server.
const UNANSWERED: usize = 10_000;

/// So many requests after one that is over with the target and that the origin has not answered, the
/// origin's answer has been missed.
const BEHIND: usize = 100;

/// The requests that an answer is still to come for, in order.
#[derive(Debug)]
pub(crate) struct Exchanges {
    list: VecDeque<Exchange>,
    /// The number of the first.
    first: u64,
    /// The origin's answers are followed as well.
    has_origin: bool,
}

/// A request.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) kind: Kind,
    /// It was to be the last of its connection.
    pub(crate) is_last: bool,
    /// Which rules look at its answers.
    pub(crate) mask: u32,
    target: Target,
    origin: Origin,
    of_target: Learnt,
    of_origin: Learnt,
}

/// How far it is with the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// Whether it is asked is not decided.
    Open,
    Asked,
    LeftOut,
    Answered,
}

impl Target {
    fn is_over(self) -> bool {
        matches!(self, Self::LeftOut | Self::Answered)
    }
}

/// How far it is with the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Awaited,
    Answered(u16),
    /// It has answered, but nobody knows what.
    Unknown,
}

impl Exchanges {
    pub(crate) fn new(has_origin: bool) -> Self {
        Self {
            list: VecDeque::new(),
            first: 0,
            has_origin,
        }
    }

    /// Adds a request: its number, or `None` where there are too many.
    pub(crate) fn add(&mut self, kind: Kind, is_last: bool, mask: u32) -> Option<u64> {
        if self.list.len() == UNANSWERED {
            return None;
        }
        self.list.push_back(Exchange {
            kind,
            is_last,
            mask,
            target: Target::Open,
            origin: match self.has_origin {
                true => Origin::Awaited,
                false => Origin::Unknown,
            },
            of_target: Learnt::default(),
            of_origin: Learnt::default(),
        });
        Some(self.first + self.list.len() as u64 - 1)
    }

    /// The target is asked.
    pub(crate) fn ask(&mut self, number: u64) {
        if let Some(exchange) = self.find_mut(number) {
            exchange.target = Target::Asked;
        }
    }

    /// The target is not asked.
    pub(crate) fn leave_out(&mut self, number: u64) {
        if let Some(exchange) = self.find_mut(number) {
            exchange.target = Target::LeftOut;
        }
    }

    /// What the target answers next.
    pub(crate) fn asked(&self) -> Option<(u64, &Exchange)> {
        let mut open = self.list.iter().zip(self.first..);
        let (exchange, number) = open.find(|(it, _)| !it.target.is_over())?;
        (exchange.target == Target::Asked).then_some((number, exchange))
    }

    /// What the origin answers next.
    pub(crate) fn awaited(&self) -> Option<(u64, &Exchange)> {
        let mut all = self.list.iter().zip(self.first..);
        let (exchange, number) = all.find(|(it, _)| it.origin == Origin::Awaited)?;
        Some((number, exchange))
    }

    /// Whether the target is asked, or may be.
    pub(crate) fn is_for_target(&self, number: u64) -> bool {
        let at = self.place(number);
        at.is_some_and(|at| self.list[at].target != Target::LeftOut)
    }

    /// Whether the target's answer is still to come, or to end, or may be: it may have come before
    /// the request has ended.
    pub(crate) fn is_open(&self, number: u64) -> bool {
        let at = self.place(number);
        at.is_some_and(|at| !self.list[at].target.is_over())
    }

    /// The target's answer is complete, or will never be. Returns the origin's status, if it is
    /// known.
    pub(crate) fn answered(&mut self, number: u64, learnt: Learnt) -> Option<u16> {
        let exchange = self.find_mut(number)?;
        exchange.target = Target::Answered;
        exchange.of_target = learnt;
        match exchange.origin {
            Origin::Answered(status) => Some(status),
            Origin::Awaited | Origin::Unknown => None,
        }
    }

    /// The origin's answer is complete.
    pub(crate) fn origin_answered(&mut self, number: u64, status: u16, learnt: Learnt) {
        if let Some(exchange) = self.find_mut(number) {
            exchange.origin = Origin::Answered(status);
            exchange.of_origin = learnt;
        }
    }

    /// Whether the origin has not answered what is over with the target for so long that its answer
    /// must have been missed.
    pub(crate) fn origin_is_missed(&self) -> bool {
        let front = self.list.front();
        front.is_some_and(|it| it.target.is_over()) && self.list.len() >= BEHIND
    }

    /// The origin's answers to all requests so far will not be known.
    pub(crate) fn lose_origin(&mut self) {
        for exchange in &mut self.list {
            if exchange.origin == Origin::Awaited {
                exchange.origin = Origin::Unknown;
            }
        }
    }

    /// Takes out the first request if both servers have answered it: what each has said, where both
    /// were asked.
    pub(crate) fn settle(&mut self) -> Option<Option<(Learnt, Learnt)>> {
        let is_settled = |it: &Exchange| it.target.is_over() && it.origin != Origin::Awaited;
        self.list.front().filter(|it| is_settled(it))?;
        let settled = self.list.pop_front()?;
        self.first += 1;
        if self.list.is_empty() {
            self.list = VecDeque::new();
        }
        let is_pair = settled.target == Target::Answered && settled.origin != Origin::Unknown;
        Some(is_pair.then_some((settled.of_origin, settled.of_target)))
    }

    fn place(&self, number: u64) -> Option<usize> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        (at < self.list.len()).then_some(at)
    }

    fn find_mut(&mut self, number: u64) -> Option<&mut Exchange> {
        let at = self.place(number)?;
        self.list.get_mut(at)
    }
}
