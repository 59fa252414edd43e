//! What keeps intercept from starting is said clearly, with status 2, and nothing is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tcpcopy_lab::wait_until;

use crate::bench::{Bench, SOON};

/// Starts intercept on the target, which must refuse with all the words given.
fn refuses(bench: &Bench, arguments: &str, words: &[&str]) {
    let output = bench.start("target", arguments).wait(SOON).unwrap();
    assert_eq!(
        output.status.code(),
        Some(2),
        "{arguments}: {}",
        output.stderr
    );
    for word in words {
        assert!(
            output.stderr.contains(word),
            "{arguments}: no {word:?} in {}",
            output.stderr
        );
    }
}

#[test]
fn what_is_taken_is_named() {
    let Some(bench) = Bench::new() else { return };
    let pid_path = bench.lab.path("intercept.pid");
    let mut first = bench.intercept(&format!("--port 80 -P {pid_path}"));
    let before = bench.rules();
    refuses(
        &bench,
        "-p 1 --state-dir /run/other",
        &["queue 0 is in use", "--queue"],
    );
    refuses(&bench, "-p 1", &["journal", "is in use", "--state-dir"]);
    refuses(&bench, "--queue 1", &["127.0.0.1:36524", "--listen-port"]);
    refuses(
        &bench,
        &format!("-P {pid_path}"),
        &["pid file", "is in use"],
    );
    refuses(
        &bench,
        "-b 203.0.113.1 -q 1 -p 1",
        &["cannot listen on 203.0.113.1:1"],
    );
    refuses(
        &bench,
        "--port 81,80 -q 1 -p 1",
        &["a rule for port 80", "intercept:0", "--cleanup"],
    );
    refuses(&bench, "-q 1 -p 1 -i nosuch0 -F tcp", &["nosuch0"]);
    refuses(&bench, "-q 1 -p 1 -i lo -F nonsense!", &["nonsense!"]);
    assert_eq!(bench.rules(), before);
    let mut beside = bench.intercept("--port 81 -q 1 -p 1");
    assert!(beside.terminate(SOON).unwrap().status.success());
    assert_eq!(bench.rules(), before);

    assert!(
        bench
            .lab
            .read("intercept.pid")
            .unwrap()
            .trim()
            .parse::<u32>()
            .is_ok()
    );
    assert!(first.terminate(SOON).unwrap().status.success());
    assert!(
        bench.lab.read("intercept.pid").is_err(),
        "the pid file goes"
    );
}

#[test]
fn a_missing_capability_is_named_with_the_way_to_get_it() {
    let Some(bench) = Bench::new() else { return };
    // Where a user without rights may run it.
    let program = bench.lab.path("intercept");
    let copy = ["-m", "755", env!("CARGO_BIN_EXE_intercept"), &program];
    bench.target().command("install").args(copy).run().unwrap();
    let setpriv = [
        "--bounding-set=-net_raw",
        &program,
        "--state-dir",
        "/run/nobody",
    ];
    let mut process = bench
        .target()
        .command("setpriv")
        .args(setpriv)
        .spawn()
        .unwrap();
    let output = process.wait(SOON).unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", output.stderr);
    for word in ["CAP_NET_RAW", "setcap cap_net_admin,cap_net_raw+ep"] {
        assert!(output.stderr.contains(word), "{}", output.stderr);
    }
}

#[test]
fn keys_are_made_checked_and_never_shown() {
    let Some(bench) = Bench::new() else { return };
    let made = bench.start("target", "--generate-key").wait(SOON).unwrap();
    assert_eq!((made.status.code(), made.stdout.len()), (Some(0), 65));
    let secret = made.stdout.trim();
    let path = bench.lab.write("key", secret).unwrap();
    let mode = |mode: &str| {
        bench
            .target()
            .command("chmod")
            .args([mode, &path])
            .run()
            .unwrap();
    };
    mode("644");
    refuses(
        &bench,
        &format!("--key-file {path}"),
        &["can be read by others", "chmod 600"],
    );
    mode("600");
    let mut intercept = bench.intercept(&format!("--key-file {path}"));
    assert!(!intercept.terminate(SOON).unwrap().stderr.contains(secret));
    bench.lab.write("key", &secret[1..]).unwrap();
    refuses(
        &bench,
        &format!("--key-file {path}"),
        &["64 hexadecimal", "--generate-key"],
    );
    refuses(&bench, "--key-file /nonexistent", &["/nonexistent"]);
}

#[test]
fn in_the_background_it_logs_to_its_file_and_ends_by_its_pid_file() {
    let Some(bench) = Bench::new() else { return };
    let (log, pid) = (
        bench.lab.path("intercept.log"),
        bench.lab.path("intercept.pid"),
    );
    let arguments = format!("-d --port 80 -l {log} -P {pid} --interval 1");
    let output = bench.start("target", &arguments).wait(SOON).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    let logged = |text: &str| {
        wait_until(text, SOON, || {
            bench
                .lab
                .read("intercept.log")
                .is_ok_and(|log| log.contains(text))
        })
        .unwrap();
    };
    logged("ready");
    logged("statistics");
    assert!(bench.serves(bench.nginx.ipv4()));
    let pid = bench.lab.read("intercept.pid").unwrap();
    bench
        .target()
        .command("kill")
        .arg(pid.trim())
        .run()
        .unwrap();
    wait_until("the rules to go", SOON, || bench.rules().is_empty()).unwrap();
    wait_until("the pid file to go", SOON, || {
        bench.lab.read("intercept.pid").is_err()
    })
    .unwrap();
    assert!(bench.serves(bench.nginx.ipv4()));
}

#[test]
fn version_and_help_end_well() {
    for (option, word) in [
        ("-v", "intercept"),
        ("-V", "intercept"),
        ("-h", "--key-file"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_intercept"))
            .arg(option)
            .output()
            .unwrap();
        assert!(output.status.success(), "{option}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(word),
            "{option}"
        );
    }
    let path = std::env::temp_dir().join(format!("intercept-exposed-{}", std::process::id()));
    fs::write(&path, "x").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_intercept"))
        .args(["--key-file".as_ref(), path.as_os_str()])
        .output()
        .unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(output.status.code(), Some(2));
}
