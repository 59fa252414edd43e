//! Limits hold, however long it goes on.

use std::fs;

use tcpcopy_engine::plugin::{Event, Failure};
use tcpcopy_host::{Limits, State};

use crate::bed::{Bed, FORMS, told};

/// Sessions of even numbers misbehave.
const BAD: u64 = 2;

/// The memory of this process, in MiB.
fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<u64>().ok())
        .expect("a number")
        / 1024
}

/// Each session leaks 1 MiB; every 60 or so the instance is full, and a new one takes its place. Far
/// apart, such failures switch nothing off.
#[test]
fn sessions_that_are_never_freed() {
    let limits = Limits {
        memory_bytes: 64 << 20,
        ..Limits::default()
    };
    let config = told("leak", "open").with("every", 1).with("mib", 1);
    let mut bed = Bed::new("misbehaving.wasm", config, limits);
    let (mut good, mut failed) = (0, 0);
    let before = resident_mib();
    for session in 1..=400 {
        bed.after_ms(10_000);
        match bed.open(session) {
            Ok(_) => {
                assert_eq!(bed.say(session, "a\n").as_deref(), Ok("a\n"));
                bed.close(session);
                good += 1;
            }
            Err(failure) => {
                assert_eq!(failure, Failure::OutOfMemory);
                failed += 1;
            }
        }
    }
    let grown = resident_mib().saturating_sub(before);
    println!("{good} sessions worked, {failed} failed; {grown} MiB more than before");
    assert!((6..=12).contains(&failed), "{failed} of 400 failed");
    // Other tests of this process take memory at the same time, so the bound is wide; without any,
    // it would be 400 MiB.
    assert!(grown < 250, "{grown} MiB more than before");
    assert_eq!(bed.figures().state, State::Running);
}

#[test]
fn a_plugin_that_keeps_failing_is_switched_off() {
    for form in FORMS {
        let limits = Limits::default();
        let mut bed = Bed::new(
            &format!("misbehaving.{form}"),
            told("panic", "on_client"),
            limits,
        );
        let most = u64::from(Limits::default().failures);
        for round in 1..=most {
            let session = 2 * round;
            bed.open(session).expect("it is not switched off yet");
            assert_eq!(bed.say(session, "b\n"), Err(Failure::Trapped));
            bed.close(session);
        }
        let refused = bed.open(1).expect_err("it is switched off");
        assert_eq!(refused, Failure::SwitchedOff, "{form}");
        // What is not called can't pass anything on, and is counted.
        let figures = bed.figures();
        assert_eq!(figures.failures.trapped, most);
        assert_eq!(figures.failures.switched_off, 1);
        match figures.state {
            State::SwitchedOff { reason } => assert!(!reason.is_empty()),
            State::Running => panic!("{form}: still running"),
        }
    }
}

/// Sessions that are open when it is switched off end as well.
#[test]
fn nothing_goes_on_without_the_plugin() {
    let limits = Limits {
        failures: 1,
        ..Limits::default()
    };
    let mut bed = Bed::new("misbehaving.wasm", told("panic", "on_client"), limits);
    bed.open(1).expect("it opens");
    bed.open(BAD).expect("it opens");
    bed.say(BAD, "b\n").expect_err("it panics");
    let woken = bed.wake();
    assert!(woken.contains(&(1, Err(Failure::SwitchedOff))), "{woken:?}");
    assert_eq!(bed.say(1, "a\n"), Err(Failure::SwitchedOff));
}

#[test]
fn a_flood_of_names_is_counted_together() {
    for form in FORMS {
        let config = told("names", "on_client").with("mib", 1);
        let mut bed = Bed::new(&format!("misbehaving.{form}"), config, Limits::default());
        bed.open(BAD).expect("it opens");
        bed.say(BAD, "b\n").expect("within the limits");
        let (figures, limits) = (bed.figures(), Limits::default());
        let names = figures.counters.len();
        assert!(
            (2..=limits.names + 1).contains(&names),
            "{form}: {names} counters"
        );
        let labels = figures.labels.len();
        assert!(
            (2..=limits.labels + 1).contains(&labels),
            "{form}: {labels} labels"
        );
        let counted: u64 = figures.counters.values().sum();
        assert_eq!(counted, 16 * 1024, "{form}: none is lost");
    }
}

#[test]
fn a_flood_of_shared_values_is_bounded() {
    for form in FORMS {
        let limits = Limits {
            share_bytes: 8 << 20,
            // All this work is one call.
            call_time: std::time::Duration::from_secs(5),
            ..Limits::default()
        };
        let config = told("share", "on_client").with("mib", 64);
        let mut bed = Bed::new(&format!("misbehaving.{form}"), config, limits);
        bed.open(BAD).expect("it opens");
        bed.say(BAD, "b\n").expect("within the limits");
        let figures = bed.figures();
        assert!(
            figures.shared_bytes <= 8 << 20,
            "{form}: {}",
            figures.shared_bytes
        );
        assert!(
            figures.shared_values > 100,
            "{form}: {}",
            figures.shared_values
        );
        assert!(
            figures.shared_evicted > 1000,
            "{form}: {}",
            figures.shared_evicted
        );
    }
}

#[test]
fn a_flood_of_log_lines_is_cut() {
    for form in FORMS {
        let limits = Limits {
            call_time: std::time::Duration::from_secs(5),
            ..Limits::default()
        };
        let config = told("log", "on_client").with("mib", 16);
        let mut bed = Bed::new(&format!("misbehaving.{form}"), config, limits);
        // What was dropped is looked at now and then.
        for session in (2..80).step_by(2) {
            bed.open(session).expect("it opens");
            bed.say(session, "b\n").expect("within the limits");
            bed.close(session);
        }
        let dropped = bed.figures().log_lines_dropped;
        assert!(dropped > 1000, "{form}: {dropped} lines were dropped");
    }
}

#[test]
fn sessions_above_the_limit_are_not_begun() {
    for form in FORMS {
        let limits = Limits {
            sessions: 3,
            ..Limits::default()
        };
        let mut bed = Bed::new(&format!("misbehaving.{form}"), told("none", "open"), limits);
        for session in 1..=3 {
            bed.open(session).expect("it opens");
        }
        bed.open(4).expect_err("too many");
        assert_eq!(
            bed.tell(3, Event::Client(b"a\n")).as_deref(),
            Ok("a\n"),
            "{form}"
        );
        bed.close(1);
        bed.open(4).expect("there is room");
    }
}
