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
    });
    gate.begin(Exchange {
        start: 100,
        seen: 2000,
        seen_total: 2000,
    });
    gate.begin(Exchange {
        start: 200,
        seen: 3000,
        seen_total: 5000,
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
    });
    gate.begin(Exchange {
        start: 100,
        seen: 20,
        seen_total: 20,
    });
    gate.end(StreamEnd {
        abort: false,
        seen: 10,
        seen_total: 30,
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
    });
    gate.end(StreamEnd {
        abort: false,
        seen: 500,
        seen_total: 500,
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
    });
    gate.end(StreamEnd {
        abort: true,
        seen: 0,
        seen_total: 0,
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
