//! Capture files of real traffic are replayed whole and in time, by a user without any privilege.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::time::Duration;

use tcpcopy_e2e::{Recording, Replayed, SendTimes, assert_unprivileged, deviations};
use tcpcopy_e2e::{load_time, scaled, tell};
use tcpcopy_lab::{Wrk, wait_until};

const TRAFFIC: &str = env!("CARGO_BIN_EXE_lab-traffic");
const TIMEOUT: Duration = Duration::from_secs(60);

/// Half of the times of sending so much apart, they would follow no clock at all; the figures
/// themselves are printed.
const NO_CLOCK: Duration = Duration::from_millis(125);

/// So many replays at most show that a file is replayed in time: a busy machine may stretch one.
const REPLAYS: u32 = 3;

/// Any server: a recording has its own.
fn load(connections: u32, duration: Duration) -> Wrk {
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 80));
    Wrk::keep_alive(anywhere, connections, duration)
}

/// A short recording for what does not depend on its size.
fn short_recording() -> Option<Recording> {
    Recording::of(
        &[load(16, Duration::from_secs(2)).at_rate(500)],
        Duration::ZERO,
    )
}

fn paths(requests: &SendTimes) -> Vec<String> {
    requests.keys().cloned().collect()
}

/// Asserts that the target was asked for every request of a file, `rounds` times.
fn assert_whole(replayed: &Replayed, requests: &SendTimes, rounds: usize) {
    let mut expected: Vec<_> = (0..rounds).flat_map(|_| paths(requests)).collect();
    expected.sort_unstable();
    let (report, count) = (&replayed.report, expected.len());
    assert_eq!(replayed.paths.len(), count, "{report}");
    assert!(
        replayed.paths == expected,
        "as many requests, but not the same"
    );
    assert_eq!(
        report.count("requests", "captured"),
        count as u64,
        "{report}"
    );
}

fn span(times: &SendTimes) -> Duration {
    let (first, last) = (times.values().min(), times.values().max());
    *last.unwrap() - *first.unwrap()
}

#[test]
fn files_of_both_programs_are_replayed_at_all_speeds() {
    // 100,000 requests in full.
    let duration = scaled(load_time(), Duration::from_secs(52));
    let Some(recording) = Recording::of(&[load(64, duration).at_rate(2_100)], Duration::ZERO)
    else {
        return;
    };
    for file in [Recording::TCPDUMP, Recording::TCPCOPY] {
        let captured = recording.trace(file).requests(80);
        let least = scaled(3_000, 100_000);
        assert!(captured.len() >= least, "{} is no load", captured.len());
        for speed in ["1", "10", "max"] {
            let mut in_time = (0..REPLAYS).map(|_| {
                let (replayed, arrived) = recording.replay_watched(file, &["-a", speed]);
                assert_whole(&replayed, &captured, 1);
                is_in_time(file, speed, &captured, &arrived)
            });
            assert!(in_time.any(|it| it), "{file} at -a {speed}");
        }
    }
}

/// Prints how long a file took, and tells whether that is what `speed` asks for.
fn is_in_time(file: &str, speed: &str, captured: &SendTimes, arrived: &SendTimes) -> bool {
    let spans = [captured, arrived].map(span);
    let [was, became] = spans.map(|span| span.as_secs_f64());
    tell(&format!(
        "{file}: {} requests of {was:.1} s replayed at -a {speed} in {became:.1} s",
        captured.len()
    ));
    match speed {
        "1" => follows_the_clock(captured, arrived),
        _ => spans[1] < spans[0] / 2,
    }
}

/// Prints how far the times of sending are from the captured ones, and tells whether they follow
/// them at all: how closely is the machine's business too.
fn follows_the_clock(captured: &SendTimes, arrived: &SendTimes) -> bool {
    let deviations = deviations(captured, arrived);
    let percentile = |percent: usize| deviations[deviations.len() * percent / 100];
    tell(&format!(
        "send times differ by {:?} (median), {:?} (p99), {:?} (most)",
        percentile(50),
        percentile(99),
        deviations.last().unwrap(),
    ));
    percentile(50) < NO_CLOCK
}

#[test]
fn the_same_file_twice_gives_the_same_bytes_on_every_connection() {
    let loads = [
        load(16, load_time()).at_rate(500),
        Wrk::short(
            SocketAddr::from(([0, 0, 0, 0], 80)),
            8,
            Duration::from_secs(1),
        ),
    ];
    let Some(recording) = Recording::of(&loads, Duration::ZERO) else {
        return;
    };
    let file = Recording::TCPCOPY;
    let digest = |stream: Vec<u8>| {
        let hash: String = Sha256::digest(&stream)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        format!("{hash} {}", stream.len())
    };
    let mut captured: Vec<_> = recording
        .trace(file)
        .streams(80)
        .into_iter()
        .map(digest)
        .collect();
    captured.sort_unstable();
    assert!(captured.len() > 100, "{} is no load", captured.len());
    for round in ["first", "second"] {
        let journal = format!("{round}-journal");
        let target = recording.lab.host("target");
        let mut server = target
            .command(TRAFFIC)
            .args([
                "record",
                "--port",
                "8080",
                "--journal",
                &recording.lab.path(&journal),
            ])
            .spawn()
            .unwrap();
        server.wait_listening(8080).unwrap();
        let address = SocketAddr::from((target.ipv4(), 8080));
        let report = recording.replay_to(address, file, &["-a", "10"]);
        let arrived = || {
            let text = recording.lab.read(&journal).unwrap();
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        wait_until("all connections to end", TIMEOUT, || {
            arrived().len() >= captured.len()
        })
        .unwrap_or_else(|error| {
            panic!(
                "{error}: {} of {}\n{report}",
                arrived().len(),
                captured.len()
            )
        });
        assert!(
            arrived() == captured,
            "{round}: as many streams, but not the same\n{report}"
        );
    }
}

#[test]
fn a_replay_of_a_file_has_no_privilege() {
    let Some(recording) = short_recording() else {
        return;
    };
    let file = recording.lab.path(Recording::TCPCOPY);
    let mut process = recording.command(&file, &["-a", "0.5"]).spawn().unwrap();
    wait_until("the replay to run", TIMEOUT, || {
        recording.target.request_count().unwrap() > 10
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", process.stderr()));
    assert_unprivileged(&mut process);
    let output = process.wait(TIMEOUT).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
}

#[test]
fn a_torn_file_is_replayed_up_to_the_tear_and_its_offset_told() {
    let Some(recording) = short_recording() else {
        return;
    };
    let whole = recording.trace(Recording::TCPDUMP);
    let torn = whole.packet_count() * 6 / 10;
    let (before, tear) = (whole.part(0..torn), whole.offset(torn));
    // The header of the next packet is there, its data is not.
    let file = [
        before.as_slice(),
        &recording.lab.read_bytes(Recording::TCPDUMP).unwrap()[tear..tear + 20],
    ];
    recording.lab.write("torn.pcap", file.concat()).unwrap();
    recording.lab.write("before.pcap", before).unwrap();
    let expected = recording.trace("before.pcap").requests(80);

    let replayed = recording.replay_broken(&["torn.pcap"], &["-a", "max"]);
    let words = &replayed.output.stderr;
    assert_eq!(replayed.output.status.code(), Some(1), "{words}");
    assert!(
        words.contains("torn.pcap") && words.contains(&tear.to_string()),
        "{words}"
    );
    assert_whole(&replayed, &expected, 1);
    replayed.report.assert_nothing_lost();
}

#[test]
fn compressed_files_standard_input_and_parts_in_any_order_are_the_same() {
    let Some(recording) = short_recording() else {
        return;
    };
    let lab = &recording.lab;
    let whole = recording.trace(Recording::TCPDUMP);
    let requests = whole.requests(80);
    let half = whole.packet_count() / 2;
    lab.write("first.pcap", whole.part(0..half)).unwrap();
    lab.write("second.pcap", whole.part(half..whole.packet_count()))
        .unwrap();
    let shell = |script: &str| {
        let script = format!("cd {} && {script}", lab.path(""));
        lab.host("bystander")
            .command("sh")
            .args(["-c", &script])
            .run()
            .unwrap();
    };
    shell("gzip -k tcpdump.pcap && zstd -q tcpdump.pcap && gzip -k tcpcopy.pcapng");
    for file in ["tcpdump.pcap.gz", "tcpdump.pcap.zst", "tcpcopy.pcapng.gz"] {
        let replayed = recording.replay(&[file], &["-a", "max"]);
        assert_whole(&replayed, &requests, 1);
    }
    for file in [Recording::TCPDUMP, Recording::TCPCOPY, "tcpdump.pcap.gz"] {
        let producer = format!("cat {}", lab.path(file));
        let replayed = recording.replay_from_pipe(&producer, &["-a", "max"]);
        assert_whole(&replayed, &requests, 1);
    }
    for speed in ["1", "max"] {
        let replayed = recording.replay(&["second.pcap", "first.pcap"], &["-a", speed]);
        assert_whole(&replayed, &requests, 1);
    }
}

#[test]
fn rounds_idle_gaps_and_a_part_of_the_time() {
    let pause = Duration::from_secs(6);
    let short = load(16, Duration::from_secs(1)).at_rate(500);
    let Some(recording) = Recording::of(&[short.clone(), short], pause) else {
        return;
    };
    let file = Recording::TCPCOPY;
    let trace = recording.trace(file);
    let requests = trace.requests(80);

    let replayed = recording.replay(&[file], &["-a", "max", "-T", "3"]);
    assert_whole(&replayed, &requests, 3);

    let (replayed, arrived) = recording.replay_watched(file, &["-I", "100"]);
    assert_whole(&replayed, &requests, 1);
    let (before, after) = (span(&requests), span(&arrived));
    assert!(before > pause, "{before:?}");
    assert!(after < before - pause / 2, "{before:?} became {after:?}");

    // The pause parts the two loads; each has connections of its own.
    let from_start = |packet: usize| trace.time(packet) - trace.time(0);
    let middle = from_start(0) + before / 2;
    let middle_s = format!("{:.3}", middle.as_secs_f64());
    let is_early = |sent: &Duration| *sent - trace.time(0) < middle;
    let (early, late): (SendTimes, SendTimes) = requests
        .clone()
        .into_iter()
        .partition(|(_, sent)| is_early(sent));
    let replayed = recording.replay(&[file], &["-a", "max", "--until", &middle_s]);
    assert_whole(&replayed, &early, 1);
    let replayed = recording.replay(&[file], &["-a", "max", "--from", &middle_s]);
    assert_whole(&replayed, &late, 1);
}
