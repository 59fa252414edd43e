//! The program itself, as far as it gets without intercept and privileges.

#![forbid(unsafe_code)]

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tcpcopy_net::file::{LINK_TYPE_RAW, PcapngEncoder, RecordedInterface};
use tcpcopy_packet::{Endpoint, FourTuple, SegmentBuilder, TcpFlags};

fn tcpcopy(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tcpcopy"))
        .args(line.split_whitespace())
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn help_and_version_go_to_standard_output_with_status_0() {
    for (line, expected) in [
        ("-h", "--transfer"),
        ("--help", "--transfer"),
        ("-v", "tcpcopy "),
    ] {
        let output = tcpcopy(line);
        assert_eq!(output.status.code(), Some(0), "{line}");
        assert!(text(&output.stdout).contains(expected), "{line}");
        assert!(output.stderr.is_empty(), "{line}");
    }
}

#[test]
fn what_is_wrong_goes_to_standard_error_with_status_2() {
    for (line, expected) in [
        (
            "-x 80-80",
            "tcpcopy: '80-80' in -x: the target has no host, only a port\n\n\
             hint: write [ORIGIN:]PORT-TARGET:PORT, for example 80-10.0.0.9:8080\n",
        ),
        (
            "-x 80-127.0.0.1:80",
            "tcpcopy: the target 127.0.0.1:80 is an origin itself: its traffic would be copied to \
             it again, and production would get every request twice\n\n\
             hint: name a server under test as the target, or, where the origin is another host, \
             name it: -x ORIGIN:PORT-TARGET:PORT\n",
        ),
        (
            "-x 80-192.0.2.1:80 --upstream raw",
            "tcpcopy: intercept at 192.0.2.1:36524 is reached over the network, and there is no \
             key: anyone could pose as it\n\n\
             hint: make a key with 'intercept --generate-key' and give it to both with --key-file, \
             or allow a tunnel open to everyone with --insecure on both\n",
        ),
    ] {
        let output = tcpcopy(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert_eq!(text(&output.stderr), expected, "{line}");
        assert!(output.stdout.is_empty(), "{line}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_has_status_2() {
    for line in ["", "-x", "--no-such-option", "-x 80-192.0.2.1:80 -n 0"] {
        let output = tcpcopy(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(!output.stderr.is_empty(), "{line}");
    }
}

/// A directory that goes with the test.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let name = format!("tcpcopy-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        let path = self.0.join(name).into_os_string();
        path.into_string().expect("UTF-8")
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The header of a recording, and its one packet: a client's SYN to port 80.
fn recording() -> (Vec<u8>, Vec<u8>) {
    let encoder = PcapngEncoder::new(
        "test",
        vec![RecordedInterface {
            name: "eth0".to_owned(),
            link_type: LINK_TYPE_RAW,
            snaplen: 65535,
            filter: String::new(),
        }],
    );
    let (mut header, mut block, mut packet) = (Vec::new(), Vec::new(), Vec::new());
    encoder.header(&mut header);
    let end = |last, port| Endpoint::new(Ipv4Addr::new(192, 0, 2, last).into(), port);
    let syn = SegmentBuilder {
        flags: TcpFlags::SYN,
        ..SegmentBuilder::new(FourTuple::new(end(1, 1024), end(2, 80)))
    };
    syn.write(std::iter::empty(), &mut packet)
        .expect("both ends are of one family");
    encoder.packet(0, 1, &packet, packet.len() as u32, &mut block);
    (header, block)
}

/// A target that takes connections and says nothing, and its port.
fn target() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

#[test]
fn a_file_and_connections_take_no_right() {
    let directory = TempDir::new("rights");
    let file = directory.path("web.pcapng");
    let (header, block) = recording();
    fs::write(&file, [header, block].concat()).expect("a file");
    let (_listener, port) = target();
    let output = tcpcopy(&format!("doctor -i {file} -x 80-127.0.0.1:{port} --json"));
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("none is needed"), "{said}");
}

#[test]
fn standard_input_is_read_on_in_the_background() {
    let directory = TempDir::new("background");
    let (report, pid_file) = (directory.path("report"), directory.path("pid"));
    let (listener, port) = target();
    let line = format!(
        "-d -i - -x 80-127.0.0.1:{port} --report {report} -P {pid_file} -l {}",
        directory.path("log")
    );
    let mut program = Command::new(env!("CARGO_BIN_EXE_tcpcopy"))
        .args(line.split_whitespace())
        .stdin(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = program.stdin.take().expect("it is piped");
    let (header, block) = recording();
    input.write_all(&header).expect("it waits for a header");
    assert!(program.wait().expect("it ends").success());
    input.write_all(&block).expect("it reads on");
    drop(input);
    listener.set_nonblocking(true).expect("a socket");
    // The target closes what it has accepted, so that nothing is left to wait for.
    let connection = within_a_while(|| listener.accept().ok());
    drop((connection, listener));
    let said = within_a_while(|| fs::read_to_string(&report).ok().filter(|t| !t.is_empty()));
    assert!(said.contains("\"packets\": 1"), "{said}");
}

fn within_a_while<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing came");
        std::thread::sleep(Duration::from_millis(10));
    }
}
