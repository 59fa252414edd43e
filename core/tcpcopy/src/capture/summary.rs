//! What a recording has come to.

use std::time::Duration;

use tcpcopy_net::file::Kept;

use crate::statistics::bytes;

/// Counted while it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    /// Packets captured.
    pub(super) packets: u64,
    /// Their bytes, from the IP header on.
    pub(super) bytes: u64,
    /// Packets of connections of which this host is the client, left out.
    pub(super) of_this_host: u64,
    /// Packets for which the writer's queue had no room.
    pub(super) overflow_packets: u64,
    /// What passed the filter on each device, and what of it the kernel dropped.
    pub(super) of_rings: Vec<(u64, u64)>,
}

impl Counters {
    fn kernel_drops(&self) -> u64 {
        self.of_rings.iter().map(|(_, dropped)| dropped).sum()
    }

    /// One line for a terminal, without the line's end.
    pub(super) fn line(&self) -> String {
        format!(
            "packets {}  {}  kernel drops {}  disk drops {}",
            self.packets,
            bytes(self.bytes),
            self.kernel_drops(),
            self.overflow_packets
        )
    }
}

/// The figures at the end.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) counters: Counters,
    pub(super) kept: Kept,
}

impl Summary {
    /// The text for people.
    pub(super) fn table(&self, elapsed: Duration) -> String {
        let Self { counters, kept } = self;
        let mut rows = vec![
            ("packets recorded", kept.packets.to_string()),
            ("bytes written", kept.bytes.to_string()),
            ("files", kept.files.to_string()),
            ("seconds", format!("{:.1}", elapsed.as_secs_f64())),
            ("kernel drops", counters.kernel_drops().to_string()),
            ("disk drops", counters.overflow_packets.to_string()),
        ];
        if kept.removed_files > 0 {
            rows.push(("files removed", kept.removed_files.to_string()));
            rows.push(("bytes removed", kept.removed_bytes.to_string()));
        }
        if counters.of_this_host > 0 {
            rows.push(("of this host as client", counters.of_this_host.to_string()));
        }
        let mut text: String = rows
            .iter()
            .map(|(name, value)| format!("{name:<24}{value:>16}\n"))
            .collect();
        if counters.kernel_drops() > 0 {
            text.push_str("the kernel dropped packets: a larger ring (-B) helps\n");
        }
        if counters.overflow_packets > 0 {
            text.push_str("the disk was too slow for all packets: record less with -x or -F\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_what_was_lost_and_what_to_do() {
        let mut summary = Summary {
            counters: Counters {
                packets: 12,
                bytes: 2048,
                of_rings: vec![(10, 0), (2, 0)],
                ..Counters::default()
            },
            kept: Kept {
                packets: 12,
                bytes: 3000,
                files: 1,
                ..Kept::default()
            },
        };
        let row = |name: &str, value: &str| format!("{name:<24}{value:>16}\n");
        let text = summary.table(Duration::from_millis(1500));
        assert!(text.starts_with(&row("packets recorded", "12")), "{text}");
        assert!(text.contains(&row("seconds", "1.5")), "{text}");
        assert!(text.ends_with(&row("disk drops", "0")), "{text}");
        assert_eq!(
            summary.counters.line(),
            "packets 12  2.0 KiB  kernel drops 0  disk drops 0"
        );
        summary.counters.of_rings[1].1 = 3;
        summary.counters.overflow_packets = 4;
        summary.kept.removed_files = 5;
        let text = summary.table(Duration::from_secs(1));
        for (name, value) in [
            ("kernel drops", "3"),
            ("disk drops", "4"),
            ("files removed", "5"),
        ] {
            assert!(text.contains(&row(name, value)), "{name}: {text}");
        }
        assert!(text.contains("-B") && text.contains("-F"), "{text}");
    }
}
