//! Rules come, go, and stay where nothing must leak.

use tcpcopy_lab::wait_until;

use crate::bench::{Bench, SOON};

#[test]
fn rules_come_with_the_program_and_go_with_it() {
    let Some(bench) = Bench::new() else { return };
    let own_rule = "-A OUTPUT -p tcp -m tcp --sport 81 -j ACCEPT";
    let words = own_rule.split(' ');
    bench
        .target()
        .command("iptables")
        .args(words)
        .run()
        .unwrap();
    let mut intercept = bench.intercept("--port 80,81 --queue 5 --queues 2");
    let rules = bench.rules();
    assert_eq!(rules.len(), 5, "{rules:?}");
    for port in [80, 81] {
        let text = format!(
            "-A OUTPUT -p tcp -m tcp --sport {port} -m comment --comment \"intercept:5\" \
             -j NFQUEUE --queue-balance 5:6"
        );
        let same = |rule: &&String| rule.replace('"', "") == text.replace('"', "");
        assert_eq!(rules.iter().filter(same).count(), 2, "{rules:?}");
    }
    assert!(bench.serves(bench.nginx.ipv4()) && bench.serves(bench.nginx.ipv6()));
    let output = intercept.terminate(SOON).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    assert!(output.stderr.contains("statistics"), "{}", output.stderr);
    assert_eq!(bench.rules(), [own_rule]);
    assert!(bench.serves(bench.nginx.ipv4()));
}

#[test]
fn a_killed_intercept_lets_nothing_pass_until_it_is_back_or_cleaned_up() {
    let Some(bench) = Bench::new() else { return };
    bench
        .intercept("--port 80 --queue-length 9")
        .kill()
        .unwrap();
    let rules = bench.rules();
    assert_eq!(rules.len(), 2);
    assert!(!bench.serves(bench.nginx.ipv4()), "fails closed");

    let mut second = bench.intercept("--port 80");
    assert_eq!(bench.rules(), rules, "the rules are taken over");
    assert!(bench.serves(bench.nginx.ipv4()) && bench.serves(bench.nginx.ipv6()));
    second.kill().unwrap();

    let mut other = bench.intercept("--port 80,81 --fail-open");
    assert_eq!(bench.rules().len(), 4, "stale rules of the same queue went");
    assert!(
        bench
            .rules()
            .iter()
            .all(|rule| rule.contains("--queue-bypass"))
    );
    other.kill().unwrap();
    assert!(bench.serves(bench.nginx.ipv4()), "fails open when asked to");

    let mut cleanup = bench.start("target", "--cleanup");
    let output = cleanup.wait(SOON).unwrap();
    assert!(
        output.status.success() && output.stdout == "4 rules removed\n",
        "{output:?}"
    );
    assert_eq!(bench.rules(), Vec::<String>::new());
}

#[test]
fn a_failed_start_leaves_the_rules_of_a_killed_run() {
    let Some(bench) = Bench::new() else { return };
    bench.intercept("--port 80,82").kill().unwrap();
    let before = bench.rules();
    let failing = bench.lab.write("ip6tables", "#!/bin/sh\nexit 1\n").unwrap();
    let chmod = ["755", &failing];
    bench.target().command("chmod").args(chmod).run().unwrap();
    let dir = failing.strip_suffix("/ip6tables").unwrap();
    let path = format!("PATH={dir}:{}", std::env::var("PATH").unwrap());
    let start = [&path, env!("CARGO_BIN_EXE_intercept"), "--port", "80,81"];
    let mut process = bench.target().command("env").args(start).spawn().unwrap();
    let output = process.wait(SOON).unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("ip6tables"), "{}", output.stderr);
    assert_eq!(bench.rules(), before);
    assert!(!bench.serves(bench.nginx.ipv4()), "fails closed");
}

#[test]
fn without_port_the_rule_is_the_users() {
    let Some(bench) = Bench::new() else { return };
    let rule = "-I OUTPUT -p tcp --sport 80 -j NFQUEUE --queue-num 0";
    bench
        .target()
        .command("iptables")
        .args(rule.split(' '))
        .run()
        .unwrap();
    assert!(!bench.serves(bench.nginx.ipv4()));
    let mut intercept = bench.intercept("");
    assert!(bench.serves(bench.nginx.ipv4()));
    assert!(intercept.terminate(SOON).unwrap().status.success());
    assert_eq!(bench.rules().len(), 1, "what the user wrote stays");
    wait_until("the rule to bite again", SOON, || {
        !bench.serves(bench.nginx.ipv4())
    })
    .unwrap();
}
