//! Capture files: pcap and pcapng, plain and compressed.

use std::io::{Cursor, Read};

use tcpcopy_net::file::{
    CaptureFile, FileError, LINK_TYPE_RAW, MAX_FRAME_BYTES, PcapngEncoder, RecordedInterface,
};
use tcpcopy_packet::TcpFlags;

use crate::Seed;
use crate::samples::{data, syn, tuple_v4, tuple_v6, with};

/// Frames read of one input at most: compressed data can hold a million times its own length.
const MOST_FRAMES: usize = 10_000;

/// When the packets of the seeds were captured.
const FIRST_NS: u64 = 1_700_000_000_123_456_789;

/// Where and why reading ended.
type End = Option<(Option<u64>, String)>;

/// Reads the input whole and in small pieces: both must find the same frames and the same fault, in
/// order of time, and within the bounds that are promised.
pub fn run(input: &[u8]) {
    let (whole, end) = read(Cursor::new(input.to_vec()));
    let (pieces, end_in_pieces) = read(Pieces(Cursor::new(input.to_vec())));
    if end
        .as_ref()
        .is_some_and(|(_, text)| text.contains("compressed data"))
    {
        // What a step decompressed before it found the damage is lost, and there the steps differ.
        assert!(pieces.starts_with(&whole));
    } else {
        assert_eq!((whole, end), (pieces, end_in_pieces));
    }
}

/// Takes a few bytes at a time.
struct Pieces(Cursor<Vec<u8>>);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(7);
        self.0.read(&mut buffer[..length])
    }
}

/// Times, lengths and sums of all frames, and the end.
fn read(reader: impl Read + Send + 'static) -> (Vec<(u64, usize, u32)>, End) {
    let mut frames = Vec::new();
    let end = |error: FileError| match &error {
        FileError::Broken { offset, .. } => (Some(*offset), error.to_string()),
        _ => (None, error.to_string()),
    };
    let mut file = match CaptureFile::from_reader("input".to_owned(), reader) {
        Ok(file) => file,
        Err(error) => return (frames, Some(end(error))),
    };
    let mut last_ns = 0;
    while frames.len() < MOST_FRAMES {
        match file.next_frame() {
            Ok(None) => return (frames, None),
            Ok(Some(frame)) => {
                assert!(frame.time_ns >= last_ns);
                assert!(frame.frame.len() <= MAX_FRAME_BYTES as usize);
                last_ns = frame.time_ns;
                let sum = frame.frame.iter().map(|byte| u32::from(*byte)).sum();
                frames.push((frame.time_ns, frame.frame.len(), sum));
            }
            Err(error) => {
                assert!(
                    matches!(file.next_frame(), Ok(None)),
                    "it ends with its first fault"
                );
                return (frames, Some(end(error)));
            }
        }
    }
    (frames, None)
}

/// Files of every format, and broken ones.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let packets = [
        syn(tuple_v4()),
        data(tuple_v4(), TcpFlags::PSH, b"GET / HTTP/1.1\r\n\r\n"),
        data(tuple_v6(), TcpFlags::FIN, b""),
    ];
    let pcapng = pcapng(&packets);
    let length = pcapng.len();
    let classic = |magic: u32, big_endian| classic(magic, big_endian, &packets);
    let cut = |bytes: &[u8], by: usize| bytes[..bytes.len() - by].to_vec();
    // The first interface is described behind the section's header, of 40 bytes here.
    let interface_at = 40;
    vec![
        ("pcapng", pcapng.clone()),
        ("pcapng-cut-packet", cut(&pcapng, 9)),
        ("pcapng-two-sections", pcapng.repeat(2)),
        (
            "pcapng-other-length-behind",
            with(pcapng.clone(), length - 4, 1),
        ),
        (
            "pcapng-odd-length",
            with(pcapng.clone(), interface_at + 4, 7),
        ),
        (
            "pcapng-no-interface",
            [&pcapng[..interface_at], &pcapng[length - 104..]].concat(),
        ),
        ("pcapng-byte-order", with(pcapng.clone(), 8, 0)),
        ("pcapng-version", with(pcapng.clone(), 12, 9)),
        ("pcapng-big-endian", pcapng_big_endian()),
        ("pcap-us-little", classic(0xa1b2_c3d4, false)),
        ("pcap-us-big", classic(0xa1b2_c3d4, true)),
        ("pcap-ns-little", classic(0xa1b2_3c4d, false)),
        ("pcap-ns-big", classic(0xa1b2_3c4d, true)),
        ("pcap-cut-header", cut(&classic(0xa1b2_c3d4, false), 200)),
        ("pcap-too-long", with(classic(0xa1b2_c3d4, false), 35, 0x7f)),
        ("pcap-version", with(classic(0xa1b2_c3d4, false), 4, 1)),
        ("gzip", gzip(&pcapng)),
        (
            "gzip-two-members",
            [gzip(&pcapng[..100]), gzip(&pcapng[100..])].concat(),
        ),
        ("gzip-cut", cut(&gzip(&pcapng), 9)),
        ("gzip-checksum", with(gzip(&pcapng), length - 20, 0xff)),
        ("zstd", zstd(&pcapng)),
        ("zstd-cut", cut(&zstd(&pcapng), 9)),
        ("empty", Vec::new()),
        ("other", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ]
}

fn pcapng(packets: &[Vec<u8>]) -> Vec<u8> {
    let interface = RecordedInterface {
        name: "eth0".to_owned(),
        link_type: LINK_TYPE_RAW,
        snaplen: 65_535,
        filter: "tcp".to_owned(),
    };
    let encoder = PcapngEncoder::new("seed", vec![interface]);
    let mut out = Vec::new();
    encoder.header(&mut out);
    for (packet, time_ns) in packets.iter().zip(FIRST_NS..) {
        let length = u32::try_from(packet.len()).expect("a short packet");
        encoder.packet(0, time_ns, packet, length, &mut out);
    }
    out
}

/// A section, an interface with times in 2^-10 s, a packet of each kind of block, and one left out.
fn pcapng_big_endian() -> Vec<u8> {
    let block = |kind: u32, words: &[u32], rest: &[u8]| {
        let length = u32::try_from(12 + 4 * words.len() + rest.len()).expect("a short block");
        let mut out = [kind, length].map(u32::to_be_bytes).concat();
        out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        out.extend(rest);
        out.extend(length.to_be_bytes());
        out
    };
    let version = [0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    [
        block(0x0a0d_0d0a, &[0x1a2b_3c4d], &version),
        block(1, &[1 << 16, 4], &[0, 9, 0, 1, 0x8a, 0, 0, 0, 0, 0, 0, 0]),
        block(6, &[0, 0, 1 << 10, 4, 4], b"new."),
        block(2, &[7, 0, 2 << 10, 3, 9], b"old."),
        block(3, &[90], b"bare"),
        block(0xbad, &[], b"left out"),
    ]
    .concat()
}

fn classic(magic: u32, big_endian: bool, packets: &[Vec<u8>]) -> Vec<u8> {
    let word = |value: u32| match big_endian {
        true => value.to_be_bytes(),
        false => value.to_le_bytes(),
    };
    let version = if big_endian {
        [0, 2, 0, 4]
    } else {
        [2, 0, 4, 0]
    };
    let mut out = [
        word(magic),
        version,
        word(0),
        word(0),
        word(65_535),
        word(12),
    ]
    .concat();
    for (packet, second) in packets.iter().zip(1_700_000_000..) {
        let length = u32::try_from(packet.len()).expect("a short packet");
        for value in [second, 999_999, length, length] {
            out.extend(word(value));
        }
        out.extend(packet);
    }
    out
}

/// One member with one stored block (RFC 1952 section 2.3, RFC 1951 section 3.2.4).
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a short file");
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(bytes);
    out.extend((!crc).to_le_bytes());
    out.extend(u32::from(length).to_le_bytes());
    out
}

/// One frame of one segment with one raw block (RFC 8878 section 3.1.1), of 256 bytes or more.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a short file");
    let size = u16::try_from(length - 256).expect("a short file");
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0x60];
    out.extend(size.to_le_bytes());
    out.extend(&(length << 3 | 1).to_le_bytes()[..3]);
    out.extend(bytes);
    out
}
