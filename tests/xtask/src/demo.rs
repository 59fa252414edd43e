//! The main job, for real and in small: see it happen.

mod mysql;

use std::net::SocketAddr;
use std::time::Duration;

use tcpcopy_lab::{
    Host, Lab, LabError, Mode, Nginx, NginxConfig, PacketWatch, Programs, Report, Setup, Wrk,
    wait_until,
};

use crate::error::{Result, claim};
use crate::http;
use crate::machine;
use crate::plugins;

/// How long the load lasts.
const LOAD: Duration = Duration::from_secs(5);

/// How long the load over sockets lasts.
const SHORT_LOAD: Duration = Duration::from_secs(2);

/// How long the target may take to catch up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// The file of the lab that gets the balance.
const REPORT: &str = "report.json";

/// Shows a whole replay in the clients' names, a small one over sockets and two with plugins, and
/// checks what it claims.
pub(crate) fn run() -> Result<()> {
    let programs = machine::programs()?;
    in_the_clients_names(&programs)?;
    over_sockets(&programs)?;
    with_a_plugin(&programs)?;
    mysql::run(&programs)
}

fn in_the_clients_names(programs: &Programs) -> Result<()> {
    let setup = Setup::new(Mode::Target);
    println!("1. a private network: client, origin, target and two more, nothing of it outside");
    let lab = Lab::new()?;
    let servers = Servers::start(&lab)?;
    println!("3. on the target: intercept --port 80, which catches the answers to the replay");
    let intercepts = programs.start_intercepts(&lab, &setup)?;
    let transfer = format!("{}-{}", servers.origin.ipv4(), servers.target.ipv4());
    println!("4. on the origin: tcpcopy -x {transfer}, which captures and replays");
    let tcpcopy = programs.start_tcpcopy(&lab, lab.host("origin"), &setup, REPORT)?;
    let mut watch = PacketWatch::from_sender(lab.host("client"), lab.host("target"))?;

    servers.load(&lab)?;
    let caught_up = servers.wait_until_equal();
    println!("7. SIGTERM to tcpcopy: it delivers what it has and prints the balance");
    let report = Programs::finish_tcpcopy(&lab, tcpcopy, REPORT)?;
    for mut intercept in intercepts {
        intercept.terminate(CATCH_UP_TIMEOUT)?;
    }

    show_balance(&report)?;
    servers.show_counts()?;
    let leaked = watch.packets()?.len();
    println!("   packets from the target at the client: {leaked}");
    claim(leaked == 0, || {
        "the target's answers reached a real client".to_owned()
    })?;
    println!(
        "\nevery request reached the target, {} ms after the load's end",
        caught_up?.as_millis()
    );
    Ok(())
}

/// What needs nothing but one host.
fn over_sockets(programs: &Programs) -> Result<()> {
    println!("\n8. where nothing can catch answers: origin and target on one host, no intercept");
    let lab = Lab::new()?;
    let host = lab.host("origin");
    let serve = |port| {
        let ports = vec![port];
        let config = NginxConfig {
            ports,
            ..NginxConfig::default()
        };
        Nginx::start(host, &config)
    };
    let servers = Servers {
        origin: serve(8080)?,
        target: serve(9090)?,
        direct: 0,
    };
    let transfer = "8080-127.0.0.1:9090";
    println!("9. on that host: tcpcopy -x {transfer}, which makes connections of its own");
    let tcpcopy = programs.start_tcpcopy_with(&lab, host, &["-x", transfer], REPORT)?;
    println!(
        "10. on the client: wrk as before, for {} s",
        SHORT_LOAD.as_secs()
    );
    let load = Wrk::keep_alive(servers.origin.ipv4(), 32, SHORT_LOAD);
    let load = load.at_rate(2_000).run(lab.host("client"))?;
    claim(load.errors == 0, || {
        "the origin's own clients were disturbed".to_owned()
    })?;
    let caught_up = servers.wait_until_equal();
    show_balance(&Programs::finish_tcpcopy(&lab, tcpcopy, REPORT)?)?;
    servers.show_counts()?;
    caught_up?;
    Ok(())
}

/// Requests that are changed on their way.
fn with_a_plugin(programs: &Programs) -> Result<()> {
    println!(
        "\n11. a plugin changes what is replayed: the HTTP plugin, as a WASM module, which is"
    );
    println!("    given no files and no network, gives every request a header");
    let plugin = plugins::build(&["http".to_owned()])?.join("http.wasm");
    let lab = Lab::new()?;
    let config = NginxConfig {
        logged_header: Some(http::HEADER.to_owned()),
        ..NginxConfig::default()
    };
    let servers = Servers {
        origin: Nginx::start(lab.host("origin"), &config)?,
        target: Nginx::start(lab.host("target"), &config)?,
        direct: 0,
    };
    let setup = Setup::new(Mode::Socket).with(http::marking(&lab, &plugin)?);
    println!("12. on the origin: tcpcopy {}", setup.tcpcopy.join(" "));
    print!("{}", indented(&lab.read("plugins.toml")?));
    let tcpcopy = programs.start_tcpcopy(&lab, lab.host("origin"), &setup, REPORT)?;
    println!(
        "13. on the client: wrk as before, for {} s",
        SHORT_LOAD.as_secs()
    );
    let load = Wrk::keep_alive(servers.origin.ipv4(), 32, SHORT_LOAD).varied();
    load.at_rate(2_000).run(lab.host("client"))?;
    let caught_up = servers.wait_until_equal();
    show_balance(&Programs::finish_tcpcopy(&lab, tcpcopy, REPORT)?)?;
    servers.show_counts()?;
    caught_up?;
    for (name, nginx) in [("origin", &servers.origin), ("target", &servers.target)] {
        let requests = nginx.requests()?;
        println!(
            "\n   the {name}'s access log ends so, with {} last:",
            http::HEADER
        );
        for request in &requests[requests.len().saturating_sub(3)..] {
            let (method, path, header) = (&request.method, &request.path, &request.header);
            println!("   {method} {path} {} \"{header}\"", request.status);
        }
        let expected = if name == "target" { http::VALUE } else { "-" };
        let others = requests.iter().filter(|request| request.header != expected);
        let others = others.count();
        claim(others == 0, || {
            format!("{others} requests of the {name} have another header")
        })?;
    }
    println!("\nevery request at the target carries the header, and none at the origin");
    Ok(())
}

/// A text as a part of what is told.
fn indented(text: &str) -> String {
    text.lines().map(|line| format!("      {line}\n")).collect()
}

/// The two servers.
struct Servers {
    origin: Nginx,
    target: Nginx,
    /// How many requests come to the target from its own clients.
    direct: u64,
}

impl Servers {
    fn start(lab: &Lab) -> Result<Self> {
        let (origin, target) = (lab.host("origin"), lab.host("target"));
        println!(
            "2. nginx as origin on {}, another as target on {}",
            origin.ipv4(),
            target.ipv4()
        );
        let config = NginxConfig::default();
        Ok(Self {
            origin: Nginx::start(origin, &config)?,
            target: Nginx::start(target, &config)?,
            direct: 1,
        })
    }

    /// Makes real clients talk to the origin, and one to the target itself.
    fn load(&self, lab: &Lab) -> Result<()> {
        let (client, seconds) = (lab.host("client"), LOAD.as_secs());
        println!(
            "5. on the client: wrk with 32 connections to the origin for {seconds} s, then curl"
        );
        let load = Wrk::keep_alive(self.origin.ipv4(), 32, LOAD)
            .at_rate(2_000)
            .run(client)?;
        println!(
            "   wrk saw {} answers and {} errors",
            load.requests, load.errors
        );
        claim(load.errors == 0, || {
            "the origin's own clients were disturbed".to_owned()
        })?;
        let curl = |host: &Host, server: SocketAddr, path: &str| {
            let url = format!("http://{server}{path}");
            host.command("curl")
                .args(["-sS", "-o", "/dev/null", &url])
                .run()
        };
        for path in ["/", "/size/1000000"] {
            curl(client, self.origin.ipv4(), path)?;
        }
        println!("6. a client of the target itself, asking while intercept runs");
        curl(lab.host("bystander"), self.target.ipv4(), "/direct")?;
        Ok(())
    }

    /// Waits until every request of the origin is at the target too; tells how long it took.
    fn wait_until_equal(&self) -> Result<Duration, LabError> {
        let equal = || matches!(self.counts(), Ok((origin, target)) if origin == target);
        wait_until("the target to have all requests", CATCH_UP_TIMEOUT, equal)
    }

    /// The requests of the origin and those that were replayed: all but the direct ones.
    fn counts(&self) -> Result<(u64, u64)> {
        Ok((
            self.origin.request_count()?,
            self.target.request_count()?.saturating_sub(self.direct),
        ))
    }

    fn show_counts(&self) -> Result<()> {
        let (origin, target) = self.counts()?;
        println!("\n   nginx on the origin counts {origin} requests");
        println!(
            "   nginx on the target counts {target}, and {} asked directly",
            self.direct
        );
        claim(origin == target, || "the two counts differ".to_owned())
    }
}

/// Prints the three accounts of the balance, each of which must come out even.
fn show_balance(report: &Report) -> Result<()> {
    println!();
    for section in ["connections", "requests", "bytes"] {
        let count = |name| report.count(section, name);
        let (captured, delivered, dropped) =
            (count("captured"), count("delivered"), count("dropped"));
        let sum = report.difference(section);
        println!(
            "   {section:<12} {captured} captured - {delivered} delivered - {dropped} dropped = {sum}"
        );
        claim(sum == 0, || {
            format!("the balance of {section} is {sum}, not zero")
        })?;
    }
    Ok(())
}
