use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use tcpcopy_net::file::{LINK_TYPE_RAW, PcapngEncoder, RecordedInterface};
use tcpcopy_net::filter::{Directions, OriginFilter};
use tcpcopy_packet::{Endpoint, FourTuple, Segment, SegmentBuilder, TcpFlags};

use super::*;

const MS: u64 = 1_000_000;
/// When the recordings of these tests begin.
const EPOCH_NS: u64 = 1_700_000_000_000_000_000;

/// A file that goes with the test.
struct TempFile(PathBuf);

impl TempFile {
    fn new(bytes: &[u8]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tcpcopy-player-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn input(&self) -> Input {
        Input::Path(self.0.clone())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// A segment of a client with this number.
fn packet(client: u16) -> Vec<u8> {
    let endpoint = |last, port| Endpoint::new(Ipv4Addr::new(192, 0, 2, last).into(), port);
    let tuple = FourTuple::new(endpoint(1, 1000 + client), endpoint(2, 80));
    let segment = SegmentBuilder {
        flags: TcpFlags::SYN,
        ..SegmentBuilder::new(tuple)
    };
    let mut packet = Vec::new();
    segment.write(std::iter::empty(), &mut packet).unwrap();
    packet
}

fn client_of(packet: &[u8]) -> u16 {
    Segment::parse(packet).unwrap().tuple.source.port - 1000
}

/// A recording of the clients' segments at these times.
fn recording(packets: impl IntoIterator<Item = (u64, u16)>) -> Vec<u8> {
    let interface = |link_type| RecordedInterface {
        name: "eth0".to_owned(),
        link_type,
        snaplen: 65535,
        filter: String::new(),
    };
    // The second is of a kind that can't be read: IEEE 802.11.
    let encoder = PcapngEncoder::new("test", vec![interface(LINK_TYPE_RAW), interface(105)]);
    let mut out = Vec::new();
    encoder.header(&mut out);
    for (time_ns, client) in packets {
        let packet = packet(client);
        encoder.packet(
            0,
            EPOCH_NS + time_ns,
            &packet,
            packet.len() as u32,
            &mut out,
        );
    }
    out
}

fn play(files: &[&TempFile], schedule: Schedule) -> Player {
    play_chosen(files, schedule, Choice::default())
}

fn play_chosen(files: &[&TempFile], schedule: Schedule, choice: Choice) -> Player {
    let inputs: Vec<Input> = files.iter().map(|file| file.input()).collect();
    Playlist::open(&inputs, schedule, choice)
        .unwrap()
        .play()
        .unwrap()
}

/// What came, in words, at which nanosecond of the round.
#[derive(Debug, PartialEq)]
enum Seen {
    Packet(u64, u16),
    EndOfRound,
    Failed(String),
}

/// Plays to the end in virtual time, which jumps to wherever the player says.
fn run(player: &mut Player) -> Vec<Seen> {
    let mut now = Instant::now();
    let mut begin = now;
    let mut seen = Vec::new();
    loop {
        match player.next(now) {
            Step::Packet(packet) => {
                let at = now.duration_since(begin).as_nanos() as u64;
                seen.push(Seen::Packet(at, client_of(packet)));
            }
            Step::NotBefore(at) => {
                assert!(at > now);
                assert!(
                    !is_ready(player),
                    "it would be asked again and again until then"
                );
                now = at;
            }
            Step::Reading => wait(player),
            Step::EndOfRound => {
                seen.push(Seen::EndOfRound);
                now += Duration::from_secs(7);
                begin = now;
            }
            Step::End => return seen,
            Step::Failed(error) => seen.push(Seen::Failed(error.to_string())),
            Step::Paused => panic!("nobody has paused it"),
        }
    }
}

fn wait(player: &Player) {
    poll(&mut [PollFd::new(player, PollFlags::IN)], None).unwrap();
}

fn is_ready(player: &Player) -> bool {
    let at_once = rustix::event::Timespec::default();
    poll(&mut [PollFd::new(player, PollFlags::IN)], Some(&at_once)).unwrap() > 0
}

/// Waits until a short file has been read whole, and takes its first packet.
fn ready(player: &mut Player, now: Instant) {
    while player.counters().files.frames == 0 {
        std::thread::yield_now();
    }
    assert!(matches!(player.next(now), Step::Packet(_)));
}

fn speed(times: f64) -> Schedule {
    Schedule {
        speed: Speed::Times(times),
        ..Schedule::default()
    }
}

#[test]
fn packets_come_at_their_captured_times() {
    let times: Vec<u64> = (0..20_000).map(|i| i * 777_777 + i % 13 * 1000).collect();
    let packets = times
        .iter()
        .enumerate()
        .map(|(i, time)| (*time, (i % 60_000) as u16));
    let file = TempFile::new(&recording(packets.clone()));
    let mut player = play(&[&file], Schedule::default());
    let expected: Vec<Seen> = packets
        .map(|(time, client)| Seen::Packet(time, client))
        .collect();
    assert_eq!(run(&mut player), expected);
    let lateness = player.lateness();
    assert_eq!(lateness.histogram.count(), 20_000);
    assert!(lateness.histogram.percentile(99.0) < Duration::from_millis(1));
    assert_eq!(lateness.main_cause(), None);
    let progress = player.progress(Instant::now());
    assert_eq!((progress.part(), progress.packets), (Some(1.0), 20_000));
    assert_eq!(
        progress.bytes_total,
        Some(fs::metadata(&file.0).unwrap().len())
    );
    assert_eq!(progress.captured, Duration::from_nanos(times[19_999]));
}

#[test]
fn faster_slower_and_as_fast_as_possible() {
    let file = TempFile::new(&recording([(0, 1), (10 * MS, 2), (40 * MS, 3)]));
    for (schedule, times) in [
        (speed(10.0), [0, MS, 4 * MS]),
        (speed(0.5), [0, 20 * MS, 80 * MS]),
        (
            Schedule {
                speed: Speed::Max,
                ..Schedule::default()
            },
            [0, 0, 0],
        ),
    ] {
        let seen = run(&mut play(&[&file], schedule));
        assert_eq!(
            seen,
            [1, 2, 3].map(|i| Seen::Packet(times[usize::from(i) - 1], i))
        );
    }
}

#[test]
fn idle_gaps_are_cut() {
    let file = TempFile::new(&recording([
        (0, 1),
        (5 * MS, 2),
        (3_605 * MS, 3),
        (3_606 * MS, 4),
    ]));
    let schedule = Schedule {
        idle_cut: Some(Duration::from_millis(100)),
        ..speed(2.0)
    };
    let mut player = play(&[&file], schedule);
    let times = [0, 5 * MS / 2, 105 * MS / 2, 106 * MS / 2];
    assert_eq!(
        run(&mut player),
        [1, 2, 3, 4].map(|i| Seen::Packet(times[usize::from(i) - 1], i))
    );
    assert_eq!(player.counters().idle_cut_ns, 3_500 * MS);
    assert_eq!(
        player.progress(Instant::now()).captured,
        Duration::from_millis(3606)
    );
}

#[test]
fn rounds_begin_when_they_are_asked_for() {
    let file = TempFile::new(&recording([(0, 1), (5 * MS, 2)]));
    let schedule = Schedule {
        rounds: 3,
        ..Schedule::default()
    };
    let mut player = play(&[&file], schedule);
    let one = || [Seen::Packet(0, 1), Seen::Packet(5 * MS, 2)];
    let mut expected: Vec<Seen> = Vec::new();
    for round in 0..3 {
        expected.extend((round > 0).then_some(Seen::EndOfRound));
        expected.extend(one());
    }
    assert_eq!(run(&mut player), expected);
    assert_eq!(player.counters().files.frames, 6);
    assert_eq!(player.progress(Instant::now()).round, 3);
}

#[test]
fn a_part_of_the_files_is_played() {
    let packets = [(0, 1), (1_000 * MS, 2), (2_000 * MS, 3), (3_000 * MS, 4)];
    let file = TempFile::new(&recording(packets));
    let since = |ms| Some(TimePoint::SinceBegin(Duration::from_millis(ms)));
    let at = |ns| Some(TimePoint::Absolute(EPOCH_NS + ns));
    for (from, until) in [(since(500), since(2_000)), (at(1_000 * MS), at(2_500 * MS))] {
        let schedule = Schedule {
            from,
            until,
            ..Schedule::default()
        };
        let mut player = play(&[&file], schedule);
        assert_eq!(
            run(&mut player),
            [Seen::Packet(0, 2), Seen::Packet(1_000 * MS, 3)]
        );
        assert_eq!(player.counters().before_window, 1);
    }
    let late = Schedule {
        from: since(10_000),
        ..Schedule::default()
    };
    assert_eq!(run(&mut play(&[&file], late)), []);
}

#[test]
fn progress_is_that_of_the_part_that_is_played() {
    let file = TempFile::new(&recording((0..1000).map(|i| (u64::from(i) * 100 * MS, i))));
    let since = |s| Some(TimePoint::SinceBegin(Duration::from_secs(s)));
    let until = Some(TimePoint::Absolute(EPOCH_NS + 50_000 * MS));
    let cases = [
        // From the middle of the files to their end.
        (since(50), None, Duration::from_millis(49_900)),
        // Ten seconds of them, of 100.
        (since(40), since(50), Duration::from_secs(10)),
        (since(40), until, Duration::from_secs(10)),
    ];
    for (from, until, whole) in cases {
        let schedule = Schedule {
            from,
            until,
            ..Schedule::default()
        };
        let mut player = play(&[&file], schedule);
        let mut now = Instant::now();
        let begin = loop {
            match player.next(now) {
                Step::Packet(_) => break now,
                Step::Reading => wait(&player),
                other => panic!("{other:?}"),
            }
            now += Duration::from_secs(100);
        };
        let progress = player.progress(now);
        assert_eq!(progress.captured, Duration::ZERO);
        assert!(progress.part().is_some_and(|part| part < 0.01));
        while now < begin + whole / 2 {
            match player.next(now) {
                Step::Packet(_) => {}
                Step::NotBefore(at) => now = at,
                Step::Reading => wait(&player),
                other => panic!("{other:?}"),
            }
        }
        let progress = player.progress(now);
        let near = |span: Duration, expected: Duration| span.abs_diff(expected) < whole / 8;
        assert!(near(progress.captured, whole / 2), "{progress:?}");
        let left = progress.time_left().unwrap();
        assert!(near(left, whole / 2), "{left:?} {progress:?}");
        run(&mut player);
        let progress = player.progress(now);
        assert_eq!((progress.part(), progress.captured), (Some(1.0), whole));
    }
}

#[test]
fn files_are_merged_and_a_broken_one_is_told_where_it_breaks() {
    let first = TempFile::new(&recording([(0, 1), (20 * MS, 3), (40 * MS, 5)]));
    let mut broken = recording([(10 * MS, 2), (30 * MS, 4), (50 * MS, 6)]);
    broken.pop();
    let second = TempFile::new(&broken);
    let seen = run(&mut play(&[&first, &second], Schedule::default()));
    let packets = seen
        .iter()
        .filter(|seen| matches!(seen, Seen::Packet(..)))
        .count();
    assert_eq!((packets, seen.len()), (5, 6));
    let Seen::Failed(text) = &seen[4] else {
        panic!("{seen:?}")
    };
    assert!(
        text.contains("is broken at byte") && text.contains("ends inside"),
        "{text}"
    );
    assert_eq!(seen[5], Seen::Packet(40 * MS, 5));
}

#[test]
fn what_is_no_ip_or_not_chosen_is_counted() {
    let mut bytes = recording([(0, 1), (MS, 2)]);
    let encoder = PcapngEncoder::new("", Vec::new());
    encoder.packet(1, EPOCH_NS + 2 * MS, b"radio", 5, &mut bytes);
    let file = TempFile::new(&bytes);
    let filter = CaptureFilter::compile("src port 1002").unwrap();
    let choice = Choice {
        filter: Some(filter),
        share: None,
    };
    let mut player = play_chosen(&[&file], Schedule::default(), choice);
    assert_eq!(run(&mut player), [Seen::Packet(0, 2)]);
    let counters = player.counters();
    assert_eq!((counters.filtered_out, counters.unknown_link), (1, 1));
    assert_eq!(counters.first_unknown_link, Some(105));
}

#[test]
fn shards_share_the_packets_and_keep_one_time() {
    let packets: Vec<(u64, u16)> = (0..200).map(|i| (u64::from(i) * 50 * MS, i)).collect();
    let file = TempFile::new(&recording(packets.iter().copied()));
    let origins = [OriginFilter {
        address: None,
        port: 80,
    }];
    let map = ShardMap::new(3, &origins, Directions::ToOrigin);
    let schedule = Schedule {
        idle_cut: Some(Duration::from_millis(10)),
        ..Schedule::default()
    };
    let mut all: Vec<(u64, u16)> = Vec::new();
    for shard in 0..3 {
        let choice = Choice {
            filter: None,
            share: Some((map.clone(), shard)),
        };
        let mut player = play_chosen(&[&file], schedule.clone(), choice);
        let mut now = Instant::now();
        loop {
            let client = match player.next(now) {
                Step::Packet(packet) => client_of(packet),
                Step::End => break,
                Step::NotBefore(at) => {
                    now = at;
                    continue;
                }
                Step::Reading => {
                    wait(&player);
                    continue;
                }
                other => panic!("{other:?}"),
            };
            let at = now.duration_since(player.begin.unwrap());
            all.push((at.as_nanos() as u64, client));
        }
    }
    all.sort_unstable();
    let expected: Vec<_> = (0..200).map(|i| (u64::from(i) * 10 * MS, i)).collect();
    assert_eq!(all, expected);
}

#[test]
fn a_hold_makes_it_late_and_it_catches_up() {
    let file = TempFile::new(&recording((0..100).map(|i| (u64::from(i) * 10 * MS, i))));
    let mut player = play(&[&file], Schedule::default());
    let begin = Instant::now();
    ready(&mut player, begin);
    assert_eq!(player.behind(begin), Duration::ZERO);
    // For half a second the engine takes nothing.
    player.hold(begin + Duration::from_millis(5));
    player.hold(begin + Duration::from_millis(300));
    let now = begin + Duration::from_millis(505);
    assert_eq!(player.behind(now), Duration::from_millis(495));
    let mut at_once = 0;
    let next = loop {
        match player.next(now) {
            Step::Packet(_) => at_once += 1,
            Step::NotBefore(at) => break at,
            other => panic!("{other:?}"),
        }
    };
    // The first was handed out while it got ready.
    assert_eq!((at_once, next), (50, begin + Duration::from_millis(510)));
    let lateness = player.lateness();
    assert_eq!(lateness.late(Cause::Target), 50);
    assert_eq!(lateness.main_cause(), Some(Cause::Target));
    assert_eq!(lateness.waited(Cause::Target), Duration::from_millis(500));
    assert_eq!(lateness.histogram.max(), Duration::from_millis(495));
    // Asked late without a hold.
    let now = begin + Duration::from_millis(612);
    while matches!(player.next(now), Step::Packet(_)) {}
    assert_eq!(player.lateness().late(Cause::Tool), 11);
}

#[test]
fn a_pause_keeps_or_moves_the_schedule() {
    for (how, behind_ms) in [(Resume::CatchUp, 990), (Resume::GoOn, 0)] {
        let file = TempFile::new(&recording((0..100).map(|i| (u64::from(i) * 10 * MS, i))));
        let mut player = play(&[&file], Schedule::default());
        let begin = Instant::now();
        ready(&mut player, begin);
        player.pause(begin);
        let now = begin + Duration::from_secs(1);
        assert!(matches!(player.next(now), Step::Paused));
        player.resume(now, how);
        assert_eq!(
            player.behind(now),
            Duration::from_millis(behind_ms),
            "{how:?}"
        );
        match how {
            Resume::CatchUp => {
                while matches!(player.next(now), Step::Packet(_)) {}
                assert_eq!(player.lateness().late(Cause::Pause), 99);
            }
            Resume::GoOn => {
                let next = now + Duration::from_millis(10);
                assert!(matches!(player.next(now), Step::NotBefore(at) if at == next));
            }
        }
        assert_eq!(
            player.lateness().waited(Cause::Pause),
            Duration::from_secs(1)
        );
    }
}

#[test]
fn a_pipe_is_played_as_it_comes() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let bytes = recording([(0, 1), (0, 2), (0, 3)]);
    let packet_len = (bytes.len() - recording([]).len()) / 3;
    // All but the last packet and a part of the second last.
    let (now_there, later) = bytes.split_at(bytes.len() - packet_len - 7);
    writer.write_all(now_there).unwrap();
    let inputs = [Input::Path(path.into())];
    let twice = Schedule {
        rounds: 2,
        ..Schedule::default()
    };
    let error = Playlist::open(&inputs, twice, Choice::default()).unwrap_err();
    assert!(matches!(error, PlayerError::StreamTwice(_)), "{error}");
    let playlist = Playlist::open(&inputs, Schedule::default(), Choice::default()).unwrap();
    drop(reader);
    let mut player = playlist.play().unwrap();
    let now = Instant::now();
    let mut clients = Vec::new();
    for part in [&[][..], later] {
        writer.write_all(part).unwrap();
        let expected = if part.is_empty() { 1 } else { 3 };
        while clients.len() < expected {
            match player.next(now) {
                Step::Packet(packet) => clients.push(client_of(packet)),
                Step::Reading => wait(&player),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(clients, [1, 2, 3]);
    assert_eq!(player.progress(now).part(), None);
    drop(writer);
    assert_eq!(run(&mut player), []);
}

#[test]
fn the_reader_is_never_far_ahead() {
    const COUNT: u16 = 50_000;
    let file = TempFile::new(&recording((0..COUNT).map(|i| (u64::from(i) * MS, i))));
    let mut player = play(&[&file], Schedule::default());
    let mut now = Instant::now();
    let mut played = 0;
    while played < u64::from(COUNT) {
        match player.next(now) {
            Step::Packet(_) => {
                played += 1;
                let ahead = player.counters().packets - played;
                assert!(ahead <= 2 * queue::BATCH_PACKETS as u64, "{ahead}");
            }
            Step::NotBefore(at) => now = at,
            Step::Reading => wait(&player),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_can_not_be_played_is_refused() {
    let empty = TempFile::new(b"");
    let classic = TempFile::new(&[
        0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 105, 0, 0, 0,
    ]);
    for (file, expected) in [(&empty, "it is empty"), (&classic, "link type 105")] {
        let refused = Playlist::open(&[file.input()], Schedule::default(), Choice::default());
        let error = refused.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.hint().is_empty());
    }
    let missing = Playlist::open(
        &[Input::Path("/no/such/file".into())],
        Schedule::default(),
        Choice::default(),
    );
    assert!(missing.unwrap_err().to_string().contains("/no/such/file"));
}
