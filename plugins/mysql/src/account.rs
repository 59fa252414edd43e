//! The exchanges of a session: what was asked, and what each of the two servers answered.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use plugin_api::{Context, Outcome};

use crate::answer::Summary;

/// So many exchanges may be open: a target may be behind, but not for ever.
const OPEN: usize = 256 * 1024;

/// So many may have ended without the origin's answer, which comes first as a rule.
const UNSETTLED: usize = 16 * 1024;

/// What an open exchange takes, all in all, in bytes.
const WEIGHT: usize = 256;

/// So many labels are kept once for all exchanges of their name.
const LABELS: usize = 512;

/// The exchanges that are not settled yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Account {
    exchanges: VecDeque<Exchange>,
    /// The number of the first of them.
    first: u64,
    /// So many of them, the oldest, have ended: only the origin's answers are still to come.
    ended: usize,
    labels: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
struct Exchange {
    label: Arc<str>,
    origin: Half,
    target: Half,
}

/// What one of the servers has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    /// Nothing yet.
    Open,
    /// It was not asked, or it can't be known.
    Unknown,
    Answered(Result),
}

impl Half {
    fn is_excused(self) -> bool {
        matches!(self, Self::Answered(result) if result.is_excused)
    }

    fn has_failed(self) -> bool {
        matches!(self, Self::Answered(result) if result.error.is_some())
    }
}

/// An answer in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Result {
    error: Option<u16>,
    rows: u64,
    affected: u64,
    in_transaction: Option<bool>,
    /// The error costs nothing: what it is about is done otherwise.
    is_excused: bool,
}

impl Result {
    fn of(summary: &Summary) -> Self {
        Self {
            error: summary.error,
            rows: summary.rows,
            affected: summary.affected,
            in_transaction: summary.status.map(|status| status.is_in_transaction()),
            is_excused: false,
        }
    }
}

impl Account {
    /// What the open exchanges take, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.exchanges.len() * WEIGHT
    }

    /// A label that exchanges of one name have in common.
    pub(crate) fn name(&mut self, label: &str) -> Arc<str> {
        if let Some(known) = self.labels.get(label) {
            return Arc::clone(known);
        }
        let label: Arc<str> = Arc::from(label);
        if self.labels.len() < LABELS {
            self.labels.insert(Arc::clone(&label));
        }
        label
    }

    /// Opens an exchange; the answer is its number. `None` when too many are open.
    /// `has_answer` tells whether servers answer to it.
    pub(crate) fn open(&mut self, label: Arc<str>, has_answer: bool) -> Option<u64> {
        let number = self.first + self.exchanges.len() as u64;
        if self.exchanges.len() >= OPEN {
            return None;
        }
        self.exchanges.push_back(Exchange {
            label,
            origin: if has_answer {
                Half::Open
            } else {
                Half::Unknown
            },
            target: Half::Open,
        });
        Some(number)
    }

    fn find(&mut self, number: u64) -> Option<&mut Exchange> {
        let at = number.checked_sub(self.first)?;
        self.exchanges.get_mut(usize::try_from(at).ok()?)
    }

    pub(crate) fn label(&mut self, number: u64) -> Arc<str> {
        match self.find(number) {
            Some(exchange) => Arc::clone(&exchange.label),
            None => Arc::from(""),
        }
    }

    /// Gives an exchange another name, where a better one has become known.
    pub(crate) fn rename(&mut self, number: u64, label: Arc<str>) {
        if let Some(exchange) = self.find(number) {
            exchange.label = label;
        }
    }

    /// The origin has answered.
    pub(crate) fn origin(&mut self, number: u64, summary: &Summary, ctx: &mut Context<'_>) {
        if let Some(exchange) = self.find(number) {
            exchange.origin = Half::Answered(Result::of(summary));
        }
        self.settle(ctx);
    }

    /// Whether the origin's answer was an error; `None` while that is still to come. What can't be
    /// known was none.
    pub(crate) fn has_failed_at_origin(&mut self, number: u64) -> Option<bool> {
        match self.find(number)?.origin {
            Half::Open => None,
            Half::Unknown => Some(false),
            Half::Answered(result) => Some(result.error.is_some()),
        }
    }

    /// The target has answered.
    pub(crate) fn target(&mut self, number: u64, summary: &Summary, ctx: &mut Context<'_>) {
        if let Some(exchange) = self.find(number) {
            exchange.target = Half::Answered(Result::of(summary));
        }
        self.settle(ctx);
    }

    /// The target has refused to prepare a statement that can be said as a text.
    pub(crate) fn unpreparable(&mut self, number: u64, summary: &Summary, ctx: &mut Context<'_>) {
        if let Some(exchange) = self.find(number) {
            exchange.target = Half::Answered(Result {
                is_excused: true,
                ..Result::of(summary)
            });
        }
        self.settle(ctx);
    }

    /// The target was told, and does not answer.
    pub(crate) fn told(&mut self, number: u64, ctx: &mut Context<'_>) {
        self.target(number, &Summary::default(), ctx);
    }

    /// The target is not asked.
    pub(crate) fn left_out(&mut self, number: u64, ctx: &mut Context<'_>) {
        if let Some(exchange) = self.find(number) {
            exchange.target = Half::Unknown;
        }
        self.settle(ctx);
    }

    /// What the origin has not answered so far won't be known.
    pub(crate) fn lose_origin(&mut self, ctx: &mut Context<'_>) {
        for exchange in &mut self.exchanges {
            if exchange.origin == Half::Open {
                exchange.origin = Half::Unknown;
            }
        }
        self.settle(ctx);
    }

    /// What the origin answered to this one won't be known.
    pub(crate) fn lose_answer(&mut self, number: u64, ctx: &mut Context<'_>) {
        let exchange = self.find(number).filter(|it| it.origin == Half::Open);
        if let Some(exchange) = exchange {
            exchange.origin = Half::Unknown;
        }
        self.settle(ctx);
    }

    /// Whether an exchange can't end before the origin's answer is known.
    pub(crate) fn waits_for_origin(&self) -> bool {
        let next = self.exchanges.get(self.ended);
        next.is_some_and(|exchange| exchange.target != Half::Open)
    }

    /// Ends exchanges in their order, and forgets those of which both halves are known.
    fn settle(&mut self, ctx: &mut Context<'_>) {
        while let Some(exchange) = self.exchanges.get(self.ended)
            && exchange.end(ctx)
        {
            self.ended += 1;
        }
        while self.ended > 0
            && let Some(oldest) = self.exchanges.front()
        {
            if oldest.is_settled() {
                oldest.compare(ctx);
            } else if self.ended > UNSETTLED {
                ctx.count("origin_answers_missed", 1);
            } else {
                break;
            }
            self.exchanges.pop_front();
            self.first += 1;
            self.ended -= 1;
        }
    }
}

impl Exchange {
    /// Tells how it ended, unless that is still to be known.
    fn end(&self, ctx: &mut Context<'_>) -> bool {
        let outcome = match (self.target, self.origin) {
            (Half::Open, _) => return false,
            // It has not begun.
            (Half::Unknown, _) => None,
            (Half::Answered(Result { error: None, .. }), _) => Some(Outcome::ok()),
            (Half::Answered(_), Half::Open) => return false,
            (target, origin) if target.is_excused() && !origin.has_failed() => Some(Outcome::ok()),
            (
                Half::Answered(Result {
                    error: Some(code), ..
                }),
                origin,
            ) => Some(failure(code, origin)),
        };
        if let Some(outcome) = outcome {
            ctx.end_exchange(outcome);
        }
        true
    }

    /// Of one that has ended: whether there is nothing more to wait for.
    fn is_settled(&self) -> bool {
        self.origin != Half::Open || self.target == Half::Unknown
    }

    /// Counts how the answers differ.
    fn compare(&self, ctx: &mut Context<'_>) {
        if self.target.is_excused() && !self.origin.has_failed() {
            return ctx.count("statements_unpreparable", 1);
        }
        let (Half::Answered(origin), Half::Answered(target)) = (self.origin, self.target) else {
            return;
        };
        match (origin.error, target.error) {
            (None, None) => {}
            (None, Some(_)) => return ctx.count("errors_only_at_target", 1),
            (Some(_), None) => return ctx.count("errors_only_at_origin", 1),
            (Some(origin), Some(target)) if origin == target => return,
            (Some(_), Some(_)) => return ctx.count("errors_differ", 1),
        }
        if origin.rows != target.rows {
            ctx.count("rows_differ", 1);
        }
        if origin.affected != target.affected {
            ctx.count("affected_rows_differ", 1);
        }
        let states = origin.in_transaction.zip(target.in_transaction);
        if states.is_some_and(|(origin, target)| origin != target) {
            ctx.count("transaction_states_differ", 1);
        }
    }
}

/// An error of the target is as it should be where the origin had the same.
fn failure(code: u16, origin: Half) -> Outcome<'static> {
    let of_origin = match origin {
        Half::Answered(result) => Some(result.error),
        Half::Open | Half::Unknown => None,
    };
    let outcome = match of_origin {
        Some(Some(same)) if same == code => Outcome::ok().label("as at the origin"),
        Some(Some(_)) => Outcome::failed().label("another error at the origin"),
        Some(None) => Outcome::failed().label("not at the origin"),
        None => Outcome::failed(),
    };
    outcome.status(u32::from(code))
}
