//! `tcpcopy doctor` makes each finding when, and only when, its fault is there: every test breaks
//! one thing, expects exactly its finding, and expects none once it is repaired.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use tcpcopy_e2e::{Clinic, programs};
use tcpcopy_lab::{Mode, Setup};

/// A rule that is there until it is taken away.
struct Rule<'c> {
    clinic: &'c Clinic,
    host: &'static str,
    program: &'static str,
    table: &'static str,
    text: String,
}

impl<'c> Rule<'c> {
    fn new(
        clinic: &'c Clinic,
        host: &'static str,
        table: &'static str,
        text: impl Into<String>,
    ) -> Self {
        let rule = Self {
            clinic,
            host,
            program: "iptables",
            table,
            text: text.into(),
        };
        rule.change("-I");
        rule
    }

    fn change(&self, action: &str) {
        let Self {
            program,
            table,
            text,
            ..
        } = self;
        let command = format!("{program} -w -t {table} {action} {text}");
        self.clinic.run(self.host, &command);
    }

    fn remove(self) {
        self.change("-D");
    }
}

/// The address that the visitors come from.
const CLIENTS: &str = "10.55.1.0/24";

fn target_mode() -> Option<Clinic> {
    Clinic::open(Setup::new(Mode::Target))
}

fn assistant_mode() -> Option<Clinic> {
    Clinic::open(Setup::new(Mode::Assistant))
}

#[test]
fn a_sound_path_has_no_finding_and_nothing_stays_behind() {
    for setup in [
        Setup::new(Mode::Target),
        Setup::new(Mode::Target).over_ipv6(),
        Setup::new(Mode::Assistant),
        Setup::new(Mode::Assistant).over_ipv6(),
    ] {
        let Some(clinic) = Clinic::open(setup) else {
            return;
        };
        let target = clinic.setup.address(clinic.host("target"));
        let program = if target.is_ipv4() {
            "iptables"
        } else {
            "ip6tables"
        };
        let heard = format!("{program} -w -I INPUT -s {target}");
        clinic.run("client", &heard);
        clinic.examine().assert_finds(&[]);
        let half_open = clinic.run("target", "ss -Htan state syn-recv").stdout;
        assert_eq!(half_open, "", "{:?}", clinic.setup);
        let list = format!("{program} -w -vnxL INPUT");
        let counters = clinic.run("client", &list).stdout;
        let rule = counters.lines().nth(2).unwrap();
        let packets = rule.split_whitespace().next();
        assert_eq!(
            packets,
            Some("0"),
            "the client heard the target: {counters}"
        );
    }
}

#[test]
fn rp_filter_that_drops_clients() {
    let Some(clinic) = target_mode() else { return };
    let set = |value| {
        let target = clinic.host("target");
        target
            .sysctl("net.ipv4.conf.eth0.rp_filter", value)
            .unwrap();
    };
    // Strict alone is no fault: the way back is the way in.
    set(1);
    clinic.examine().assert_finds(&[]);
    clinic.run(
        "target",
        "ip link add name elsewhere type veth peer name nowhere",
    );
    clinic.run("target", "ip link set elsewhere up");
    let route = format!("{CLIENTS} dev elsewhere");
    clinic.run("target", &format!("ip route add {route}"));
    let verdict = clinic.examine();
    verdict.assert_finds(&["rp_filter"]);
    verdict.assert_says("net.ipv4.conf.eth0.rp_filter=0");
    // Neither is another way back alone.
    set(0);
    clinic.examine().assert_finds(&[]);
    // Loose is content with any route, but not with none.
    set(2);
    clinic.examine().assert_finds(&[]);
}

#[test]
fn a_rule_that_is_missing_or_leads_to_nobody() {
    let Some(clinic) = target_mode() else { return };
    let rule = clinic.run("target", "iptables -S OUTPUT").stdout;
    let rule = rule
        .lines()
        .find_map(|line| line.strip_prefix("-A "))
        .unwrap();
    let rule = rule.replace('"', "");
    clinic.run("target", &format!("iptables -D {rule}"));
    let verdict = clinic.examine();
    verdict.assert_finds(&["queue_rule_missing"]);
    verdict.assert_says("intercept with --port 80");
    clinic.run("target", &format!("iptables -A {rule}"));
    clinic.examine().assert_finds(&[]);

    let text = "OUTPUT -p tcp --sport 80 -j NFQUEUE --queue-num 99";
    let to_nobody = Rule::new(&clinic, "target", "filter", text);
    clinic.examine().assert_finds(&["answer_swallowed"]);
    to_nobody.remove();
    clinic.examine().assert_finds(&[]);
}

#[test]
fn foreign_sources_dropped_at_the_target() {
    let Some(clinic) = target_mode() else { return };
    let text = format!("PREROUTING -s {CLIENTS} -j DROP");
    let drop = Rule::new(&clinic, "target", "raw", text);
    let verdict = clinic.examine();
    verdict.assert_finds(&["source_dropped"]);
    verdict.assert_says("the target's firewall drops");
    drop.remove();
    clinic.examine().assert_finds(&[]);

    let everything = Rule::new(
        &clinic,
        "target",
        "raw",
        "PREROUTING -p tcp --dport 80 -j DROP",
    );
    clinic.examine().assert_finds(&["target_silent"]);
    everything.remove();
    clinic.examine().assert_finds(&[]);
}

/// Puts a router between origin and target that lets only the origin's own address through.
fn put_a_router_that_checks_sources(clinic: &mut Clinic) {
    let origin = clinic.host("origin").ipv4();
    let target = clinic.host("target").ipv4();
    let router = clinic.lab.add_host("router", [0, 6]).unwrap();
    for device in ["all", "eth0"] {
        let name = format!("net.ipv4.conf.{device}.send_redirects");
        router.sysctl(&name, 0).unwrap();
    }
    router.sysctl("net.ipv4.ip_forward", 1).unwrap();
    let via = router.ipv4().into();
    clinic
        .host("origin")
        .route(&format!("{target}/32"), via)
        .unwrap();
    clinic.examine().assert_finds(&[]);
    let text = format!("PREROUTING -d {target} ! -s {origin} -j DROP");
    Rule::new(clinic, "router", "raw", text);
}

#[test]
fn foreign_sources_dropped_on_the_way() {
    for mode in [Mode::Target, Mode::Assistant] {
        let Some(mut clinic) = Clinic::open(Setup::new(mode)) else {
            return;
        };
        put_a_router_that_checks_sources(&mut clinic);
        let verdict = clinic.examine();
        verdict.assert_finds(&["source_dropped"]);
        verdict.assert_says("--upstream socket");
    }
}

#[test]
fn a_port_where_nobody_listens() {
    for mode in [Mode::Target, Mode::Assistant] {
        let Some(mut clinic) = Clinic::open(Setup::new(mode)) else {
            return;
        };
        clinic.stop_target();
        clinic.examine().assert_finds(&["port_closed"]);
    }
}

#[test]
fn an_assistant_that_forwards() {
    let Some(clinic) = assistant_mode() else {
        return;
    };
    let assistant = clinic.host("assistant");
    assistant.sysctl("net.ipv4.ip_forward", 1).unwrap();
    let verdict = clinic.examine();
    verdict.assert_finds(&["ip_forward"]);
    verdict.assert_says("sysctl -w net.ipv4.ip_forward=0");
    assistant.sysctl("net.ipv4.ip_forward", 0).unwrap();
    clinic.examine().assert_finds(&[]);
}

#[test]
fn answers_that_bypass_the_assistant() {
    let Some(clinic) = assistant_mode() else {
        return;
    };
    clinic.run("target", &format!("ip route del {CLIENTS}"));
    // Nobody looks at the target: the evidence leaves two causes.
    let verdict = clinic.examine();
    verdict.assert_finds(&["client_unanswered"]);
    verdict.assert_says("ip route add 10.55.1.0/24 via 10.55.0.4");

    let witness = start_witness(&clinic);
    let verdict = clinic.examine();
    verdict.assert_finds(&["replies_bypass_intercept"]);
    verdict.assert_says("ip route add 10.55.1.0/24 via 10.55.0.4");
    let assistant = clinic.host("assistant").ipv4().into();
    clinic.host("target").route(CLIENTS, assistant).unwrap();
    clinic.examine().assert_finds(&[]);

    // What looks like it without a witness is told from it by one.
    let text = format!("PREROUTING -s {CLIENTS} -j DROP");
    let drop = Rule::new(&clinic, "target", "raw", text);
    clinic.examine().assert_finds(&["source_dropped"]);
    drop.remove();
    drop_witness(witness);
    let text = format!("PREROUTING -s {CLIENTS} -j DROP");
    let drop = Rule::new(&clinic, "target", "raw", text);
    clinic.examine().assert_finds(&["client_unanswered"]);
    drop.remove();
    clinic.examine().assert_finds(&[]);
}

/// Starts an intercept on the target that only looks.
fn start_witness(clinic: &Clinic) -> tcpcopy_lab::Process {
    let key = programs().key_file(&clinic.lab).unwrap();
    let command = clinic.host("target").command(&programs().intercept);
    let words = [
        "--key-file",
        &key,
        "--state-dir",
        &clinic.lab.path("witness"),
    ];
    let mut process = command.args(words).spawn().unwrap();
    process.wait_listening(36524).unwrap();
    process
}

fn drop_witness(mut witness: tcpcopy_lab::Process) {
    let output = witness
        .terminate(std::time::Duration::from_secs(20))
        .unwrap();
    assert!(output.status.success(), "{}", output.stderr);
}
