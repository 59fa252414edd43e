//! Processor time per request, beside that of an ordinary client making the same requests.
//!
//! Absolute times belong to this machine and this hour; the ratios are what counts. All of a line
//! comes from one run: the replay first, then wrk alone against the target with the same load. What
//! plugins cost comes behind that: [`plugins`](self::plugins).

mod plugins;

use std::time::Duration;

use tcpcopy_lab::{Lab, Mode, Nginx, NginxConfig, Process, Programs, Setup, Wrk, wait_until};

use crate::error::{Result, claim};
use crate::machine;

/// How long the target may take to catch up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(120);

/// The loads, by name.
const SHAPES: [Shape; 3] = [
    Shape {
        name: "keep-alive, 3,000/s",
        connections: 64,
        close: false,
        rate: Some(3_000),
    },
    Shape {
        name: "keep-alive, saturating",
        connections: 128,
        close: false,
        rate: None,
    },
    Shape {
        name: "short, saturating",
        connections: 64,
        close: true,
        rate: None,
    },
];

struct Shape {
    name: &'static str,
    connections: u32,
    close: bool,
    rate: Option<u32>,
}

/// What one load cost, in microseconds of processor time per request.
struct Cost {
    requests: u64,
    tcpcopy_us: f64,
    intercept_us: f64,
    wrk_us: f64,
}

/// Measures every shape of load with intercept at both places, and over sockets without one, then
/// what plugins cost, and prints tables.
pub(crate) fn run(seconds: u64) -> Result<()> {
    let programs = machine::programs()?;
    let duration = Duration::from_secs(seconds);
    of_programs(&programs, duration)?;
    plugins::run(&programs, duration)
}

fn of_programs(programs: &Programs, duration: Duration) -> Result<()> {
    println!("processor time per request in us, and as a multiple of wrk's\n");
    println!(
        "{:<11}{:<24}{:>9}{:>7}{:>9}{:>11}{:>13}{:>15}",
        "intercept",
        "load",
        "requests",
        "wrk",
        "tcpcopy",
        "intercept",
        "tcpcopy/wrk",
        "intercept/wrk"
    );
    let places = [
        ("target", Mode::Target),
        ("assistant", Mode::Assistant),
        ("none", Mode::Socket),
    ];
    for (place, mode) in places {
        for shape in &SHAPES {
            let cost = measure(programs, mode, shape, duration, |_| Ok(Vec::new()))?;
            println!(
                "{place:<11}{:<24}{:>9}{:>7.1}{:>9.1}{:>11.1}{:>13.2}{:>15.2}",
                shape.name,
                cost.requests,
                cost.wrk_us,
                cost.tcpcopy_us,
                cost.intercept_us,
                cost.tcpcopy_us / cost.wrk_us,
                cost.intercept_us / cost.wrk_us
            );
        }
    }
    Ok(())
}

/// Measures one load; `arguments` are more of them for tcpcopy in this lab.
fn measure(
    programs: &Programs,
    mode: Mode,
    shape: &Shape,
    duration: Duration,
    arguments: impl FnOnce(&Lab) -> Result<Vec<String>>,
) -> Result<Cost> {
    let lab = Lab::new()?;
    let setup = Setup::new(mode).with(arguments(&lab)?);
    let origin = Nginx::start(lab.host("origin"), &NginxConfig::default())?;
    let target = Nginx::start(lab.host("target"), &NginxConfig::default())?;
    if mode == Mode::Assistant {
        lab.route_clients_via_assistant()?;
    }
    let mut intercepts = programs.start_intercepts(&lab, &setup)?;
    let mut tcpcopy = programs.start_tcpcopy(&lab, lab.host("origin"), &setup, "report.json")?;
    let load = |server| Wrk {
        close: shape.close,
        rate: shape.rate,
        ..Wrk::keep_alive(server, shape.connections, duration)
    };

    let before = (cpu(&mut tcpcopy)?, cpu_of_all(&mut intercepts)?);
    load(origin.ipv4()).run(lab.host("client"))?;
    let requests = origin.request_count()?;
    let equal = || target.request_count().is_ok_and(|count| count == requests);
    let caught_up = wait_until("the target to catch up", CATCH_UP_TIMEOUT, equal);
    claim(caught_up.is_ok(), || {
        let count = target.request_count().unwrap_or_default();
        format!(
            "{}: the target has {count} of {requests} requests",
            shape.name
        )
    })?;
    let after = (cpu(&mut tcpcopy)?, cpu_of_all(&mut intercepts)?);
    Programs::finish_tcpcopy(&lab, tcpcopy, "report.json")?;
    for intercept in &mut intercepts {
        intercept.terminate(CATCH_UP_TIMEOUT)?;
    }

    // The bystander's answers take the direct way also where the clients' go to the assistant.
    let (direct, wrk) = load(target.ipv4()).run_measured(lab.host("bystander"))?;
    Ok(Cost {
        requests,
        tcpcopy_us: per_request(after.0 - before.0, requests),
        intercept_us: per_request(after.1 - before.1, requests),
        wrk_us: per_request(wrk.cpu, direct.requests),
    })
}

fn cpu(process: &mut Process) -> Result<Duration> {
    Ok(process.usage()?.cpu)
}

fn cpu_of_all(processes: &mut [Process]) -> Result<Duration> {
    processes.iter_mut().map(cpu).sum()
}

fn per_request(cpu: Duration, requests: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / requests.max(1) as f64
}
