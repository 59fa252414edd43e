//! Why what is sent is held back, and until when.

use std::time::Duration;

use plugin_api::Context;

/// Why something is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// A body, until the target says `100 Continue`.
    Expect,
    /// Whatever follows an answer after which the target closes.
    Closing,
    /// The plugin keeps something itself, and the end of the stream must not overtake that.
    Kept,
    /// The same of what may be another protocol.
    Switch,
}

/// All reasons, and the one hold that tcpcopy knows.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// The request whose body is held.
    expected: Option<u64>,
    is_closing: bool,
    keeps: bool,
    may_switch: bool,
    is_holding: bool,
    /// By the plugin's clock.
    expect_until: Option<Duration>,
    close_until: Option<Duration>,
}

impl Holds {
    /// Holds the body of a request from here on.
    pub(super) fn expect(&mut self, number: u64, ctx: &mut Context<'_>) {
        // One behind a hold that is in force is not waited for: there is but one place to hold at.
        if !self.is_holding {
            self.expected = Some(number);
            self.hold(ctx);
        }
    }

    /// The request whose body is held.
    pub(super) fn expected(&self) -> Option<u64> {
        self.expected
    }

    /// A reason begins or ends.
    pub(super) fn set(&mut self, reason: Reason, is_on: bool, ctx: &mut Context<'_>) {
        let was_on = match reason {
            Reason::Expect => {
                self.expect_until = None;
                self.expected.take().is_some()
            }
            Reason::Closing => {
                self.close_until = None;
                std::mem::replace(&mut self.is_closing, is_on)
            }
            Reason::Kept => std::mem::replace(&mut self.keeps, is_on),
            Reason::Switch => std::mem::replace(&mut self.may_switch, is_on),
        };
        if !is_on && was_on {
            self.open(ctx);
        }
        self.settle(ctx);
    }

    /// What was kept is about to be sent; [`settle`](Self::settle) follows that.
    pub(super) fn let_go(&mut self, ctx: &mut Context<'_>) {
        self.keeps = false;
        self.open(ctx);
    }

    fn open(&mut self, ctx: &mut Context<'_>) {
        // These two hold what is behind the place where they began.
        let is_fixed = self.expected.is_some() || self.is_closing;
        if self.is_holding && !is_fixed {
            ctx.release();
            self.is_holding = false;
        }
    }

    /// Holds what is to come, where there is a reason.
    pub(super) fn settle(&mut self, ctx: &mut Context<'_>) {
        if self.is_closing || self.keeps || self.may_switch {
            self.hold(ctx);
        }
    }

    /// Nothing is held any more.
    pub(super) fn release_all(&mut self, ctx: &mut Context<'_>) {
        if self.is_holding {
            ctx.release();
        }
        *self = Self::default();
    }

    fn hold(&mut self, ctx: &mut Context<'_>) {
        if !self.is_holding {
            ctx.hold();
            self.is_holding = true;
        }
    }

    /// A reason ends after this time at the latest.
    pub(super) fn set_deadline(&mut self, reason: Reason, after: Duration, ctx: &mut Context<'_>) {
        let until = Some(ctx.now() + after);
        match reason {
            Reason::Expect if self.expect_until.is_none() => self.expect_until = until,
            Reason::Closing => self.close_until = until,
            Reason::Expect | Reason::Kept | Reason::Switch => return,
        }
        self.arm(ctx);
    }

    fn arm(&self, ctx: &mut Context<'_>) {
        let deadlines = [self.expect_until, self.close_until];
        if let Some(next) = deadlines.into_iter().flatten().min() {
            ctx.set_timer(next.saturating_sub(ctx.now()));
        }
    }

    /// The reasons whose time is over.
    pub(super) fn due(&mut self, ctx: &mut Context<'_>) -> impl Iterator<Item = Reason> + use<> {
        let now = ctx.now();
        let is_due = |until: &mut Option<Duration>| until.take_if(|it| *it <= now).is_some();
        let expect = is_due(&mut self.expect_until).then_some(Reason::Expect);
        let closing = is_due(&mut self.close_until).then_some(Reason::Closing);
        self.arm(ctx);
        [expect, closing].into_iter().flatten()
    }

    /// The target is gone, and will not be waited for.
    pub(super) fn forget_deadlines(&mut self) {
        (self.expect_until, self.close_until) = (None, None);
    }
}
