//! The programs that make the unusual traffic do what the other tests believe they do.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_lab::{Lab, wait_until};

const TRAFFIC: &str = env!("CARGO_BIN_EXE_lab-traffic");
const TIMEOUT: Duration = Duration::from_secs(60);

#[test]
fn bodies_arrive_whole_and_are_written_down() {
    let Some(lab) = Lab::for_test() else { return };
    let origin = lab.host("origin");
    let serve = ["serve", "--port", "80", "--journal"];
    let mut server = origin
        .command(TRAFFIC)
        .args(serve)
        .arg(lab.path("journal"))
        .spawn()
        .unwrap();
    server.wait_listening(80).unwrap();
    let transfer = [
        "transfer",
        "--bodies",
        "40",
        "--max-bytes",
        "1000000",
        "--server",
    ];
    let address = format!("{}:80", origin.ipv4());
    lab.host("client")
        .command(TRAFFIC)
        .args(transfer)
        .arg(address)
        .run()
        .unwrap();
    // A download is written down after the client has it.
    let count = |way: &str| {
        let journal = lab.read("journal").unwrap();
        journal.lines().filter(|line| line.starts_with(way)).count()
    };
    wait_until("the journal", TIMEOUT, || count("") >= 80).unwrap();
    assert_eq!((count("up "), count("down ")), (40, 40));
}

#[test]
fn more_connections_are_held_than_one_process_may_open() {
    let Some(lab) = Lab::for_test() else { return };
    let origin = lab.host("origin");
    // 150 open files leave room for 50 connections in each of the three processes.
    let script = "ulimit -n 150; exec \"$0\" \"$@\"";
    let accept = ["accept", "--port", "80", "--processes", "3", "--journal"];
    let mut server = origin
        .command("bash")
        .args(["-c", script, TRAFFIC])
        .args(accept)
        .arg(lab.path("journal"))
        .spawn()
        .unwrap();
    server.wait_listening(80).unwrap();
    let address = format!("{}:80", origin.ipv6());
    let address = address.replace(&origin.ipv6().to_string(), &format!("[{}]", origin.ipv6()));
    let connect = ["connect", "--connections", "120", "--server"];
    let client = lab
        .host("client")
        .command(TRAFFIC)
        .args(connect)
        .arg(address)
        .spawn()
        .unwrap();
    wait_until("120 connections", TIMEOUT, || {
        client.stdout().contains("held 120")
    })
    .unwrap();
    let journal = || lab.read("journal").unwrap();
    wait_until("the journal", TIMEOUT, || journal().lines().count() >= 120).unwrap();
    assert_eq!(journal(), "answered\n".repeat(120));
}
