use super::*;

fn view(sent: u64, received: u64) -> View {
    View {
        sent,
        delivered: sent,
        end: 300,
        received,
        finished: false,
    }
}

fn gate() -> Gate {
    let mut gate = Gate::new(true);
    gate.begin(Exchange {
        start: 0,
        seen: 0,
        seen_total: 0,
        arrival: Arrival::default(),
    });
    gate.begin(Exchange {
        start: 100,
        seen: 2000,
        seen_total: 2000,
        arrival: Arrival::default(),
    });
    gate.begin(Exchange {
        start: 200,
        seen: 3000,
        seen_total: 5000,
        arrival: Arrival::default(),
    });
    gate
}

const T: fn(u64) -> Instant = |ms| Instant::from_micros(ms * 1000);

#[test]
fn the_first_exchange_leaves_and_the_second_waits_for_its_answer() {
    let mut gate = gate();
    assert!(gate.pass(T(0), &view(0, 0)).opened);
    assert_eq!(gate.limit(300), 100);
    gate.reply(T(1), false);
    let first_bytes = gate.pass(T(1), &view(100, 1460));
    assert_eq!(
        first_bytes,
        Passage {
            answered: 1,
            delivered: 1,
            opened: false
        }
    );
    gate.reply(T(1), true);
    let whole = gate.pass(T(1), &view(100, 1990));
    assert_eq!(
        whole,
        Passage {
            answered: 0,
            delivered: 0,
            opened: true
        }
    );
    assert_eq!(gate.limit(300), 200);
}

#[test]
fn a_much_shorter_answer_counts_once_the_target_is_quiet() {
    let mut gate = gate();
    gate.pass(T(0), &view(0, 0));
    gate.reply(T(1), true);
    assert!(!gate.pass(T(1), &view(100, 50)).opened);
    assert_eq!(gate.deadline(), Some(T(11)));
    assert!(gate.pass(T(11), &view(100, 50)).opened);
}

#[test]
fn nothing_leaves_before_the_exchange_before_has_left_whole() {
    let mut gate = gate();
    gate.pass(T(0), &view(0, 0));
    gate.reply(T(1), true);
    assert!(!gate.pass(T(1), &view(60, 2000)).opened);
    assert!(gate.pass(T(2), &view(100, 2000)).opened);
}

#[test]
fn switched_off_it_holds_nothing() {
    let mut gate = Gate::new(false);
    gate.begin(Exchange {
        start: 0,
        seen: 0,
        seen_total: 0,
        arrival: Arrival::default(),
    });
    gate.begin(Exchange {
        start: 100,
        seen: 20,
        seen_total: 20,
        arrival: Arrival::default(),
    });
    gate.end(StreamEnd {
        abort: false,
        seen: 10,
        seen_total: 30,
        arrival: Arrival::default(),
    });
    gate.pass(T(0), &view(0, 0));
    assert_eq!(gate.limit(300), u64::MAX);
}

#[test]
fn the_end_of_the_stream_waits_like_a_request() {
    let mut gate = Gate::new(true);
    gate.begin(Exchange {
        start: 0,
        seen: 0,
        seen_total: 0,
        arrival: Arrival::default(),
    });
    gate.end(StreamEnd {
        abort: false,
        seen: 500,
        seen_total: 500,
        arrival: Arrival::default(),
    });
    gate.pass(T(0), &view(300, 0));
    assert_eq!(gate.limit(300), 300);
    gate.reply(T(1), true);
    gate.pass(T(1), &view(300, 500));
    assert_eq!(gate.limit(300), u64::MAX);
}

#[test]
fn a_reset_waits_until_everything_has_arrived_and_an_answer_has_begun() {
    let mut gate = Gate::new(true);
    gate.begin(Exchange {
        start: 0,
        seen: 0,
        seen_total: 0,
        arrival: Arrival::default(),
    });
    gate.end(StreamEnd {
        abort: true,
        seen: 0,
        seen_total: 0,
        arrival: Arrival::default(),
    });
    gate.pass(T(0), &view(200, 0));
    assert!(!gate.abort_is_due());
    gate.pass(T(5), &view(300, 0));
    assert!(!gate.abort_is_due());
    gate.reply(T(6), true);
    gate.pass(T(6), &view(300, 10));
    assert!(gate.abort_is_due());
}

#[test]
fn unsent_exchanges_can_move_to_another_session() {
    let mut gate = gate();
    gate.pass(T(0), &view(0, 0));
    let unsent = gate.take_unsent(40).unwrap();
    assert_eq!((unsent.from, unsent.exchanges.len()), (100, 2));
    assert_eq!(
        gate.close(&View {
            end: 100,
            ..view(40, 0)
        }),
        (0, 1)
    );
}

/// Exchanges of 100 bytes, those after the first with an answer of 1000 bytes before them, and an
/// end; each captured at its time with its latency, both in ms.
fn distant_gate(exchanges: &[(u64, u32)], end: (u64, u32)) -> Gate {
    let mut gate = Gate::new(true);
    let arrival = |(at, latency): (u64, u32)| Arrival {
        at: T(at),
        latency_us: latency * 1000,
    };
    for (index, exchange) in exchanges.iter().enumerate() {
        let index = index as u64;
        gate.begin(Exchange {
            start: index * 100,
            seen: if index == 0 { 0 } else { 1000 },
            seen_total: index * 1000,
            arrival: arrival(*exchange),
        });
    }
    gate.end(StreamEnd {
        abort: false,
        seen: 0,
        seen_total: 0,
        arrival: arrival(end),
    });
    gate
}

#[test]
fn latency_holds_an_exchange_from_when_it_could_have_left() {
    let mut gate = distant_gate(&[(0, 50), (100, 30)], (100, 0));
    assert!(!gate.pass(T(0), &view(0, 0)).opened);
    assert_eq!((gate.limit(200), gate.deadline()), (0, Some(T(50))));
    assert!(gate.pass(T(50), &view(0, 0)).opened);
    // The answer, not the capture, is what the second had to wait for.
    assert!(!gate.pass(T(110), &view(100, 0)).opened);
    gate.reply(T(200), true);
    assert!(!gate.pass(T(200), &view(100, 1000)).opened);
    assert_eq!(gate.deadline(), Some(T(230)));
    assert_eq!(gate.waiting_since(), None, "the target has done its part");
    assert_eq!(gate.leaves_at(), Some(T(230)));
    assert!(gate.pass(T(230), &view(100, 1000)).opened);
    assert_eq!(gate.limit(200), u64::MAX);
}

#[test]
fn latencies_do_not_add_up_and_keep_the_order() {
    let mut gate = Gate::new(false);
    for (index, (at, latency)) in [(0, 80), (10, 20), (20, 80)].into_iter().enumerate() {
        gate.begin(Exchange {
            start: index as u64 * 100,
            seen: 5,
            seen_total: 5,
            arrival: Arrival {
                at: T(at),
                latency_us: latency * 1000,
            },
        });
    }
    let view = view(0, 0);
    for (ms, limit) in [(0, 0), (79, 0), (80, 200), (99, 200), (100, u64::MAX)] {
        gate.pass(T(ms), &view);
        assert_eq!(gate.limit(300), limit, "after {ms} ms");
    }
}

#[test]
fn the_end_has_a_latency_of_its_own() {
    let mut gate = distant_gate(&[(0, 10)], (0, 40));
    gate.pass(T(10), &view(0, 0));
    assert_eq!(gate.limit(100), 100, "the end stays");
    gate.pass(T(39), &view(100, 0));
    assert_eq!(gate.limit(100), 100);
    gate.pass(T(40), &view(100, 0));
    assert_eq!(gate.limit(100), u64::MAX);
}

#[test]
fn exchanges_are_timed_from_their_capture_to_their_first_byte() {
    let mut gate = distant_gate(&[(0, 0), (5, 0), (7, 0)], (9, 0));
    let mut delays = DelayHistogram::new();
    gate.pass(T(0), &view(0, 0));
    gate.note_departed(T(2), 0, &mut delays);
    assert_eq!(delays.count(), 0, "nothing has left");
    gate.note_departed(T(2), 60, &mut delays);
    gate.note_departed(T(4), 100, &mut delays);
    assert_eq!(
        (delays.count(), delays.max()),
        (1, Duration::from_millis(2))
    );
    gate.reply(T(8), true);
    gate.pass(T(8), &view(100, 1000));
    gate.note_departed(T(8), 101, &mut delays);
    assert_eq!(
        (delays.count(), delays.max()),
        (2, Duration::from_millis(3))
    );
    assert_eq!(gate.drop_newest_exchange(), Some(200));
    gate.note_departed(T(9), 300, &mut delays);
    assert_eq!(delays.count(), 2, "given up, not sent");
}
