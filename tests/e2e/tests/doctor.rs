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
    clinic.run("target", &format!("ip route del {route}"));
    clinic.run("target", &format!("ip route add unreachable {CLIENTS}"));
    let verdict = clinic.examine();
    verdict.assert_finds(&["rp_filter", "no_route_back"]);
    set(0);
    clinic.examine().assert_finds(&["no_route_back"]);
    clinic.run("target", &format!("ip route del unreachable {CLIENTS}"));
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
    // The answer to a client that is not there waits on the target for its address.
    let absent = ["--probe-source", "10.55.1.99"];
    clinic
        .examine_with(&absent)
        .assert_finds(&["queue_rule_missing"]);
    clinic.run("target", &format!("iptables -A {rule}"));
    clinic.examine_with(&absent).assert_finds(&[]);
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

#[test]
fn an_assistant_that_looks_elsewhere() {
    let Some(mut clinic) = assistant_mode() else {
        return;
    };
    clinic.intercept = None;
    let key = programs().key_file(&clinic.lab).unwrap();
    let command = clinic.host("assistant").command(&programs().intercept);
    let words = ["-i", "eth0", "-F", "tcp src port 81", "--key-file", &key];
    let mut blind = command.args(words).spawn().unwrap();
    blind.wait_listening(36524).unwrap();
    clinic.intercept = Some(blind);
    let verdict = clinic.examine();
    verdict.assert_finds(&["intercept_blind"]);
    verdict.assert_says("intercept -i eth0 -F 'tcp and src port 80'");
}

#[test]
fn an_intercept_on_the_wrong_host() {
    let Some(clinic) = target_mode() else { return };
    let key = programs().key_file(&clinic.lab).unwrap();
    let command = clinic.host("bystander").command(&programs().intercept);
    let state = clinic.lab.path("wrong");
    let words = ["--port", "80", "--key-file", &key, "--state-dir", &state];
    let mut wrong = command.args(words).spawn().unwrap();
    wrong.wait_listening(36524).unwrap();
    let bystander = clinic.host("bystander").ipv4().to_string();
    // The intercept on the target takes the answers of sessions it knows, and is not asked here.
    clinic.run("target", "iptables -w -F OUTPUT");
    let verdict = clinic.examine_with(&["-s", &bystander]);
    verdict.assert_finds(&["replies_bypass_intercept"]);
    verdict.assert_says("run intercept on 10.55.0.3");
}

#[test]
fn this_host_s_own_firewall_and_connection_tracking() {
    let Some(clinic) = target_mode() else { return };
    let invalid = "OUTPUT -m conntrack --ctstate INVALID -j DROP";
    let invalid = Rule::new(&clinic, "origin", "filter", invalid);
    let verdict = clinic.examine();
    verdict.assert_finds(&["conntrack"]);
    verdict.assert_says("-t raw -I OUTPUT -p tcp -d 10.55.0.3 --dport 80 -j NOTRACK");
    // What is advised helps.
    let advice = "OUTPUT -p tcp -d 10.55.0.3 --dport 80 -j NOTRACK";
    let advice = Rule::new(&clinic, "origin", "raw", advice);
    clinic.examine().assert_finds(&[]);
    advice.remove();
    invalid.remove();

    let text = "OUTPUT -p tcp ! -s 10.55.0.2 -j DROP";
    let drop = Rule::new(&clinic, "origin", "filter", text);
    clinic.examine().assert_finds(&["output_refused"]);
    drop.remove();
    clinic.examine().assert_finds(&[]);

    let text = "POSTROUTING -p tcp -d 10.55.0.3 --dport 80 -j MASQUERADE";
    let rewrite = Rule::new(&clinic, "origin", "nat", text);
    clinic.examine().assert_finds(&["source_rewritten"]);
    rewrite.remove();
    clinic.examine().assert_finds(&[]);

    clinic.run("origin", "ip route add unreachable 10.55.0.3/32");
    let verdict = clinic.examine();
    assert!(
        verdict.findings().contains(&"tunnel_unreachable"),
        "{verdict:#?}"
    );
}

#[test]
fn a_process_without_rights() {
    let Some(clinic) = target_mode() else { return };
    // Where a user without rights may run it.
    let program = clinic.lab.path("tcpcopy");
    let source = &programs().tcpcopy;
    clinic.run("origin", &format!("install -m 755 {source} {program}"));
    let words = clinic.words();
    let words = ["--bounding-set=-net_raw", &program]
        .into_iter()
        .chain(words.iter().map(String::as_str));
    let words: Vec<&str> = words.collect();
    let verdict = clinic.ask("origin", "setpriv", &words);
    verdict.assert_finds(&["capability_missing"]);
    verdict.assert_says(&format!("setcap cap_net_raw+ep {program}"));
}

#[test]
fn clients_that_are_not_where_they_are_looked_for() {
    let Some(mut clinic) = target_mode() else {
        return;
    };
    let verdict = clinic.examine_with(&["-i", "lo"]);
    verdict.assert_finds(&["nothing_captured"]);
    verdict.assert_says("capture there: -i eth0");
    clinic.examine_with(&["-i", "any"]).assert_finds(&[]);
    let verdict = clinic.examine_with(&["-F", "src host 10.55.2.1"]);
    verdict.assert_finds(&["nothing_captured"]);
    verdict.assert_says("change -F, or leave it out");
    clinic
        .examine_with(&["-F", "src host 10.55.1.1"])
        .assert_finds(&[]);
    let verdict = clinic.examine_with(&["-x", "10.55.9.9:80-10.55.0.3:80"]);
    verdict.assert_finds(&["nothing_captured"]);
    verdict.assert_says("clients talk to 10.55.0.2:80");
    // No client is known then, and the path is sound for one that is named.
    clinic.send_visitors_away();
    let alone = ["--wait-s", "1"];
    let verdict = clinic.examine_with(&alone);
    verdict.assert_finds(&["nothing_captured"]);
    verdict.assert_says("nor on any other device");
    assert!(
        verdict.report["hops"]
            .to_string()
            .contains("--probe-source")
    );
    let named = ["--wait-s", "1", "--probe-source", "10.55.1.7"];
    let verdict = clinic.examine_with(&named);
    verdict.assert_finds(&["nothing_captured"]);
    assert!(verdict.report["hops"].to_string().contains("10.55.1.7"));
    clinic.let_visitors_come();
    clinic.examine().assert_finds(&[]);
}

#[test]
fn without_a_known_client_an_assistant_s_route_is_not_judged() {
    let Some(mut clinic) = assistant_mode() else {
        return;
    };
    clinic.send_visitors_away();
    let verdict = clinic.examine_with(&["--wait-s", "1"]);
    verdict.assert_finds(&["nothing_captured"]);
    let named = ["--wait-s", "1", "--probe-source", "10.55.1.7"];
    clinic
        .examine_with(&named)
        .assert_finds(&["nothing_captured"]);
}

#[test]
fn tunnels_that_do_not_come_about() {
    let Some(mut clinic) = target_mode() else {
        return;
    };
    let other = clinic.lab.path("other.key");
    let script = format!(
        "umask 077; {} --generate-key > {other}",
        programs().intercept
    );
    let command = clinic.host("origin").command("sh").args(["-c", &script]);
    command.run().unwrap();
    let verdict = clinic.examine_with(&["--key-file", &other]);
    verdict.assert_finds(&["tunnel_key"]);
    verdict.assert_says("--generate-key");

    let text = "INPUT -p tcp --dport 36524 -j DROP";
    let drop = Rule::new(&clinic, "target", "filter", text);
    let verdict = clinic.examine();
    verdict.assert_finds(&["tunnel_unreachable"]);
    verdict.assert_says("let TCP port 36524 in on 10.55.0.3");
    drop.remove();
    clinic.examine().assert_finds(&[]);

    let mut intercept = clinic.intercept.take().unwrap();
    let ended = intercept.terminate(std::time::Duration::from_secs(20));
    assert!(ended.unwrap().status.success());
    let verdict = clinic.examine();
    verdict.assert_finds(&["no_intercept"]);
    verdict.assert_says("start intercept there");
}

#[test]
fn ordinary_connections() {
    let Some(mut clinic) = target_mode() else {
        return;
    };
    let sockets = |transfer: &str| {
        let words = ["doctor", "--json", "--wait-s", "5", "-x", transfer];
        clinic.ask("origin", &programs().tcpcopy, &words)
    };
    let transfer = "10.55.0.2:80-10.55.0.3:80";
    sockets(transfer).assert_finds(&[]);
    sockets("10.55.0.2:80-10.55.0.3:81").assert_finds(&["port_closed"]);
    sockets("80-no-such-host.invalid:80").assert_finds(&["name_unresolved"]);
    let text = "INPUT -p tcp --dport 80 -j DROP";
    let drop = Rule::new(&clinic, "target", "filter", text);
    sockets(transfer).assert_finds(&["target_silent"]);
    drop.remove();
    clinic.run("origin", "ip route add unreachable 10.55.0.3/32");
    sockets(transfer).assert_finds(&["target_silent"]);
    clinic.run("origin", "ip route del unreachable 10.55.0.3/32");
    // Four files: the standard ones, and one for one of the two places looked at.
    let limited = r#"ulimit -n 4; exec "$0" doctor --json --wait-s 5 -x "$1""#;
    let words = ["-c", limited, &programs().tcpcopy, transfer];
    let verdict = clinic.ask("origin", "sh", &words);
    verdict.assert_finds(&["no_descriptor"]);
    sockets(transfer).assert_finds(&[]);
    clinic.stop_target();
}

#[test]
fn people_read_what_programs_read() {
    let Some(clinic) = target_mode() else { return };
    let words = clinic.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let command = clinic.host("origin").command(&programs().tcpcopy);
    let words = words.into_iter().filter(|word| *word != "--json");
    let output = command.args(words).run().unwrap();
    let first = output.stdout.lines().next().unwrap();
    assert!(first.starts_with("ok   rights"), "{}", output.stdout);
    assert!(output.stdout.ends_with("no finding: the path works\n"));
    // What could not be examined is no finding.
    let nonsense = ["doctor", "--json", "-x", "nonsense"];
    let verdict = clinic.ask("origin", &programs().tcpcopy, &nonsense);
    assert_eq!(verdict.status, Some(2), "{verdict:#?}");
    assert!(verdict.stderr.contains("hint: "), "{verdict:#?}");
}
