//! What happens to a session, as a value.

use crate::Direction;

/// One thing that happens to an open session: each is one call of the contract.
///
/// ```
/// use plugin_api::Direction;
/// use plugin_api::abi::Event;
///
/// let event = Event::Data { direction: Direction::Client, bytes: b"get x\n" };
/// assert_ne!(event, Event::Timer);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Bytes of a stream, in order.
    Data {
        /// Which stream.
        direction: Direction,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// A stream goes on after a hole.
    Gap {
        /// Which stream.
        direction: Direction,
        /// How many bytes are missing, where that is known.
        missing: Option<u64>,
    },
    /// A stream is finished.
    End {
        /// Which stream.
        direction: Direction,
    },
    /// The session's timer has gone off.
    Timer,
    /// A shared value that was waited for.
    Shared {
        /// Its key.
        key: &'a [u8],
        /// What it is; `None` when the time was over.
        value: Option<&'a [u8]>,
    },
}
