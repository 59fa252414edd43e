//! `intercept doctor` makes each finding when, and only when, its fault is there.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_e2e::{Clinic, programs};
use tcpcopy_lab::{Mode, Setup};

/// The address that the visitors come from.
const CLIENTS: &str = "10.55.1.0/24";
/// What is asked on the target.
const ON_TARGET: &[&str] = &["--port", "80"];
/// What is asked on an assistant.
const ON_ASSISTANT: &[&str] = &["-i", "eth0", "--target", "10.55.0.3:80"];

fn and<'w>(words: &[&'w str], more: &[&'w str]) -> Vec<&'w str> {
    [words, more].concat()
}

#[test]
fn on_the_target() {
    let Some(mut clinic) = Clinic::open(Setup::new(Mode::Target)) else {
        return;
    };
    let ask =
        |clinic: &Clinic, more: &[&str]| clinic.examine_intercept("target", &and(ON_TARGET, more));
    let client = ["--probe-source", "10.55.1.7"];
    ask(&clinic, &[]).assert_finds(&[]);
    ask(&clinic, &client).assert_finds(&[]);
    ask(&clinic, &["-q", "0"]).assert_finds(&[]);
    ask(&clinic, &["-q", "5"]).assert_finds(&["queue_unserved"]);
    ask(&clinic, &["--address", "fd55::3"]).assert_finds(&[]);

    let rule = "OUTPUT -p tcp --sport 80 -j NFQUEUE --queue-num 99";
    clinic.run("target", &format!("iptables -w -I {rule}"));
    ask(&clinic, &[]).assert_finds(&["answer_swallowed"]);
    clinic.run("target", &format!("iptables -w -D {rule}"));
    ask(&clinic, &[]).assert_finds(&[]);

    clinic.run("target", "iptables -w -F OUTPUT");
    ask(&clinic, &[]).assert_finds(&["queue_rule_missing"]);
    ask(&clinic, &client).assert_finds(&["queue_rule_missing"]);
    let own_rule = "OUTPUT -p tcp --sport 80 -j NFQUEUE --queue-num 0";
    clinic.run("target", &format!("iptables -w -I {own_rule}"));
    ask(&clinic, &[]).assert_finds(&[]);

    let target = clinic.host("target");
    target.sysctl("net.ipv4.conf.eth0.rp_filter", 1).unwrap();
    ask(&clinic, &client).assert_finds(&[]);
    clinic.run(
        "target",
        "ip link add name elsewhere type veth peer name nowhere",
    );
    clinic.run("target", "ip link set elsewhere up");
    clinic.run("target", &format!("ip route add {CLIENTS} dev elsewhere"));
    // There they would be taken, if they came there.
    ask(&clinic, &client).assert_finds(&[]);
    target
        .sysctl("net.ipv4.conf.elsewhere.rp_filter", 1)
        .unwrap();
    clinic.run("target", &format!("ip route del {CLIENTS} dev elsewhere"));
    clinic.run("target", &format!("ip route add unreachable {CLIENTS}"));
    target.sysctl("net.ipv4.conf.nowhere.rp_filter", 1).unwrap();
    let verdict = ask(&clinic, &client);
    verdict.assert_finds(&["rp_filter", "no_route_back"]);
    clinic.run("target", &format!("ip route del unreachable {CLIENTS}"));

    clinic.stop_target();
    ask(&clinic, &[]).assert_finds(&["port_closed"]);
    let half_open = clinic.run("target", "ss -Htan state syn-recv").stdout;
    assert_eq!(half_open, "");

    let mut intercept = clinic.intercept.take().unwrap();
    let ended = intercept.terminate(Duration::from_secs(20)).unwrap();
    assert!(ended.status.success());
    ask(&clinic, &[]).assert_finds(&["no_intercept"]);
}

#[test]
fn on_an_assistant() {
    let Some(clinic) = Clinic::open(Setup::new(Mode::Assistant)) else {
        return;
    };
    let ask = |more: &[&str]| clinic.examine_intercept("assistant", &and(ON_ASSISTANT, more));
    let client = ["--probe-source", "10.55.1.7"];
    let verdict = ask(&[]);
    verdict.assert_finds(&[]);
    assert!(verdict.report["hops"].to_string().contains("untried"));
    ask(&client).assert_finds(&[]);
    ask(&["-F", "tcp src port 80"]).assert_finds(&[]);
    ask(&["-F", "tcp src port 81"]).assert_finds(&["intercept_blind"]);

    let assistant = clinic.host("assistant");
    assistant.sysctl("net.ipv4.ip_forward", 1).unwrap();
    ask(&client).assert_finds(&["ip_forward"]);
    assistant.sysctl("net.ipv4.ip_forward", 0).unwrap();
    ask(&client).assert_finds(&[]);

    clinic.run("target", &format!("ip route del {CLIENTS}"));
    ask(&[]).assert_finds(&[]);
    ask(&client).assert_finds(&["client_unanswered"]);
    let address = assistant.ipv4().into();
    clinic.host("target").route(CLIENTS, address).unwrap();
    ask(&client).assert_finds(&[]);
}

#[test]
fn keys_and_rights() {
    let Some(clinic) = Clinic::open(Setup::new(Mode::Target)) else {
        return;
    };
    let program = &programs().intercept;
    let other = clinic.lab.path("other.key");
    let script = format!("umask 077; {program} --generate-key > {other}");
    let command = clinic.host("target").command("sh").args(["-c", &script]);
    command.run().unwrap();
    let words = ["doctor", "--json", "--port", "80", "--key-file", &other];
    clinic
        .ask("target", program, &words)
        .assert_finds(&["tunnel_key"]);
    let words = ["doctor", "--json", "--port", "80"];
    clinic
        .ask("target", program, &words)
        .assert_finds(&["tunnel_key"]);

    let copy = clinic.lab.path("intercept");
    clinic.run("target", &format!("install -m 755 {program} {copy}"));
    let words = ["--bounding-set=-net_admin", &copy];
    let words = and(&words, &["doctor", "--json", "--port", "80"]);
    let verdict = clinic.ask("target", "setpriv", &words);
    verdict.assert_finds(&["capability_missing"]);
    verdict.assert_says("cap_net_admin+ep");
}
