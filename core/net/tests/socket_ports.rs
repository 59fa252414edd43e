//! Local ports and routes, in network namespaces that have few of them.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::ops::RangeInclusive;

use common::client::Client;
use common::{Namespace, require_root};
use tcpcopy_net::sockets::{SocketConfig, SocketFailure};

/// The ports that the kernel hands out in these tests.
const KERNELS: RangeInclusive<u16> = 40000..=40003;

/// No ports beyond those of the kernel.
#[allow(clippy::reversed_empty_ranges, reason = "none is what it should say")]
const NONE: RangeInclusive<u16> = 1..=0;

/// A namespace in which the kernel has four ports and leaves those in TIME_WAIT alone.
fn with_few_ports(test: impl FnOnce() + Send + 'static) {
    if !require_root() {
        return;
    }
    let namespace = Namespace::new();
    namespace.run(|| {
        let set = |name, value| fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap();
        set("ip_local_port_range", "40000 40003");
        set("tcp_tw_reuse", "0");
        test();
    });
}

fn config(sources: &[&str], ports: RangeInclusive<u16>) -> SocketConfig {
    SocketConfig {
        sources: sources
            .iter()
            .map(|source| source.parse().unwrap())
            .collect(),
        ports,
        ..SocketConfig::default()
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:9000").unwrap()
}

#[test]
fn no_port_is_left() {
    with_few_ports(|| {
        let listener = listener();
        let target = listener.local_addr().unwrap();
        let mut client = Client::with(&config(&[], NONE));
        for token in 0..4 {
            assert!(KERNELS.contains(&client.connect(token, target).port()));
        }
        assert_eq!(client.failure_of(4, target), SocketFailure::NoPort);
        // Towards another target the same ports are free.
        let other = TcpListener::bind("127.0.0.1:9001").unwrap();
        client.connect(5, other.local_addr().unwrap());
        assert_eq!(client.sockets.len(), 5);
    });
}

#[test]
fn each_source_has_ports_of_its_own() {
    with_few_ports(|| {
        let listener = listener();
        let target = listener.local_addr().unwrap();
        let mut client = Client::with(&config(&["127.0.0.2", "127.0.0.3"], NONE));
        let locals: BTreeSet<_> = (0..8).map(|token| client.connect(token, target)).collect();
        assert_eq!(locals.len(), 8);
        assert_eq!(client.failure_of(8, target), SocketFailure::NoPort);
    });
}

#[test]
fn ports_beyond_the_kernels_are_the_reserve() {
    with_few_ports(|| {
        fs::write("/proc/sys/net/ipv4/ip_local_reserved_ports", "50001-50002").unwrap();
        let listener = listener();
        let target = listener.local_addr().unwrap();
        let service = TcpListener::bind("127.0.0.1:50004").unwrap();
        let mut client = Client::with(&config(&[], 50000..=50005));
        let ports: Vec<_> = (0..7)
            .map(|token| client.connect(token, target).port())
            .collect();
        let kernels: BTreeSet<_> = ports[..4].iter().copied().collect();
        assert_eq!(kernels, KERNELS.collect());
        assert_eq!(ports[4..], [50000, 50003, 50005]);
        assert_eq!(client.failure_of(7, target), SocketFailure::NoPort);
        assert_eq!(client.sockets.counters().own_ports, 3);
        drop(service);
        // A service that wants a port of ours gets it.
        TcpListener::bind("127.0.0.1:50000").unwrap();
    });
}

#[test]
fn ports_of_the_reserve_do_not_wait_for_time_wait() {
    with_few_ports(|| {
        let listener = listener();
        for sources in [&[][..], &["127.0.0.2"]] {
            let mut client = Client::with(&config(sources, 50000..=50003));
            for token in 0..50 {
                let mut server = client.pair(token, &listener);
                client.sockets.finish(token);
                assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
                drop(server);
                client.until(token, |account| account.ends == 1);
                client.sockets.release(token);
            }
            assert_eq!(client.sockets.counters().own_ports, 46);
        }
        // Other programs still have the kernel's range towards other targets.
        let other = TcpListener::bind("127.0.0.1:9001").unwrap();
        let target = other.local_addr().unwrap();
        let streams: Vec<_> = (0..4)
            .map(|_| TcpStream::connect(target).unwrap())
            .collect();
        assert_eq!(streams.len(), 4);
    });
}

#[test]
fn a_port_that_comes_free_is_found_at_once() {
    with_few_ports(|| {
        let listener = listener();
        let target = listener.local_addr().unwrap();
        let mut client = Client::with(&config(&[], 50000..=50000));
        let mut servers: Vec<_> = (0..5).map(|token| client.pair(token, &listener)).collect();
        for (token, ended) in [(10, 2), (11, 4)] {
            assert_eq!(client.failure_of(token, target), SocketFailure::NoPort);
            let local = servers[ended].peer_addr().unwrap();
            client.sockets.reset(ended as u64);
            assert_eq!(client.connect(token, target), local);
        }
        // The target closes first and has the TIME_WAIT.
        drop(servers.remove(0));
        client.until(0, |account| account.ends == 1);
        client.sockets.release(0);
        client.connect(12, target);
        assert_eq!(client.failure_of(13, target), SocketFailure::NoPort);
    });
}

#[test]
fn a_connection_does_not_meet_itself() {
    with_few_ports(|| {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40000").unwrap();
        let target = "127.0.0.1:40000".parse().unwrap();
        let mut client = Client::new();
        assert_eq!(client.failure_of(0, target), SocketFailure::Refused);
        assert!(client.of(0).story.is_empty(), "at once");
    });
}

#[test]
fn no_way_to_the_target() {
    if !require_root() {
        return;
    }
    let namespace = Namespace::new();
    namespace.command("ip route add unreachable 192.0.2.0/24");
    namespace.run(|| {
        let mut client = Client::new();
        for target in ["192.0.2.1:80", "198.51.100.1:80", "[2001:db8::1]:80"] {
            let failure = client.failure_of(0, target.parse().unwrap());
            assert_eq!(failure, SocketFailure::Unreachable, "{target}");
        }
    });
}

#[test]
fn the_target_does_not_answer() {
    with_few_ports(|| {
        fs::write("/proc/sys/net/ipv4/tcp_syn_retries", "1").unwrap();
        let listener = listener();
        let target = listener.local_addr().unwrap();
        // Room for one connection that nobody accepts; who comes later is ignored.
        rustix::net::listen(&listener, 0).unwrap();
        let mut client = Client::new();
        client.connect(0, target);
        client.until(0, |account| account.story == ["connected"]);
        assert_eq!(client.failure_of(1, target), SocketFailure::TimedOut);
        assert_eq!(client.of(1).story, ["failed"]);
        assert_eq!(client.sockets.len(), 1);
    });
}
