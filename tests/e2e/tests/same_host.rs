//! Origin, target and tcpcopy on one host, as on a laptop: no intercept, no rule, no route.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_e2e::{assert_same_conversations, load_time, programs};
use tcpcopy_lab::{Lab, Nginx, NginxConfig, Programs, Wrk, wait_until};

const TIMEOUT: Duration = Duration::from_secs(90);
const REPORT: &str = "report.json";

#[test]
fn origin_and_target_on_one_host() {
    let Some(lab) = Lab::for_test() else { return };
    let host = lab.host("origin");
    let serve = |port: u16| {
        let config = NginxConfig {
            ports: vec![port],
            ..NginxConfig::default()
        };
        Nginx::start(host, &config).unwrap()
    };
    let (origin, target) = (serve(8080), serve(9090));
    // The whole command line, but for the report.
    let tcpcopy = programs()
        .start_tcpcopy_with(&lab, host, &["-x", "8080-127.0.0.1:9090"], REPORT)
        .unwrap();

    // One client from outside, one on the host itself.
    let load = |server| Wrk::keep_alive(server, 32, load_time()).at_rate(1_000);
    let outside = load(origin.ipv4()).run(lab.host("client")).unwrap();
    let inside = load("127.0.0.1:8080".parse().unwrap()).run(host).unwrap();
    let short = Wrk::short(origin.ipv4(), 32, load_time() / 2);
    let short = short.run(lab.host("client")).unwrap();
    assert_eq!(outside.errors + inside.errors + short.errors, 0);

    let counts = || {
        (
            origin.request_count().unwrap(),
            target.request_count().unwrap(),
        )
    };
    wait_until("the replay to catch up", TIMEOUT, || {
        counts().0 == counts().1
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", counts(), tcpcopy.stderr()));
    let report = Programs::finish_tcpcopy(&lab, tcpcopy, REPORT).unwrap();
    report.assert_nothing_lost();
    assert_same_conversations(&origin, &target);
    assert_eq!(report.count("requests", "captured"), counts().0, "{report}");
    for program in ["iptables-save", "ip6tables-save"] {
        let rules = host.command(program).run().unwrap().stdout;
        assert!(!rules.contains("-A "), "{rules}");
    }
}
