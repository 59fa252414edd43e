//! What a plugin costs, native and WASM: the time to load and configure it, and of one call.
//! `cargo xtask bench` runs it, with the directory of the plugins that `cargo xtask plugins` builds.
//!
//! All of a line comes from one run, and the ratios are what counts: the first column is what the
//! engine pays for the same bytes where a plugin in its own process copies them at once, without
//! any border. Figures are the best of many batches, as the machine does other things too.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::error::Error;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plugin_api::Config;
use tcpcopy_engine::plugin::{Actions, Event, Failure, Needs, Plugins, SessionInfo};
use tcpcopy_engine::{Instant, SessionId};
use tcpcopy_host::{Host, Library, Limits, PluginSet, Step};
use tcpcopy_packet::Endpoint;

/// Bytes of a message. A power of two may lie badly in the processor's caches, so there is one, and
/// its neighbour.
const SIZES: [usize; 4] = [64, 1_400, 16_000, 16_384];

/// What a call with 1.4 kB may take, native and WASM, in microseconds.
const BUDGETS_US: [(usize, f64, f64); 1] = [(1_400, 0.2, 1.5)];

/// How many batches are tried, and how many calls one has.
const BATCHES: u32 = 200;
const CALLS: u32 = 500;

/// The one session.
const SESSION: SessionId = SessionId::from_u64(1);

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello";

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or("usage: plugin-cost DIRECTORY")?;
    for file in ["skeleton.so", "skeleton.wasm", "http.so", "http.wasm"] {
        let start = std::time::Instant::now();
        plugin(&directory.join(file), &Config::new())?;
        println!("{file}: loaded and configured in {:.1?}", start.elapsed());
    }
    println!("\none call, in us (best of {BATCHES} batches), and as a multiple of a copy in place");
    let titles = [
        "bytes",
        "copy",
        "native",
        "WASM",
        "native/copy",
        "WASM/copy",
    ];
    println!("{}", line("", titles.map(str::to_owned)));
    let echo = ("skeleton", Config::new());
    for bytes in SIZES {
        let message = vec![b'x'; bytes];
        measure(&directory, "relay", &echo, &[Event::Client(&message)])?;
    }
    println!("\nHTTP plugin, which sets one header: a request and its answer, two calls");
    let mark = Config::new().with("X-Mark", "bench");
    let http = ("http", Config::new().with("set", mark));
    for bytes in SIZES {
        let request = request(bytes);
        let events = [Event::Client(&request), Event::Target(ANSWER)];
        measure(&directory, "http", &http, &events)?;
    }
    Ok(())
}

/// A request of so many bytes: a short one has few headers, a longer one more of them.
fn request(bytes: usize) -> Vec<u8> {
    const HEADER_BYTES: usize = 200;
    let mut request = b"GET /a/path?q=1 HTTP/1.1\r\nHost: example.com\r\n".to_vec();
    let mut missing = bytes.saturating_sub(request.len() + 2);
    while missing > 0 {
        let all = if missing < 2 * HEADER_BYTES {
            missing
        } else {
            HEADER_BYTES
        };
        let value = all.saturating_sub("X-A: \r\n".len());
        request.extend_from_slice(b"X-A: ");
        request.resize(request.len() + value, b'v');
        request.extend_from_slice(b"\r\n");
        missing -= all;
    }
    request.extend_from_slice(b"\r\n");
    request
}

/// Measures one row: the events of one exchange, played again and again to one session.
fn measure(
    directory: &Path,
    row: &str,
    (name, config): &(&str, Config),
    events: &[Event<'_>],
) -> Result<(), Box<dyn Error>> {
    let bytes = match events {
        [Event::Client(bytes), ..] => bytes.len(),
        _ => 0,
    };
    let load = |ending: &str| plugin(&directory.join(format!("{name}.{ending}")), config);
    let copy = best_us(&mut Copy, events)?;
    let native = best_us(&mut load("so")?, events)?;
    let wasm = best_us(&mut load("wasm")?, events)?;
    let budget = BUDGETS_US
        .iter()
        .find(|budget| budget.0 == bytes && events.len() == 1);
    let verdict = |us: f64, most: f64| if us <= most { "within" } else { "ABOVE" };
    let verdict = budget.map(|&(_, most_native, most_wasm)| {
        format!(
            "  budget {most_native} and {most_wasm}: {} and {}",
            verdict(native, most_native),
            verdict(wasm, most_wasm)
        )
    });
    let figures = [
        bytes.to_string(),
        format!("{copy:.3}"),
        format!("{native:.3}"),
        format!("{wasm:.3}"),
        format!("{:.1}", native / copy),
        format!("{:.1}", wasm / copy),
    ];
    println!("{}{}", line(row, figures), verdict.unwrap_or_default());
    Ok(())
}

fn line(row: &str, [bytes, copy, native, wasm, of_native, of_wasm]: [String; 6]) -> String {
    format!("{row:<7}{bytes:>7}{copy:>9}{native:>9}{wasm:>9}{of_native:>13}{of_wasm:>11}")
}

/// The plugin of a file, as an engine is given it.
fn plugin(file: &Path, config: &Config) -> Result<PluginSet, Box<dyn Error>> {
    let limits = Limits::default();
    let step = Step {
        library: Library::load(file, &limits)?,
        port: None,
        config: config.clone(),
    };
    let host = Host::new(vec![step], limits)?;
    Ok(host.plugins(Arc::new(|| {})))
}

/// How long the events take, in microseconds.
fn best_us(plugins: &mut dyn Plugins, events: &[Event<'_>]) -> Result<f64, Box<dyn Error>> {
    let failed = |failure: Failure| format!("the plugin failed: {failure:?}");
    let mut actions = Actions::default();
    let now = Instant::from_micros(1_000_000);
    plugins
        .open(now, SESSION, &info(), &mut actions)
        .map_err(failed)?;
    let mut best = f64::INFINITY;
    for _ in 0..BATCHES {
        let start = std::time::Instant::now();
        for _ in 0..CALLS {
            for event in events {
                actions.clear();
                plugins
                    .event(now, SESSION, black_box(*event), &mut actions)
                    .map_err(failed)?;
                black_box(&actions);
            }
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS));
    }
    plugins.close(SESSION);
    Ok(best)
}

fn info() -> SessionInfo {
    let endpoint = |last, port| Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port);
    SessionInfo {
        client: endpoint(1, 50_001),
        origin: endpoint(2, 80),
        target: endpoint(3, 80),
        copy: 0,
        start_seen: true,
    }
}

/// What a plugin within the engine would cost: the client's bytes are copied, and nothing else.
#[derive(Debug)]
struct Copy;

impl Plugins for Copy {
    fn needs(&self, _origin_port: u16) -> Option<Needs> {
        Some(Needs::default())
    }

    fn open(
        &mut self,
        _now: Instant,
        _session: SessionId,
        _info: &SessionInfo,
        _actions: &mut Actions,
    ) -> Result<(), Failure> {
        Ok(())
    }

    fn event(
        &mut self,
        _now: Instant,
        _session: SessionId,
        event: Event<'_>,
        actions: &mut Actions,
    ) -> Result<(), Failure> {
        if let Event::Client(bytes) = event {
            actions.send(bytes);
        }
        Ok(())
    }

    fn close(&mut self, _session: SessionId) {}
}
