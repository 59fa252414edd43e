//! Tunnels against servers in this thread, over the loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use intercept_lib::tunnel::{ReplyBatch, ServerEvent, ServerLink};
use tcpcopy_packet::{Endpoint, FourTuple};

use super::*;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// An intercept that confirms when it is told to.
struct Server {
    listener: TcpListener,
    links: Vec<(TcpStream, ServerLink)>,
    /// Sessions registered, with the link they came over.
    registered: Vec<(usize, u64)>,
    unregistered: Vec<u64>,
    byes: usize,
    confirms: bool,
    /// What it can do.
    features: Features,
}

impl Server {
    fn new(confirms: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (registered, unregistered) = (Vec::new(), Vec::new());
        Self {
            listener,
            links: Vec::new(),
            registered,
            unregistered,
            byes: 0,
            confirms,
            features: Features::KNOWN,
        }
    }

    fn intercept(&self) -> Intercept {
        let address = self.listener.local_addr().unwrap();
        Intercept {
            name: address.to_string(),
            addresses: vec![address],
        }
    }

    fn step(&mut self, now: Instant) {
        while let Ok((stream, peer)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            self.links
                .push((stream, ServerLink::new(&Security::Insecure, peer.ip(), now)));
        }
        for index in 0..self.links.len() {
            let (stream, link) = &mut self.links[index];
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                link.receive(now, &buffer[..count]);
            }
            while let Some(event) = link.poll_event() {
                match event {
                    ServerEvent::Hello(hello) => {
                        link.accept(hello.features.intersection(self.features));
                    }
                    ServerEvent::Register(registration) => {
                        self.registered.push((index, registration.session));
                        if self.confirms {
                            link.confirm(1);
                        }
                    }
                    ServerEvent::Unregister(end) => self.unregistered.push(end.session),
                    ServerEvent::Bye => self.byes += 1,
                    ServerEvent::Diagnose(_) => {}
                }
            }
            self.write(index);
        }
    }

    fn write(&mut self, index: usize) {
        let (stream, link) = &mut self.links[index];
        while !link.transmit().is_empty() {
            match stream.write(link.transmit()) {
                Ok(count) => link.consume(count),
                Err(_) => return,
            }
        }
    }
}

fn tunnel(servers: &[&Server], per_intercept: usize) -> Tunnel {
    tunnel_with(servers, per_intercept, Features::NONE)
}

fn tunnel_with(servers: &[&Server], per_intercept: usize, features: Features) -> Tunnel {
    let intercepts: Vec<Intercept> = servers.iter().map(|server| server.intercept()).collect();
    let identity = Identity {
        instance: 1,
        shard: 0,
        security: Security::Insecure,
        features,
    };
    Tunnel::new(&intercepts, per_intercept, &identity, Instant::now())
}

/// Runs both sides until `done` says so, and gives what the engine would have heard.
fn run(
    tunnel: &mut Tunnel,
    servers: &mut [&mut Server],
    mut done: impl FnMut(&Tunnel, &[&mut Server], &[String]) -> bool,
) -> Vec<String> {
    let mut heard = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = Instant::now();
        tunnel.service(now, |event| {
            heard.push(match event {
                TunnelEvent::Reply(record) => {
                    format!("reply to {} of {}", record.session, record.payload_len)
                }
                other => format!("{other:?}"),
            });
        });
        tunnel.flush(now);
        for server in &mut *servers {
            server.step(now);
        }
        if done(tunnel, servers, &heard) {
            return heard;
        }
        assert!(now < deadline, "never done: {heard:?}");
        tunnel.wait(Duration::from_millis(1)).unwrap();
    }
}

fn tuple(port: u16) -> FourTuple {
    let end = |port| Endpoint::new(Ipv4Addr::LOCALHOST.into(), port);
    FourTuple::new(end(port), end(80))
}

fn registration(session: u64) -> Registration {
    Registration {
        session,
        tuple: tuple(1000),
        iss: 7,
    }
}

fn up(tunnel: &mut Tunnel, servers: &mut [&mut Server]) -> Vec<String> {
    run(tunnel, servers, |tunnel, _, _| {
        tunnel.longest_loss().is_none()
    })
}

#[test]
fn a_session_is_registered_answered_and_unregistered() {
    let mut server = Server::new(true);
    let mut tunnel = tunnel(&[&server], 1);
    assert_eq!(up(&mut tunnel, &mut [&mut server]), ["Up"]);
    tunnel.register(&registration(5));
    let heard = run(&mut tunnel, &mut [&mut server], |_, _, heard| {
        !heard.is_empty()
    });
    assert_eq!(heard, ["Confirmed(5)"]);
    let mut batch = ReplyBatch::default();
    batch.push(5, 100, &[0x50; 20]);
    server.links[0].1.send_replies(&batch);
    let heard = run(&mut tunnel, &mut [&mut server], |_, _, heard| {
        !heard.is_empty()
    });
    assert_eq!(heard, ["reply to 5 of 100"]);
    tunnel.unregister(&Unregistration {
        session: 5,
        tuple: tuple(1000),
    });
    tunnel.farewell();
    run(&mut tunnel, &mut [&mut server], |_, servers, _| {
        servers[0].byes == 1
    });
    assert_eq!(server.unregistered, [5]);
}

#[test]
fn with_several_tunnels_the_session_number_chooses() {
    let mut server = Server::new(true);
    let mut tunnel = tunnel(&[&server], 2);
    assert_eq!(up(&mut tunnel, &mut [&mut server]), ["Up"]);
    for session in 0..4 {
        tunnel.register(&registration(session));
    }
    let heard = run(&mut tunnel, &mut [&mut server], |_, _, heard| {
        heard.len() == 4
    });
    assert_eq!(heard.len(), 4);
    for (link, session) in &server.registered {
        let partner = server
            .registered
            .iter()
            .find(|(_, other)| *other == (session + 2) % 4);
        assert_eq!(partner.map(|(link, _)| link), Some(link));
    }
}

#[test]
fn every_intercept_has_to_confirm() {
    let (mut quick, mut slow) = (Server::new(true), Server::new(false));
    let mut tunnel = tunnel(&[&quick, &slow], 1);
    assert_eq!(up(&mut tunnel, &mut [&mut quick, &mut slow]), ["Up"]);
    tunnel.register(&registration(9));
    let heard = run(
        &mut tunnel,
        &mut [&mut quick, &mut slow],
        |_, servers, _| servers.iter().all(|server| !server.registered.is_empty()),
    );
    assert_eq!(heard, Vec::<String>::new());
    slow.links[0].1.confirm(1);
    let heard = run(&mut tunnel, &mut [&mut quick, &mut slow], |_, _, heard| {
        !heard.is_empty()
    });
    assert_eq!(heard, ["Confirmed(9)"]);
}

#[test]
fn without_one_intercept_nothing_is_confirmed() {
    let (mut quick, mut slow) = (Server::new(true), Server::new(false));
    let mut tunnel = tunnel(&[&quick, &slow], 1);
    up(&mut tunnel, &mut [&mut quick, &mut slow]);
    tunnel.register(&registration(9));
    run(
        &mut tunnel,
        &mut [&mut quick, &mut slow],
        |tunnel, servers, _| {
            let confirmed = tunnel.router.awaiting.get(&9) == Some(&0b10);
            confirmed && !servers[1].registered.is_empty()
        },
    );
    slow.links.clear();
    let heard = run(&mut tunnel, &mut [&mut quick], |_, _, heard| {
        !heard.is_empty()
    });
    assert_eq!(heard, ["Down"]);
    assert!(!tunnel.is_usable() && tunnel.router.awaiting.is_empty());
    assert_eq!(
        (tunnel.counters().losses, tunnel.counters().intercepts_up),
        (1, 1)
    );
    tunnel.register(&registration(10));
    let heard = up(&mut tunnel, &mut [&mut quick, &mut slow]);
    assert_eq!(heard, ["Up"], "and session 9 is not answered for");
    assert_eq!(quick.registered, [(0, 9)], "and 10 has to ask again");
    slow.confirms = true;
    tunnel.register(&registration(9));
    let heard = run(&mut tunnel, &mut [&mut quick, &mut slow], |_, _, heard| {
        !heard.is_empty()
    });
    assert_eq!(heard, ["Confirmed(9)"]);
}

#[test]
fn an_answer_that_comes_while_another_intercept_is_away_does_not_count() {
    let (mut here, mut away) = (Server::new(false), Server::new(true));
    let mut tunnel = tunnel(&[&here, &away], 1);
    up(&mut tunnel, &mut [&mut here, &mut away]);
    tunnel.register(&registration(9));
    run(
        &mut tunnel,
        &mut [&mut here, &mut away],
        |tunnel, servers, _| {
            let confirmed = tunnel.router.awaiting.get(&9) == Some(&0b01);
            confirmed && !servers[0].registered.is_empty()
        },
    );
    drop(away);
    run(&mut tunnel, &mut [&mut here], |_, _, heard| {
        heard == ["Down"]
    });
    here.links[0].1.confirm(1);
    let mut batch = ReplyBatch::default();
    batch.push(9, 100, &[0x50; 20]);
    here.links[0].1.send_replies(&batch);
    let heard = run(&mut tunnel, &mut [&mut here], |_, _, heard| {
        !heard.is_empty()
    });
    assert_eq!(
        heard,
        ["reply to 9 of 100"],
        "what came before it is not heard"
    );
}

#[test]
fn one_of_several_tunnels_lost_is_the_intercept_lost() {
    let mut server = Server::new(true);
    let mut tunnel = tunnel(&[&server], 2);
    up(&mut tunnel, &mut [&mut server]);
    server.links.remove(0);
    let heard = run(&mut tunnel, &mut [&mut server], |tunnel, _, heard| {
        !heard.is_empty() && tunnel.is_usable()
    });
    assert_eq!(heard, ["Down", "Up"]);
}

#[test]
fn a_lost_intercept_is_found_again() {
    let mut server = Server::new(true);
    let mut tunnel = tunnel(&[&server], 1);
    up(&mut tunnel, &mut [&mut server]);
    server.links.clear();
    let heard = run(&mut tunnel, &mut [&mut server], |tunnel, _, heard| {
        !heard.is_empty() && tunnel.is_usable()
    });
    assert_eq!(heard, ["Down", "Up"]);
    assert_eq!(tunnel.counters().losses, 1);
}

#[test]
fn the_tuple_of_another_instance_is_a_conflict() {
    let mut server = Server::new(false);
    let mut tunnel = tunnel(&[&server], 1);
    up(&mut tunnel, &mut [&mut server]);
    tunnel.register(&registration(3));
    run(&mut tunnel, &mut [&mut server], |_, servers, _| {
        !servers[0].registered.is_empty()
    });
    server.links[0].1.conflict(1);
    let heard = run(&mut tunnel, &mut [&mut server], |_, _, heard| {
        !heard.is_empty()
    });
    assert_eq!(heard, ["Conflict(3)"]);
    assert_eq!(tunnel.counters().conflicts, 1);
}

#[test]
fn an_intercept_that_is_not_there_is_named_with_the_reason() {
    let server = Server::new(true);
    let mut tunnel = tunnel(&[&server], 1);
    let name = server.intercept().name;
    drop(server);
    let error = tunnel
        .connect(Duration::from_millis(300))
        .expect_err("nobody listens");
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("can't reach intercept at {name}: ")),
        "{text}"
    );
    assert!(text.contains("refused"), "{text}");
}

#[test]
fn an_intercept_that_lacks_what_is_needed_is_named() {
    let mut old = Server::new(true);
    old.features = Features::DIAGNOSIS;
    let name = old.intercept().name;
    let mut asking = tunnel_with(&[&old], 1, Features::PAYLOAD);
    let is_known =
        |tunnel: &Tunnel, _: &[&mut Server], _: &[String]| tunnel.router.peers[0].is_outdated;
    let heard = run(&mut asking, &mut [&mut old], is_known);
    assert_eq!(heard, [""; 0], "it never counts as up");
    let error = asking.connect(PATIENCE).unwrap_err();
    assert!(
        matches!(&error, StartError::InterceptOutdated(it) if *it == name),
        "{error}"
    );

    let mut able = Server::new(true);
    let mut asking = tunnel_with(&[&able], 1, Features::PAYLOAD);
    assert_eq!(up(&mut asking, &mut [&mut able]), ["Up"]);
}

#[test]
fn the_next_address_of_a_name_is_tried() {
    let mut server = Server::new(true);
    let there = server.listener.local_addr().unwrap();
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let addresses: Vec<SocketAddr> = vec![closed, there];
    let identity = Identity {
        instance: 1,
        shard: 0,
        security: Security::Insecure,
        features: Features::NONE,
    };
    let intercepts = [Intercept {
        name: "name".into(),
        addresses,
    }];
    let mut tunnel = Tunnel::new(&intercepts, 1, &identity, Instant::now());
    assert_eq!(up(&mut tunnel, &mut [&mut server]), ["Up"]);
}
