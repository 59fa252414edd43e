//! Properties of parsing and building: one undoes the other, and no bytes make parsing panic.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use tcpcopy_packet::{
    Checksum, Endpoint, FourTuple, LinkType, MAX_SACK_BLOCKS, SackBlock, SackBlocks, Segment,
    SegmentBuilder, TcpFlags, TcpOptions, Timestamps, strip_link_header,
};

/// The longest payload that fits a packet beside headers of the longest kind.
const MAX_PAYLOAD_LEN: usize = 65_535 - 20 - 60;

fn tuples() -> impl Strategy<Value = FourTuple> {
    let join = |((source, destination), source_port, destination_port)| {
        FourTuple::new(
            Endpoint::new(source, source_port),
            Endpoint::new(destination, destination_port),
        )
    };
    let addresses = prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
    ];
    (addresses, any::<u16>(), any::<u16>()).prop_map(join)
}

/// Options that can stand on a segment with these flags.
fn options(flags: TcpFlags) -> BoxedStrategy<TcpOptions> {
    let timestamps =
        option::of(any::<(u32, u32)>().prop_map(|(value, echo)| Timestamps { value, echo }));
    if flags.contains(TcpFlags::SYN) {
        (
            option::of(any::<u16>()),
            option::of(0..=14u8),
            any::<bool>(),
            timestamps,
        )
            .prop_map(
                |(mss, window_scale, sack_permitted, timestamps)| TcpOptions {
                    mss,
                    window_scale,
                    sack_permitted,
                    timestamps,
                    sack: SackBlocks::default(),
                },
            )
            .boxed()
    } else {
        (vec(any::<(u32, u32)>(), 0..=MAX_SACK_BLOCKS), timestamps)
            .prop_map(|(blocks, timestamps)| {
                let room = MAX_SACK_BLOCKS - usize::from(timestamps.is_some());
                let mut sack = SackBlocks::default();
                for (start, end) in blocks.into_iter().take(room) {
                    assert!(sack.push(SackBlock { start, end }));
                }
                TcpOptions {
                    sack,
                    timestamps,
                    ..TcpOptions::default()
                }
            })
            .boxed()
    }
}

fn builders() -> impl Strategy<Value = SegmentBuilder> {
    let flags = any::<u8>().prop_map(TcpFlags::from_bits);
    let flags_and_options = flags.prop_flat_map(|flags| (Just(flags), options(flags)));
    (
        tuples(),
        flags_and_options,
        any::<(u32, u32, u16, u16, u8)>(),
    )
        .prop_map(
            |(tuple, (flags, options), (seq, ack, window, identification, hop_limit))| {
                SegmentBuilder {
                    tuple,
                    seq,
                    ack,
                    flags,
                    window,
                    options,
                    identification,
                    hop_limit,
                }
            },
        )
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => vec(any::<u8>(), 0..=64),
        2 => vec(any::<u8>(), 0..=3000),
        1 => (0..=MAX_PAYLOAD_LEN, any::<u64>()).prop_map(|(length, seed)| noise(length, seed)),
    ]
}

/// Bytes that are cheap to make in quantity.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[7]
    };
    (0..length).map(|_| next()).collect()
}

fn write(builder: &SegmentBuilder, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    builder
        .write([payload].into_iter(), &mut packet)
        .expect("the payload fits");
    packet
}

/// The field a receiver would compute over the whole TCP segment: 0 when it is right.
fn verify_tcp_checksum(segment: &Segment<'_>, tcp: &[u8]) -> u16 {
    let mut checksum = Checksum::new();
    for address in [
        segment.tuple.source.address,
        segment.tuple.destination.address,
    ] {
        match address {
            IpAddr::V4(address) => checksum.add(&address.octets()),
            IpAddr::V6(address) => checksum.add(&address.octets()),
        }
    }
    checksum.add(
        &u32::try_from(tcp.len())
            .expect("a short packet")
            .to_be_bytes(),
    );
    checksum.add(&[0, 0, 0, 6]);
    checksum.add(tcp);
    checksum.finish()
}

/// Whatever a parsed segment says must agree with the bytes it was read from.
fn check_any(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(segment) = Segment::parse(bytes) {
        prop_assert!(segment.payload.len() <= bytes.len() - 40);
        prop_assert!(segment.payload.len() <= segment.payload_len as usize);
        // What the bytes were understood as survives being written anew.
        let builder = SegmentBuilder::from(&segment);
        let rebuilt_hop_limit = builder.hop_limit;
        let rebuilt = write(&builder, segment.payload);
        let payload_len = u32::try_from(segment.payload.len()).expect("a short packet");
        prop_assert_eq!(
            Segment::parse(&rebuilt),
            Ok(Segment {
                payload_len,
                hop_limit: rebuilt_hop_limit,
                ..segment
            })
        );
    }
    for link in LinkType::ALL {
        if let Ok(packet) = strip_link_header(link, bytes) {
            prop_assert!(bytes.ends_with(packet));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn parsing_undoes_building(builder in builders(), payload in payloads()) {
        let packet = write(&builder, &payload);
        let segment = Segment::parse(&packet).unwrap();
        let expected = Segment {
            tuple: builder.tuple,
            seq: builder.seq,
            ack: builder.ack,
            flags: builder.flags,
            window: builder.window,
            options: builder.options,
            hop_limit: builder.hop_limit,
            payload: &payload,
            payload_len: u32::try_from(payload.len()).unwrap(),
        };
        prop_assert_eq!(segment, expected);

        let headers_len = packet.len() - payload.len();
        let tcp_len = 20 + builder.options.encoded_len(builder.flags);
        let (ip, tcp) = packet.split_at(headers_len - tcp_len);
        prop_assert_eq!(verify_tcp_checksum(&segment, tcp), 0);
        let wire_len = u32::try_from(tcp.len()).unwrap();
        let headless = Segment { hop_limit: 0, ..expected };
        prop_assert_eq!(Segment::parse_tcp(builder.tuple, tcp, wire_len), Ok(headless));
        if builder.tuple.source.address.is_ipv4() {
            let mut checksum = Checksum::new();
            checksum.add(ip);
            prop_assert_eq!(checksum.finish(), 0);
            prop_assert_eq!(&ip[4..6], builder.identification.to_be_bytes());
            prop_assert_eq!(ip[8], builder.hop_limit);
        } else {
            prop_assert_eq!(ip[7], builder.hop_limit);
        }

        let rebuilt = SegmentBuilder {
            identification: builder.identification,
            hop_limit: builder.hop_limit,
            ..SegmentBuilder::from(&segment)
        };
        prop_assert_eq!(rebuilt, builder);
    }

    #[test]
    fn payload_in_pieces_is_the_payload_joined(
        builder in builders(),
        pieces in vec(vec(any::<u8>(), 0..50), 0..6),
    ) {
        let mut packet = Vec::new();
        builder.write(pieces.iter().map(Vec::as_slice), &mut packet).unwrap();
        prop_assert_eq!(packet, write(&builder, &pieces.concat()));
    }

    #[test]
    fn a_cut_is_an_error_or_a_shorter_payload(
        builder in builders(),
        payload in vec(any::<u8>(), 0..=64),
    ) {
        let packet = write(&builder, &payload);
        let headers_len = packet.len() - payload.len();
        for length in 0..packet.len() {
            match Segment::parse(&packet[..length]) {
                Ok(cut) => {
                    prop_assert!(length >= headers_len);
                    prop_assert_eq!(cut.payload, &payload[..length - headers_len]);
                    prop_assert_eq!(cut.payload_len as usize, payload.len());
                }
                Err(_) => prop_assert!(length < headers_len),
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        check_any(&bytes)?;
    }

    #[test]
    fn random_tcp_never_panics(
        tuple in tuples(),
        bytes in vec(any::<u8>(), 0..200),
        wire_len in prop_oneof![0..300u32, any::<u32>()],
    ) {
        if let Ok(segment) = Segment::parse_tcp(tuple, &bytes, wire_len) {
            prop_assert!(segment.payload.len() <= segment.payload_len as usize);
            prop_assert!(segment.payload_len <= wire_len - 20);
        }
    }

    #[test]
    fn mutations_never_panic(
        builder in builders(),
        payload in vec(any::<u8>(), 0..=40),
        link_header in vec(any::<u8>(), 0..30),
        mutations in vec(any::<(Index, u8)>(), 1..8),
        cut in option::of(any::<Index>()),
    ) {
        let mut packet = write(&builder, &payload);
        for (at, value) in mutations {
            // Headers are where it hurts.
            let at = at.index(packet.len() - payload.len());
            packet[at] = value;
        }
        if let Some(at) = cut {
            packet.truncate(at.index(packet.len()));
        }
        check_any(&packet)?;
        check_any(&[link_header, packet].concat())?;
    }
}
