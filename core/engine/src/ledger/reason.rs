//! Why something that was captured never reached the target: a closed list, one line a reason.

use std::ops::{Index, IndexMut};

/// Declares [`DropReason`]. A new reason is one more entry; nothing else has to know.
macro_rules! drop_reasons {
    ($($variant:ident, $name:literal, $sentence:literal;)+) => {
        /// Why a connection, a request or bytes that were captured were not delivered.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DropReason {
            $(#[doc = $sentence] $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of the report.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The reason's stable name in machine-readable reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What happened and what to do about it, as a sentence for the user.
            #[must_use]
            pub const fn describe(self) -> &'static str {
                match self {
                    $(Self::$variant => $sentence,)+
                }
            }
        }
    };
}

drop_reasons! {
    NotSelected, "not_selected", "left out by the share of connections that -r or -g asks for";
    RateLimit, "rate_limit", "above the rate that --rate allows";
    Paused, "paused", "left out because the replay was paused";
    OwnReplay, "own_replay", "this replay's own traffic, captured again: the target's traffic passes here too, so name the origin's address in -x, or capture on its device only with -i";
    CpuLimit, "cpu_limit", "not begun because tcpcopy had used up its share of the processor; raise it with --cpu-percent, or replay less with -r";
    MidStreamRefused, "mid_stream_refused", "the connection began before the capture, and -O wants whole connections only";
    JoinedLate, "joined_late", "sent before the first request boundary of a connection that began before the capture";
    CaptureGap, "capture_gap", "the capture missed bytes that the origin received; see the capture's own drops, and enlarge its buffer with -B";
    NoTupleLeft, "no_tuple_left", "every source port towards the target is in use; add source addresses with -c";
    NoDescriptor, "no_descriptor", "no file descriptor was left for another connection; raise the limit of open files (ulimit -n)";
    AddressFamily, "address_family", "the client and the target are of different IP versions; give source addresses of the target's version with -c";
    MemoryBudget, "memory_budget", "the memory budget was used up; raise it with -m, or replay less with -r";
    TargetRefused, "target_refused", "the target refused the connection with a reset; is it listening on that port?";
    TargetReset, "target_reset", "the target reset the connection";
    TargetClosed, "target_closed", "the target closed the connection while the client still had data for it";
    TargetSilent, "target_silent", "the target did not answer in spite of retransmissions; is it up, and do its answers pass intercept?";
    TargetUnreachable, "target_unreachable", "no way leads to the target: a router or this host says so; check the address and the routes";
    GateTimeout, "gate_timeout", "the target never answered the request before; -W sends without waiting for answers";
    IdleTimeout, "idle_timeout", "nothing at all happened for the idle timeout (-k)";
    TunnelDown, "tunnel_down", "the tunnel to intercept was lost; -L keeps trying to reconnect";
    InterceptRefused, "intercept_refused", "intercept refused the session; its log says why";
    SocketFailed, "socket_failed", "this host would not make or keep a connection to the target; does a firewall rule forbid it?";
    PluginRefused, "plugin_refused", "a plugin could not replay the session; its own counters name the reason";
    PluginFailed, "plugin_failed", "a plugin failed or used up what it is allowed; the log says how";
    PluginHeld, "plugin_held", "a plugin held it back until the session timeout (-t), as the target never said what the plugin waited for";
    PluginDropped, "plugin_dropped", "a plugin left it out";
    ClientReset, "client_reset", "the client reset the connection before its data could be delivered";
    PortReused, "port_reused", "the client opened a new connection from the same port before this one had ended";
    ShutDown, "shut_down", "still under way when tcpcopy was told to stop";
    Bug, "bug", "a defect in tcpcopy; please report it with the log";
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The reason's place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it stands for a bound on the load, of the user's choice or of this host, rather than
    /// for something that went wrong.
    #[must_use]
    pub const fn limits_load(self) -> bool {
        matches!(
            self,
            Self::NotSelected
                | Self::RateLimit
                | Self::Paused
                | Self::CpuLimit
                | Self::MemoryBudget
                | Self::NoTupleLeft
                | Self::NoDescriptor
        )
    }

    /// Whether it is no loss: the user asked for it, or no real client sent it.
    #[must_use]
    pub const fn is_by_choice(self) -> bool {
        matches!(
            self,
            Self::NotSelected
                | Self::RateLimit
                | Self::Paused
                | Self::OwnReplay
                | Self::MidStreamRefused
                | Self::PluginDropped
        )
    }
}

/// One value for each [`DropReason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerReason<T>([T; DropReason::COUNT]);

impl<T> PerReason<T> {
    /// The reasons with their values, in the order of [`DropReason::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, &T)> {
        DropReason::ALL.into_iter().zip(&self.0)
    }
}

impl<T: Copy + Default> Default for PerReason<T> {
    fn default() -> Self {
        Self([T::default(); DropReason::COUNT])
    }
}

impl<T> Index<DropReason> for PerReason<T> {
    type Output = T;

    fn index(&self, reason: DropReason) -> &T {
        &self.0[reason.index()]
    }
}

impl<T> IndexMut<DropReason> for PerReason<T> {
    fn index_mut(&mut self, reason: DropReason) -> &mut T {
        &mut self.0[reason.index()]
    }
}
