//! Streams that are not what they should be: no panic, no more memory or output than is due.

mod common;

use common::*;
use plugin_api::Direction;
use plugin_api::testkit::Step;
use proptest::prelude::*;

/// Conversations of every kind, one after the other.
fn talk(capabilities: u32, late: bool) -> Talk {
    let mut talk = match late {
        true => {
            let mut talk = Talk::late(1);
            talk.greet_target(42);
            talk.target(2, &ok(0, AUTOCOMMIT));
            talk
        }
        false => Talk::logged_in(capabilities, capabilities),
    };
    talk.query("begin", &[ok(0, IN_TRANSACTION)]);
    talk.query("select a from t", &rows(3, AUTOCOMMIT, capabilities));
    talk.prepare("select ?", 7, 3, 1);
    talk.client(0, &execute(7, true, 5))
        .both(&rows(1, AUTOCOMMIT, capabilities));
    talk.client(0, &of_statement(0x18, 7, b"\0\0long"));
    talk.client(0, &execute(7, false, 5))
        .both(&rows(1, AUTOCOMMIT, capabilities));
    talk.client(0, &of_statement(0x19, 7, &[]));
    talk.client(0, &query("load data local infile 'x' into table t"))
        .both(&[b"\xfbx".to_vec()]);
    talk.client(2, b"1\n").client(3, b"");
    talk.origin(4, &ok(1, AUTOCOMMIT))
        .target(4, &ok(1, AUTOCOMMIT));
    talk.client(0, b"\x11other\0\0shop\0\x2d\0mysql_native_password\0");
    talk.both(&[ok(0, AUTOCOMMIT)]);
    talk.query("kill 41", &[error(1094)]);
    talk.end(Direction::Client);
    talk
}

/// What goes wrong with a step.
#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Lose,
    Gap,
    Swap,
}

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = prop::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        (any::<usize>(), 1_u8..).prop_map(|(at, with)| Damage::Flip(at, with)),
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), bytes).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        Just(Damage::Lose),
        Just(Damage::Gap),
        Just(Damage::Swap),
    ]
}

fn apply(steps: &mut Vec<Step>, at: usize, damage: Damage) {
    let at = at % steps.len();
    if let Damage::Swap = damage {
        let other = (at + 1).min(steps.len() - 1);
        if matches!(
            (&steps[at], &steps[other]),
            (Step::Data { .. }, Step::Data { .. })
        ) {
            steps.swap(at, other);
        }
        return;
    }
    let Step::Data { direction, bytes } = &mut steps[at] else {
        return;
    };
    let length = bytes.len();
    match damage {
        Damage::Flip(place, with) => bytes[place % length] ^= with,
        Damage::Cut(place) => bytes.truncate(1 + place % length),
        Damage::Insert(place, more) => {
            let place = place % (length + 1);
            bytes.splice(place..place, more);
        }
        Damage::Gap if *direction != Direction::Target => {
            steps[at] = Step::Gap {
                direction: *direction,
                missing: Some(length as u64),
            };
        }
        Damage::Lose | Damage::Gap => {
            steps.remove(at);
        }
        Damage::Swap => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_conversations_never_panic(
        capabilities in prop::sample::select(vec![
            USUAL, USUAL | DEPRECATE_EOF | SESSION_TRACK, USUAL | QUERY_ATTRIBUTES, USUAL | COMPRESS,
        ]),
        late in any::<bool>(),
        chunk in 1_usize..64,
        damages in prop::collection::vec((any::<usize>(), damage()), 1..6),
    ) {
        let mut talk = talk(capabilities, late);
        let said: usize = talk.steps.iter().map(|step| match step {
            Step::Data { bytes, .. } => bytes.len(),
            _ => 0,
        }).sum();
        for (at, damage) in damages {
            apply(&mut talk.steps, at, damage);
        }
        let played = talk.play_cut(chunk);
        prop_assert!(played.sent().len() <= said * 2 + 4096);
    }

    #[test]
    fn nor_do_any_bytes(
        first in any::<bool>(),
        steps in prop::collection::vec((0_u8..3, prop::collection::vec(any::<u8>(), 1..60)), 0..20),
    ) {
        let mut talk = match first {
            true => Talk { steps: Vec::new(), client: USUAL, target: USUAL },
            false => Talk::usual(),
        };
        for (who, bytes) in steps {
            let who = [Direction::Client, Direction::Origin, Direction::Target][usize::from(who)];
            talk.raw(who, &bytes);
        }
        talk.play();
    }
}

#[test]
fn what_waits_has_a_bound() {
    let mut talk = Talk::before_the_target();
    // The target never greets.
    for _ in 0..20 {
        talk.client(0, &query(&"x".repeat(10_000)));
    }
    let played = talk.play_with(config().with("queue_bytes", 100_000));
    assert_eq!(played.refusal(), Some("queue_full"));
    assert_eq!(talk.play().refusal(), None);
}
