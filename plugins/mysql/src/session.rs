//! One replayed connection: three streams come in, statements for the target go out.
//!
//! The client's bytes become messages (`client.rs`), which are noted: what the origin will answer,
//! what a statement means. They stand in a queue (`queue.rs`) until the target is ready for them,
//! mostly not at all, and are said in its terms (`release.rs`, `statement.rs`). Both servers'
//! answers are read by the same rules (`origin.rs`, `target.rs`); `account.rs` puts the two halves
//! of an exchange together. A connection that was there before the capture is joined in `late.rs`.

mod client;
mod dialogue;
mod late;
mod memory;
mod origin;
mod queue;
mod release;
mod retelling;
mod rollback;
mod statement;
mod target;

use std::time::Duration;

use plugin_api::{Context, Direction, Session, SessionInfo};
use zeroize::Zeroizing;

use self::client::Client;
use self::late::{Joining, LateLogin};
use self::memory::Place;
use self::origin::Origin;
use self::queue::Queue;
use self::rollback::Rollbacks;
use self::target::Target;
use crate::Mysql;
use crate::account::Account;
use crate::frame::HEADER;
use crate::login::{Known, LoggedIn, Login, LoginStep, Packet};
use crate::statements::{Key, Statements};

/// How long something waits for an answer of the origin that should have come before.
const ORIGIN_WAIT: Duration = Duration::from_secs(2);

/// So much is sent in one call, and then a little more: what hosts allow is 4 MiB.
const CALL_BYTES: usize = 1 << 20;

/// When a call has sent enough, another goes on so soon.
const PAUSE: Duration = Duration::from_millis(1);

/// One replayed connection.
#[derive(Debug)]
pub struct Connection {
    place: Place,
    client: Client,
    queue: Queue,
    origin: Origin,
    target: Target,
    /// The login that is under way, or the last one.
    login: Login,
    /// The exchange that the login is.
    login_number: Option<u64>,
    /// Of a login that is none of the client's: which exchange it is.
    late_login: LateLogin,
    logged_in: Option<LoggedIn>,
    joining: Joining,
    rollbacks: Rollbacks,
    /// Statements that are not known here may have been prepared before the session began.
    recalls: bool,
    /// The connection was there before the session.
    is_late: bool,
    statements: Statements,
    /// The statement that the client has prepared last.
    last_prepared: Option<Key>,
    account: Account,
    /// Since when something waits for the origin.
    waits_since: Option<Duration>,
    /// The client has taken its leave.
    has_quit: bool,
    /// The client says no more; what waits keeps our end of the connection to the target open.
    has_client_ended: bool,
    /// Our end is kept open.
    holds: bool,
    /// What this call has sent of the client's messages, in bytes.
    sent: usize,
    /// What the client says now, the plugin passes on in its order.
    is_of_client: bool,
    /// There is more that may be sent than this call should.
    pauses: bool,
    /// What the queue weighs in the plugin's sum.
    weight: usize,
    /// Nothing is replayed any more.
    is_over: bool,
}

/// What a call has at hand: the plugin, and what can be done.
struct Turn<'a, 'c> {
    plugin: &'a Mysql,
    ctx: &'a mut Context<'c>,
}

impl Connection {
    pub(crate) fn open(plugin: &Mysql, info: &SessionInfo, ctx: &mut Context<'_>) -> Self {
        let place = Place::of(info);
        let mut connection = Self {
            place,
            client: Client::default(),
            queue: Queue::default(),
            origin: Origin::default(),
            target: Target::default(),
            login: Login::new().at(info.target),
            login_number: None,
            late_login: LateLogin::default(),
            logged_in: None,
            joining: Joining::Joined,
            rollbacks: Rollbacks::default(),
            recalls: !info.start_seen,
            is_late: !info.start_seen,
            statements: Statements::default(),
            last_prepared: None,
            account: Account::default(),
            waits_since: None,
            has_quit: false,
            has_client_ended: false,
            holds: false,
            sent: 0,
            is_of_client: false,
            pauses: false,
            weight: 0,
            is_over: false,
        };
        let mut turn = Turn { plugin, ctx };
        match info.start_seen {
            true => {
                connection.place.begin(turn.ctx);
                connection.login_number = connection.account.open("login".into(), true);
            }
            false => connection.open_late(info, &mut turn),
        }
        connection
    }

    fn open_late(&mut self, info: &SessionInfo, turn: &mut Turn<'_, '_>) {
        let known = self.place.recall(turn.ctx).unwrap_or_default();
        if known == Known::default() {
            turn.ctx.count("joined_unknown", 1);
        } else {
            turn.ctx.count("joined_known", 1);
        }
        self.client.search(known.client);
        self.origin.search(known.client);
        self.joining = match self.place.take_rest(turn.ctx) {
            true => Joining::Ready,
            false => Joining::watching(),
        };
        self.login = Login::late(known).at(info.target);
    }

    /// Gives the session up.
    fn refuse(&mut self, reason: &str, turn: &mut Turn<'_, '_>) {
        if !self.is_over {
            self.is_over = true;
            self.place.forget(turn.ctx);
            turn.ctx.refuse(reason);
        }
    }

    /// Sends what a login says.
    fn say(&mut self, packets: &[Packet], turn: &mut Turn<'_, '_>) {
        let bytes = packets.iter().map(|it| HEADER + it.payload.len()).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(bytes));
        for packet in packets {
            crate::frame::put_message(&mut out, packet.sequence, &packet.payload);
        }
        if out.is_empty() {
            return;
        }
        if let Some(number) = self.login_number
            && self.target.begins(number)
        {
            turn.ctx.begin_exchange(&self.account.label(number));
        }
        if self.login_number.is_none() && self.late_login == LateLogin::Behind {
            // In the exchange of a command that is left out, it would have no end.
            self.late_login = LateLogin::Open;
            turn.ctx.count("late_logins", 1);
            turn.ctx.begin_exchange("login");
        }
        turn.ctx.send(&out);
    }

    /// Does what a login has come to.
    fn login_step(&mut self, step: LoginStep, turn: &mut Turn<'_, '_>) {
        match step {
            LoginStep::Continue => {}
            LoginStep::Refused(reason) => self.refuse(reason, turn),
            LoginStep::Denied { code } => self.denied(code, turn),
            LoginStep::Done(logged_in) => self.logged_in(*logged_in, turn),
        }
    }

    fn waits_for_origin(&mut self, turn: &mut Turn<'_, '_>) {
        if self.waits_since.is_none() {
            self.waits_since = Some(turn.ctx.now());
            turn.ctx.set_timer(ORIGIN_WAIT);
        }
    }

    /// Does a part of the work, unless there is nothing more to do; then lets go what can be let go,
    /// and looks whether anything waits for the origin.
    fn work(&mut self, turn: &mut Turn<'_, '_>, part: impl FnOnce(&mut Self, &mut Turn<'_, '_>)) {
        if self.is_over {
            return;
        }
        // What is said now must not stand behind the hold.
        if std::mem::take(&mut self.holds) {
            turn.ctx.release();
        }
        (self.sent, self.pauses) = (0, false);
        part(self, turn);
        self.pump(turn);
        self.is_of_client = false;
        self.weigh(turn.plugin);
        if self.pauses {
            turn.ctx.set_timer(PAUSE);
        }
        let login_waits = !self.is_over && self.login.waits_for_origin();
        if login_waits || self.queue.waits_for_origin || self.account.waits_for_origin() {
            self.waits_for_origin(turn);
        } else {
            self.waits_since = None;
        }
        if (self.has_quit || self.has_client_ended) && self.is_settled() {
            self.place.forget(turn.ctx);
        }
        if self.has_client_ended && !self.queue.is_empty() && !self.is_over {
            self.holds = true;
            turn.ctx.hold();
        }
    }

    /// Whether the target has answered all that the client has said.
    fn is_settled(&self) -> bool {
        self.queue.is_empty() && self.target.is_idle()
    }

    /// What waits of the session, in bytes.
    fn load(&self) -> usize {
        self.queue.bytes() + self.account.weight()
    }

    /// Keeps the plugin's sum of what waits in all sessions.
    fn weigh(&mut self, plugin: &Mysql) {
        let weight = match self.is_over {
            true => 0,
            false => self.load(),
        };
        let others = plugin.queued.get().saturating_sub(self.weight);
        plugin.queued.set(others + weight);
        self.weight = weight;
    }

    /// What waited for the origin has waited long enough.
    fn origin_is_late(&mut self, turn: &mut Turn<'_, '_>) {
        turn.ctx.count("origin_answers_missed", 1);
        self.waits_since = None;
        if self.queue.waits_for_origin {
            self.lose_origin(turn);
        } else {
            self.account.lose_origin(turn.ctx);
            self.login_loses_origin(turn);
        }
    }

    /// The origin's answers to what was said before can't be known.
    fn lose_origin(&mut self, turn: &mut Turn<'_, '_>) {
        self.origin.lose();
        self.statements.lose_origin();
        self.account.lose_origin(turn.ctx);
        self.login_loses_origin(turn);
    }

    /// A login that waits for the origin is decided now.
    fn login_loses_origin(&mut self, turn: &mut Turn<'_, '_>) {
        let (accounts, mut out) = (&turn.plugin.accounts, Vec::new());
        let step = self.login.lose_origin(accounts, turn.ctx, &mut out);
        self.say(&out, turn);
        self.login_step(step, turn);
    }
}

impl Session<Mysql> for Connection {
    fn on_client(&mut self, plugin: &mut Mysql, bytes: &[u8], ctx: &mut Context<'_>) {
        let mut turn = Turn { plugin, ctx };
        self.is_of_client = true;
        self.work(&mut turn, |this, turn| this.client_bytes(bytes, turn));
    }

    fn on_origin(&mut self, plugin: &mut Mysql, bytes: &[u8], ctx: &mut Context<'_>) {
        let mut turn = Turn { plugin, ctx };
        self.work(&mut turn, |this, turn| this.origin_bytes(bytes, turn));
    }

    fn on_target(&mut self, plugin: &mut Mysql, bytes: &[u8], ctx: &mut Context<'_>) {
        let mut turn = Turn { plugin, ctx };
        self.work(&mut turn, |this, turn| this.target_bytes(bytes, turn));
    }

    fn on_gap(
        &mut self,
        plugin: &mut Mysql,
        direction: Direction,
        missing: Option<u64>,
        ctx: &mut Context<'_>,
    ) {
        let mut turn = Turn { plugin, ctx };
        self.work(&mut turn, |this, turn| match direction {
            Direction::Client => this.client_gap(turn),
            Direction::Origin => {
                if !missing.is_some_and(|missing| this.origin.skip(missing)) {
                    turn.ctx.count("origin_gaps", 1);
                    this.lose_origin(turn);
                }
            }
            Direction::Target => this.refuse("capture_gap", turn),
        });
    }

    fn on_client_end(&mut self, plugin: &mut Mysql, ctx: &mut Context<'_>) {
        let mut turn = Turn { plugin, ctx };
        (self.has_client_ended, self.is_of_client) = (true, true);
        self.work(&mut turn, |this, turn| {
            this.pump(turn);
            // Half a file must not count as a whole one: the target hears the connection end.
            if !this.client.is_within_file() {
                this.end_file(turn);
            }
        });
    }

    fn on_origin_end(&mut self, plugin: &mut Mysql, ctx: &mut Context<'_>) {
        let mut turn = Turn { plugin, ctx };
        self.work(&mut turn, Self::lose_origin);
    }

    fn on_target_end(&mut self, plugin: &mut Mysql, ctx: &mut Context<'_>) {
        let mut turn = Turn { plugin, ctx };
        self.work(&mut turn, |this, turn| this.leave_rest(turn));
    }

    fn on_timer(&mut self, plugin: &mut Mysql, ctx: &mut Context<'_>) {
        let mut turn = Turn { plugin, ctx };
        if self.pauses {
            self.work(&mut turn, |_, _| {});
        }
        let Some(since) = self.waits_since else {
            return;
        };
        let due = since + ORIGIN_WAIT;
        match due
            .checked_sub(turn.ctx.now())
            .filter(|left| !left.is_zero())
        {
            Some(left) if !self.pauses => turn.ctx.set_timer(left),
            Some(_) => {}
            None => self.work(&mut turn, Self::origin_is_late),
        }
    }

    fn on_close(&mut self, plugin: &mut Mysql) {
        self.is_over = true;
        self.weigh(plugin);
    }
}
