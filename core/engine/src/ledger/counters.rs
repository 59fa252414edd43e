//! Plain counters beside the accounts: what was seen on the way in and on the way out.

use super::Row;

/// Declares a struct of counters that can be summed and listed. A new counter is one more field.
macro_rules! counters {
    (
        $(#[$about:meta])*
        $section:literal => $name:ident {
            $($(#[doc = $meaning:literal])+ $field:ident,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $meaning])+ pub $field: u64,)+
        }

        impl $name {
            /// Adds what another shard counted.
            pub fn merge(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
            }

            /// The counters as rows of the report, in the order of their declaration.
            pub fn rows(&self) -> impl Iterator<Item = Row> + use<> {
                [$(Row {
                    section: $section,
                    name: stringify!($field),
                    value: self.$field,
                    meaning: concat!($($meaning),+).trim_ascii(),
                }),+]
                .into_iter()
            }
        }
    };
}

counters! {
    /// What the capture brought.
    "capture" => CaptureCounters {
        /// packets that reached the engine or were refused on the way to it
        packets,
        /// packets that the kernel dropped because the capture buffer was full
        ring_dropped,
        /// packets whose headers contradict themselves or are cut short
        malformed,
        /// fragments of IP packets, which are not joined
        fragments,
        /// packets that carry something other than TCP
        not_tcp,
        /// TCP segments that no mapping of -x asks for
        not_ours,
        /// segments whose payload the capture cut short
        truncated_by_snaplen,
        /// segments too far outside the window to belong to the connection
        outlandish,
        /// payload bytes that the client sent again
        duplicate_bytes,
        /// payload bytes beyond the end of a stream
        after_fin_bytes,
        /// connections that are this replay's own, captured again
        own_replay,
        /// segments of clients whose connection is not known and not replayed
        no_connection,
        /// packets that a client addressed to an origin
        client_segments,
        /// packets that an origin sent to a client
        origin_segments,
    }
}

counters! {
    /// What the options that shape the load asked for, and what came of it.
    "load" => LoadCounters {
        /// captured connections that -r or -g decided about, copies not counted
        connections_seen,
        /// those of them that -r or -g asked for, in millionths of a connection
        connections_asked_millionths,
        /// those that were selected
        connections_selected,
        /// selected connections that were replayed
        connections_replayed,
        /// sessions that -n asked for in their place, in millionths of a session
        sessions_asked_millionths,
        /// sessions that they were given
        sessions_given,
        /// requests that began in replayed connections, copies counted
        requests_offered,
        /// those of them that were begun in a session
        requests_replayed,
        /// connections or requests, copies counted, that --rate decided about
        rate_offered,
        /// how many --rate allowed in the time since the first
        rate_allowed,
        /// how many it let pass
        rate_admitted,
    }
}

impl LoadCounters {
    /// The share of the connections that `-r` or `-g` asked for and the share that was selected,
    /// in per cent. `None` before the first.
    #[must_use]
    pub fn selected_percent(&self) -> Option<(f64, f64)> {
        let seen = nonzero(self.connections_seen)?;
        let asked = self.connections_asked_millionths as f64 / MILLIONTHS;
        let selected = self.connections_selected as f64;
        Some((asked * 100.0 / seen, selected * 100.0 / seen))
    }

    /// The sessions for each replayed connection that `-n` asked for and those there were. `None`
    /// before the first.
    #[must_use]
    pub fn copies(&self) -> Option<(f64, f64)> {
        let replayed = nonzero(self.connections_replayed)?;
        let asked = self.sessions_asked_millionths as f64 / MILLIONTHS;
        Some((asked / replayed, self.sessions_given as f64 / replayed))
    }

    /// How much of what `--rate` allowed was used, in per cent; below 100 where less was offered.
    /// `None` without a limit.
    #[must_use]
    pub fn rate_percent(&self) -> Option<f64> {
        let allowed = nonzero(self.rate_allowed)?;
        Some(self.rate_admitted as f64 * 100.0 / allowed)
    }
}

/// Millionths of a whole.
const MILLIONTHS: f64 = 1e6;

fn nonzero(count: u64) -> Option<f64> {
    (count > 0).then_some(count as f64)
}

counters! {
    /// What went to the target and what came back.
    "upstream" => UpstreamCounters {
        /// packets sent to the target
        packets_sent,
        /// bytes of those packets, IP headers included
        bytes_sent,
        /// segments sent again, for whatever cause
        retransmitted_segments,
        /// retransmission timeouts (RFC 6298)
        retransmission_timeouts,
        /// probes for a lost tail (RFC 8985 section 7)
        tail_loss_probes,
        /// losses repaired without a timeout (RFC 5681 section 3.2, RFC 6675)
        fast_retransmits,
        /// probes of a closed window (RFC 9293 section 3.8.6.1)
        zero_window_probes,
        /// kernel connections asked for
        connects,
        /// those of them that found no source port or no descriptor free, and were asked for again
        connect_shortages,
        /// bytes that those connections have taken
        socket_bytes,
        /// segments of the target that belong to a session, or reads of its connection
        replies,
        /// payload bytes of those, each counted once
        reply_bytes,
        /// segments of the target, or events of a connection, for a session that has ended
        stale_replies,
        /// segments of the target that came before an earlier one
        out_of_order_replies,
        /// segments of the target that brought nothing new
        duplicate_replies,
        /// resets by the target that were accepted
        resets_received,
        /// resets sent to the target
        resets_sent,
        /// acknowledgements sent in answer to a doubtful segment (RFC 5961)
        challenge_acks,
        /// answers to keep-alive probes (RFC 9293 section 3.8.4)
        keep_alive_answers,
    }
}

counters! {
    /// What plugins did.
    "plugins" => PluginCounters {
        /// plugin sessions begun, those included that were refused or failed at once
        sessions,
        /// those that the plugin refused
        refused,
        /// those that the plugin let pass from some point on
        passed_through,
        /// calls that ended with a trap, a panic or an answer that nobody understands
        trapped,
        /// calls that took too long
        timed_out,
        /// calls that asked for more memory than a plugin is given
        out_of_memory,
        /// calls that sent more than is allowed
        over_output_limit,
        /// sessions not begun because the plugin had as many as it may have
        over_session_limit,
        /// calls not made because the plugin has failed too often
        switched_off,
        /// bytes that plugins sent to the target
        sent_bytes,
        /// bytes that they sent after the end of the stream, which went nowhere
        late_bytes,
        /// bytes of the target that they were given
        target_bytes,
        /// bytes of the origin that they were given
        origin_bytes,
        /// holes in captured streams that they were told of
        gaps,
        /// answers that they took for failures
        bad_answers,
        /// ends of answers that no request was open for
        stray_ends,
    }
}

counters! {
    /// Packets that the kernel refused to send, by the kind of refusal; the mirror repairs them as
    /// any loss.
    "send_errors" => SendErrors {
        /// refused by a firewall or for want of a privilege (EPERM, EACCES)
        not_permitted,
        /// no buffer was free (ENOBUFS, ENOMEM, EAGAIN)
        no_buffers,
        /// larger than the path takes (EMSGSIZE)
        too_large,
        /// no way to the target (ENETUNREACH, EHOSTUNREACH, ENETDOWN)
        unreachable,
        /// any other error
        other,
    }
}

impl SendErrors {
    /// All refusals together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.rows().map(|row| row.value).sum()
    }
}
