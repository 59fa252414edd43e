//! The program itself, as far as it gets without intercept and privileges.

#![forbid(unsafe_code)]

use std::process::{Command, Output};

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
