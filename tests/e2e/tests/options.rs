//! The options that change how much is replayed and in whose name.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use tcpcopy_e2e::{Replay, load_time};
use tcpcopy_lab::{Mode, Setup, Wrk};

fn n_3_gives_three_times_the_requests(mode: Mode) {
    let setup = Setup::new(mode).with(["-n", "3"]);
    let Some(mut replay) = Replay::start(setup) else {
        return;
    };
    replay.load(&Wrk::keep_alive(replay.server(), 32, load_time()).at_rate(1_000));
    // Three times as fast as they come is too much for one client's ports: each new connection
    // would find all 64,512 of them taken by those the target has not got to yet.
    replay.load(&Wrk::short(replay.server(), 32, load_time() / 2).at_rate(2_000));
    replay.catch_up(3);
    let report = replay.finish();
    report.assert_nothing_lost();
    let (origin, target) = (&replay.origin, &replay.target);
    assert_eq!(
        target.request_count().unwrap(),
        3 * origin.request_count().unwrap()
    );
    assert_eq!(
        target.connection_count().unwrap(),
        3 * origin.connection_count().unwrap()
    );
}

#[test]
fn n_3_gives_three_times_the_requests_in_the_clients_names() {
    n_3_gives_three_times_the_requests(Mode::Target);
}

#[test]
fn n_3_gives_three_times_the_requests_over_sockets() {
    n_3_gives_three_times_the_requests(Mode::Socket);
}

fn r_10_gives_a_tenth_of_the_connections(mode: Mode) {
    let setup = Setup::new(mode).with(["-r", "10"]);
    let Some(mut replay) = Replay::start(setup) else {
        return;
    };
    // With 10,000 connections and more, one per cent is three standard deviations and more.
    let mut connections = 0;
    while connections < 10_000 {
        replay.load(&Wrk::short(replay.server(), 64, load_time()));
        replay.origin.wait_idle().unwrap();
        connections = replay.origin.connection_count().unwrap();
    }
    let report = replay.finish();
    // The servers know of a connection once it brings a request; wrk opens some that bring none.
    let replayed = replay.target.connection_count().unwrap();
    let percent = 100.0 * replayed as f64 / connections as f64;
    assert!(
        (9.0..=11.0).contains(&percent),
        "{replayed} of {connections}: {percent} %"
    );
    let (captured, delivered) = (
        report.count("requests", "captured"),
        report.count("requests", "delivered"),
    );
    assert_eq!((captured, delivered), (connections, replayed), "{report}");
    let left_out = report.dropped("requests", "not_selected");
    assert_eq!(captured - left_out, delivered, "{report}");
}

#[test]
fn r_10_gives_a_tenth_of_the_connections_in_the_clients_names() {
    r_10_gives_a_tenth_of_the_connections(Mode::Target);
}

#[test]
fn r_10_gives_a_tenth_of_the_connections_over_sockets() {
    r_10_gives_a_tenth_of_the_connections(Mode::Socket);
}

/// Replays short and long connections of several clients with `-c pool` and returns the
/// addresses that the target has seen.
fn addresses_of_pool(mode: Mode, pool: &str) -> Option<BTreeSet<IpAddr>> {
    let setup = Setup::new(mode).with(["-c", pool]);
    let mut replay = Replay::prepare(setup)?;
    if mode == Mode::Socket {
        for address in pool.split(',') {
            let address = address.parse().expect("a pool of single addresses");
            replay.lab.host("origin").add_address(address).unwrap();
        }
    }
    replay.start_tcpcopy();
    let mut clients = vec!["client".to_owned()];
    for number in 2..=4 {
        let name = format!("client{number}");
        replay.lab.add_host(&name, [1, number]).unwrap();
        clients.push(name);
    }
    let server = replay.server();
    let start = |name: &String, wrk: Wrk| wrk.spawn(replay.lab.host(name)).unwrap();
    let mut loads: Vec<_> = clients
        .iter()
        .flat_map(|name| {
            let long = Wrk::keep_alive(server, 16, load_time()).at_rate(300);
            [
                start(name, long),
                start(name, Wrk::short(server, 4, load_time())),
            ]
        })
        .collect();
    for load in &mut loads {
        assert!(load.wait(load_time() * 10).unwrap().status.success());
    }
    replay.catch_up(1);
    replay.finish().assert_nothing_lost();
    let (origin, target) = (&replay.origin, &replay.target);
    assert_eq!(
        target.request_count().unwrap(),
        origin.request_count().unwrap()
    );
    assert_eq!(
        target.connection_count().unwrap(),
        origin.connection_count().unwrap()
    );
    Some(
        target
            .requests()
            .unwrap()
            .iter()
            .map(|request| request.client)
            .collect(),
    )
}

#[test]
fn c_with_a_network_maps_clients_into_it_without_a_clash() {
    let Some(addresses) = addresses_of_pool(Mode::Target, "10.77.3.0/24") else {
        return;
    };
    for address in addresses {
        let IpAddr::V4(address) = address else {
            panic!("{address}")
        };
        let [a, b, c, d] = address.octets();
        assert_eq!([a, b, c], [10, 77, 3]);
        assert!(
            (1..=254).contains(&d),
            "{address} is the network's own or its broadcast address"
        );
    }
}

#[test]
fn c_with_the_old_form_and_a_list_maps_clients_without_a_clash() {
    let Some(addresses) = addresses_of_pool(Mode::Target, "10.78.4.x,10.79.5.6") else {
        return;
    };
    let other = IpAddr::V4(Ipv4Addr::new(10, 79, 5, 6));
    for address in addresses {
        let known = address == other || address.to_string().starts_with("10.78.4.");
        assert!(known, "{address}");
    }
}

#[test]
fn c_over_sockets_takes_all_of_the_hosts_addresses() {
    let pool = ["10.55.0.21", "10.55.0.22", "10.55.0.23"];
    let Some(addresses) = addresses_of_pool(Mode::Socket, &pool.join(",")) else {
        return;
    };
    let pool: BTreeSet<IpAddr> = pool.iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(addresses, pool);
}
