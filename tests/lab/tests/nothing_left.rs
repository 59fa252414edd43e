//! A lab leaves nothing behind, however the process that made it ends.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tcpcopy_lab::{Lab, wait_until};

const TIMEOUT: Duration = Duration::from_secs(30);

/// What a lab is made of, as the outside can see it.
struct Traces {
    /// The names of its namespaces, such as `net:[4026532]`.
    namespaces: BTreeSet<String>,
    mounts_before: String,
    interfaces_before: BTreeSet<String>,
}

impl Traces {
    /// Notes what belongs to the lab with this init process.
    fn of(init: u32, mounts_before: String, interfaces_before: BTreeSet<String>) -> Self {
        let own = namespaces_of("self");
        let of_lab = namespaces_of(&init.to_string());
        let pid_namespace = of_lab
            .iter()
            .find(|name| name.starts_with("pid:"))
            .unwrap()
            .clone();
        // The namespaces of all hosts: those of every process in the lab's PID namespace.
        let members = processes().into_iter().map(|pid| namespaces_of(&pid));
        let namespaces = members
            .filter(|names| names.contains(&pid_namespace))
            .flatten()
            .filter(|name| !own.contains(name))
            .collect::<BTreeSet<_>>();
        let networks = namespaces
            .iter()
            .filter(|name| name.starts_with("net:"))
            .count();
        assert!(
            networks >= 4,
            "init, client, origin and target have one each: {namespaces:?}"
        );
        Self {
            namespaces,
            mounts_before,
            interfaces_before,
        }
    }

    fn assert_gone(&self) {
        wait_until("every process of the lab to be gone", TIMEOUT, || {
            !processes().iter().any(|pid| {
                namespaces_of(pid)
                    .iter()
                    .any(|name| self.namespaces.contains(name))
            })
        })
        .unwrap();
        assert_eq!(mounts(), self.mounts_before);
        assert_eq!(interfaces(), self.interfaces_before);
    }
}

fn processes() -> Vec<String> {
    let names = fs::read_dir("/proc").unwrap().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .collect()
}

fn namespaces_of(pid: &str) -> BTreeSet<String> {
    ["net", "pid", "mnt"]
        .iter()
        .filter_map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect()
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mounts").unwrap()
}

fn interfaces() -> BTreeSet<String> {
    let names = fs::read_dir("/sys/class/net").unwrap().flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Starts a process that makes a lab and waits until the lab stands.
fn hold() -> (Child, Traces) {
    let before = (mounts(), interfaces());
    let mut child = Command::new(env!("CARGO_BIN_EXE_lab-hold"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let init = line
        .split_whitespace()
        .next()
        .expect("the lab stands")
        .parse()
        .unwrap();
    (child, Traces::of(init, before.0, before.1))
}

fn order(child: &mut Child, order: &str) {
    child
        .stdin
        .take()
        .unwrap()
        .write_all(order.as_bytes())
        .unwrap();
}

#[test]
fn nothing_is_left_after_an_ordinary_end_a_panic_an_exit_and_sigkill() {
    let Some(lab) = Lab::for_test() else { return };
    drop(lab);

    let (mut child, traces) = hold();
    order(&mut child, "end\n");
    assert!(child.wait().unwrap().success());
    traces.assert_gone();

    let (mut child, traces) = hold();
    order(&mut child, "panic\n");
    assert!(!child.wait().unwrap().success());
    traces.assert_gone();

    let (mut child, traces) = hold();
    order(&mut child, "exit\n");
    assert!(child.wait().unwrap().success());
    traces.assert_gone();

    let (mut child, traces) = hold();
    child.kill().unwrap();
    child.wait().unwrap();
    traces.assert_gone();
}

#[test]
fn many_labs_stand_at_once_and_do_not_see_each_other() {
    let Some(first) = Lab::for_test() else { return };
    let second = Lab::new().unwrap();
    for lab in [&first, &second] {
        let origin = lab.host("origin").ipv4();
        lab.host("client")
            .command("ping")
            .args(["-c1", "-W2"])
            .arg(origin)
            .run()
            .unwrap();
    }
    first.write("mine", "first").unwrap();
    assert!(second.read("mine").is_err());
    assert_eq!(first.read("mine").unwrap(), "first");
}
