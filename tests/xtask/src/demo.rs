//! The main job, for real and in small: see it happen.

use std::time::Duration;

use tcpcopy_lab::{Lab, Mode, Nginx, NginxConfig, PacketWatch, Programs, Setup, Wrk, wait_until};

use crate::error::{Result, claim};
use crate::machine;

/// How long the load lasts.
const LOAD: Duration = Duration::from_secs(5);

/// How long the target may take to catch up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// The file of the lab that gets the balance.
const REPORT: &str = "report.json";

/// Shows a whole replay and checks what it claims.
pub(crate) fn run() -> Result<()> {
    let programs = machine::programs()?;
    let setup = Setup::new(Mode::Target);

    println!("1. a private network: client, origin, target (and two more), nothing of it outside");
    let lab = Lab::new()?;
    let (client, bystander) = (lab.host("client"), lab.host("bystander"));

    println!(
        "2. nginx as origin on {}, another as target on {}",
        at(&lab, "origin"),
        at(&lab, "target")
    );
    let origin = Nginx::start(lab.host("origin"), &NginxConfig::default())?;
    let target = Nginx::start(lab.host("target"), &NginxConfig::default())?;

    println!("3. on the target: intercept --port 80, which catches the answers to the replay");
    let mut intercept = programs.start_intercept(&lab, &setup)?;

    let transfer = format!("{}-{}", origin.ipv4(), target.ipv4());
    println!("4. on the origin: tcpcopy -x {transfer}, which captures and replays");
    let tcpcopy = programs.start_tcpcopy(&lab, lab.host("origin"), &setup, REPORT)?;
    let mut watch = PacketWatch::from_sender(client, lab.host("target"))?;

    println!(
        "5. on the client: wrk with 32 connections to the origin for {} s, then curl",
        LOAD.as_secs()
    );
    let load = Wrk::keep_alive(origin.ipv4(), 32, LOAD)
        .at_rate(2_000)
        .run(client)?;
    let curl = |path: &str| format!("http://{}{path}", origin.ipv4());
    for path in ["/", "/size/1000000"] {
        client
            .command("curl")
            .args(["-sS", "-o", "/dev/null", &curl(path)])
            .run()?;
    }
    println!(
        "   wrk saw {} answers and {} errors",
        load.requests, load.errors
    );
    claim(load.errors == 0, || {
        "the origin's own clients were disturbed".to_owned()
    })?;

    println!("6. a client of the target itself, asking while intercept runs");
    let direct = format!("http://{}/direct", target.ipv4());
    bystander
        .command("curl")
        .args(["-sS", "-o", "/dev/null", &direct])
        .run()?;

    let replayed = || target.request_count().map(|count| count - 1);
    let equal = || matches!((origin.request_count(), replayed()), (Ok(o), Ok(t)) if o == t);
    let took = wait_until("the target to have all requests", CATCH_UP_TIMEOUT, equal);
    println!("7. SIGTERM to tcpcopy: it delivers what it has and prints the balance");
    let report = Programs::finish_tcpcopy(&lab, tcpcopy, REPORT)?;
    intercept.terminate(CATCH_UP_TIMEOUT)?;

    println!();
    for section in ["connections", "requests", "bytes"] {
        let (captured, delivered) = (
            report.count(section, "captured"),
            report.count(section, "delivered"),
        );
        let difference = report.difference(section);
        let dropped = report.count(section, "dropped");
        println!(
            "   {section:<12} {captured} captured - {delivered} delivered - {dropped} dropped = {difference}"
        );
        claim(difference == 0, || {
            format!("the balance of {section} is {difference}, not zero")
        })?;
    }
    let (origin_count, target_count) = (origin.request_count()?, replayed()?);
    println!("\n   nginx on the origin counts {origin_count} requests");
    println!("   nginx on the target counts {target_count}, and the one that was asked directly");
    let leaked = watch.packets()?.len();
    println!("   packets from the target at the client: {leaked}");
    claim(origin_count == target_count, || {
        "the two counts differ".to_owned()
    })?;
    claim(leaked == 0, || {
        "the target's answers reached a real client".to_owned()
    })?;
    let took = took?;
    println!(
        "\nevery request of the origin reached the target, {} ms after the last",
        took.as_millis()
    );
    Ok(())
}

fn at(lab: &Lab, host: &str) -> String {
    format!("{}:80", lab.host(host).ipv4())
}
