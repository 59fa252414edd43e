//! How much a plugin may take.

use std::time::Duration;

/// How much one plugin may take. What exceeds a limit is refused where the contract has a way to
/// say so, and ends the sessions of the plugin's instance under a name where it has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time of the processor that one call of a WASM plugin may take, to within 20 ms. While it
    /// lasts, the shard does nothing else. Native plugins can't be interrupted: their slow calls
    /// are counted.
    pub call_time: Duration,
    /// Memory of one WASM instance, its tables included; each shard has an instance of each plugin.
    pub memory_bytes: usize,
    /// What one call may answer: the bytes it sends, with a few bytes for each action.
    pub output_bytes: usize,
    /// Sessions that one instance may have open; more are not begun.
    pub sessions: usize,
    /// Keys and values of the map that a plugin's sessions share, each with
    /// [`ENTRY_BYTES`](Self::ENTRY_BYTES) on top.
    pub share_bytes: usize,
    /// One value of it with its key.
    pub share_value_bytes: usize,
    /// Values that one session may wait for at a time; more are answered as not there at once.
    pub waits: usize,
    /// Bytes that a plugin that is not the last of its chain may hold back in one session. (What
    /// the last one holds is in the engine's memory budget.)
    pub held_bytes: usize,
    /// Different labels of exchanges that are counted; the rest is counted as `(other)`.
    pub labels: usize,
    /// Different outcomes that are counted for each label; the rest is counted as `(other)`.
    pub outcomes: usize,
    /// Different counters, and different reasons of refusals; the rest is counted as `(other)`.
    pub names: usize,
    /// After so many failures in a row a plugin is switched off. They are in a row when each comes
    /// within [`RECOVERY`](Self::RECOVERY) after the one before.
    pub failures: u32,
}

impl Limits {
    /// What an entry of the shared map costs besides key and value.
    pub const ENTRY_BYTES: usize = 128;

    /// A plugin that did not fail for so long begins a new row of failures.
    pub const RECOVERY: Duration = Duration::from_secs(60);

    /// Calls that one event of a session may lead to in a chain: a plugin that is told a shared
    /// value and asks for it again at once would go on for ever.
    pub const CALLS_OF_AN_EVENT: u32 = 1000;

    /// Lines that one instance may write to the log in [`LOG_WINDOW`](Self::LOG_WINDOW); the rest
    /// is counted.
    pub const LOG_LINES: u32 = 100;

    /// See [`LOG_LINES`](Self::LOG_LINES).
    pub const LOG_WINDOW: Duration = Duration::from_secs(10);

    /// The longest line of a plugin in the log, in bytes; the rest is cut off.
    pub const LOG_LINE_BYTES: usize = 2048;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_time: Duration::from_millis(100),
            memory_bytes: 128 << 20,
            output_bytes: 4 << 20,
            sessions: 200_000,
            share_bytes: 64 << 20,
            share_value_bytes: 64 << 10,
            waits: 64,
            held_bytes: 1 << 20,
            labels: 200,
            outcomes: 32,
            names: 200,
            failures: 5,
        }
    }
}
