use super::*;
use crate::{Endpoint, Timestamps};

fn tuple(source: &str, destination: &str) -> FourTuple {
    let endpoint = |address: &str| address.parse::<std::net::SocketAddr>().unwrap().into();
    FourTuple::new(endpoint(source), endpoint(destination))
}

fn syn() -> SegmentBuilder {
    SegmentBuilder {
        seq: 0xffff_fff0,
        flags: TcpFlags::SYN,
        window: 64240,
        options: TcpOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps {
                value: 0x1122_3344,
                echo: 0,
            }),
            ..TcpOptions::default()
        },
        identification: 0x1234,
        ..SegmentBuilder::new(tuple("192.0.2.1:40000", "198.51.100.7:8080"))
    }
}

fn data_v6() -> SegmentBuilder {
    SegmentBuilder {
        seq: 1,
        ack: 2,
        flags: TcpFlags::PSH | TcpFlags::ACK,
        window: 501,
        options: TcpOptions {
            timestamps: Some(Timestamps { value: 7, echo: 9 }),
            ..TcpOptions::default()
        },
        hop_limit: 63,
        ..SegmentBuilder::new(tuple("[2001:db8::1]:40000", "[2001:db8::2]:80"))
    }
}

fn write(builder: &SegmentBuilder, payload: &[&[u8]]) -> Vec<u8> {
    let mut packet = vec![0xee; 7];
    builder.write(payload.iter().copied(), &mut packet).unwrap();
    packet
}

#[test]
#[rustfmt::skip]
fn syn_over_ipv4() {
    assert_eq!(write(&syn(), &[]), [
        // IPv4: no Don't Fragment, time to live 64.
        0x45, 0x00, 0x00, 0x3c, 0x12, 0x34, 0x00, 0x00, 0x40, 0x06, 0x7c, 0x4c,
        192, 0, 2, 1, 198, 51, 100, 7,
        // TCP.
        0x9c, 0x40, 0x1f, 0x90, 0xff, 0xff, 0xff, 0xf0, 0x00, 0x00, 0x00, 0x00,
        0xa0, 0x02, 0xfa, 0xf0, 0x60, 0xab, 0x00, 0x00,
        0x02, 0x04, 0x05, 0xb4, 0x04, 0x02, 0x08, 0x0a, 0x11, 0x22, 0x33, 0x44,
        0x00, 0x00, 0x00, 0x00, 0x01, 0x03, 0x03, 0x07,
    ]);
}

#[test]
#[rustfmt::skip]
fn data_over_ipv6() {
    assert_eq!(write(&data_v6(), &[b"GET", b"", b" / "]), [
        // IPv6: 38 bytes after the header, hop limit 63.
        0x60, 0x00, 0x00, 0x00, 0x00, 0x26, 0x06, 0x3f,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
        // TCP.
        0x9c, 0x40, 0x00, 0x50, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x02,
        0x80, 0x18, 0x01, 0xf5, 0xb2, 0x1c, 0x00, 0x00,
        0x01, 0x01, 0x08, 0x0a, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x09,
        b'G', b'E', b'T', b' ', b'/', b' ',
    ]);
}

#[test]
fn a_parsed_segment_makes_the_same_packet() {
    let packet = write(&data_v6(), &[b"GET / "]);
    let segment = Segment::parse(&packet).unwrap();
    let builder = SegmentBuilder {
        hop_limit: 63,
        ..SegmentBuilder::from(&segment)
    };
    assert_eq!(builder, data_v6());
    assert_eq!(write(&builder, &[segment.payload]), packet);
}

#[test]
fn families_do_not_mix() {
    let v4 = syn().tuple;
    let v6 = data_v6().tuple;
    for tuple in [
        FourTuple::new(v4.source, v6.destination),
        FourTuple::new(v6.source, v4.destination),
        // An IPv4-mapped address is one of IPv6.
        FourTuple::new(
            Endpoint::new("::ffff:192.0.2.1".parse().unwrap(), 1),
            v4.destination,
        ),
    ] {
        let mut packet = vec![1];
        let written = SegmentBuilder::new(tuple).write([].into_iter(), &mut packet);
        assert_eq!(written, Err(BuildError::MixedFamilies));
        assert!(packet.is_empty());
    }
}

#[test]
fn the_longest_packets() {
    for (builder, limit) in [(syn(), 65_535), (data_v6(), 65_575)] {
        let headers_len = write(&builder, &[]).len();
        let payload = vec![b'x'; limit - headers_len];
        let packet = write(&builder, &[&payload]);
        assert_eq!(packet.len(), limit);
        assert_eq!(Segment::parse(&packet).unwrap().payload, payload);

        let mut packet = packet;
        let one_more = builder.write([&payload[..], b"x"].into_iter(), &mut packet);
        assert_eq!(
            one_more,
            Err(BuildError::TooLong {
                length: limit + 1,
                limit
            })
        );
        assert!(packet.is_empty());
    }
}
