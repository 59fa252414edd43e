use super::*;

fn report() -> Report {
    let mut figures = Figures::default();
    let ledger = &mut figures.ledger;
    ledger.connections.capture(3);
    ledger.connections.deliver(2);
    ledger.connections.drop(DropReason::TargetRefused, 1);
    ledger.requests.capture(10);
    ledger.requests.deliver(8);
    ledger.requests.drop(DropReason::NotSelected, 1);
    ledger.requests.drop(DropReason::TargetReset, 1);
    ledger.bytes.capture(1000);
    ledger.bytes.deliver(900);
    ledger.bytes.drop(DropReason::TargetReset, 100);
    ledger.answered_requests = 7;
    ledger.capture.packets = 50;
    ledger.send_errors.no_buffers = 4;
    figures.sessions_high_water = 2;
    figures.tunnel.intercepts = 1;
    report_of(vec![figures])
}

fn report_of(lanes: Vec<Figures>) -> Report {
    let run = Run {
        outcome: Outcome::Stopped,
        targets: ["10.0.0.8:80", "10.0.0.9:80"].map(str::to_owned).to_vec(),
        plugins: Vec::new(),
        shards: 1,
        wall_s: 12.34,
    };
    let mut report = Report::new(&Snapshot { lanes, play: None }, run);
    report.process = Usage {
        peak_rss_bytes: 20 << 20,
        rss_bytes: 19 << 20,
        cpu_s: 1.5,
    };
    report
}

#[test]
fn the_table_shows_what_is_not_zero_and_the_balance() {
    let expected = r"
                         connections      requests             bytes
captured                           3            10              1000
delivered                          2             8               900
- not_selected                     0             1                 0  left out by the share of connections that -r or -g asks for
- target_refused                   1             0                 0  the target refused the connection with a reset; is it listening on that port?
- target_reset                     0             1               100  the target reset the connection
in flight                          0             0                 0
balance                            0             0                 0  captured - delivered - dropped

load         limited by not_selected
send delay   0.0 ms in the middle, 0.0 ms for 99 of 100, 0.0 ms at most
loss rate    11.1111 % (1 of 9 requests did not reach the target; 7 were answered)
capture      50 packets, 0 dropped by the kernel
sent         0 packets, 0 segments sent again, 4 packets refused by the kernel
intercept    lost 0 times
sessions     2 at most at once
this process 12.3 s, 1.50 s of processor time, 20.0 MiB of memory at most
";
    assert_eq!(report().table(), expected.trim_start_matches('\n'));
}

#[test]
fn an_account_that_is_not_even_shows() {
    let mut report = report();
    report.requests.overdrawn = 2;
    report.bytes.in_flight = 5;
    let table = report.table();
    let balance = table
        .lines()
        .find(|line| line.starts_with("balance"))
        .unwrap();
    let values: Vec<&str> = balance.split_whitespace().skip(1).take(3).collect();
    assert_eq!(values, ["0", "-2", "5"]);
}

#[test]
fn json_keeps_everything() {
    let report = report();
    let text = serde_json::to_string(&report).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["schema"], 1);
    assert_eq!(value["outcome"], "stopped");
    assert_eq!(value["balanced"], true);
    assert_eq!(value["requests"]["dropped_by_reason"]["target_reset"], 1);
    assert_eq!(value["requests"]["dropped_by_reason"]["tunnel_down"], 0);
    assert_eq!(value["send_errors"]["no_buffers"], 4);
    assert_eq!(value["process"]["peak_rss_bytes"], 20 << 20);
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}

fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("tcpcopy-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn the_file_is_replaced_as_a_whole() {
    let directory = directory("report");
    let path = directory.join("report.json");
    std::fs::write(&path, "what was there").unwrap();
    let file = ReportFile::open(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "what was there");
    file.write(&report()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
    assert_eq!(
        std::fs::read_dir(&directory).unwrap().count(),
        1,
        "nothing is left beside it"
    );
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_file_is_written_in_place_where_none_can_be_created() {
    let directory = directory("report-in-place");
    let path = directory.join("report.json");
    std::fs::write(&path, "x".repeat(100_000)).unwrap();
    let mut file = ReportFile::open(&path).unwrap();
    file.path = directory.join("gone").join("report.json");
    file.write(&report()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn several_targets_have_a_table_each_and_one_together() {
    let mut figures = Figures::default();
    figures.ledger.requests.capture(10);
    figures.ledger.requests.deliver(10);
    let mut late = Figures::default();
    late.ledger.requests.capture(10);
    late.ledger.requests.drop(DropReason::TargetSilent, 10);
    let report = report_of(vec![figures, late]);
    assert_eq!(report.targets[1].loss_rate, 1.0);
    assert_eq!((report.loss_rate, report.requests.captured), (0.5, 20));
    let table = report.table();
    let titles: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_suffix("   connections      requests             bytes"))
        .map(str::trim)
        .collect();
    assert_eq!(titles, ["10.0.0.8:80", "10.0.0.9:80", "all targets"]);
    assert!(report.balanced);
}
