//! Kernel connections against real listeners on loopback.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use common::client::Client;
use rustix::io::ioctl_fionread;
use rustix::net::{AddressFamily, SendFlags, SocketType, bind, getsockname, socket, sockopt};
use tcpcopy_net::NetError;
use tcpcopy_net::sockets::{SocketConfig, SocketFailure};

const TOKEN: u64 = 7;

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// A client that is connected, and the target's end.
fn pair() -> (Client, TcpStream) {
    let mut client = Client::new();
    let server = client.pair(TOKEN, &listener());
    (client, server)
}

/// Bytes that differ from place to place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn read_exactly(server: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    server.read_exact(&mut bytes).unwrap();
    bytes
}

fn reset_by(server: TcpStream) {
    sockopt::set_socket_linger(&server, Some(Duration::ZERO)).unwrap();
}

#[test]
fn a_request_an_answer_and_an_end() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).unwrap();
        let mut client = Client::new();
        let mut server = client.pair(TOKEN, &listener);
        assert_eq!(client.sockets.send(TOKEN, b"question"), 8);
        assert_eq!(read_exactly(&mut server, 8), b"question");
        server.write_all(b"answer").unwrap();
        client.until(TOKEN, |account| account.received == b"answer");
        assert!(client.of(TOKEN).is_drained);
        assert_eq!(client.of(TOKEN).unacknowledged, Some(0));
        client.sockets.finish(TOKEN);
        assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
        drop(server);
        client.until(TOKEN, |account| account.ends == 1);
        client.sockets.release(TOKEN);
        assert!(client.sockets.is_empty());
        let story = ["connected", "acknowledged", "received", "finished"];
        assert_eq!(client.of(TOKEN).story, story);
    }
}

#[test]
fn nobody_listens() {
    // Bound and not listening, so that no one else gets the port meanwhile.
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let target = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
    let mut client = Client::new();
    assert_eq!(client.failure_of(TOKEN, target), SocketFailure::Refused);
    assert!(
        client
            .of(TOKEN)
            .story
            .iter()
            .all(|event| *event == "failed")
    );
    assert!(client.sockets.is_empty());
}

#[test]
fn the_target_resets_an_idle_connection() {
    let (mut client, server) = pair();
    reset_by(server);
    client.until(TOKEN, |account| account.failure.is_some());
    assert_eq!(client.of(TOKEN).failure, Some(SocketFailure::Reset));
    assert_eq!(client.of(TOKEN).story, ["connected", "failed"]);
    assert!(client.sockets.is_empty());
    // An owner who has not heard of it yet.
    assert_eq!(client.sockets.send(TOKEN, b"more"), 0);
    client.sockets.finish(TOKEN);
    client.sockets.reset(TOKEN);
    client.sockets.release(TOKEN);
    assert_eq!(client.sockets.next_timeout(), None);
}

#[test]
fn what_came_before_a_reset_is_told() {
    let (mut client, mut server) = pair();
    server.write_all(&pattern(50_000)).unwrap();
    while sent_is_owed(&server) {
        thread::yield_now();
    }
    reset_by(server);
    client.until(TOKEN, |account| account.failure.is_some());
    let account = client.of(TOKEN);
    assert_eq!(account.received, pattern(50_000));
    assert_eq!(account.failure, Some(SocketFailure::Reset));
    assert_eq!(account.ends, 0);
}

/// Whether the server has bytes that the client's kernel has not acknowledged.
fn sent_is_owed(server: &TcpStream) -> bool {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let hex = |address: SocketAddr| format!("0100007F:{:04X}", address.port());
    let ends = format!(
        "{} {}",
        hex(server.local_addr().unwrap()),
        hex(server.peer_addr().unwrap())
    );
    let row = table.lines().find(|line| line.contains(&ends)).unwrap();
    let queue = row.split_whitespace().nth(4).unwrap();
    !queue.starts_with("00000000:")
}

#[test]
fn a_connection_that_was_reset_before_anyone_looked() {
    let listener = listener();
    let mut client = Client::new();
    client.connect_with(TOKEN, listener.local_addr().unwrap(), b"");
    let (server, _) = listener.accept().unwrap();
    reset_by(server);
    client.until(TOKEN, |account| account.failure.is_some());
    assert_eq!(client.of(TOKEN).failure, Some(SocketFailure::Reset));
    assert_eq!(client.of(TOKEN).story, ["connected", "failed"]);
}

#[test]
fn sending_to_a_connection_that_is_gone() {
    let (mut client, server) = pair();
    reset_by(server);
    // The reset is there as soon as the call returns on loopback; nobody has told the owner.
    while client.sockets.send(TOKEN, b"more") > 0 {}
    assert!(client.sockets.next_timeout().is_some(), "it will be told");
    client.until(TOKEN, |account| account.failure.is_some());
    assert_eq!(client.of(TOKEN).failure, Some(SocketFailure::Reset));
    assert_eq!(client.of(TOKEN).ends, 0);
}

#[test]
fn the_target_closes_first_and_still_listens() {
    let (mut client, mut server) = pair();
    server.write_all(b"bye").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    client.until(TOKEN, |account| account.ends == 1);
    assert_eq!(client.of(TOKEN).received, b"bye");
    client.send_all(TOKEN, &pattern(100_000));
    client.sockets.finish(TOKEN);
    let mut bytes = Vec::new();
    server.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, pattern(100_000));
    client.until(TOKEN, |account| account.unacknowledged == Some(0));
    client.sockets.release(TOKEN);
    assert_eq!(client.of(TOKEN).ends, 1, "told once");
}

#[test]
fn the_client_closes_first_and_still_listens() {
    let (mut client, mut server) = pair();
    client.sockets.finish(TOKEN);
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
    let writer = thread::spawn(move || server.write_all(&pattern(3_000_000)).unwrap());
    client.until(TOKEN, |account| account.ends == 1);
    writer.join().unwrap();
    assert_eq!(client.of(TOKEN).received, pattern(3_000_000));
}

#[test]
fn a_target_that_stops_reading_gets_the_rest_later() {
    let (mut client, mut server) = pair();
    let bytes = pattern(20_000_000);
    let mut taken = client.sockets.send(TOKEN, &bytes);
    assert!(taken > 0 && taken < bytes.len(), "{taken}");
    // What the target's window has room for goes there.
    client.until_all(|_| ioctl_fionread(&server).unwrap() >= 1 << 15);
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        server.read_to_end(&mut bytes).unwrap();
        bytes
    });
    while taken < bytes.len() {
        let rooms = client.of(TOKEN).rooms;
        client.until(TOKEN, |account| account.rooms > rooms);
        taken += client.sockets.send(TOKEN, &bytes[taken..]);
    }
    client.sockets.finish(TOKEN);
    assert!(reader.join().unwrap() == bytes, "the same bytes");
    client.until(TOKEN, |account| account.unacknowledged == Some(0));
}

#[test]
fn much_in_both_directions_at_once() {
    const LEN: usize = 16 << 20;
    let (mut client, server) = pair();
    let (mut from, mut to) = (server.try_clone().unwrap(), server);
    let echo = thread::spawn(move || std::io::copy(&mut from, &mut to).unwrap());
    let bytes = pattern(LEN);
    client.limit = 1;
    let (mut taken, mut longest) = (0, 0);
    while client.of(TOKEN).received.len() < LEN {
        if taken < LEN {
            taken += client.sockets.send(TOKEN, &bytes[taken..]);
        }
        let before = client.of(TOKEN).received.len();
        client.service();
        longest = longest.max(client.of(TOKEN).received.len() - before);
    }
    assert!(client.of(TOKEN).received == bytes, "the same bytes");
    assert!(longest <= 4 * 64 * 1024, "{longest} bytes in one turn");
    client.sockets.finish(TOKEN);
    assert_eq!(echo.join().unwrap(), LEN as u64);
}

#[test]
fn every_connection_has_its_turn() {
    let listener = listener();
    let mut client = Client::new();
    client.limit = 1;
    let mut servers: Vec<_> = (0..10).map(|token| client.pair(token, &listener)).collect();
    for server in &mut servers {
        server.write_all(b"news").unwrap();
    }
    // One turn a service, and still everyone is heard.
    client.until_all(|client| (0..10).all(|token| client.of(token).received == b"news"));
}

#[test]
fn the_preamble_comes_first_and_is_not_counted() {
    let listener = listener();
    let mut client = Client::new();
    let target = listener.local_addr().unwrap();
    client.connect_with(TOKEN, target, b"preamble ");
    assert_eq!(client.sockets.send(TOKEN, b"early"), 0, "not connected yet");
    let (mut server, _) = listener.accept().unwrap();
    client.until(TOKEN, |account| account.rooms == 1);
    assert_eq!(client.sockets.send(TOKEN, b"request"), 7);
    assert_eq!(read_exactly(&mut server, 16), b"preamble request");
    client.until(TOKEN, |account| account.unacknowledged == Some(0));
    client.sockets.release(TOKEN);
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_long_preamble_holds_everything_back() {
    let listener = listener();
    let mut client = Client::new();
    let preamble = pattern(20_000_000);
    client.connect_with(TOKEN, listener.local_addr().unwrap(), &preamble);
    let (mut server, _) = listener.accept().unwrap();
    client.until(TOKEN, |account| account.story.contains(&"connected"));
    assert_eq!(client.sockets.send(TOKEN, b"end"), 0);
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        server.read_to_end(&mut bytes).unwrap();
        bytes
    });
    client.until(TOKEN, |account| account.rooms == 1);
    assert_eq!(client.sockets.send(TOKEN, b"end"), 3);
    client.until(TOKEN, |account| account.unacknowledged == Some(0));
    client.sockets.finish(TOKEN);
    let bytes = reader.join().unwrap();
    assert!(bytes == [&preamble[..], b"end"].concat(), "the same bytes");
}

#[test]
fn an_end_before_the_beginning() {
    let listener = listener();
    let mut client = Client::new();
    client.connect_with(TOKEN, listener.local_addr().unwrap(), b"preamble");
    client.sockets.finish(TOKEN);
    let (mut server, _) = listener.accept().unwrap();
    client.until(TOKEN, |account| account.story.contains(&"connected"));
    let mut bytes = Vec::new();
    server.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"preamble");
}

#[test]
fn silence_is_looked_at_until_all_is_acknowledged() {
    let (mut client, _server) = pair();
    assert_eq!(client.sockets.next_timeout(), None);
    assert_eq!(client.sockets.send(TOKEN, b"request"), 7);
    assert!(client.sockets.next_timeout().is_some());
    client.until(TOKEN, |account| account.unacknowledged == Some(0));
    client.sockets.finish(TOKEN);
    client.until_all(|client| client.sockets.next_timeout().is_none());
    assert_eq!(client.of(TOKEN).unacknowledged, Some(0), "a FIN is no byte");
}

#[test]
fn a_reset_tells_what_had_arrived() {
    let listener = listener();
    sockopt::set_socket_recv_buffer_size(&listener, 4096).unwrap();
    let mut client = Client::new();
    let server = client.pair(TOKEN, &listener);
    let taken = client.sockets.send(TOKEN, &pattern(20_000_000)) as u64;
    // The target reads nothing; its kernel takes what fits, and then no more.
    let arrived = || ioctl_fionread(&server).unwrap();
    let (mut last, mut unchanged) = (0, 0);
    while unchanged < 1000 {
        client.service();
        let told = client.of(TOKEN).unacknowledged.map(|bytes| taken - bytes);
        let same = last > 0 && last == arrived() && told == Some(last);
        unchanged = if same { unchanged + 1 } else { 0 };
        last = arrived();
    }
    client.sockets.finish(TOKEN);
    // With bytes unread the kernel resets.
    drop(server);
    client.until(TOKEN, |account| account.failure.is_some());
    let account = client.of(TOKEN);
    assert_eq!(account.failure, Some(SocketFailure::Reset));
    assert_eq!(account.unacknowledged, Some(taken - last));
    assert!(last < taken, "something was left");
}

#[test]
fn release_reads_what_waits_so_that_no_reset_is_sent() {
    let (mut client, mut server) = pair();
    server.write_all(&pattern(10_000)).unwrap();
    while sent_is_owed(&server) {
        thread::yield_now();
    }
    client.sockets.release(TOKEN);
    assert_eq!(client.sockets.counters().discarded_bytes, 10_000);
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0, "an end, no reset");
}

#[test]
fn reset_is_a_reset() {
    let (mut client, mut server) = pair();
    client.sockets.reset(TOKEN);
    let error = server.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(client.sockets.is_empty());
}

#[test]
fn dropping_closes() {
    let (client, mut server) = pair();
    drop(client);
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn urgent_bytes_are_bytes() {
    let (mut client, mut server) = pair();
    server.write_all(b"ab").unwrap();
    rustix::net::send(&server, b"!", SendFlags::OOB).unwrap();
    server.write_all(b"cd").unwrap();
    while sent_is_owed(&server) {
        thread::yield_now();
    }
    client.until(TOKEN, |account| account.received == b"ab!cd");
    client.until(TOKEN, |account| account.is_drained);
}

#[test]
fn a_token_can_be_used_again_after_a_failure() {
    let listener = listener();
    let mut client = Client::new();
    let server = client.pair(TOKEN, &listener);
    assert_eq!(client.sockets.send(TOKEN, b"request"), 7);
    reset_by(server);
    client.until(TOKEN, |account| account.failure.is_some());
    let mut server = client.pair(TOKEN, &listener);
    assert_eq!(client.sockets.send(TOKEN, b"request"), 7);
    assert_eq!(read_exactly(&mut server, 7), b"request");
    client.until(TOKEN, |account| account.unacknowledged == Some(0));
}

#[test]
fn a_source_that_is_not_ours_is_refused() {
    let config = SocketConfig {
        sources: vec!["192.0.2.1".parse().unwrap()],
        ..SocketConfig::default()
    };
    let error = tcpcopy_net::sockets::Sockets::open(&config).unwrap_err();
    assert!(matches!(error, NetError::NotOwnAddress { .. }), "{error}");
}

#[test]
fn sources_take_turns_and_are_of_the_targets_family() {
    let config = SocketConfig {
        sources: ["127.0.0.2", "::1", "127.0.0.3"]
            .map(|a| a.parse().unwrap())
            .to_vec(),
        ..SocketConfig::default()
    };
    let mut client = Client::with(&config);
    let (ipv4, ipv6) = (listener(), TcpListener::bind("[::1]:0").unwrap());
    let mut sources = Vec::new();
    for (token, listener) in [&ipv4, &ipv6, &ipv4, &ipv4, &ipv6].into_iter().enumerate() {
        let server = client.pair(token as u64, listener);
        sources.push(server.peer_addr().unwrap().ip().to_string());
    }
    assert_eq!(
        sources,
        ["127.0.0.2", "::1", "127.0.0.3", "127.0.0.2", "::1"]
    );
    let only_ipv4 = SocketConfig {
        sources: vec!["127.0.0.2".parse().unwrap()],
        ..SocketConfig::default()
    };
    let mut client = Client::with(&only_ipv4);
    let refused = client
        .sockets
        .connect(0, ipv6.local_addr().unwrap(), Vec::new());
    assert_eq!(refused, Err(SocketFailure::NoPort));
}
