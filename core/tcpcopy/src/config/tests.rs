//! Command lines and what becomes of them.

use clap::Parser;

use std::io;

use tcpcopy_net::file::Input;
use tcpcopy_packet::Endpoint;

use super::*;
use crate::command_line::CommandLine;
use crate::player::{Speed, TimePoint};

fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    let addresses: &[&str] = match name {
        "web-1" => &["10.0.0.1"],
        "test-web" => &["10.0.0.9", "10.0.0.8", "fd00::9"],
        "six" => &["fd00::6"],
        "both" => &["10.0.0.1", "10.0.0.2", "fd00::1"],
        _ => return Err(io::Error::new(io::ErrorKind::NotFound, "no such host")),
    };
    Ok(addresses
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect())
}

fn configure(line: &str) -> Result<Config, StartError> {
    let options = CommandLine::try_parse_from(line.split_whitespace())
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .options;
    let local = ["10.0.0.1", "127.0.0.1", "fd00::1"].map(|text| text.parse().expect("an address"));
    let devices = ["lo", "eth0", "eth1"].map(str::to_owned);
    let surroundings = Surroundings {
        resolve: &resolve,
        local_addresses: &local,
        devices: &devices,
    };
    Config::from_options(options, surroundings)
}

/// Configures with a tunnel that needs no key.
fn insecure(line: &str) -> Result<Config, StartError> {
    configure(&format!("tcpcopy --insecure --upstream raw {line}"))
}

fn mappings(line: &str) -> Vec<String> {
    let config = insecure(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let mapping = |mapping: &Mapping| match mapping.origin_address {
        Some(origin) => format!(
            "{}>{}",
            Endpoint::new(origin, mapping.origin_port),
            mapping.target
        ),
        None => format!("*:{}>{}", mapping.origin_port, mapping.target),
    };
    config.mappings().map(mapping).collect()
}

fn refused(line: &str, message: &str) {
    let error = insecure(line).expect_err(line);
    assert_eq!(error.to_string(), message, "{line}");
    assert!(error.hint().is_some(), "{line}: no hint");
    assert!(error.user_text().contains("\n\nhint: "), "{line}");
}

#[test]
fn transfers_become_mappings() {
    assert_eq!(mappings("-x 80-10.0.0.9:8080"), ["*:80>10.0.0.9:8080"]);
    assert_eq!(
        mappings("-x web-1:80-test-web:8080"),
        ["10.0.0.1:80>10.0.0.9:8080"]
    );
    assert_eq!(mappings("-x 80-10.0.0.9:80,81-10.0.0.9:81").len(), 2);
    assert_eq!(mappings("-x 80-10.0.0.9:80 -x 80-10.0.0.9:80").len(), 1);
}

#[test]
fn families_are_matched() {
    assert_eq!(
        mappings("-x 80-test-web:80"),
        ["*:80>10.0.0.9:80", "*:80>[fd00::9]:80"]
    );
    assert_eq!(
        mappings("-x both:81-test-web:80"),
        [
            "10.0.0.1:81>10.0.0.9:80",
            "10.0.0.2:81>10.0.0.9:80",
            "[fd00::1]:81>[fd00::9]:80"
        ]
    );
    assert_eq!(
        mappings("-x six:81-test-web:80"),
        ["[fd00::6]:81>[fd00::9]:80"]
    );
    assert_eq!(
        mappings("-x 80-test-web:80 -c 10.1.2.x"),
        ["*:80>10.0.0.9:80"]
    );
    assert_eq!(
        mappings("-x 80-test-web:80 -c fd01::/120"),
        ["*:80>[fd00::9]:80"]
    );
    refused(
        "-x 10.0.0.1:80-[fd00::9]:80",
        "'10.0.0.1:80-[fd00::9]:80' in -x: the target has IPv6 addresses only, the origin none",
    );
    refused(
        "-x 80-10.0.0.9:80 -c fd01::1",
        "'80-10.0.0.9:80' in -x: the target has no IPv6 address, and the pool of -c is IPv6",
    );
    refused(
        "-x 80-10.0.0.9:80 -H fd00::2",
        "-H fd00::2 is of another family than the targets",
    );
}

#[test]
fn wrong_values_are_named() {
    refused(
        "-x 80-80",
        "'80-80' in -x: the target has no host, only a port",
    );
    refused(
        "-x 80-nowhere:80",
        "can't resolve 'nowhere' in -x: no such host",
    );
    refused(
        "-x 80-10.0.0.9:80 -s nowhere",
        "can't resolve 'nowhere' in -s: no such host",
    );
    refused(
        "-x 80-10.0.0.9:80 -s a:b",
        "'a:b' in -s is wrong: 'b' is not a port (1 to 65535)",
    );
    refused(
        "-x 80-10.0.0.9:80 -H localhost",
        "'localhost' in -H is not an address",
    );
    refused(
        "-x 80-10.0.0.9:80 -c 10.1.x",
        "'10.1.x' in -c is neither an address, nor a.b.c.x, nor a network",
    );
    refused(
        "-x 80-10.0.0.9:80 -i eth2",
        "there is no device and no file 'eth2'; the devices are lo, eth0, eth1",
    );
    refused(
        "-x 80-10.0.0.9:80 --promiscuous",
        "--promiscuous takes what a device's mirror port sends, and -i names no device",
    );
    let nine: Vec<String> = (1..=9)
        .map(|n| format!("80-10.0.0.9:{}", 8000 + n))
        .collect();
    refused(
        &format!("-x {}", nine.join(",")),
        "-x sends the same traffic to 9 targets; at most 8 are supported",
    );
}

#[test]
fn targets_of_the_same_traffic_have_lanes_of_their_own() {
    let lanes = |line: &str| -> Vec<String> {
        let config = insecure(line).expect(line);
        config.lanes.iter().map(Lane::name).collect()
    };
    assert_eq!(lanes("-x 80-10.0.0.9:80"), ["10.0.0.9:80"]);
    assert_eq!(lanes("-x 80-10.0.0.9:80,80-10.0.0.9:80"), ["10.0.0.9:80"]);
    assert_eq!(
        lanes("-x 80-10.0.0.9:80,81-10.0.0.8:81"),
        ["10.0.0.9:80,10.0.0.8:81"]
    );
    assert_eq!(
        lanes("-x 80-10.0.0.9:80,80-test-web:80"),
        ["10.0.0.9:80,test-web:80"]
    );
    assert_eq!(
        lanes("-x 80-10.0.0.9:80,80-10.0.0.8:80,81-10.0.0.8:81,81-10.0.0.9:81"),
        ["10.0.0.9:80,10.0.0.9:81", "10.0.0.8:80,10.0.0.8:81"]
    );
    assert_eq!(
        lanes("-x 80-10.0.0.9:80,80-10.0.0.9:81"),
        ["10.0.0.9:80", "10.0.0.9:81"]
    );
}

#[test]
fn a_cause_with_a_hint_of_its_own_gets_no_other() {
    let error = StartError::Filter("it does not compile\n\nhint: see the manual".to_owned());
    let text = "tcpcopy: can't use the filter: it does not compile\n\nhint: see the manual\n";
    assert_eq!(error.user_text(), text);
}

#[test]
fn files_may_be_sent_to_where_they_were_captured() {
    let file = std::env::current_exe().expect("the test's own file");
    let line = format!("-x 80-10.0.0.1:80 -i {}", file.display());
    let config = insecure(&line).expect("a file");
    assert_eq!(config.sources, Sources::Files(vec![Input::Path(file)]));
    assert!(matches!(
        insecure("-x 80-10.0.0.1:80"),
        Err(StartError::TargetIsOrigin(_))
    ));
}

#[test]
fn a_target_that_is_an_origin_is_refused() {
    let twice = |target| {
        format!(
            "the target {target} is an origin itself: its traffic would be copied to it again, and \
             production would get every request twice"
        )
    };
    refused("-x 80-10.0.0.1:80", &twice("10.0.0.1:80"));
    refused("-x 80-127.0.0.1:80", &twice("127.0.0.1:80"));
    refused("-x 80-[fd00::1]:80", &twice("[fd00::1]:80"));
    refused("-x 10.0.0.5:80-10.0.0.5:80", &twice("10.0.0.5:80"));
    refused(
        "-x 10.0.0.5:80-10.0.0.6:80,10.0.0.6:80-10.0.0.7:80",
        &twice("10.0.0.6:80"),
    );
    assert_eq!(mappings("-x 80-10.0.0.1:8080").len(), 1);
    assert_eq!(mappings("-x 10.0.0.5:80-10.0.0.1:80").len(), 1);
}

#[test]
fn loopback_goes_with_loopback_only() {
    let target = "the target 127.0.0.1:8080 is a loopback address, and the kernel takes packets \
                  for it only from loopback addresses";
    let clients = "the origin 127.0.0.1:80 has loopback clients only, and packets from loopback \
                   addresses can't leave the host";
    refused("-x 80-127.0.0.1:8080", target);
    refused("-x 80-127.0.0.1:8080 -H 10.0.0.1", target);
    refused("-x 127.0.0.1:80-127.0.0.1:8080 -H 10.0.0.1", target);
    refused("-x 127.0.0.1:80-127.0.0.1:8080 -c 10.1.2.x", target);
    refused("-x 127.0.0.1:80-10.0.0.9:80", clients);
    refused("-x 127.0.0.1:80-10.0.0.9:80 -c 127.0.1.x", clients);
    for line in [
        "-x 127.0.0.1:80-127.0.0.1:8080",
        "-x 80-127.0.0.1:8080 -c 127.0.1.x",
        "-x 127.0.0.1:80-10.0.0.9:80 -H 10.0.0.1",
        "-x 127.0.0.1:80-10.0.0.9:80 -c 10.1.2.x",
    ] {
        assert_eq!(mappings(line).len(), 1, "{line}");
    }
}

fn intercept_names(line: &str) -> Vec<String> {
    let config = insecure(line).expect(line);
    let intercepts = config.lanes.into_iter().flat_map(|lane| lane.intercepts);
    intercepts.map(|intercept| intercept.name).collect()
}

#[test]
fn intercepts_default_to_the_targets() {
    assert_eq!(intercept_names("-x 80-10.0.0.9:80"), ["10.0.0.9:36524"]);
    assert_eq!(
        intercept_names("-x 80-10.0.0.9:80,81-10.0.0.9:81"),
        ["10.0.0.9:36524"]
    );
    assert_eq!(intercept_names("-x 80-10.0.0.9:80 -p 99"), ["10.0.0.9:99"]);
    assert_eq!(
        intercept_names("-x 80-10.0.0.9:80 -s web-1,six:7"),
        ["web-1:36524", "six:7"]
    );
    let config = insecure("-x 80-10.0.0.9:80 -s both").expect("both families");
    assert_eq!(config.lanes[0].intercepts[0].addresses.len(), 3);
}

#[test]
fn a_tunnel_over_the_network_needs_a_key() {
    let error = configure("tcpcopy -x 80-10.0.0.9:80 --upstream raw").expect_err("no key");
    assert!(matches!(error, StartError::NoKey(_)), "{error}");
    configure("tcpcopy -x 80-10.0.0.9:80 -s 127.0.0.1,[::1]").expect("loopback needs none");
    configure("tcpcopy -x 80-10.0.0.9:80 --key-file key").expect("a key");
}

#[test]
fn defaults_reach_the_engine() {
    let config = insecure("-x 80-10.0.0.9:80").expect("defaults");
    let expected = EngineConfig {
        mappings: config.engine.mappings.clone(),
        ..EngineConfig::default()
    };
    assert_eq!(format!("{:?}", config.engine), format!("{expected:?}"));
    assert_eq!(config.sources, Sources::Devices(Vec::new()));
    assert_eq!(config.schedule, Schedule::default());
    assert_eq!(config.capture.ring_bytes, 32 << 20);
    assert!(!config.daemon && !config.survive_loss && config.log.file.is_none());
}

#[test]
fn options_reach_the_engine() {
    let line = "-x 80-10.0.0.9:80 -n 1.5 -f 7 -r 12.5 -m 64 -M 9000 -D 1400 -R 0 -t 60 -O -W -L -H 10.0.0.1";
    let config = insecure(line).expect(line);
    let engine = &config.engine;
    assert_eq!((engine.copies, engine.port_shift), (1.5, 7));
    assert_eq!(engine.selection, Selection::Percent(12.5));
    assert_eq!(
        (engine.memory_budget_bytes, engine.mtu, engine.mss),
        (64 << 20, 9000, 1400)
    );
    assert_eq!(engine.rtt, RttPolicy::Fixed(Duration::ZERO));
    assert_eq!(engine.session_timeout, Duration::from_secs(60));
    assert_eq!(engine.idle_timeout, Duration::from_secs(180));
    assert!(engine.only_complete && !engine.wait_for_answers && config.survive_loss);
    assert_eq!(
        engine.localhost_replacement,
        Some("10.0.0.1".parse().expect("an address"))
    );
}

#[test]
fn selections() {
    let selection = |line: &str| insecure(line).expect(line).engine.selection;
    assert_eq!(selection("-x 80-10.0.0.9:80 -r 100"), Selection::All);
    assert_eq!(
        selection("-x 80-10.0.0.9:80 -g -r 5"),
        Selection::Ramp {
            duration: Duration::from_secs(100)
        }
    );
}

#[test]
fn files_have_a_schedule() {
    let line = "-x 80-10.0.0.9:80 -i - -a max -I 500 -T 1 --from 1.5 --until 2026-01-02T03:04:05Z";
    let schedule = insecure(line).expect(line).schedule;
    assert_eq!((schedule.speed, schedule.rounds), (Speed::Max, 1));
    assert_eq!(schedule.idle_cut, Some(Duration::from_millis(500)));
    assert_eq!(
        schedule.from,
        Some(TimePoint::SinceBegin(Duration::from_millis(1500)))
    );
    assert!(schedule.until.is_some());
}

#[test]
fn sockets_unless_something_speaks_for_packets() {
    let upstream = |line: &str| {
        let config = configure(&format!("tcpcopy --insecure {line}")).expect(line);
        let intercepts: usize = config.lanes.iter().map(|lane| lane.intercepts.len()).sum();
        (config.engine.upstream, intercepts)
    };
    assert_eq!(upstream("-x 80-10.0.0.9:80"), (Upstream::Socket, 0));
    assert_eq!(
        upstream("-x 80-10.0.0.9:80 -s 10.0.0.7"),
        (Upstream::Raw, 1)
    );
    assert_eq!(
        upstream("-x 80-10.0.0.9:80 --upstream raw"),
        (Upstream::Raw, 1)
    );
    // One host, and an origin of the other family.
    assert_eq!(upstream("-x 8080-127.0.0.1:9090"), (Upstream::Socket, 0));
    assert_eq!(
        upstream("-x 10.0.0.1:80-[fd00::9]:80"),
        (Upstream::Socket, 0)
    );
    for (line, message) in [
        (
            "tcpcopy -x 80-10.0.0.9:80 -s 10.0.0.7 --upstream socket",
            "-s names an intercept, and --upstream socket needs none",
        ),
        (
            "tcpcopy -x 80-10.0.0.9:80 -c 10.9.9.9",
            "connections can't be made from 10.9.9.9: it is no address of this host",
        ),
        (
            "tcpcopy -x 8080-127.0.0.1:8080",
            "the target 127.0.0.1:8080 is an origin itself: its traffic would be copied to it again, \
             and production would get every request twice",
        ),
    ] {
        let error = configure(line).expect_err(line);
        assert_eq!(error.to_string(), message, "{line}");
        assert!(error.hint().is_some(), "{line}");
    }
}

#[test]
fn options_without_effect_are_told() {
    let unused = |line: &str| configure(&format!("tcpcopy {line}")).expect(line).unused;
    assert!(unused("-x 80-10.0.0.9:80").is_empty());
    assert!(unused("-x 80-10.0.0.9:80 -s 127.0.0.1 -L -R 0 -f 1").is_empty());
    assert_eq!(
        unused("-x 80-10.0.0.9:80 --key-file key -L -R 0 -a 10"),
        ["--key-file", "-L", "-R", "-a, -I, -T, --from or --until"]
    );
    assert_eq!(unused("-x 80-10.0.0.9:80 -i - -a 10"), [""; 0]);
}

#[test]
fn plugins_are_for_ports_that_there_are() {
    let line = |plugins: &str| configure(&format!("tcpcopy -x 80-10.0.0.9:8080 {plugins}"));
    let config = line("--plugin a.so --plugin b.wasm@80 --set a.k=v --plugin-memory-mb 16");
    let plugins = config.expect("plugins").plugins;
    let named: Vec<_> = plugins.plugin.iter().map(|it| it.port).collect();
    assert_eq!(named, [None, Some(80)]);
    assert_eq!(plugins.limits.limits().memory_bytes, 16 << 20);
    for (plugins, message) in [
        (
            "--plugin a.so@8080",
            "--plugin a.so@8080: no origin of -x has the port 8080",
        ),
        (
            "--set a.k=v",
            "--plugin-config and --set tell plugins something, and there is no --plugin",
        ),
    ] {
        let error = line(plugins).expect_err(plugins);
        assert_eq!(error.to_string(), message);
        assert!(error.hint().is_some());
    }
}
