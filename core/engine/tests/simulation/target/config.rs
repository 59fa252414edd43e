//! How a model target behaves.

use tcpcopy_packet::Endpoint;

use crate::events::{MILLISECOND_US, Micros};

/// What the target does with SYNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listening {
    /// Accepts, answering after a delay.
    Accepts { delay_us: Micros },
    /// No such port: RST.
    Refuses,
    /// Says nothing at all.
    Silent,
}

/// How the application reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// At once.
    Fast,
    /// So many bytes each interval.
    Slow { bytes: u64, interval_us: Micros },
    /// Reads nothing for a time once so many bytes have come.
    Pauses { after_bytes: u64, pause_us: Micros },
}

/// How the application ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Closes when the client has closed and all is answered.
    AfterClient,
    /// Closes both directions after so many messages: what comes later is reset.
    CloseAfter { messages: u64 },
    /// Closes its own direction after so many messages, but goes on reading.
    ShutdownAfter { messages: u64 },
    /// Resets once so many bytes have come.
    ResetAfter { bytes: u64 },
    /// Closes after such a silence.
    CloseIdle { idle_us: Micros },
    /// When the client has closed, waits, says more, and closes then.
    LateData { delay_us: Micros, bytes: u64 },
}

/// All about a model target.
#[derive(Clone, Debug)]
pub(crate) struct TargetConfig {
    pub(crate) endpoint: Endpoint,
    pub(crate) listening: Listening,
    pub(crate) mss: u16,
    /// Window scale offered; also the shift applied to its window.
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack: bool,
    pub(crate) timestamps: bool,
    pub(crate) receive_buffer_bytes: u64,
    /// How long a lone in-order segment may wait for its acknowledgement; zero: not at all.
    pub(crate) delayed_ack_us: Micros,
    /// Sends super-segments of up to 64 KiB, as seen before segmentation offload.
    pub(crate) segmentation_offload: bool,
    /// Sends a keep-alive probe after such a silence.
    pub(crate) keepalive_us: Option<Micros>,
    pub(crate) greeting_bytes: u64,
    /// Time from a request to its answer.
    pub(crate) service_us: Micros,
    /// Answers are longer or shorter than the origin's by so many percent of theirs.
    pub(crate) answer_percent: u64,
    pub(crate) reader: Reader,
    pub(crate) finish: Finish,
    /// Whether anybody looks at its answers' bytes.
    pub(crate) speaks: bool,
}

impl TargetConfig {
    /// A plain, fast server on Ethernet.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            listening: Listening::Accepts { delay_us: 0 },
            mss: if endpoint.address.is_ipv4() {
                1460
            } else {
                1440
            },
            window_scale: Some(7),
            sack: true,
            timestamps: true,
            receive_buffer_bytes: 256 * 1024,
            delayed_ack_us: 40 * MILLISECOND_US,
            segmentation_offload: false,
            keepalive_us: None,
            greeting_bytes: 0,
            service_us: 200,
            answer_percent: 100,
            reader: Reader::Fast,
            finish: Finish::AfterClient,
            speaks: false,
        }
    }
}
