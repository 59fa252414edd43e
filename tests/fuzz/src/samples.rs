//! Packets that the seeds of several targets are made of.

use std::net::SocketAddr;

use tcpcopy_packet::{
    FourTuple, SackBlock, SackBlocks, SegmentBuilder, TcpFlags, TcpOptions, Timestamps,
};

const STAMPS: Timestamps = Timestamps {
    value: 1000,
    echo: 2000,
};

/// A client's tuple over IPv4, in the addresses of RFC 5737.
pub(crate) fn tuple_v4() -> FourTuple {
    tuple("192.0.2.1:40000", "198.51.100.7:80")
}

/// A client's tuple over IPv6, in the addresses of RFC 3849.
pub(crate) fn tuple_v6() -> FourTuple {
    tuple("[2001:db8::1]:40000", "[2001:db8::2]:80")
}

/// A SYN with all of Linux's options.
pub(crate) fn syn(tuple: FourTuple) -> Vec<u8> {
    let options = TcpOptions {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(STAMPS),
        ..TcpOptions::default()
    };
    write(tuple, TcpFlags::SYN, options, b"")
}

/// A segment of an established connection, with timestamps.
pub(crate) fn data(tuple: FourTuple, flags: TcpFlags, payload: &[u8]) -> Vec<u8> {
    let options = TcpOptions {
        timestamps: Some(STAMPS),
        ..TcpOptions::default()
    };
    write(tuple, flags | TcpFlags::ACK, options, payload)
}

/// An acknowledgement with as many SACK blocks as fit.
pub(crate) fn sack(tuple: FourTuple, timestamps: bool) -> Vec<u8> {
    let mut sack = SackBlocks::default();
    let start = (1..).map(|i| 3000 * i);
    start
        .map(|start| SackBlock {
            start,
            end: start + 1448,
        })
        .take_while(|b| sack.push(*b))
        .count();
    let timestamps = timestamps.then_some(STAMPS);
    write(
        tuple,
        TcpFlags::ACK,
        TcpOptions {
            sack,
            timestamps,
            ..TcpOptions::default()
        },
        b"",
    )
}

/// A segment with the options area of a SYN replaced by `area`, 20 bytes.
pub(crate) fn syn_with_options(area: [u8; 20]) -> Vec<u8> {
    let mut packet = syn(tuple_v4());
    packet[40..60].copy_from_slice(&area);
    packet
}

/// The packet with the byte at `at` replaced.
pub(crate) fn with(mut packet: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    packet[at] = byte;
    packet
}

/// An IPv6 packet with the extension headers put before its TCP header.
pub(crate) fn extended(first: u8, extensions: &[u8]) -> Vec<u8> {
    let mut packet = data(tuple_v6(), TcpFlags::PSH, b"GET / HTTP/1.1\r\n\r\n");
    let payload_len = u16::try_from(packet.len() - 40 + extensions.len()).expect("a short packet");
    packet[4..6].copy_from_slice(&payload_len.to_be_bytes());
    packet[6] = first;
    packet.splice(40..40, extensions.iter().copied());
    packet
}

fn tuple(source: &str, destination: &str) -> FourTuple {
    let endpoint = |text: &str| text.parse::<SocketAddr>().expect("an address").into();
    FourTuple::new(endpoint(source), endpoint(destination))
}

fn write(tuple: FourTuple, flags: TcpFlags, options: TcpOptions, payload: &[u8]) -> Vec<u8> {
    let builder = SegmentBuilder {
        seq: 0xffff_ff00,
        ack: 77,
        flags,
        window: 501,
        options,
        ..SegmentBuilder::new(tuple)
    };
    let mut packet = Vec::new();
    builder
        .write([payload].into_iter(), &mut packet)
        .expect("a short packet");
    packet
}
