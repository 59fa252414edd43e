use super::*;
use crate::Timestamps;

const SOURCE_V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const DESTINATION_V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// From port 40000 to 80, PSH and ACK, with timestamps and the payload `GET / `.
#[rustfmt::skip]
const TCP: [u8; 38] = [
    0x9c, 0x40, 0x00, 0x50,
    0x00, 0x00, 0x00, 0x01,
    0x00, 0x00, 0x00, 0x02,
    0x80, 0x18, 0x01, 0xf5,
    0x00, 0x00, 0x00, 0x00,
    0x01, 0x01, 0x08, 0x0a, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x09,
    b'G', b'E', b'T', b' ', b'/', b' ',
];
const TCP_OPTIONS_END: usize = 32;

fn ipv4(tcp: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(20 + tcp.len()).unwrap().to_be_bytes();
    let header = [
        0x45, 0, high, low, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7,
    ];
    [&header, tcp].concat()
}

/// An IPv6 packet of which `next` is the first header after the fixed one.
fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [
        &[0x60, 0, 0, 0, high, low, next, 63],
        &SOURCE_V6[..],
        &DESTINATION_V6,
        payload,
    ]
    .concat()
}

fn expected(source: &str, destination: &str) -> Segment<'static> {
    let endpoint = |address: &str, port| Endpoint::new(address.parse().unwrap(), port);
    Segment {
        tuple: FourTuple::new(endpoint(source, 40000), endpoint(destination, 80)),
        seq: 1,
        ack: 2,
        flags: TcpFlags::PSH | TcpFlags::ACK,
        window: 501,
        options: TcpOptions {
            timestamps: Some(Timestamps { value: 7, echo: 9 }),
            ..TcpOptions::default()
        },
        hop_limit: if source.contains(':') { 63 } else { 64 },
        payload: b"GET / ",
        payload_len: 6,
    }
}

fn expected_v4() -> Segment<'static> {
    expected("192.0.2.1", "198.51.100.7")
}

fn expected_v6() -> Segment<'static> {
    expected("2001:db8::1", "2001:db8::2")
}

#[track_caller]
fn check_error(packet: &[u8], error: PacketError) {
    assert_eq!(Segment::parse(packet), Err(error));
}

#[test]
fn both_ip_versions() {
    assert_eq!(Segment::parse(&ipv4(&TCP)), Ok(expected_v4()));
    assert_eq!(Segment::parse(&ipv6(6, &TCP)), Ok(expected_v6()));
}

#[test]
fn what_is_not_ip_and_not_tcp() {
    check_error(&[], PacketError::Truncated("IP header"));
    check_error(&[0x00; 40], PacketError::NotIp);
    check_error(&[0x5f; 40], PacketError::NotIp);
    let mut udp = ipv4(&TCP);
    udp[9] = 17;
    check_error(&udp, PacketError::NotTcp(17));
    // A fragment of UDP is UDP all the same.
    udp[6] = 0x20;
    check_error(&udp, PacketError::NotTcp(17));
    check_error(&ipv6(58, &TCP), PacketError::NotTcp(58));
}

#[test]
fn link_padding_is_left_out() {
    for packet in [
        ipv4(&TCP[..TCP_OPTIONS_END]),
        ipv6(6, &TCP[..TCP_OPTIONS_END]),
    ] {
        let padded = [&packet[..], &[0; 14]].concat();
        let segment = Segment::parse(&padded).unwrap();
        assert_eq!((segment.payload, segment.payload_len), (&[][..], 0));
    }
}

#[test]
fn every_cut_is_an_error_or_a_shorter_payload() {
    let routing = [&[6, 2][..], &[0; 22]].concat();
    let extended = ipv6(43, &[&routing, &TCP[..]].concat());
    for packet in [ipv4(&TCP), ipv6(6, &TCP), extended] {
        let whole = Segment::parse(&packet).unwrap();
        let headers_len = packet.len() - whole.payload.len();
        for length in 0..packet.len() {
            match Segment::parse(&packet[..length]) {
                Ok(cut) => {
                    assert!(length >= headers_len);
                    let payload = &whole.payload[..length - headers_len];
                    assert_eq!(cut, Segment { payload, ..whole });
                }
                Err(error) => {
                    assert!(length < headers_len, "{length}: {error}");
                    assert!(
                        matches!(error, PacketError::Truncated(_)),
                        "{length}: {error}"
                    );
                }
            }
        }
    }
}

#[test]
fn zero_length_fields_mean_what_was_captured() {
    let payload = vec![b'x'; 100_000];
    let tcp = [&TCP[..TCP_OPTIONS_END], &payload].concat();
    let mut v4 = ipv4(&TCP);
    v4[2..4].fill(0);
    v4.truncate(20);
    v4.extend(&tcp);
    let mut v6 = ipv6(6, &[]);
    v6.extend(&tcp);
    for (packet, segment) in [(v4, expected_v4()), (v6, expected_v6())] {
        let expected = Segment {
            payload: &payload,
            payload_len: 100_000,
            ..segment
        };
        assert_eq!(Segment::parse(&packet), Ok(expected));
    }
}

#[test]
fn ipv4_options_are_walked() {
    let mut packet = ipv4(&[&[1; 8], &TCP[..]].concat());
    packet[0] = 0x47;
    assert_eq!(Segment::parse(&packet), Ok(expected_v4()));
}

#[test]
fn ipv4_header_lengths() {
    let mut packet = ipv4(&TCP);
    packet[0] = 0x44;
    check_error(&packet, PacketError::HeaderLength("IPv4 header"));
    packet[0] = 0x4f;
    check_error(&packet[..40], PacketError::Truncated("IPv4 options"));
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&19u16.to_be_bytes());
    check_error(&packet, PacketError::HeaderLength("IPv4 header"));
    packet[2..4].copy_from_slice(&39u16.to_be_bytes());
    check_error(&packet, PacketError::HeaderLength("TCP header"));
}

#[test]
fn tcp_header_lengths() {
    let with_data_offset = |words: u8| {
        let mut tcp = TCP;
        tcp[12] = words << 4;
        ipv4(&tcp)
    };
    check_error(
        &with_data_offset(4),
        PacketError::HeaderLength("TCP header"),
    );
    check_error(
        &with_data_offset(10),
        PacketError::HeaderLength("TCP header"),
    );
    let nine = with_data_offset(9);
    assert_eq!(Segment::parse(&nine).unwrap().payload, b"/ ");
    check_error(&nine[..55], PacketError::Truncated("TCP options"));
}

#[test]
fn ipv4_fragments() {
    for flags_and_offset in [0x2000u16, 0x0001, 0x20b9] {
        let mut packet = ipv4(&TCP);
        packet[6..8].copy_from_slice(&flags_and_offset.to_be_bytes());
        check_error(&packet, PacketError::Fragment);
    }
}

#[test]
fn ipv6_extension_headers() {
    let hop_by_hop = [43, 0, 1, 4, 0, 0, 0, 0];
    let routing = [&[60, 2][..], &[0; 22]].concat();
    let destination = [6, 0, 1, 4, 0, 0, 0, 0];
    let packet = ipv6(0, &[&hop_by_hop, &routing[..], &destination, &TCP].concat());
    assert_eq!(Segment::parse(&packet), Ok(expected_v6()));

    let no_next_header = ipv6(60, &[59, 0, 1, 4, 0, 0, 0, 0]);
    check_error(&no_next_header, PacketError::NotTcp(59));
    let beyond_the_packet = ipv6(60, &[6, 1, 1, 4, 0, 0, 0, 0]);
    check_error(
        &beyond_the_packet,
        PacketError::HeaderLength("IPv6 extension header"),
    );
}

#[test]
fn ipv6_extension_headers_are_bounded() {
    let chain = |count: usize| {
        let mut headers = [60, 0, 1, 4, 0, 0, 0, 0].repeat(count);
        headers[8 * (count - 1)] = 6;
        ipv6(60, &[&headers, &TCP[..]].concat())
    };
    assert_eq!(
        Segment::parse(&chain(MAX_EXTENSION_HEADERS)),
        Ok(expected_v6())
    );
    check_error(
        &chain(MAX_EXTENSION_HEADERS + 1),
        PacketError::HeaderLength("IPv6 extension headers"),
    );
}

#[test]
fn ipv6_fragments() {
    let fragment = |next: u8, offset_and_flags: u16| {
        let [high, low] = offset_and_flags.to_be_bytes();
        ipv6(44, &[&[next, 0, high, low, 0, 0, 0, 1], &TCP[..]].concat())
    };
    check_error(&fragment(6, 0x0001), PacketError::Fragment);
    check_error(&fragment(6, 0x0ff8), PacketError::Fragment);
    check_error(&fragment(60, 0x0001), PacketError::Fragment);
    check_error(&fragment(17, 0x0001), PacketError::NotTcp(17));
    // An atomic fragment is a whole packet (RFC 6946).
    assert_eq!(Segment::parse(&fragment(6, 0)), Ok(expected_v6()));
}

#[test]
fn from_the_tcp_header_on() {
    let whole = Segment {
        hop_limit: 0,
        ..expected_v4()
    };
    let len = u32::try_from(TCP.len()).unwrap();
    assert_eq!(Segment::parse_tcp(whole.tuple, &TCP, len), Ok(whole));
    // Headers only, as intercept reports them.
    let headers = &TCP[..TCP_OPTIONS_END];
    let expected = Segment {
        payload: &[],
        payload_len: 65_000,
        ..whole
    };
    assert_eq!(
        Segment::parse_tcp(whole.tuple, headers, 65_032),
        Ok(expected)
    );
    // The tuple is the caller's.
    let reversed = whole.tuple.reversed();
    assert_eq!(
        Segment::parse_tcp(reversed, &TCP, len).unwrap().tuple,
        reversed
    );

    let error = |tcp, len| Segment::parse_tcp(whole.tuple, tcp, len).unwrap_err();
    assert_eq!(error(&TCP, 19), PacketError::HeaderLength("TCP header"));
    assert_eq!(error(&TCP, 31), PacketError::HeaderLength("TCP header"));
    assert_eq!(error(&TCP[..19], len), PacketError::Truncated("TCP header"));
    assert_eq!(
        error(&TCP[..31], len),
        PacketError::Truncated("TCP options")
    );
}

#[test]
fn located_without_being_read() {
    let padded = [&ipv4(&TCP)[..], &[0; 8]].concat();
    assert_eq!(
        Segment::locate(&padded),
        Ok((expected_v4().tuple, &TCP[..], 38))
    );
    // A short capture tells the length on the wire; four bytes hold the ports.
    let cut = &ipv6(6, &TCP)[..44];
    assert_eq!(
        Segment::locate(cut),
        Ok((expected_v6().tuple, &TCP[..4], 38))
    );
    assert_eq!(
        Segment::locate(&ipv4(&TCP)[..23]),
        Err(PacketError::Truncated("TCP header"))
    );
    assert_eq!(
        Segment::locate(&ipv6(17, &TCP)),
        Err(PacketError::NotTcp(17))
    );
}

#[test]
fn sequence_space() {
    let segment = |flags, payload_len| Segment {
        flags,
        payload_len,
        ..expected_v4()
    };
    assert_eq!(segment(TcpFlags::ACK, 10).sequence_len(), 10);
    assert_eq!(segment(TcpFlags::SYN, 0).sequence_len(), 1);
    assert_eq!(
        segment(TcpFlags::FIN | TcpFlags::ACK, 10).sequence_len(),
        11
    );
}

#[test]
fn flags_read_like_tcpdump() {
    assert_eq!(format!("{:?}", TcpFlags::SYN | TcpFlags::ACK), "S.");
    assert_eq!(
        format!("{:?}", TcpFlags::FIN | TcpFlags::PSH | TcpFlags::ACK),
        "FP."
    );
}
