//! What a callback may do.

use std::fmt;
use std::time::Duration;

use crate::abi::{Action, ActionBuffer};

/// What a callback may do: send, mark exchanges, hold, refuse, count, log, look at the clock.
///
/// What is asked for happens when the callback returns, in the order in which it was asked.
///
/// ```
/// use std::time::Duration;
/// use plugin_api::{Context, Level, Outcome};
///
/// fn on_client(bytes: &[u8], ctx: &mut Context<'_>) {
///     let Some(command) = bytes.split(|byte| *byte == b' ').next() else { return };
///     if command == b"SHUTDOWN" {
///         ctx.count("shutdown_dropped", 1);
///         return;
///     }
///     ctx.begin_exchange("command");
///     ctx.send(bytes);
///     ctx.set_timer(Duration::from_secs(5));
/// }
/// # let _ = on_client;
/// ```
pub struct Context<'a> {
    now: Duration,
    actions: &'a mut ActionBuffer,
    host: &'a mut dyn Host,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        now: Duration,
        actions: &'a mut ActionBuffer,
        host: &'a mut dyn Host,
    ) -> Self {
        Self { now, actions, host }
    }

    /// Sends `bytes` to the target, after all that was sent before.
    ///
    /// There is one exception. In a callback that is not about the client's stream (`on_target`,
    /// `on_origin`, `on_timer`, `on_shared` and their like), what is sent before any
    /// [`begin_exchange`](Self::begin_exchange) belongs to what is under way with the target, such
    /// as the answer to its challenge: it goes ahead of all that is held or waits for an answer.
    ///
    /// ```
    /// # use plugin_api::Context;
    /// fn relay(bytes: &[u8], ctx: &mut Context<'_>) {
    ///     ctx.send(b"# as the client said it\n");
    ///     ctx.send(bytes);
    /// }
    /// # let _ = relay;
    /// ```
    pub fn send(&mut self, bytes: &[u8]) {
        self.actions.push(Action::Send(bytes));
    }

    /// Begins an exchange: what is sent from here on is a new request, which leaves when the
    /// captured client had its answer to the one before and the target has given its own. `label`
    /// is for reports: a method, a command, not more than a few dozen different ones.
    ///
    /// An exchange of which nothing is sent before the next begins has been left out: it is counted
    /// so, and is not among those that are ended. That is how a plugin drops a request.
    ///
    /// ```
    /// # use plugin_api::Context;
    /// fn request(method: &str, bytes: &[u8], ctx: &mut Context<'_>) {
    ///     ctx.begin_exchange(method);
    ///     ctx.send(bytes);
    /// }
    /// # let _ = request;
    /// ```
    pub fn begin_exchange(&mut self, label: &str) {
        self.actions.push(Action::BeginExchange { label });
    }

    /// Ends the **oldest** exchange that is open: the target's answer to it is complete. A plugin
    /// that begins exchanges and [needs](crate::Needs) the target's answers must end them, or the
    /// next request waits until its time is over. A request that has no answer is ended once those
    /// before it are, if need be in the call that sends it.
    ///
    /// ```
    /// # use plugin_api::{Context, Outcome};
    /// fn answered(status: u32, ctx: &mut Context<'_>) {
    ///     ctx.end_exchange(if status < 400 { Outcome::ok() } else { Outcome::failed() }.status(status));
    /// }
    /// # let _ = answered;
    /// ```
    pub fn end_exchange(&mut self, outcome: Outcome<'_>) {
        self.actions.push(Action::EndExchange(outcome));
    }

    /// Holds what is sent after this until [`release`](Self::release). The client's bytes keep
    /// coming and may be sent behind the hold, while what is sent [about the target's
    /// words](Self::send) goes ahead of it: so a login that the plugin leads itself comes before
    /// everything else. Holding twice is holding once.
    ///
    /// ```
    /// # use plugin_api::Context;
    /// fn open(ctx: &mut Context<'_>) {
    ///     ctx.send(b"LOGIN eve\n");
    ///     ctx.hold();
    /// }
    /// fn on_target(answer: &[u8], ctx: &mut Context<'_>) {
    ///     if answer.starts_with(b"WELCOME") {
    ///         ctx.release();
    ///     }
    /// }
    /// # let _ = (open, on_target);
    /// ```
    pub fn hold(&mut self) {
        self.actions.push(Action::Hold);
    }

    /// Lets go what [`hold`](Self::hold) held.
    ///
    /// ```
    /// # use plugin_api::Context;
    /// fn logged_in(ctx: &mut Context<'_>) { ctx.release(); }
    /// # let _ = logged_in;
    /// ```
    pub fn release(&mut self) {
        self.actions.push(Action::Release);
    }

    /// Gives the session up: it can't be replayed. The reason is counted under this name: lower
    /// case letters, digits and `_` (other characters become `_`). Nothing is called after it but
    /// [`on_close`](crate::Session::on_close).
    ///
    /// ```
    /// # use plugin_api::Context;
    /// fn on_client(bytes: &[u8], ctx: &mut Context<'_>) {
    ///     if bytes.starts_with(b"\x16\x03") {
    ///         ctx.refuse("encrypted");
    ///     }
    /// }
    /// # let _ = on_client;
    /// ```
    pub fn refuse(&mut self, reason: &str) {
        self.actions.push(Action::Refuse { reason });
    }

    /// Leaves the rest of the session alone: from here on the client's bytes go to the target as
    /// they are, and nothing is called but [`on_close`](crate::Session::on_close). Bytes of the
    /// client that the plugin keeps must be sent before.
    ///
    /// ```
    /// # use plugin_api::Context;
    /// fn upgraded_to_websocket(kept: &[u8], ctx: &mut Context<'_>) {
    ///     ctx.send(kept);
    ///     ctx.pass_through();
    /// }
    /// # let _ = upgraded_to_websocket;
    /// ```
    pub fn pass_through(&mut self) {
        self.actions.push(Action::PassThrough);
    }

    /// Adds `n` to a counter of this plugin, shown in reports. Names as in
    /// [`refuse`](Self::refuse).
    ///
    /// ```
    /// # use plugin_api::Context;
    /// fn replaced(ctx: &mut Context<'_>) { ctx.count("tokens_replaced", 1); }
    /// # let _ = replaced;
    /// ```
    pub fn count(&mut self, name: &str, n: u64) {
        self.actions.push(Action::Count { name, n });
    }

    /// Calls [`on_timer`](crate::Session::on_timer) once, `after` this time, which is at least a
    /// millisecond. A session has one timer: setting it again replaces it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use plugin_api::Context;
    /// fn wait_for_login(ctx: &mut Context<'_>) { ctx.set_timer(Duration::from_secs(3)); }
    /// # let _ = wait_for_login;
    /// ```
    pub fn set_timer(&mut self, after: Duration) {
        self.actions.push(Action::Timer { after });
    }

    /// Writes to tcpcopy's log. What happens once for each message or session belongs to
    /// [`Level::Debug`] or [`Level::Trace`]; count it instead. Never log credentials.
    ///
    /// ```
    /// # use plugin_api::{Context, Level};
    /// fn odd(ctx: &mut Context<'_>) { ctx.log(Level::Debug, "a reply without a request"); }
    /// # let _ = odd;
    /// ```
    pub fn log(&mut self, level: Level, message: &str) {
        self.host.log(level, message);
    }

    /// Fills `bytes` with random ones: good for nonces and tokens, not for keys that must last.
    ///
    /// ```
    /// # use plugin_api::Context;
    /// fn nonce(ctx: &mut Context<'_>) -> [u8; 20] {
    ///     let mut nonce = [0; 20];
    ///     ctx.random(&mut nonce);
    ///     nonce
    /// }
    /// # let _ = nonce;
    /// ```
    pub fn random(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            let drawn = self.host.random().to_le_bytes();
            piece.copy_from_slice(&drawn[..piece.len()]);
        }
    }

    /// The time of this call, from an arbitrary beginning; it never goes back. All of one callback
    /// happens at one time.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use plugin_api::Context;
    /// fn is_late(sent_at: Duration, ctx: &Context<'_>) -> bool {
    ///     ctx.now().saturating_sub(sent_at) > Duration::from_millis(100)
    /// }
    /// # let _ = is_late;
    /// ```
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The values that the sessions of this plugin share; [`Share`] has an example.
    pub fn share(&mut self) -> Share<'_> {
        Share {
            actions: self.actions,
            host: self.host,
        }
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Context")
            .field("now", &self.now)
            .field("actions", &self.actions)
            .finish_non_exhaustive()
    }
}

/// A map that all sessions of a plugin share, in all of tcpcopy's threads: for values that travel
/// between connections, such as a cookie of the origin and its counterpart of the target.
///
/// It is bounded: a value lives until its expiry at most, and when the map is full, the value that
/// would expire first goes first. Nobody else sees it: other plugins have maps of their own.
///
/// ```
/// use std::time::Duration;
/// use plugin_api::Context;
///
/// const TOKEN_LIFE: Duration = Duration::from_secs(600);
///
/// fn learn(origin_token: &[u8], target_token: &[u8], ctx: &mut Context<'_>) {
///     ctx.share().set(origin_token, target_token, TOKEN_LIFE);
/// }
///
/// /// Sends the request with the target's token, now or in `on_shared`.
/// fn replace(origin_token: &[u8], ctx: &mut Context<'_>) {
///     match ctx.share().get(origin_token) {
///         Some(token) => ctx.send(&token),
///         None => ctx.share().wait(origin_token, Duration::from_millis(500)),
///     }
/// }
/// # let _ = (learn, replace);
/// ```
pub struct Share<'a> {
    actions: &'a mut ActionBuffer,
    host: &'a mut dyn Host,
}

impl Share<'_> {
    /// The value of a key.
    ///
    /// ```
    /// # use plugin_api::Context;
    /// fn is_known(user: &[u8], ctx: &mut Context<'_>) -> bool {
    ///     ctx.share().get(user).is_some()
    /// }
    /// # let _ = is_known;
    /// ```
    #[must_use]
    pub fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.host.share_get(key)
    }

    /// Takes the value of a key out, so that nobody else gets it.
    ///
    /// ```
    /// # use plugin_api::Context;
    /// fn one_time_token(ctx: &mut Context<'_>) -> Option<Vec<u8>> {
    ///     ctx.share().take(b"token")
    /// }
    /// # let _ = one_time_token;
    /// ```
    pub fn take(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.host.share_take(key)
    }

    /// Sets the value of a key, until `expiry` from now. It answers false, and sets nothing, when
    /// key and value together are larger than the host allows.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use plugin_api::Context;
    /// fn learn(cookie: &[u8], ctx: &mut Context<'_>) {
    ///     if !ctx.share().set(b"cookie", cookie, Duration::from_secs(60)) {
    ///         ctx.count("cookies_too_large", 1);
    ///     }
    /// }
    /// # let _ = learn;
    /// ```
    pub fn set(&mut self, key: &[u8], value: &[u8], expiry: Duration) -> bool {
        self.host.share_set(key, value, expiry)
    }

    /// Asks to be told once the key has a value, in [`on_shared`](crate::Session::on_shared): at
    /// once if it has one, and with `None` when there is none by `timeout`. The session goes on
    /// meanwhile: what is to come after the request that waits, the plugin keeps until then.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use plugin_api::Context;
    /// fn ask(ctx: &mut Context<'_>) {
    ///     ctx.share().wait(b"cookie", Duration::from_millis(500));
    /// }
    /// # let _ = ask;
    /// ```
    pub fn wait(&mut self, key: &[u8], timeout: Duration) {
        self.actions.push(Action::Wait { key, timeout });
    }
}

impl fmt::Debug for Share<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Share").finish_non_exhaustive()
    }
}

/// How an exchange ended.
///
/// ```
/// use plugin_api::Outcome;
///
/// let outcome = Outcome::failed().status(1146).label("no such table");
/// assert!(!outcome.ok);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// Whether the target did what it was asked.
    pub ok: bool,
    /// The protocol's own number for it, such as an HTTP status; 0 where it has none.
    pub status: u32,
    /// The protocol's own word for it; may be empty. Reports group by it: not more than a few
    /// dozen different ones.
    pub label: &'a str,
}

impl<'a> Outcome<'a> {
    /// The target did what it was asked.
    #[must_use]
    pub fn ok() -> Self {
        Self {
            ok: true,
            status: 0,
            label: "",
        }
    }

    /// It did not.
    #[must_use]
    pub fn failed() -> Self {
        Self {
            ok: false,
            ..Self::ok()
        }
    }

    /// Adds the protocol's number.
    #[must_use]
    pub fn status(mut self, status: u32) -> Self {
        self.status = status;
        self
    }

    /// Adds the protocol's word.
    #[must_use]
    pub fn label(mut self, label: &'a str) -> Self {
        self.label = label;
        self
    }
}

/// How much a line of the log matters.
///
/// ```
/// use plugin_api::Level;
/// assert!(Level::Error < Level::Trace);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The plugin can't do its work.
    Error,
    /// Worth waking someone.
    Warn,
    /// A change that a user cares about.
    Info,
    /// A decision off the common path.
    Debug,
    /// What happens for each message.
    Trace,
}

/// What the host does at once, in the middle of a callback; everything else is an action.
pub(crate) trait Host {
    fn random(&mut self) -> u64;
    fn log(&mut self, level: Level, message: &str);
    fn share_get(&mut self, key: &[u8]) -> Option<Vec<u8>>;
    fn share_take(&mut self, key: &[u8]) -> Option<Vec<u8>>;
    fn share_set(&mut self, key: &[u8], value: &[u8], expiry: Duration) -> bool;
}
