//! Capture files as tcpdump writes them, read to check what the programs make of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// Bytes of a file's header.
const FILE_HEADER: usize = 24;

/// Bytes of a record's header.
const RECORD_HEADER: usize = 16;

/// The protocol number of TCP in an IPv4 header.
const TCP: u8 = 6;

/// The flag of a TCP header.
const SYN: u8 = 0x02;

/// A capture file in the classic form, with times in microseconds.
#[derive(Debug)]
pub struct Trace {
    file: Vec<u8>,
    /// Where each record is, with its header.
    records: Vec<Range<usize>>,
    /// How many bytes come before the IP header.
    link_bytes: usize,
}

/// The moments at which requests were sent, by their paths.
pub type SendTimes = BTreeMap<String, Duration>;

impl Trace {
    /// Takes a file apart.
    ///
    /// # Panics
    /// When it is no such file, or ends in the middle of a record.
    pub fn new(file: Vec<u8>) -> Self {
        assert_eq!(word(&file, 0), 0xA1B2_C3D4, "the magic number of a capture");
        let link_bytes = match word(&file, 20) & 0xFFFF {
            1 => 14,
            101 => 0,
            113 => 16,
            276 => 20,
            other => panic!("link type {other}"),
        };
        let mut records = Vec::new();
        let mut at = FILE_HEADER;
        while at < file.len() {
            let end = at + RECORD_HEADER + word(&file, at + 8) as usize;
            assert!(end <= file.len(), "a torn record at {at}");
            records.push(at..end);
            at = end;
        }
        Self {
            file,
            records,
            link_bytes,
        }
    }

    /// How many packets it has.
    pub fn packet_count(&self) -> usize {
        self.records.len()
    }

    /// The moment of a packet, since 1970.
    pub fn time(&self, packet: usize) -> Duration {
        let at = self.records[packet].start;
        let seconds = Duration::from_secs(word(&self.file, at).into());
        seconds + Duration::from_micros(word(&self.file, at + 4).into())
    }

    /// The offset in the file at which a packet's record begins.
    pub fn offset(&self, packet: usize) -> usize {
        self.records[packet].start
    }

    /// A file with only these packets.
    pub fn part(&self, packets: Range<usize>) -> Vec<u8> {
        let records = &self.records[packets];
        let (first, last) = (&records[0], &records[records.len() - 1]);
        [&self.file[..FILE_HEADER], &self.file[first.start..last.end]].concat()
    }

    /// When each HTTP request to `port` was sent; one that was sent twice counts at its first time.
    pub fn requests(&self, port: u16) -> SendTimes {
        let mut times = SendTimes::new();
        for packet in 0..self.records.len() {
            let payload = self.payload_to(port, packet).unwrap_or_default();
            let head = &payload[..payload.len().min(80)];
            let text = String::from_utf8_lossy(head);
            let mut words = text.split(' ');
            if let (Some("GET" | "POST"), Some(path)) = (words.next(), words.next()) {
                times.entry(path.to_owned()).or_insert(self.time(packet));
            }
        }
        times
    }

    /// What each client sent to `port` on each connection, whole and in order; the streams are
    /// sorted.
    ///
    /// # Panics
    /// When a stream has a hole.
    pub fn streams(&self, port: u16) -> Vec<Vec<u8>> {
        let mut pieces: BTreeMap<Connection, BTreeMap<u32, &[u8]>> = BTreeMap::new();
        let mut starts: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for packet in 0..self.records.len() {
            let Some(segment) = self.segment_to(port, packet) else {
                continue;
            };
            if segment.is_syn {
                starts.insert(segment.client, segment.seq.wrapping_add(1));
            } else if let Some(&start) = starts.get(&segment.client) {
                let offset = segment.seq.wrapping_sub(start);
                let client = segment.client;
                let stream = pieces.entry(Connection { client, start }).or_default();
                // Without payload the offset may be that after the FIN.
                if !segment.payload.is_empty() {
                    let longest = stream.entry(offset).or_default();
                    *longest = longer(longest, segment.payload);
                }
            }
        }
        let join = |pieces: BTreeMap<u32, &[u8]>| {
            pieces
                .into_iter()
                .fold(Vec::new(), |mut stream, (offset, piece)| {
                    let known = stream.len().checked_sub(offset as usize);
                    let known = known.expect("a stream without a hole");
                    stream.extend(piece.iter().skip(known));
                    stream
                })
        };
        let mut streams: Vec<_> = pieces.into_values().map(join).collect();
        streams.sort_unstable();
        streams
    }

    fn payload_to(&self, port: u16, packet: usize) -> Option<&[u8]> {
        Some(self.segment_to(port, packet)?.payload)
    }

    /// The TCP segment in a packet to `port`; IPv4 only.
    fn segment_to(&self, port: u16, packet: usize) -> Option<Segment<'_>> {
        let record = self.records[packet].clone();
        let ip = self.file[record].get(RECORD_HEADER + self.link_bytes..)?;
        let header = usize::from(ip.first()? & 0x0F) * 4;
        let length = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
        // Frames may be padded; super-segments above 64 KiB have no length of their own.
        let ip = if length == 0 { ip } else { ip.get(..length)? };
        let tcp = ip.get(header..).filter(|_| ip.get(9) == Some(&TCP))?;
        let to = u16::from_be_bytes([*tcp.get(2)?, *tcp.get(3)?]);
        let header_bytes = usize::from(tcp.get(12)? >> 4) * 4;
        let segment = Segment {
            client: [&ip[12..16], &tcp[..2]].concat(),
            seq: u32::from_be_bytes(tcp[4..8].try_into().ok()?),
            is_syn: tcp.get(13)? & SYN > 0,
            payload: tcp.get(header_bytes..)?,
        };
        Some(segment).filter(|_| to == port)
    }
}

/// A client's connection. It may come back on its port, so the first sequence number belongs to it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Connection {
    client: Vec<u8>,
    start: u32,
}

/// What matters here of a TCP segment from a client.
struct Segment<'a> {
    /// The client's address and port.
    client: Vec<u8>,
    seq: u32,
    is_syn: bool,
    payload: &'a [u8],
}

/// How far the times of sending of `copy` are from those of `original`, one for each request that
/// both have, in order, after the middle one is taken as the offset between the two clocks.
pub fn deviations(original: &SendTimes, copy: &SendTimes) -> Vec<Duration> {
    let both = original
        .iter()
        .filter_map(|(path, sent)| Some((sent, copy.get(path)?)));
    let mut differences: Vec<i128> = both
        .map(|(sent, again)| again.as_micros() as i128 - sent.as_micros() as i128)
        .collect();
    differences.sort_unstable();
    let middle = differences.get(differences.len() / 2).copied();
    let middle = middle.unwrap_or_default();
    let mut deviations: Vec<_> = differences
        .iter()
        .map(|difference| Duration::from_micros((difference - middle).unsigned_abs() as u64))
        .collect();
    deviations.sort_unstable();
    deviations
}

fn longer<'a>(one: &'a [u8], other: &'a [u8]) -> &'a [u8] {
    if one.len() < other.len() { other } else { one }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..at + 4].try_into().expect("four bytes");
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with a request, in a capture of raw IP.
    fn record(at: (u32, u32), payload: &[u8]) -> Vec<u8> {
        let length = 40 + payload.len() as u32;
        let mut record: Vec<u8> = [at.0, at.1, length, length]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let mut ip = [0; 20];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        ip[9] = TCP;
        let mut tcp = [0; 20];
        tcp[2..4].copy_from_slice(&80_u16.to_be_bytes());
        tcp[12] = 0x50;
        record.extend([&ip[..], &tcp, payload].concat());
        record
    }

    fn trace() -> Trace {
        let mut file = vec![0; FILE_HEADER];
        file[..4].copy_from_slice(&0xA1B2_C3D4_u32.to_le_bytes());
        file[20] = 101;
        file.extend(record((10, 5), b"GET /r/1 HTTP/1.1\r\n"));
        file.extend(record((11, 0), b""));
        file.extend(record((12, 0), b"POST /r/2 HTTP/1.1\r\n"));
        Trace::new(file)
    }

    #[test]
    fn requests_have_their_times() {
        let trace = trace();
        let times = trace.requests(80);
        assert_eq!(times["/r/1"], Duration::from_micros(10_000_005));
        assert_eq!(times["/r/2"], Duration::from_secs(12));
        assert_eq!((trace.packet_count(), times.len()), (3, 2));
        assert!(trace.requests(81).is_empty());
    }

    #[test]
    fn streams_are_whole_and_in_order() {
        let mut file = trace().part(0..1);
        file.truncate(FILE_HEADER);
        let segment = |seq: u32, flags: u8, payload: &[u8]| {
            let mut record = record((1, 0), payload);
            let tcp = RECORD_HEADER + 20;
            record[tcp + 4..tcp + 8].copy_from_slice(&seq.to_be_bytes());
            record[tcp + 13] = flags;
            record
        };
        file.extend(segment(u32::MAX, SYN, b""));
        file.extend(segment(3, 0, b"def"));
        file.extend(segment(0, 0, b"abc"));
        file.extend(segment(3, 0, b"def"));
        file.extend(segment(6, 1, b""));
        file.extend(segment(7, 0, b""));
        assert_eq!(Trace::new(file).streams(80), [b"abcdef"]);
    }

    #[test]
    fn a_part_is_a_file_again() {
        let part = Trace::new(trace().part(1..3));
        assert_eq!(part.packet_count(), 2);
        assert_eq!(part.time(0), Duration::from_secs(11));
    }

    #[test]
    fn the_offset_of_the_clocks_is_no_deviation() {
        let times = |offsets: [u64; 3]| -> SendTimes {
            let named =
                |(number, ms): (usize, u64)| (format!("/{number}"), Duration::from_millis(ms));
            offsets.into_iter().enumerate().map(named).collect()
        };
        let original = times([0, 100, 200]);
        let copy = times([5_000, 5_100, 5_203]);
        let expected = [0, 0, 3].map(Duration::from_millis);
        assert_eq!(deviations(&original, &copy), expected);
    }
}
