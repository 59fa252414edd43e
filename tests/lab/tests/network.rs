//! The network of the lab does what the end-to-end tests build upon.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tcpcopy_lab::{
    Lab, LabError, LabOptions, Nginx, NginxConfig, PacketWatch, Wrk, WrkReport, wait_until,
};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Sends one UDP packet from the origin to the target's port 80 with the client's address in it.
///
/// Nobody listens there, so the target answers the owner of the address with an ICMP error.
fn send_in_the_clients_name(lab: &Lab) {
    let (client, target) = (lab.host("client").ipv4(), lab.host("target").ipv4());
    let script = format!(
        "iptables -t nat -A POSTROUTING -p udp --dport 80 -j SNAT --to-source {client}
         echo hello > /dev/udp/{target}/80"
    );
    lab.host("origin")
        .command("bash")
        .args(["-e", "-c", &script])
        .run()
        .unwrap();
}

#[test]
fn hosts_reach_each_other_over_ipv4_and_ipv6_on_all_their_addresses() {
    let Some(mut lab) = Lab::for_test() else {
        return;
    };
    lab.add_host("client2", [1, 2]).unwrap();
    let extra: IpAddr = "10.55.1.77".parse().unwrap();
    lab.host("client2").add_address(extra).unwrap();
    let client2 = lab.host("client2");
    let addresses: [IpAddr; 3] = [client2.ipv4().into(), client2.ipv6().into(), extra];
    for address in addresses {
        for host in ["client", "bystander", "origin", "target", "assistant"] {
            lab.host(host)
                .command("ping")
                .args(["-c1", "-W2"])
                .arg(address)
                .run()
                .unwrap();
        }
    }
}

#[test]
fn a_reply_to_a_borrowed_address_reaches_its_owner_and_is_seen() {
    let Some(lab) = Lab::for_test() else { return };
    let mut watch = PacketWatch::from_sender(lab.host("client"), lab.host("target")).unwrap();
    assert_eq!(watch.packets().unwrap(), Vec::<String>::new());
    send_in_the_clients_name(&lab);
    let mut packets = Vec::new();
    wait_until("the leak to be seen", TIMEOUT, || {
        packets = watch.packets().unwrap();
        !packets.is_empty()
    })
    .unwrap();
    assert!(packets[0].contains("ICMP"), "{packets:?}");
}

#[test]
fn behind_the_assistant_replies_to_clients_vanish_and_others_arrive() {
    let Some(lab) = Lab::for_test() else { return };
    lab.route_clients_via_assistant().unwrap();
    let target = lab.host("target");
    let mut watch = PacketWatch::from_sender(lab.host("client"), target).unwrap();
    let mut at_assistant = lab
        .host("assistant")
        .command("tcpdump")
        .args([
            "-i",
            "eth0",
            "-n",
            "-l",
            "--immediate-mode",
            "-c",
            "1",
            "icmp",
        ])
        .spawn()
        .unwrap();
    wait_until("tcpdump", TIMEOUT, || {
        at_assistant.stderr().contains("listening on")
    })
    .unwrap();
    send_in_the_clients_name(&lab);
    at_assistant.wait(TIMEOUT).unwrap();
    assert_eq!(watch.packets().unwrap(), Vec::<String>::new());
    lab.host("bystander")
        .command("ping")
        .args(["-c1", "-W2"])
        .arg(target.ipv4())
        .run()
        .unwrap();
    lab.host("bystander")
        .command("ping")
        .args(["-c1", "-W2"])
        .arg(target.ipv6())
        .run()
        .unwrap();
}

#[test]
fn a_router_loses_what_is_on_the_way_to_the_assistant() {
    let Some(mut lab) = Lab::for_test() else {
        return;
    };
    lab.route_clients_via_assistant().unwrap();
    lab.lose_on_the_way_to_the_assistant(100.0, &["-p", "icmp"])
        .unwrap();
    send_in_the_clients_name(&lab);
    wait_until("the router to lose the answer", TIMEOUT, || {
        let list = ["-t", "raw", "-L", "PREROUTING", "-v", "-n", "-x"];
        let text = lab.host("router").command("iptables").args(list).run();
        let text = text.unwrap().stdout;
        let rule = text.lines().find(|line| line.contains("DROP")).unwrap();
        rule.split_whitespace().next() != Some("0")
    })
    .unwrap();
}

#[test]
fn nginx_counts_what_wrk_and_curl_ask_for() {
    let Some(lab) = Lab::for_test() else { return };
    let mut nginx = Nginx::start(lab.host("origin"), &NginxConfig::default()).unwrap();
    let client = lab.host("client");
    let load = Duration::from_secs(1);

    let keep = Wrk::keep_alive(nginx.ipv4(), 16, load)
        .at_rate(500)
        .run(client)
        .unwrap();
    let count = nginx.request_count().unwrap();
    assert_eq!(keep.errors, 0);
    assert!(keep.requests > 50, "{keep:?}");
    // wrk does not wait for the answers that are under way when its time is over.
    assert!(
        (keep.requests..=keep.requests + 16).contains(&count),
        "{keep:?}, nginx {count}"
    );
    assert_eq!(nginx.connection_count().unwrap(), 16);

    let (short, usage) = Wrk::short(nginx.ipv6(), 8, load)
        .run_measured(client)
        .unwrap();
    let more = nginx.request_count().unwrap() - count;
    assert_eq!(short.errors, 0);
    assert!(
        (short.requests..=short.requests + 8).contains(&more),
        "{short:?}, nginx {more}"
    );
    assert!(
        usage.cpu > Duration::ZERO && usage.resident_bytes > 100_000,
        "{usage:?}"
    );
    let requests = nginx.requests().unwrap();
    let last = requests.last().unwrap();
    assert_eq!((last.client, last.status), (IpAddr::V6(client.ipv6()), 200));
    assert!(nginx.process().usage_with_children().unwrap().cpu > Duration::ZERO);

    for (path, bytes) in [("/", 19), ("/size/0", 0), ("/size/8388608", 8_388_608)] {
        let url = format!("http://{}{path}", nginx.ipv4());
        let format = "%{http_code} %{size_download}";
        let curl = client
            .command("curl")
            .args(["-s", "-o", "/dev/null", "-w", format])
            .arg(url);
        assert_eq!(curl.run().unwrap().stdout, format!("200 {bytes}"));
    }
}

#[test]
fn loss_is_as_heavy_as_asked_for_and_ends() {
    let Some(lab) = Lab::for_test() else { return };
    let (client, origin) = (lab.host("client"), lab.host("origin"));
    let lost = || {
        let ping = client
            .command("ping")
            .args(["-q", "-c", "2000", "-i", "0.001", "-W", "1"]);
        // ping ends with status 1 only when nothing at all came back.
        let text = ping.arg(origin.ipv4()).run().unwrap().stdout;
        let word = text
            .split_whitespace()
            .find_map(|word| word.strip_suffix('%'));
        word.and_then(|percent| percent.parse::<f64>().ok())
            .expect(&text)
    };
    assert_eq!(lost(), 0.0);
    origin.drop_incoming(20.0, &["-p", "icmp"]).unwrap();
    let one_way = lost();
    // Six standard deviations of 2,000 packets each side.
    assert!((14.6..=25.4).contains(&one_way), "{one_way} %");
    origin.drop_outgoing(20.0, &["-p", "icmp"]).unwrap();
    let both_ways = lost();
    assert!((29.5..=42.5).contains(&both_ways), "{both_ways} %");
    origin.lose_nothing().unwrap();
    assert_eq!(lost(), 0.0);
}

#[test]
fn super_segments_cross_the_lab_unless_offloads_are_off() {
    let largest = |options: LabOptions| -> Option<u64> {
        Lab::for_test()?;
        let lab = Lab::with_options(options).unwrap();
        let origin = lab.host("origin");
        let mut server = origin.command("iperf3").args(["-s", "-1"]).spawn().unwrap();
        server.wait_listening(5201).unwrap();
        let mut capture = origin
            .command("tcpdump")
            .args(["-i", "eth0", "-n", "-q", "-l", "-B", "16384", "-c", "2000"])
            .args(["-Q", "in", "tcp port 5201"])
            .spawn()
            .unwrap();
        wait_until("tcpdump", TIMEOUT, || {
            capture.stderr().contains("listening on")
        })
        .unwrap();
        let client = lab.host("client").command("iperf3").args(["-t", "1", "-c"]);
        client.arg(origin.ipv4()).run().unwrap();
        let text = capture.wait(TIMEOUT).unwrap().stdout;
        text.lines()
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .max()
    };
    let Some(with) = largest(LabOptions::default()) else {
        return;
    };
    assert!(with > 20_000, "{with}");
    let without = largest(LabOptions { offloads: false }).unwrap();
    assert!((1_000..=1_460).contains(&without), "{without}");
}

#[test]
fn a_failing_program_is_an_error_with_its_words_and_a_slow_one_times_out() {
    let Some(lab) = Lab::for_test() else { return };
    let host = lab.host("origin");
    let failed = host
        .command("sh")
        .args(["-c", "echo why >&2; exit 3"])
        .run()
        .unwrap_err();
    let text = failed.to_string();
    assert!(
        text.contains("on origin ended with exit status: 3") && text.contains("why"),
        "{text}"
    );

    let start = Instant::now();
    let slow = host
        .command("sleep")
        .arg("600")
        .timeout(Duration::from_millis(200))
        .run();
    assert!(matches!(slow, Err(LabError::Timeout { .. })), "{slow:?}");
    assert!(start.elapsed() < TIMEOUT);

    let missing = host.command("no-such-program-anywhere").run().unwrap_err();
    assert!(matches!(missing, LabError::Failed { .. }), "{missing}");

    let twice = NginxConfig::default();
    let _first = Nginx::start(host, &twice).unwrap();
    let second = Nginx::start(host, &twice).unwrap_err().to_string();
    assert!(second.contains("Address already in use"), "{second}");
}

#[test]
fn a_process_is_killed_by_its_own_id_and_tells_how_it_ended() {
    let Some(lab) = Lab::for_test() else { return };
    let mut sleeper = lab
        .host("target")
        .command("sleep")
        .arg("600")
        .spawn()
        .unwrap();
    let pid = sleeper.pid().unwrap();
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name.trim(), "sleep");
    assert!(sleeper.is_running());
    assert!(!sleeper.kill().unwrap().status.success());
    assert!(!sleeper.is_running());
}

#[test]
fn a_report_of_wrk_is_read_and_nonsense_is_not() {
    let report = WrkReport::parse("Running\nlab requests=12 errors=3\n").unwrap();
    assert_eq!((report.requests, report.errors), (12, 3));
    assert!(WrkReport::parse("unable to connect").is_err());
}
