//! Every fault in every callback, and what becomes of everybody.

use std::time::Duration;

use tcpcopy_engine::plugin::{Direction, Event, Failure};
use tcpcopy_host::{Host, Limits, State, Step};

use crate::bed::{Bed, FORMS, told};
use crate::common::load;

/// A good session, and the one that misbehaves: every second does.
const GOOD: u64 = 1;
const BAD: u64 = 2;
const LATER: u64 = 3;

fn limits() -> Limits {
    Limits {
        call_time: Duration::from_millis(30),
        memory_bytes: 16 << 20,
        ..Limits::default()
    }
}

/// Makes what misbehaves in `callback` happen in the bad session; the answer is what came of it.
fn happen(bed: &mut Bed, callback: &str) -> Result<String, Failure> {
    let opened = bed.open(BAD);
    if callback == "open" {
        return opened;
    }
    opened.expect("it opens");
    let direction = Direction::Client;
    match callback {
        "on_client" => bed.say(BAD, "b\n"),
        "on_origin" => bed.tell(BAD, Event::Origin(b"1\n")),
        "on_target" => bed.tell(BAD, Event::Target(b"1\n")),
        "on_gap" => bed.tell(
            BAD,
            Event::Gap {
                direction,
                missing: Some(3),
            },
        ),
        "on_client_end" => bed.tell(BAD, Event::ClientEnd),
        "on_timer" | "on_shared" => {
            bed.after_ms(5);
            bed.tell(BAD, Event::Timer)
        }
        other => panic!("{other} is no callback that answers"),
    }
}

const CALLBACKS: [&str; 8] = [
    "open",
    "on_client",
    "on_origin",
    "on_target",
    "on_gap",
    "on_client_end",
    "on_timer",
    "on_shared",
];

/// The fault ends the sessions of the instance by that name, and nothing else.
fn fails_as(form: &str, fault: &str, callback: &str, expected: Failure) {
    let case = format!("{fault} in {callback}, {form}");
    let mut bed = Bed::new(
        &format!("misbehaving.{form}"),
        told(fault, callback),
        limits(),
    );
    bed.open(GOOD).expect("it opens");
    assert_eq!(bed.say(GOOD, "a\n").as_deref(), Ok("a\n"), "{case}");

    assert_eq!(happen(&mut bed, callback), Err(expected), "{case}");
    // The other session of the instance is told, under the same name.
    let woken = bed.wake();
    assert!(woken.contains(&(GOOD, Err(expected))), "{case}: {woken:?}");
    bed.close(GOOD);
    if callback != "open" {
        bed.close(BAD);
    }

    // The next one gets a new instance.
    bed.open(LATER)
        .unwrap_or_else(|failure| panic!("{case}: {failure:?}"));
    assert_eq!(bed.say(LATER, "c\n").as_deref(), Ok("c\n"), "{case}");
    bed.close(LATER);
    let figures = bed.figures();
    assert_eq!(figures.state, State::Running, "{case}");
    let failures = figures.failures;
    let counted = match expected {
        Failure::Trapped => failures.trapped,
        Failure::TimedOut => failures.timed_out,
        Failure::OutOfMemory => failures.out_of_memory,
        Failure::OutputLimit => failures.output_limit,
        other => panic!("{other:?} is no fault"),
    };
    assert_eq!(counted, 1, "{case}: {failures:?}");
}

#[test]
fn a_panic_in_each_callback() {
    for form in FORMS {
        for callback in CALLBACKS {
            fails_as(form, "panic", callback, Failure::Trapped);
        }
    }
}

/// A native plugin can't be interrupted.
#[test]
fn an_endless_loop_in_each_callback() {
    for callback in CALLBACKS {
        fails_as("wasm", "loop", callback, Failure::TimedOut);
    }
}

/// A native plugin takes memory as this process does.
#[test]
fn more_memory_than_there_is_in_each_callback() {
    for callback in CALLBACKS {
        fails_as("wasm", "allocate", callback, Failure::OutOfMemory);
    }
}

/// A native plugin's stack is this thread's.
#[test]
fn a_stack_that_overflows_in_each_callback() {
    for callback in CALLBACKS {
        fails_as("wasm", "recurse", callback, Failure::Trapped);
    }
}

#[test]
fn more_output_than_is_allowed() {
    for form in FORMS {
        let file = format!("misbehaving.{form}");
        let config = told("output", "on_client").with("mib", 5);
        let mut bed = Bed::new(&file, config, Limits::default());
        bed.open(BAD).expect("it opens");
        assert_eq!(bed.say(BAD, "b\n"), Err(Failure::OutputLimit), "{form}");
        assert_eq!(bed.figures().failures.output_limit, 1, "{form}");
    }
    // Without any end, its own memory is full before.
    fails_as("wasm", "output", "on_client", Failure::OutOfMemory);
}

/// It is all over when a session closes, but the next one must not suffer.
#[test]
fn a_fault_when_a_session_closes() {
    for (form, fault) in [("so", "panic"), ("wasm", "panic"), ("wasm", "loop")] {
        let file = format!("misbehaving.{form}");
        let mut bed = Bed::new(&file, told(fault, "on_close"), limits());
        bed.open(GOOD).expect("it opens");
        bed.open(BAD).expect("it opens");
        bed.close(BAD);
        let woken = bed.wake();
        assert_eq!(woken.len(), 1, "{form} {fault}: {woken:?}");
        assert!(matches!(woken[0], (GOOD, Err(_))), "{woken:?}");
        bed.close(GOOD);
        bed.open(LATER).expect("it opens");
        assert_eq!(bed.say(LATER, "c\n").as_deref(), Ok("c\n"));
    }
}

/// Nothing is captured yet: the configuration is at fault, and the user is told.
#[test]
fn a_fault_when_it_is_configured() {
    for (form, fault) in [("so", "panic"), ("wasm", "panic"), ("wasm", "loop")] {
        let step = Step {
            library: load(&format!("misbehaving.{form}")),
            port: None,
            config: told(fault, "configure"),
        };
        let error = Host::new(vec![step], limits()).expect_err("it does not work");
        let error = error.to_string();
        assert!(error.contains("misbehaving"), "{error}");
        assert!(
            error.contains("failed when it was given its configuration"),
            "{error}"
        );
        assert!(error.contains("hint: "), "{error}");
    }
}
