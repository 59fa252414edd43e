//! Link-layer frames of every kind down to the segment.

use tcpcopy_packet::{LinkType, Segment, TcpFlags, strip_link_header};

use crate::Seed;
use crate::samples::{data, syn, tuple_v4, tuple_v6};

/// Reads the input as a frame of each link type.
pub fn run(input: &[u8]) {
    for link in LinkType::ALL {
        if let Ok(packet) = strip_link_header(link, input) {
            assert!(input.ends_with(packet));
            // Packets may be anything here; the `packet` target looks at what they read as.
            let _ = Segment::parse(packet);
        }
    }
}

/// Frames of every link type and of every kind that is refused.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let v4 = data(tuple_v4(), TcpFlags::PSH, b"GET / HTTP/1.1\r\n\r\n");
    let v6 = syn(tuple_v6());
    let ethernet =
        |rest: &[u8], packet: &[u8]| [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], rest, packet].concat();
    let cooked_1 = [0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
    let cooked_2 = [0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
    let provider_tags = [0x88, 0xa8, 0, 7, 0x81, 0x00, 0, 8, 0x08, 0x00];
    let five_tags = [[0x81, 0x00, 0, 1].repeat(5), vec![0x08, 0x00]].concat();
    vec![
        ("ethernet-v4", ethernet(&[0x08, 0x00], &v4)),
        ("ethernet-v6", ethernet(&[0x86, 0xdd], &v6)),
        (
            "ethernet-vlan",
            ethernet(&[0x81, 0x00, 0x20, 5, 0x08, 0x00], &v4),
        ),
        ("ethernet-stacked-vlan", ethernet(&provider_tags, &v4)),
        ("ethernet-five-tags", ethernet(&five_tags, &v4)),
        ("ethernet-cut-tag", ethernet(&[0x81, 0x00, 0x20], &[])),
        (
            "ethernet-arp",
            ethernet(&[0x08, 0x06], &[0, 1, 8, 0, 6, 4, 0, 1]),
        ),
        (
            "ethernet-802-3",
            ethernet(&[0x00, 0x26], &[0x42, 0x42, 0x03]),
        ),
        ("cooked-1-v4", [&cooked_1[..], &[0x08, 0x00], &v4].concat()),
        (
            "cooked-1-vlan-v6",
            [&cooked_1[..], &[0x81, 0x00, 0, 5, 0x86, 0xdd], &v6].concat(),
        ),
        ("cooked-2-v4", [&[0x08, 0x00], &cooked_2[..], &v4].concat()),
        ("cooked-2-v6", [&[0x86, 0xdd], &cooked_2[..], &v6].concat()),
        ("null-little-endian-v4", [&[2, 0, 0, 0], &v4[..]].concat()),
        ("null-big-endian-v6", [&[0, 0, 0, 30], &v6[..]].concat()),
        ("null-other-family", [&[0, 0, 0, 7], &v4[..]].concat()),
        ("raw-v4", v4.clone()),
        ("cut-header", vec![2, 0, 0]),
    ]
}
