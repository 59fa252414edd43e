//! Replies of sessions never reach a client; others' always do.

use std::time::Duration;

use intercept_lib::tunnel::{DEFAULT_PORT, Features, Hello, Security};
use tcpcopy_lab::{PacketWatch, wait_until};

use crate::bench::{Bench, SOON, tunnel_at};
use crate::peer::{Peer, hello, key};

/// Long enough for a leak to show: several retransmissions of the target.
const A_WHILE: Duration = Duration::from_secs(2);

/// Watches the client for packets of the target.
fn watch(bench: &Bench) -> PacketWatch {
    PacketWatch::from_sender(bench.lab.host("client"), bench.target()).unwrap()
}

fn nothing_seen(watch: &mut PacketWatch) {
    let packets = watch.packets().unwrap();
    assert!(packets.is_empty(), "{packets:#?}");
}

#[test]
fn replies_of_a_session_go_to_its_link_and_nowhere_else() {
    let Some(bench) = Bench::new() else { return };
    let mut intercept = bench.intercept("--port 80 --queues 2");
    for server in [bench.nginx.ipv4(), bench.nginx.ipv6()] {
        let mut client = bench.keep_alive(server);
        let (mut owner, mut other) = (Peer::local(&bench, 1), Peer::local(&bench, 2));
        owner.register(70, client.tuple());
        other.register_in_vain(80, client.tuple());
        let mut watch = watch(&bench);
        client.request("/");
        let reply = owner.reply_with_payload(70);
        assert!((20..=60).contains(&reply.tcp.len()) && reply.payload.is_empty());
        assert_ne!(reply.ack(), 0);
        assert!(bench.serves(server), "others are served all the while");
        owner.idle(A_WHILE);
        other.idle(Duration::from_millis(100));
        assert!(other.replies.is_empty());
        assert!(owner.replies.len() > 1, "the target has sent it again");
        nothing_seen(&mut watch);
    }
    assert!(intercept.terminate(SOON).unwrap().status.success());
}

#[test]
fn payload_comes_whole_to_those_who_ask_for_it() {
    let Some(bench) = Bench::new() else { return };
    let _intercept = bench.intercept("--port 80");
    let address = tunnel_at(std::net::Ipv4Addr::LOCALHOST);
    let asking = Hello {
        features: Features::PAYLOAD,
        ..hello(1)
    };
    let mut peer = Peer::dial(&bench, "target", address, Security::LoopbackOnly, asking);
    peer.wait("the link", |peer| peer.up == Some(Features::PAYLOAD));
    let mut client = bench.keep_alive(bench.nginx.ipv4());
    peer.register(7, client.tuple());
    client.request("/");
    let reply = peer.reply_with_payload(7);
    assert_eq!(reply.payload.len(), reply.payload_len as usize);
    assert!(reply.payload.starts_with(b"HTTP/1.1 200 OK"), "{reply:?}");
    assert!(
        reply.payload.ends_with(b"hello from the target\n"),
        "{reply:?}"
    );

    let mut client = bench.keep_alive(bench.nginx.ipv6());
    peer.register(8, client.tuple());
    client.request("/size/1000000");
    let first = peer.reply_with_payload(8);
    // The target's first flight, in super-segments, as far as it goes without being acknowledged.
    let mut next = first.seq();
    for reply in peer.replies.iter().filter(|reply| reply.session == 8) {
        assert_eq!(reply.payload.len(), reply.payload_len as usize);
        if reply.seq() == next {
            next = next.wrapping_add(reply.payload_len);
        }
    }
    let flight = next.wrapping_sub(first.seq());
    assert!(flight > 5_000, "{flight} bytes");
}

#[test]
fn addresses_of_the_passlist_are_let_alone() {
    let Some(bench) = Bench::new() else { return };
    let client = bench.lab.host("client").ipv4();
    let _intercept = bench.intercept(&format!("--port 80 -x {client}"));
    let mut connection = bench.keep_alive(bench.nginx.ipv4());
    let mut peer = Peer::local(&bench, 1);
    peer.register(1, connection.tuple());
    connection.request("/");
    connection.answer();
    peer.idle(Duration::from_millis(200));
    assert!(peer.replies.is_empty());
}

#[test]
fn a_dead_link_has_its_connections_reset_and_a_returning_one_keeps_them() {
    let Some(bench) = Bench::new() else {
        return;
    };
    let mut intercept = bench.intercept("--port 80");
    for server in [bench.nginx.ipv4(), bench.nginx.ipv6()] {
        let (mut kept, mut lost) = (bench.keep_alive(server), bench.keep_alive(server));
        let mut peer = Peer::local(&bench, 1);
        for (session, connection) in [(1, &mut kept), (2, &mut lost)] {
            peer.register(session, connection.tuple());
            connection.request("/");
            peer.reply_with_payload(session);
        }
        let mut watch = watch(&bench);
        drop(peer);
        let mut back = Peer::local(&bench, 1);
        back.register(1, kept.tuple());
        assert!(bench.target_has(&kept) && bench.target_has(&lost));
        wait_until("the reset", SOON, || {
            back.idle(Duration::from_millis(100));
            !bench.target_has(&lost)
        })
        .unwrap();
        assert!(bench.target_has(&kept));
        back.reply_with_payload(1);
        drop(back);
        wait_until("the other reset", SOON, || !bench.target_has(&kept)).unwrap();
        nothing_seen(&mut watch);
    }
    assert!(intercept.terminate(SOON).unwrap().status.success());
}

#[test]
fn a_killed_intercept_leaks_nothing_before_or_after_its_return() {
    let Some(bench) = Bench::new() else {
        return;
    };
    let mut first = bench.intercept("--port 80");
    let (mut wanted, mut unwanted) = (
        bench.keep_alive(bench.nginx.ipv4()),
        bench.keep_alive(bench.nginx.ipv6()),
    );
    let mut peer = Peer::local(&bench, 1);
    peer.register(1, wanted.tuple());
    peer.register(2, unwanted.tuple());
    let mut watch = watch(&bench);
    first.kill().unwrap();
    wanted.request("/");
    unwanted.request("/");
    std::thread::sleep(A_WHILE);
    let mut second = bench.intercept("--port 80");
    assert!(bench.serves(bench.nginx.ipv4()) && bench.serves(bench.nginx.ipv6()));
    let mut back = Peer::local(&bench, 1);
    back.register(3, wanted.tuple());
    back.reply_with_payload(3);
    wait_until("the reset of what nobody wanted back", SOON, || {
        back.idle(Duration::from_millis(100));
        !bench.target_has(&unwanted)
    })
    .unwrap();
    assert!(bench.target_has(&wanted));
    nothing_seen(&mut watch);

    let output = second.terminate(SOON).unwrap();
    assert!(output.status.success());
    assert!(
        !bench.target_has(&wanted),
        "at the end, sessions are reset first: {}",
        output.stderr
    );
    assert!(bench.rules().is_empty() && bench.serves(bench.nginx.ipv4()));
    std::thread::sleep(A_WHILE);
    nothing_seen(&mut watch);
}

#[test]
fn an_assistant_reports_and_resets_over_the_network() {
    let Some(bench) = Bench::new() else {
        return;
    };
    let path = bench.lab.write("key", key(1).to_hex()).unwrap();
    bench
        .target()
        .command("chmod")
        .args(["600", &path])
        .run()
        .unwrap();
    let mut clients = [
        bench.keep_alive(bench.nginx.ipv4()),
        bench.keep_alive(bench.nginx.ipv6()),
    ];
    bench.lab.route_clients_via_assistant().unwrap();
    let device = bench
        .lab
        .host("assistant")
        .command("ip")
        .args(["-br", "-4", "address"])
        .run();
    let device = device.unwrap().stdout;
    let device = device.lines().find(|line| line.contains("10.55.")).unwrap();
    let device = device.split(['@', ' ']).next().unwrap();
    let arguments = format!("-i {device} --port 80 --key-file {path}");
    let _intercept = bench.intercept_on("assistant", &arguments);
    let address = tunnel_at(bench.lab.host("assistant").ipv4());
    assert_eq!(address.port(), DEFAULT_PORT);
    let mut peer = Peer::dial(&bench, "origin", address, Security::Key(key(1)), hello(1));
    peer.wait("the link", |peer| peer.up.is_some());
    let mut watch = watch(&bench);
    for (session, client) in (1..).zip(&mut clients) {
        peer.register(session, client.tuple());
        client.request("/");
        peer.reply_with_payload(session);
    }
    drop(peer);
    for client in &clients {
        wait_until("the reset", SOON, || !bench.target_has(client)).unwrap();
    }
    nothing_seen(&mut watch);
}

#[test]
fn no_session_is_confirmed_while_the_journal_cannot_be_written() {
    let Some(bench) = Bench::new() else { return };
    // Without the signal, a write beyond the limit fails as on a full disk.
    let script = format!(
        "trap '' XFSZ; exec {} --port 80",
        env!("CARGO_BIN_EXE_intercept")
    );
    let script = ["-c", &script];
    let mut intercept = bench.target().command("sh").args(script).spawn().unwrap();
    wait_until("intercept to be ready", SOON, || {
        intercept.stderr().contains("ready")
    })
    .unwrap();
    let pid = intercept.pid().unwrap().to_string();
    let limit_files = |limit: &str| {
        // From outside: the process number is not the one it has in the lab.
        let mut prlimit = std::process::Command::new("prlimit");
        let status = prlimit.args(["--pid", &pid, limit]).status().unwrap();
        assert!(status.success(), "{status}");
    };
    let mut client = bench.keep_alive(bench.nginx.ipv4());
    let mut peer = Peer::local(&bench, 1);
    // Less than a record.
    limit_files("--fsize=16:");
    peer.register_in_vain(1, client.tuple());
    limit_files("--fsize=unlimited:");
    peer.register(2, client.tuple());
    client.request("/");
    peer.reply_with_payload(2);
    assert!(intercept.terminate(SOON).unwrap().status.success());
}
