//! Both ends of the tunnel, in the clear, fed with what a peer may send.
//!
//! The first byte says into how long pieces the rest is cut.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use intercept_lib::tunnel::{
    Backoff, ClientConfig, ClientEvent, Diagnosis, Features, Hello, MAX_SIGHTINGS, Place, Probe,
    Registration, ReplyBatch, ReversePath, Security, Seen, ServerEvent, ServerLink, Sighting,
    TargetState, TunnelClient, Unregistration,
};

use crate::Seed;
use crate::samples::{tuple_v4, tuple_v6};

/// Most bytes an end may want to send in answer to one input.
const ANSWER_MAX: usize = 1 << 20;

/// Reads the input as what a client sends, and as what a server sends.
pub fn run(input: &[u8]) {
    let Some((&cut, input)) = input.split_first() else {
        return;
    };
    let piece = usize::from(cut) + 1;
    let now = Instant::now();

    let mut server = server(now);
    for bytes in input.chunks(piece) {
        server.receive(now, bytes);
        while let Some(event) = server.poll_event() {
            match event {
                ServerEvent::Hello(hello) => server.accept(hello.features),
                ServerEvent::Register(_) => server.confirm(1),
                ServerEvent::Diagnose(probe) => server.diagnosis(&diagnosis(probe)),
                ServerEvent::Unregister(_) | ServerEvent::Bye => {}
            }
        }
    }
    assert!(server.transmit().len() <= ANSWER_MAX);

    let mut client = client(now);
    for bytes in input.chunks(piece) {
        client.receive(now, bytes);
        while let Some(event) = client.poll_event() {
            let up = matches!(event, ClientEvent::Up { .. });
            if let ClientEvent::Reply(reply) = &event {
                assert!((20..=60).contains(&reply.tcp.len()));
                assert!(reply.payload.len() <= reply.payload_len as usize);
            }
            if let ClientEvent::Diagnosis(diagnosis) = &event {
                assert!(diagnosis.sightings.len() <= MAX_SIGHTINGS);
            }
            if up {
                client.register(&registration());
            }
        }
    }
    assert!(client.transmit().len() <= ANSWER_MAX);
}

/// Whole conversations of either end, cut short, and cut into pieces of several lengths.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let (client, server) = conversation();
    let with_cut = |cut: u8, bytes: &[u8]| [&[cut], bytes].concat();
    vec![
        ("client-whole", with_cut(255, &client)),
        ("client-bytes", with_cut(0, &client)),
        (
            "client-cut-short",
            with_cut(255, &client[..client.len() - 5]),
        ),
        ("server-whole", with_cut(255, &server)),
        ("server-bytes", with_cut(0, &server)),
        (
            "server-cut-short",
            with_cut(255, &server[..server.len() - 5]),
        ),
        (
            "prelude-other-version",
            b"\xffTcIn\x00\x09\x00\x00".to_vec(),
        ),
        ("prelude-with-key", b"\xffTcIn\x00\x01\x00\x01".to_vec()),
        ("no-prelude", b"\xffGET / HTTP/1.1\r\n\r\n".to_vec()),
        (
            "empty-envelope",
            b"\xffTcIn\x00\x01\x00\x00\x00\x00".to_vec(),
        ),
        (
            "frame-beyond-envelope",
            b"\xffTcIn\x00\x01\x00\x00\x00\x03\x01\x00\x09".to_vec(),
        ),
    ]
}

/// What a client and a server say to each other from hello to goodbye.
fn conversation() -> (Vec<u8>, Vec<u8>) {
    let now = Instant::now();
    let (mut client, mut server) = (client(now), server(now));
    let (mut client_said, mut server_said) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let bytes = client.transmit().to_vec();
        client.consume(bytes.len());
        server.receive(now, &bytes);
        client_said.extend(bytes);
        while let Some(event) = server.poll_event() {
            match event {
                ServerEvent::Hello(hello) => server.accept(hello.features),
                ServerEvent::Register(_) => {
                    server.confirm(1);
                    let mut batch = ReplyBatch::default();
                    batch.push(1, 1448, &[0x50; 20]);
                    batch.push_with_payload(1, 5, &[0x80; 32], b"reply");
                    server.send_replies(&batch);
                }
                ServerEvent::Diagnose(probe) => server.diagnosis(&diagnosis(probe)),
                ServerEvent::Unregister(_) | ServerEvent::Bye => {}
            }
        }
        let bytes = server.transmit().to_vec();
        server.consume(bytes.len());
        client.receive(now, &bytes);
        server_said.extend(bytes);
        let mut up = false;
        let mut replied = false;
        while let Some(event) = client.poll_event() {
            up |= matches!(event, ClientEvent::Up { .. });
            replied |= matches!(event, ClientEvent::Reply(_));
        }
        if up {
            client.register(&registration());
            client.diagnose(&probe());
        }
        if replied {
            let tuple = tuple_v6();
            client.unregister(&Unregistration { session: 1, tuple });
            client.bye();
        }
    }
    (client_said, server_said)
}

fn registration() -> Registration {
    Registration {
        session: 1,
        tuple: tuple_v4(),
        iss: 7,
    }
}

fn probe() -> Probe {
    Probe {
        tuple: tuple_v4(),
        iss: 7,
    }
}

/// An answer with something in every field.
fn diagnosis(probe: Probe) -> Diagnosis {
    let sighting = |what, source| Sighting {
        what,
        source,
        device: "eth0".to_owned(),
    };
    Diagnosis {
        iss: probe.iss,
        place: Place::Queue,
        target_is_here: true,
        forwards: true,
        passlisted: true,
        watching: true,
        routes_back: true,
        tcp: TargetState::Connected,
        reverse_path: ReversePath::Accepts,
        rp_filter: 2,
        sightings: vec![
            sighting(Seen::ProbeArrived, tuple_v4().source.address),
            sighting(Seen::AnswerLeft, tuple_v6().destination.address),
        ],
    }
}

fn server(now: Instant) -> ServerLink {
    ServerLink::new(
        &Security::LoopbackOnly,
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        now,
    )
}

/// A client whose connection is there.
fn client(now: Instant) -> TunnelClient {
    let config = ClientConfig {
        security: Security::LoopbackOnly,
        hello: Hello {
            features: Features::KNOWN,
            instance: 1,
            shard: 0,
            name: "fuzz".to_owned(),
        },
        required: Features::NONE,
        backoff: Backoff::default(),
    };
    let mut client = TunnelClient::new(config, now);
    client.timeout(now);
    while client.poll_event().is_some() {}
    client.connected(now);
    client
}
