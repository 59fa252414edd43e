//! What an author implements: the plugin, and one session of it.

use crate::{Config, Context, Direction, Manifest, SessionInfo};

/// A protocol plugin: its configuration, and what its sessions have in common.
///
/// tcpcopy makes one value in each of its threads and calls it from that thread only, so nothing
/// has to be locked; what sessions of *all* threads must know goes through
/// [`Context::share`]. The crate's first page shows a whole plugin.
pub trait Plugin: Send + Sized + 'static {
    /// What is kept for each replayed connection.
    type Session: Session<Self>;

    /// Says who the plugin is, what it needs, and which keys of configuration it knows. It is asked
    /// before anything else and must always answer the same.
    ///
    /// ```
    /// use plugin_api::{Key, Manifest, Needs};
    ///
    /// fn manifest() -> Manifest {
    ///     Manifest::new("login", env!("CARGO_PKG_VERSION"), "logs in with other credentials")
    ///         .needs(Needs::TARGET)
    ///         .key(Key::text("user", "who logs in at the target").required())
    ///         .key(Key::secret("password", "with which password").required())
    /// }
    /// ```
    fn manifest() -> Manifest;

    /// Makes the plugin from its configuration. The keys have been compared with the manifest:
    /// there are no unknown ones, the required ones are there, and each is of its kind.
    ///
    /// ```
    /// use plugin_api::Config;
    ///
    /// struct Login { user: String }
    ///
    /// fn configure(config: &Config) -> Result<Login, String> {
    ///     Ok(Login { user: config.text("user")?.to_owned() })
    /// }
    /// assert_eq!(configure(&Config::new().with("user", "eve")).unwrap().user, "eve");
    /// ```
    ///
    /// # Errors
    /// A sentence that names the key and says what is wrong with it; tcpcopy prints it and does
    /// not start.
    fn configure(config: &Config) -> Result<Self, String>;

    /// Opens a session. With `-n 3`, each captured connection opens three
    /// ([`SessionInfo::copy`] tells them apart). What is sent here goes before anything else.
    ///
    /// Where [`SessionInfo::start_seen`] is false, the client had been talking before the capture
    /// began: the plugin may send a beginning of its own (a login, say), or wait for the next
    /// boundary of messages.
    fn open(&mut self, info: &SessionInfo, ctx: &mut Context<'_>) -> Self::Session;
}

/// One replayed connection, as a plugin sees it.
///
/// Bytes come in order, without holes, cut anywhere: a message may come in several calls, and a
/// call may bring several messages. Only [`on_client`](Session::on_client) must be written.
///
/// ```
/// use plugin_api::{Context, Outcome, Session};
///
/// struct Echo;
/// /// Counts lines: each request is one, each answer is one.
/// struct Lines;
///
/// impl Session<Echo> for Lines {
///     fn on_client(&mut self, _: &mut Echo, bytes: &[u8], ctx: &mut Context<'_>) {
///         for line in bytes.split_inclusive(|byte| *byte == b'\n') {
///             ctx.begin_exchange("line");
///             ctx.send(line);
///         }
///     }
///     fn on_target(&mut self, _: &mut Echo, bytes: &[u8], ctx: &mut Context<'_>) {
///         for _ in bytes.iter().filter(|byte| **byte == b'\n') {
///             ctx.end_exchange(Outcome::ok());
///         }
///     }
/// }
/// ```
pub trait Session<P>: Send + 'static {
    /// The captured client sent `bytes` to the origin. Nothing reaches the target but what the
    /// plugin sends.
    fn on_client(&mut self, plugin: &mut P, bytes: &[u8], ctx: &mut Context<'_>);

    /// The origin answered `bytes` to the captured client. Only with
    /// [`Needs::origin`](crate::Needs::origin).
    fn on_origin(&mut self, plugin: &mut P, bytes: &[u8], ctx: &mut Context<'_>) {
        let _ = (plugin, bytes, ctx);
    }

    /// The target answered `bytes` to the replay. Only with
    /// [`Needs::target`](crate::Needs::target).
    fn on_target(&mut self, plugin: &mut P, bytes: &[u8], ctx: &mut Context<'_>) {
        let _ = (plugin, bytes, ctx);
    }

    /// The capture lost bytes of a stream for good: `missing` of them where that is known. What
    /// comes next in that stream comes after the hole.
    ///
    /// Unless the plugin can find the next boundary of messages by itself, the session can't go
    /// on; this default refuses it.
    fn on_gap(
        &mut self,
        plugin: &mut P,
        direction: Direction,
        missing: Option<u64>,
        ctx: &mut Context<'_>,
    ) {
        let _ = (plugin, direction, missing);
        ctx.refuse("capture_gap");
    }

    /// The captured client has finished its stream, or aborted it. The connection to the target is
    /// closed after what has been sent, and not before a hold is released; the target may still
    /// answer.
    fn on_client_end(&mut self, plugin: &mut P, ctx: &mut Context<'_>) {
        let _ = (plugin, ctx);
    }

    /// The origin has closed its side. Only with [`Needs::origin`](crate::Needs::origin).
    fn on_origin_end(&mut self, plugin: &mut P, ctx: &mut Context<'_>) {
        let _ = (plugin, ctx);
    }

    /// The target has closed its side: an answer that ends with the connection is complete now, and
    /// others will not come.
    fn on_target_end(&mut self, plugin: &mut P, ctx: &mut Context<'_>) {
        let _ = (plugin, ctx);
    }

    /// The time of [`Context::set_timer`] is over.
    fn on_timer(&mut self, plugin: &mut P, ctx: &mut Context<'_>) {
        let _ = (plugin, ctx);
    }

    /// What [`Share::wait`](crate::Share::wait) asked for is there, or (`None`) has not come in
    /// time.
    fn on_shared(
        &mut self,
        plugin: &mut P,
        key: &[u8],
        value: Option<&[u8]>,
        ctx: &mut Context<'_>,
    ) {
        let _ = (plugin, key, value, ctx);
    }

    /// The session is over; nothing can be sent any more. It is not called when the plugin itself
    /// failed.
    fn on_close(&mut self, plugin: &mut P) {
        let _ = plugin;
    }
}
