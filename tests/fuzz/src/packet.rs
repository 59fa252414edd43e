//! IP packets to segments and back.

use tcpcopy_packet::{Segment, SegmentBuilder, TcpFlags};

use crate::Seed;
use crate::samples::{data, extended, sack, syn, syn_with_options, tuple_v4, tuple_v6, with};

/// Payload that fits a packet beside headers of any length, in bytes.
const MAX_PAYLOAD_LEN: usize = 65_000;

/// MSS, then timestamps of length 0.
const OPTION_LENGTH_0: [u8; 20] = [
    2, 4, 5, 0xb4, 8, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
];

/// Timestamps that begin where the area ends.
const OPTION_BEYOND: [u8; 20] = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 8, 10];

/// A window scale of 99, fast open, SACK of half a block.
const OPTIONS_ODD: [u8; 20] = [
    2, 4, 5, 0xb4, 3, 3, 99, 34, 6, 1, 2, 3, 4, 4, 2, 5, 4, 0, 0, 0,
];

/// Hop-by-hop, routing and destination options.
const EXTENSIONS: [u8; 24] = [
    43, 0, 1, 4, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0,
];

/// Reads the input as an IP packet, and as one from the TCP header on; what can be read must
/// survive being written and read again.
pub fn run(input: &[u8]) {
    if let Ok(segment) = Segment::parse(input) {
        check(&segment);
        let (tuple, tcp, wire_len) = Segment::locate(input).expect("it has been parsed");
        let headless = Segment {
            hop_limit: 0,
            ..segment
        };
        assert_eq!(Segment::parse_tcp(tuple, tcp, wire_len), Ok(headless));
    }
    let whole = u32::try_from(input.len()).unwrap_or(u32::MAX);
    for wire_len in [whole, whole / 2, whole.saturating_add(1000), u32::MAX] {
        for tuple in [tuple_v4(), tuple_v6()] {
            if let Ok(segment) = Segment::parse_tcp(tuple, input, wire_len) {
                assert_eq!(segment.tuple, tuple);
                check(&segment);
            }
        }
    }
}

/// Packets of every shape that parsing tells apart.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let v4 = || data(tuple_v4(), TcpFlags::PSH, get);
    let v6 = || data(tuple_v6(), TcpFlags::PSH, get);
    let end = |packet: Vec<u8>, length: usize| packet[..length].to_vec();
    vec![
        ("v4-syn", syn(tuple_v4())),
        ("v6-syn", syn(tuple_v6())),
        ("v4-data", v4()),
        ("v6-data", v6()),
        ("v4-fin", data(tuple_v4(), TcpFlags::FIN, b"")),
        ("v4-reset", data(tuple_v4(), TcpFlags::RST, b"")),
        ("v4-sack", sack(tuple_v4(), false)),
        ("v6-sack-timestamps", sack(tuple_v6(), true)),
        ("v4-from-tcp-on", v4()[20..].to_vec()),
        ("v4-headers-only", end(v4(), 52)),
        ("v4-cut-options", end(v4(), 45)),
        (
            "v4-padded",
            [data(tuple_v4(), TcpFlags::ACK, b""), vec![0; 8]].concat(),
        ),
        ("v4-length-zero", with(with(v4(), 2, 0), 3, 0)),
        ("v6-length-zero", with(with(v6(), 4, 0), 5, 0)),
        ("v4-fragment", with(v4(), 6, 0x20)),
        ("v4-udp", with(v4(), 9, 17)),
        ("v4-header-length-4", with(v4(), 0, 0x44)),
        ("v4-ip-options", with(v4(), 0, 0x46)),
        ("v4-data-offset-4", with(v4(), 32, 0x40)),
        ("v4-data-offset-15", with(v4(), 32, 0xf0)),
        ("v4-option-length-0", syn_with_options(OPTION_LENGTH_0)),
        ("v4-option-beyond", syn_with_options(OPTION_BEYOND)),
        ("v4-options-odd", syn_with_options(OPTIONS_ODD)),
        ("v6-extensions", extended(0, &EXTENSIONS)),
        (
            "v6-extension-beyond",
            extended(60, &[6, 255, 1, 4, 0, 0, 0, 0]),
        ),
        ("v6-fragment", extended(44, &[6, 0, 0, 1, 0, 0, 0, 1])),
        (
            "v6-atomic-fragment",
            extended(44, &[6, 0, 0, 0, 0, 0, 0, 1]),
        ),
    ]
}

fn check(segment: &Segment<'_>) {
    let payload_len = u32::try_from(segment.payload.len()).expect("an input below 4 GiB");
    assert!(payload_len <= segment.payload_len);
    if segment.payload.len() > MAX_PAYLOAD_LEN {
        return;
    }
    let mut packet = Vec::new();
    let builder = SegmentBuilder::from(segment);
    builder
        .write([segment.payload].into_iter(), &mut packet)
        .expect("one family, and the payload fits");
    assert_eq!(
        Segment::parse(&packet),
        Ok(Segment {
            payload_len,
            hop_limit: builder.hop_limit,
            ..*segment
        })
    );
}
