//! Peers of all kinds: each costs its own connection and little of the log.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use intercept_lib::tunnel::{ChannelError, DownReason, RefuseCode, SILENCE, Security};
use tcpcopy_lab::wait_until;

use crate::bench::{Bench, SOON, tunnel_at};
use crate::peer::{Peer, hello, key};

/// Lines of the log that are warnings or errors.
fn complaints(log: &str) -> Vec<&str> {
    log.lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        .collect()
}

#[test]
fn wrong_peers_cost_their_connection_and_one_line_of_each_kind() {
    let Some(bench) = Bench::new() else { return };
    let path = bench.lab.write("key", key(1).to_hex()).unwrap();
    bench
        .target()
        .command("chmod")
        .args(["600", &path])
        .run()
        .unwrap();
    let mut intercept = bench.intercept(&format!("--port 80 --key-file {path}"));
    let address = tunnel_at(bench.target().ipv4());
    let dial =
        |security, instance| Peer::dial(&bench, "origin", address, security, hello(instance));
    let mut good = dial(Security::Key(key(1)), 1);
    good.wait("the link", |peer| peer.up.is_some());

    for _ in 0..3 {
        let mut wrong_key = dial(Security::Key(key(2)), 2);
        wrong_key.wait("the refusal", |peer| peer.down.is_some());
        assert_eq!(wrong_key.down, Some(DownReason::KeyRejected));
        let mut no_key = dial(Security::Insecure, 3);
        no_key.wait("the refusal", |peer| peer.down.is_some());
        assert_eq!(
            no_key.down,
            Some(DownReason::Channel(ChannelError::KeyMissingHere))
        );
        for garbage in [
            b"GET / HTTP/1.1\r\nHost: target\r\n\r\n".as_slice(),
            b"TcIn\x00\x07\x00\x01",
            b"TcIn\x00\x01\x00\x01\x00\x30AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            &[0xff; 100_000],
        ] {
            let mut stream = bench.connect("origin", address);
            // The server may close before all is written.
            let _ = stream.write_all(garbage);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(answer.len() <= 8, "a stranger got {answer:?}");
        }
    }
    good.idle(Duration::from_millis(200));
    assert_eq!(good.down, None);
    assert!(bench.serves(bench.nginx.ipv4()));
    let log = intercept.terminate(SOON).unwrap().stderr;
    let complaints = complaints(&log);
    assert_eq!(complaints.len(), 4, "{complaints:#?}");
    good.wait("the end", |peer| peer.down.is_some());
    assert!(matches!(
        good.down,
        Some(DownReason::Refused {
            code: RefuseCode::ShuttingDown,
            ..
        })
    ));
}

#[test]
fn a_flood_of_half_open_connections_keeps_nobody_out() {
    let Some(bench) = Bench::new() else { return };
    let mut intercept = bench.intercept("--port 80");
    let address = tunnel_at(std::net::Ipv4Addr::LOCALHOST);
    let mut good = Peer::local(&bench, 1);
    let mut flood = bench.connect_many("target", address, 200);
    for stream in flood.iter_mut().step_by(2) {
        // The oldest are closed already.
        let _ = stream.write_all(b"TcIn\x00");
    }
    let mut late = Peer::local(&bench, 2);
    // Closed by the server: the oldest at once, the others when their time is up.
    let start = Instant::now();
    for mut stream in flood {
        assert_eq!(stream.read(&mut [0; 64]).unwrap_or(0), 0);
    }
    assert!(start.elapsed() < SILENCE);
    for peer in [&mut good, &mut late] {
        peer.idle(Duration::from_millis(200));
    }
    assert_eq!((&good.down, &late.down), (&None, &None));
    assert!(
        complaints(&intercept.stderr()).len() <= 3,
        "{}",
        intercept.stderr()
    );
    let usage = intercept.usage().unwrap();
    assert!(usage.resident_bytes < 64 << 20, "{usage:?}");
}

#[test]
fn a_peer_that_never_reads_delays_nobody() {
    let Some(bench) = Bench::new() else { return };
    let mut intercept = bench.intercept("--port 80");
    let address = tunnel_at(std::net::Ipv4Addr::LOCALHOST);
    let mut deaf = bench.connect("target", address);
    let name = [0; 14];
    deaf.write_all(b"TcIn\x00\x01\x00\x00\x00\x11\x01\x00\x0e")
        .unwrap();
    deaf.write_all(&name).unwrap();
    let pings = [b"\xff\xfc".as_slice(), &b"\x04\x00\x00".repeat(0xfffc / 3)].concat();
    let end = Instant::now() + Duration::from_secs(3);
    deaf.set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    while Instant::now() < end && deaf.write_all(&pings).is_ok() {}

    let mut client = bench.keep_alive(bench.nginx.ipv4());
    let mut good = Peer::local(&bench, 2);
    good.register(7, client.tuple());
    client.request("/");
    good.reply_with_payload(7);
    let usage = intercept.usage().unwrap();
    assert!(usage.resident_bytes < 64 << 20, "{usage:?}");
    assert!(bench.serves(bench.nginx.ipv4()));
}

#[test]
fn a_flood_without_a_hello_ends_in_time_and_delays_nobody() {
    let Some(bench) = Bench::new() else { return };
    let mut intercept = bench.intercept("--port 80");
    let address = tunnel_at(std::net::Ipv4Addr::LOCALHOST);
    let pings = [b"\xff\xfc".as_slice(), &b"\x04\x00\x00".repeat(0xfffc / 3)].concat();
    let start = Instant::now();
    let floods: Vec<_> = bench
        .connect_many("target", address, 3)
        .into_iter()
        .map(|mut stream| {
            let pings = pings.clone();
            std::thread::spawn(move || {
                stream.write_all(b"TcIn\x00\x01\x00\x00").unwrap();
                while start.elapsed() < SOON && stream.write_all(&pings).is_ok() {}
                start.elapsed()
            })
        })
        .collect();
    let mut client = bench.keep_alive(bench.nginx.ipv4());
    let mut good = Peer::local(&bench, 2);
    good.register(7, client.tuple());
    client.request("/");
    good.reply_with_payload(7);
    for flood in floods {
        let lasted = flood.join().unwrap();
        assert!(lasted < SILENCE, "{lasted:?}");
    }
    good.idle(Duration::from_millis(200));
    assert_eq!(good.down, None);
    assert!(intercept.terminate(SOON).unwrap().status.success());
}

#[test]
fn clear_text_is_for_the_loopback_unless_insecure_is_asked_for() {
    let Some(bench) = Bench::new() else { return };
    let outside = tunnel_at(bench.target().ipv4());
    let mut intercept = bench.intercept(&format!("--port 80 -b {}", bench.target().ipv4()));
    let mut peer = Peer::dial(&bench, "origin", outside, Security::Insecure, hello(1));
    peer.wait("the refusal", |peer| peer.down.is_some());
    let Some(DownReason::Refused {
        code: RefuseCode::Insecure,
        text,
    }) = &peer.down
    else {
        panic!("{:?}", peer.down);
    };
    assert!(text.contains("--key-file"));
    intercept.terminate(SOON).unwrap();

    let mut intercept = bench.intercept("--port 80 --insecure");
    for address in [outside, tunnel_at(bench.target().ipv6())] {
        let mut peer = Peer::dial(&bench, "origin", address, Security::Insecure, hello(1));
        peer.wait("the link", |peer| peer.up.is_some());
    }
    wait_until("the links to be logged as down", SOON, || {
        intercept.stderr().matches("link down").count() == 2
    })
    .unwrap();
    assert!(intercept.terminate(SOON).unwrap().status.success());
}
