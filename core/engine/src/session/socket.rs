//! What only a session with a kernel connection does.

use super::{Context, Session};
use crate::channel::Request;
use crate::ledger::{DropReason, Ledger};
use crate::output::SocketFailure;
use crate::socket::SocketEvent;
use crate::time::Instant;

impl Session {
    /// The next thing to ask of the kernel.
    pub(super) fn poll_socket(&mut self, now: Instant, ledger: &mut Ledger) -> Option<Request> {
        let limit = self.gate.limit(self.channel.end());
        let socket = self.channel.socket_mut()?;
        let was_waiting = socket.is_waiting_for_target();
        let request = socket.poll(now, limit)?;
        ledger.upstream.connects += u64::from(request == Request::Connect);
        if !was_waiting {
            self.expecting_since = now;
        }
        Some(request)
    }

    /// Takes what happened to its connection; `payload` is what it has received.
    pub(crate) fn socket_event(
        &mut self,
        now: Instant,
        event: SocketEvent,
        payload: &[u8],
        cx: &mut Context<'_>,
    ) {
        let Some(socket) = self.channel.socket_mut() else {
            return;
        };
        let sent = socket.sent();
        let heard = socket.event(now, event);
        let newly_sent = socket.sent() - sent;
        let upstream = &mut cx.ledger.upstream;
        upstream.socket_bytes += newly_sent;
        upstream.replies += u64::from(heard.received > 0);
        upstream.reply_bytes += heard.received;
        let is_word_of_target = heard.is_anything() || event == SocketEvent::Writable;
        if is_word_of_target {
            self.expecting_since = now;
        }
        if is_word_of_target || newly_sent > 0 {
            self.last_activity_at = now;
        }
        // What comes after our own end is nobody's.
        let payload = if heard.received > 0 { payload } else { &[] };
        self.hear(now, &heard, payload, cx);
    }

    /// The kernel has no connection for it, or none any more. Returns true where that was for want
    /// of something that comes back: the session waits in line then.
    pub(crate) fn socket_failed(
        &mut self,
        now: Instant,
        failure: SocketFailure,
        ledger: &mut Ledger,
    ) -> bool {
        let Some(socket) = self.channel.socket_mut() else {
            return false;
        };
        if failure.is_shortage() && socket.is_connecting() && !self.is_settled {
            ledger.upstream.connect_shortages += 1;
            socket.wait_in_line(now, failure.reason());
            return true;
        }
        ledger.upstream.resets_received += u64::from(failure == SocketFailure::Reset);
        socket.failed();
        false
    }

    /// Waits until those before it have found what `reason` says is short.
    pub(crate) fn wait_in_line(&mut self, now: Instant, reason: DropReason) {
        if let Some(socket) = self.channel.socket_mut() {
            socket.wait_in_line(now, reason);
        }
    }

    /// It is this one's turn. False where it does not wait any more.
    pub(crate) fn leave_line(&mut self) -> bool {
        self.channel
            .socket_mut()
            .is_some_and(|socket| socket.leave_line())
    }

    /// The chunk that the kernel is to take.
    pub(crate) fn offered(&mut self) -> &[u8] {
        self.channel
            .socket_mut()
            .map_or(&[], |socket| socket.offered())
    }

    /// Whether the kernel has a connection of it, which must not outlive it.
    pub(crate) fn has_connection(&mut self) -> bool {
        self.channel
            .socket_mut()
            .is_some_and(|socket| socket.is_open())
    }
}
