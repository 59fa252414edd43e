use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A frame in a test: time in nanoseconds, bytes, length on the device.
type Frame = (u64, Vec<u8>, u32);

fn frame(time_ns: u64, byte: u8, length: usize) -> Frame {
    (time_ns, vec![byte; length], length as u32)
}

/// Reads all there is: frames, and the error that ended it.
fn read_all(file: &mut CaptureFile) -> (Vec<Frame>, Option<FileError>) {
    let mut frames = Vec::new();
    loop {
        match file.next_frame() {
            Ok(Some(frame)) => {
                frames.push((frame.time_ns, frame.frame.to_vec(), frame.original_len));
            }
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

fn open(bytes: Vec<u8>) -> Result<CaptureFile, FileError> {
    CaptureFile::from_reader("test".to_owned(), Cursor::new(bytes))
}

fn frames_of(bytes: Vec<u8>) -> Vec<Frame> {
    let (frames, error) = read_all(&mut open(bytes).unwrap());
    assert!(error.is_none(), "{error:?}");
    frames
}

fn offset_of(error: &FileError) -> u64 {
    match error {
        FileError::Broken { offset, .. } => *offset,
        other => panic!("{other}"),
    }
}

/// Writes the formats by hand in either byte order.
struct Hand {
    big_endian: bool,
    bytes: Vec<u8>,
}

impl Hand {
    fn new(big_endian: bool) -> Self {
        Self {
            big_endian,
            bytes: Vec::new(),
        }
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        let bytes = if self.big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.bytes.extend(bytes);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        let bytes = if self.big_endian {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.bytes.extend(bytes);
        self
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    fn classic(magic: u32, big_endian: bool, frames: &[Frame], ns_per_tick: u64) -> Vec<u8> {
        let mut hand = Self::new(big_endian);
        hand.u32(magic)
            .u16(2)
            .u16(4)
            .u32(0)
            .u32(0)
            .u32(65535)
            .u32(1);
        for (time_ns, bytes, original) in frames {
            hand.u32((time_ns / NS_PER_S) as u32)
                .u32((time_ns % NS_PER_S / ns_per_tick) as u32)
                .u32(bytes.len() as u32)
                .u32(*original)
                .raw(bytes);
        }
        hand.bytes
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let padded = body.len().next_multiple_of(4);
        let length = padded as u32 + 12;
        self.u32(kind).u32(length).raw(body);
        self.raw(&vec![0; padded - body.len()]).u32(length)
    }

    fn section(&mut self) -> &mut Self {
        let mut body = Self::new(self.big_endian);
        body.u32(0x1a2b_3c4d)
            .u16(1)
            .u16(0)
            .u32(u32::MAX)
            .u32(u32::MAX);
        self.block(0x0a0d_0d0a, &body.bytes)
    }

    fn interface(&mut self, link_type: u16, snaplen: u32, resolution: Option<u8>) -> &mut Self {
        let mut body = Self::new(self.big_endian);
        body.u16(link_type).u16(0).u32(snaplen);
        if let Some(power) = resolution {
            body.u16(9).u16(1).raw(&[power, 0, 0, 0]).u32(0);
        }
        self.block(1, &body.bytes)
    }

    fn enhanced(&mut self, interface: u32, ticks: u64, bytes: &[u8], original: u32) -> &mut Self {
        let mut body = Self::new(self.big_endian);
        body.u32(interface)
            .u32((ticks >> 32) as u32)
            .u32(ticks as u32);
        body.u32(bytes.len() as u32).u32(original).raw(bytes);
        self.block(6, &body.bytes)
    }
}

#[test]
fn classic_files_in_both_byte_orders_and_units() {
    let frames = [
        frame(1_700_000_000_123_456_000, 7, 60),
        frame(1_700_000_001_000_001_000, 8, 0),
    ];
    for big_endian in [false, true] {
        for (magic, ns_per_tick) in [(0xa1b2_c3d4, 1_000), (0xa1b2_3c4d, 1)] {
            let bytes = Hand::classic(magic, big_endian, &frames, ns_per_tick);
            let mut file = open(bytes).unwrap();
            assert_eq!(file.link_type(), Some(1));
            assert_eq!(read_all(&mut file).0, frames);
        }
    }
}

#[test]
fn pcapng_with_several_interfaces_and_sections() {
    let mut bytes = Vec::new();
    for big_endian in [true, false] {
        let mut hand = Hand::new(big_endian);
        hand.section()
            .interface(1, 0, None)
            // Microseconds, by default, of the first interface.
            .enhanced(0, 1_000_000, b"first", 5)
            .interface(101, 0, Some(9))
            // A custom block, left out.
            .block(0xbad, b"whatever")
            .enhanced(1, 2 * NS_PER_S, b"second", 9)
            // Half a second after the third, in units of 2^-10.
            .interface(0, 0, Some(0x80 | 10))
            .enhanced(2, 3 * 1024 + 512, b"third", 5);
        bytes.extend(hand.bytes);
    }
    let expected = |link_types: &mut Vec<u16>, file: &mut CaptureFile| {
        let mut frames = Vec::new();
        while let Some(frame) = file.next_frame().unwrap() {
            link_types.push(frame.link_type);
            frames.push((frame.time_ns, frame.frame.to_vec(), frame.is_cut_short()));
        }
        frames
    };
    let mut link_types = Vec::new();
    let mut file = open(bytes).unwrap();
    let frames = expected(&mut link_types, &mut file);
    let times = [1, 2, 3].map(|second| second * NS_PER_S);
    assert_eq!(
        frames[..3],
        [
            (times[0], b"first".to_vec(), false),
            (times[1], b"second".to_vec(), true),
            (times[2] + NS_PER_S / 2, b"third".to_vec(), false),
        ]
    );
    assert_eq!(link_types, [1, 101, 0, 1, 101, 0]);
    // The second section begins earlier than the first has ended.
    let counters = file.counters();
    assert_eq!(
        (counters.frames, counters.backwards, counters.cut_short),
        (6, 2, 2)
    );
    assert!(
        frames[3..]
            .iter()
            .all(|frame| frame.0 == times[2] + NS_PER_S / 2)
    );
}

#[test]
fn simple_and_obsolete_packet_blocks() {
    for big_endian in [false, true] {
        let mut hand = Hand::new(big_endian);
        hand.section().interface(1, 4, None);
        let mut obsolete = Hand::new(big_endian);
        obsolete
            .u16(0)
            .u16(77)
            .u32(0)
            .u32(5_000_000)
            .u32(3)
            .u32(3)
            .raw(b"old");
        hand.block(2, &obsolete.bytes);
        let mut simple = Hand::new(big_endian);
        // Of 10 bytes the snapshot length has left 4.
        simple.u32(10).raw(b"simp");
        hand.block(3, &simple.bytes);
        let mut file = open(hand.bytes).unwrap();
        let (frames, error) = read_all(&mut file);
        assert!(error.is_none(), "{error:?}");
        let time = 5 * NS_PER_S;
        assert_eq!(
            frames,
            [(time, b"old".to_vec(), 3), (time, b"simp".to_vec(), 10)]
        );
        assert_eq!(file.counters().without_time, 1);
    }
}

/// Where a file is broken, why, and how many frames came before.
fn problem(bytes: Vec<u8>) -> (u64, Problem, usize) {
    let (frames, error) = match open(bytes) {
        Ok(mut file) => read_all(&mut file),
        Err(error) => (Vec::new(), Some(error)),
    };
    match error.unwrap() {
        FileError::Broken {
            offset, problem, ..
        } => (offset, problem, frames.len()),
        other => panic!("{other}"),
    }
}

#[test]
fn broken_files_say_where_and_why() {
    assert_eq!(problem(vec![]), (0, Problem::Empty, 0));
    assert_eq!(
        problem(b"GET / HTTP".to_vec()),
        (0, Problem::UnknownFormat(*b"GET "), 0)
    );
    assert_eq!(
        problem(b"GE".to_vec()),
        (0, Problem::UnknownFormat([b'G', b'E', 0, 0]), 0)
    );
    let one = [frame(NS_PER_S, 1, 10)];
    let mut classic = Hand::classic(0xa1b2_c3d4, false, &one, 1000);
    let length = classic.len() as u64;
    classic.extend([0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0]);
    assert_eq!(
        problem(classic),
        (length, Problem::FrameTooLong(0x7fff_ffff), 1)
    );
}

#[test]
fn broken_blocks_say_where_and_why() {
    let start = || {
        let mut hand = Hand::new(true);
        hand.section()
            .interface(1, 0, None)
            .enhanced(0, 1, b"frame", 5);
        let length = hand.bytes.len() as u64;
        (hand, length)
    };
    let (mut hand, at) = start();
    hand.enhanced(1, 1, b"frame", 5);
    assert_eq!(problem(hand.bytes), (at, Problem::NoSuchInterface(1), 1));
    let (mut hand, at) = start();
    hand.u32(6).u32(10).u32(0);
    assert_eq!(problem(hand.bytes), (at, Problem::BlockLength(10), 1));
    let (mut hand, at) = start();
    hand.u32(99).u32(16).u32(0).u32(20);
    let lengths = Problem::BlockLengths {
        first: 16,
        last: 20,
    };
    assert_eq!(problem(hand.bytes), (at, lengths, 1));
    let (mut hand, at) = start();
    let mut body = Hand::new(true);
    body.u32(0).u32(0).u32(0).u32(9).u32(9).raw(b"frame");
    hand.block(6, &body.bytes);
    let beyond = Problem::PacketBeyondBlock {
        packet: 9,
        block: 40,
    };
    assert_eq!(problem(hand.bytes), (at, beyond, 1));
    let (mut hand, at) = start();
    hand.u32(0x0a0d_0d0a).u32(28).u32(7);
    assert_eq!(problem(hand.bytes), (at, Problem::ByteOrder(7), 1));
    let (mut hand, at) = start();
    hand.u32(0x0a0d_0d0a).u32(28).u32(0x1a2b_3c4d).u16(2).u16(0);
    let version = Problem::UnknownVersion {
        format: "pcapng",
        major: 2,
        minor: 0,
    };
    assert_eq!(problem(hand.bytes), (at, version, 1));
}

#[test]
fn the_text_of_an_error_names_file_place_and_cause() {
    let bytes = Hand::classic(0xa1b2_c3d4, false, &[frame(0, 1, 10)], 1000);
    let (_, error) = read_all(&mut open(bytes[..bytes.len() - 3].to_vec()).unwrap());
    let error = error.unwrap();
    assert_eq!(
        error.to_string(),
        "test is broken at byte 24: it ends inside a packet, 3 bytes early"
    );
    assert!(error.hint().contains("cut off"));
    let bytes = gzip(&bytes[..bytes.len() - 3]);
    let (_, error) = read_all(&mut open(bytes).unwrap());
    assert_eq!(
        error.unwrap().to_string(),
        "test is broken at byte 24 of its decompressed data: it ends inside a packet, 3 bytes early"
    );
    let missing = CaptureFile::open(Path::new("/no/such/file")).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("can't open the capture file /no/such/file: ")
    );
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Frames that don't compress to nothing, and the file that the encoder makes of them.
fn sample(count: u64) -> (Vec<Frame>, Vec<u8>) {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let frames: Vec<Frame> = (0..count)
        .map(|i| {
            let bytes: Vec<u8> = (0..i * 37 % 1500).map(|_| next()).collect();
            let length = bytes.len() as u32;
            (i * 1_000_003, bytes, length)
        })
        .collect();
    let bytes = encoded(&frames);
    (frames, bytes)
}

fn encoder() -> PcapngEncoder {
    let interface = RecordedInterface {
        name: "eth0".to_owned(),
        link_type: LINK_TYPE_RAW,
        snaplen: 65535,
        filter: "tcp dst port 80".to_owned(),
    };
    PcapngEncoder::new("test", vec![interface])
}

fn encoded(frames: &[Frame]) -> Vec<u8> {
    let (encoder, mut out) = (encoder(), Vec::new());
    encoder.header(&mut out);
    for (time_ns, bytes, original) in frames {
        encoder.packet(0, *time_ns, bytes, *original, &mut out);
    }
    out
}

#[test]
fn compression_shows_in_the_content() {
    let (frames, bytes) = sample(200);
    let (one, other) = bytes.split_at(bytes.len() / 3);
    // Several members, as parallel compressors and appending make them.
    let members = [gzip(one), gzip(other)].concat();
    let zstd_frames = [zstd(one), zstd(other)].concat();
    let skippable = [
        &[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..],
        &zstd(&bytes),
    ]
    .concat();
    for compressed in [gzip(&bytes), members, zstd(&bytes), zstd_frames, skippable] {
        let length = compressed.len() as u64;
        let mut file = open(compressed).unwrap();
        let (read, error) = read_all(&mut file);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(read, frames);
        assert_eq!(file.position(), length);
    }
}

/// Cuts a compressed file every so many bytes; the answer is how many frames the last cut left.
fn cut_everywhere(compressed: &[u8], step: usize, frames: &[Frame]) -> usize {
    let mut most = 0;
    for length in (0..compressed.len()).step_by(step) {
        let (read, error) = match open(compressed[..length].to_vec()) {
            Ok(mut file) => read_all(&mut file),
            Err(error) => (Vec::new(), Some(error)),
        };
        assert!(error.is_some(), "{length} of {}", compressed.len());
        assert_eq!(read, frames[..read.len()]);
        assert!(read.len() >= most);
        most = read.len();
    }
    most
}

#[test]
fn cut_compression_ends_with_an_error_after_all_that_is_whole() {
    let (frames, bytes) = sample(20);
    let most = cut_everywhere(&gzip(&bytes), 1, &frames);
    assert!(most >= frames.len() - 1, "{most}");
    // zstd compresses blocks of 128 KiB, of which none or all can be read.
    let (frames, bytes) = sample(600);
    let most = cut_everywhere(&zstd(&bytes), 1_000, &frames);
    assert!(most >= frames.len() / 2, "{most} of {}", frames.len());
}

#[test]
fn damaged_compression_is_an_error() {
    let (frames, bytes) = sample(600);
    for compressed in [gzip(&bytes), zstd(&bytes)] {
        let mut damaged = compressed.clone();
        damaged[compressed.len() / 2] ^= 0xff;
        let (read, error) = read_all(&mut open(damaged).unwrap());
        assert!(
            matches!(
                error,
                Some(FileError::Broken {
                    compressed: true,
                    ..
                })
            ),
            "{error:?}"
        );
        let whole = read.iter().zip(&frames).take_while(|(a, b)| a == b).count();
        assert!((frames.len() / 4..frames.len()).contains(&whole), "{whole}");
    }
}

#[test]
fn truncation_at_every_byte_is_an_error_behind_all_that_is_whole() {
    let (frames, bytes) = sample(12);
    let classic = Hand::classic(0xa1b2_3c4d, true, &frames, 1);
    let big_endian = {
        let mut hand = Hand::new(true);
        hand.section().interface(101, 0, Some(9));
        for (time_ns, bytes, original) in &frames {
            hand.enhanced(0, *time_ns, bytes, *original);
        }
        hand.bytes
    };
    for whole in [bytes, classic, big_endian] {
        // The ends of records: a file cut there is a shorter file.
        let mut ends = Vec::new();
        let mut seen = Vec::new();
        for length in 0..=whole.len() {
            let cut = whole[..length].to_vec();
            let (read, error) = match open(cut) {
                Ok(mut file) => read_all(&mut file),
                Err(error) => (Vec::new(), Some(error)),
            };
            assert_eq!(read, frames[..read.len()], "{length}");
            match error {
                None => ends.push((length as u64, read.len())),
                Some(error) => {
                    let last = ends.last().copied().unwrap_or((0, 0));
                    assert_eq!((offset_of(&error), read.len()), last, "{length}: {error}");
                }
            }
            seen.push(read.len());
        }
        assert_eq!(seen.last(), Some(&frames.len()));
        assert!(ends.len() > frames.len());
    }
}

#[test]
fn files_merge_by_time_and_a_broken_one_does_not_stop_the_others() {
    let file = |times: &[u64], byte| {
        let frames: Vec<Frame> = times.iter().map(|time| frame(*time, byte, 4)).collect();
        encoded(&frames)
    };
    let first = file(&[10, 40, 40, 70], 1);
    let mut second = file(&[5, 40, 50, 60], 2);
    second.truncate(second.len() - 1);
    let third = file(&[], 3);
    let files = [first, second, third].map(|bytes| open(bytes).unwrap());
    let mut merged = MergedFiles::new(files.into());
    let mut seen = Vec::new();
    let mut errors = 0;
    loop {
        match merged.next_frame() {
            Ok(Some(frame)) => seen.push((frame.time_ns, frame.frame[0])),
            Ok(None) => break,
            Err(error) => {
                errors += 1;
                assert_eq!(seen.last(), Some(&(50, 2)), "{error}");
            }
        }
    }
    assert_eq!(
        seen,
        [(5, 2), (10, 1), (40, 1), (40, 1), (40, 2), (50, 2), (70, 1)]
    );
    assert_eq!((errors, merged.counters().frames), (1, 7));
}

/// A reader that gives a byte at a time and is interrupted between.
struct Trickle(Cursor<Vec<u8>>, bool);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn slow_streams_read_alike() {
    let (frames, bytes) = sample(20);
    for bytes in [gzip(&bytes), zstd(&bytes), bytes] {
        let trickle = Trickle(Cursor::new(bytes), false);
        let mut file = CaptureFile::from_reader("pipe".to_owned(), trickle).unwrap();
        let (read, error) = read_all(&mut file);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(read, frames);
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_again(
        packets in vec((any::<u64>(), vec(any::<u8>(), 0..300), 0..1000_u32), 0..30),
    ) {
        let mut frames: Vec<Frame> = packets
            .into_iter()
            .map(|(time, bytes, cut)| {
                let original = bytes.len() as u32 + cut;
                (time, bytes, original)
            })
            .collect();
        frames.sort();
        prop_assert_eq!(frames_of(encoded(&frames)), frames);
    }

    #[test]
    fn any_bytes_behind_a_header_are_frames_or_an_error(
        bytes in vec(any::<u8>(), 0..400),
        big_endian: bool,
    ) {
        let mut hand = Hand::new(big_endian);
        hand.section().interface(1, 0, None).raw(&bytes);
        let length = hand.bytes.len() as u64;
        let (_, error) = read_all(&mut open(hand.bytes).unwrap());
        if let Some(error) = error {
            prop_assert!(offset_of(&error) < length);
        }
    }
}

fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("tcpcopy-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn recording(path: PathBuf, rotation: Rotation) -> Recording {
    let mut header = Vec::new();
    encoder().header(&mut header);
    let config = RecordingConfig {
        path,
        rotation,
        header,
    };
    Recording::create(config).unwrap()
}

fn blocks(frames: &[Frame]) -> Vec<u8> {
    let mut out = Vec::new();
    for (time_ns, bytes, original) in frames {
        encoder().packet(0, *time_ns, bytes, *original, &mut out);
    }
    out
}

#[test]
fn one_file_is_overwritten_and_closed_with_statistics() {
    let directory = directory("recording-one");
    let path = directory.join("web.pcapng");
    std::fs::write(&path, "something older and longer than that\n".repeat(100)).unwrap();
    let mut recording = recording(path.clone(), Rotation::default());
    let frames = [frame(1, 1, 100), frame(2, 2, 200)];
    recording.write(&blocks(&frames), 2, 2).unwrap();
    let mut last = Vec::new();
    encoder().statistics(0, 3, 2, 0, &mut last);
    let kept = recording.close(&last).unwrap();
    assert_eq!((kept.packets, kept.files), (2, 1));
    assert_eq!(kept.bytes, std::fs::metadata(&path).unwrap().len());
    assert_eq!(frames_of(std::fs::read(&path).unwrap()), frames);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_row_of_files_keeps_its_bounds_and_goes_on_after_an_earlier_one() {
    let directory = directory("recording-row");
    let path = directory.join("web.pcapng");
    // Of an earlier recording, and two that are none of it.
    for name in ["web-00007.pcapng", "web-7.pcapng", "web-00008.pcap"] {
        std::fs::write(directory.join(name), "old").unwrap();
    }
    let rotation = Rotation {
        file_bytes: Some(2_000),
        keep_bytes: Some(6_500),
        ..Rotation::default()
    };
    let mut recording = recording(path, rotation);
    let frames: Vec<Frame> = (0..40).map(|i| frame(i, i as u8, 500)).collect();
    for frame in &frames {
        recording
            .write(&blocks(std::slice::from_ref(frame)), 1, frame.0)
            .unwrap();
        let sizes = names(&directory)
            .into_iter()
            .filter(|name| name.len() == 16);
        let sizes = sizes.map(|name| std::fs::metadata(directory.join(name)).unwrap().len());
        let sizes: Vec<u64> = sizes.collect();
        assert!(sizes.iter().all(|size| *size <= 2_000), "{sizes:?}");
        assert!(sizes.iter().sum::<u64>() <= 6_500, "{sizes:?}");
    }
    let kept = recording.close(&[]).unwrap();
    assert_eq!((kept.packets, kept.files), (40, 14));
    assert_eq!(kept.removed_files, 12, "the old one and 11 of 14");
    assert_eq!(
        names(&directory),
        [
            "web-00008.pcap",
            "web-00019.pcapng",
            "web-00020.pcapng",
            "web-00021.pcapng",
            "web-7.pcapng"
        ]
    );
    let last = std::fs::read(directory.join("web-00021.pcapng")).unwrap();
    assert_eq!(frames_of(last), frames[39..]);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_row_by_time_keeps_so_many_files() {
    let directory = directory("recording-time");
    let rotation = Rotation {
        period: Some(Duration::from_secs(10)),
        keep_files: Some(2),
        ..Rotation::default()
    };
    let mut recording = recording(directory.join("row"), rotation);
    for second in 0..35 {
        let frames = [frame(second * NS_PER_S, 1, 10)];
        recording.write(&blocks(&frames), 1, frames[0].0).unwrap();
    }
    let kept = recording.close(&[]).unwrap();
    assert_eq!((kept.files, kept.removed_files), (4, 2));
    assert_eq!(names(&directory), ["row-00003", "row-00004"]);
    let seconds = |name| frames_of(std::fs::read(directory.join(name)).unwrap()).len();
    assert_eq!((seconds("row-00003"), seconds("row-00004")), (10, 5));
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Takes so many bytes and then has no room.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.0);
        self.0 -= count;
        match count {
            0 => Err(io::ErrorKind::StorageFull.into()),
            count => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_keeps_whole_packets_and_says_how_many() {
    let mut header = Vec::new();
    encoder().header(&mut header);
    let packets = blocks(&[frame(1, 1, 100), frame(2, 2, 100), frame(3, 3, 100)]);
    let room = Full(header.len() + packets.len() - 1);
    let mut recording = Recording::to_stream("disk", room, header).unwrap();
    let error = recording.write(&packets, 3, 3).unwrap_err();
    assert_eq!(error.kept.packets, 2);
    assert!(
        error.to_string().starts_with("can't write to disk: "),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .ends_with("2 packets were recorded before"),
        "{error}"
    );
}
