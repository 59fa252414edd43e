//! What a plugin costs: the time to load and configure it, and of one call.
//!
//! ```text
//! cargo run --release -p tcpcopy-host --example cost -- target/plugins/upper.so target/plugins/upper.wasm
//! ```

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use plugin_api::Config;
use tcpcopy_engine::plugin::{Actions, Event, Plugins, SessionInfo};
use tcpcopy_engine::{Instant, SessionId};
use tcpcopy_host::{Host, Library, Limits, Step};
use tcpcopy_packet::Endpoint;

/// Lengths of the client's messages, in bytes.
const LENGTHS: [usize; 3] = [64, 1400, 16_384];

/// Calls of one batch, and how many batches: the machine's speed varies, so the best one counts.
const CALLS: u32 = 2000;
const BATCHES: u32 = 50;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in std::env::args().skip(1) {
        let limits = Limits::default();
        let began = Clock::now();
        let library = Library::load(Path::new(&file), &limits)?;
        let loaded = began.elapsed();
        let step = Step {
            library,
            port: None,
            config: Config::new(),
        };
        let began = Clock::now();
        let host = Host::new(vec![step], limits)?;
        let configured = began.elapsed();
        println!("{file}: loaded in {loaded:?}, configured in {configured:?}");
        for length in LENGTHS {
            let (best, sent) = measure(&host, length);
            println!("  {length} bytes: {best:?} a call, {sent} bytes sent by each");
        }
    }
    Ok(())
}

/// The best time of a call with a line of this length, and what came of it.
fn measure(host: &Host, length: usize) -> (Duration, usize) {
    let mut set = host.plugins(Arc::new(|| {}));
    let endpoint = |port| Endpoint::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let info = SessionInfo {
        client: endpoint(50_000),
        origin: endpoint(80),
        target: endpoint(8080),
        copy: 0,
        start_seen: true,
    };
    let (session, mut actions) = (SessionId::from_u64(1), Actions::default());
    let mut line = vec![b'x'; length];
    line[length - 1] = b'\n';
    let mut now = 0;
    if set
        .open(Instant::ZERO, session, &info, &mut actions)
        .is_err()
    {
        return (Duration::ZERO, 0);
    }
    let mut best = Duration::MAX;
    for _ in 0..BATCHES {
        let began = Clock::now();
        for _ in 0..CALLS {
            now += 1;
            actions.clear();
            let event = Event::Client(black_box(&line));
            let told = set.event(Instant::from_micros(now), session, event, &mut actions);
            if told.is_err() {
                return (Duration::ZERO, 0);
            }
        }
        best = best.min(began.elapsed() / CALLS);
        // The answers, so that no exchange stays open.
        let answers = vec![b'\n'; CALLS as usize];
        let answered = set.event(
            Instant::from_micros(now),
            session,
            Event::Target(&answers),
            &mut actions,
        );
        if answered.is_err() {
            return (Duration::ZERO, 0);
        }
        actions.clear();
    }
    let event = Event::Client(&line);
    let told = set.event(Instant::from_micros(now), session, event, &mut actions);
    (best, told.map_or(0, |()| actions.sent_bytes()))
}
