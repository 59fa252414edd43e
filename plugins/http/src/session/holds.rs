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
        match reason {
            Reason::Expect => (self.expected, self.expect_until) = (None, None),
            Reason::Closing => (self.is_closing, self.close_until) = (is_on, None),
            Reason::Kept => self.keeps = is_on,
            Reason::Switch => self.may_switch = is_on,
        }
        if is_on {
            return self.hold(ctx);
        }
        // A held body stays where it is held.
        if self.is_holding && self.expected.is_none() {
            ctx.release();
            self.is_holding = false;
            if self.is_closing || self.keeps || self.may_switch {
                self.hold(ctx);
            }
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
