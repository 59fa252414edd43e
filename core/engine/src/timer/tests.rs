use proptest::prelude::*;

use super::*;

fn micros(micros: u64) -> Instant {
    Instant::from_micros(micros)
}

fn pop_all<K: Copy>(queue: &mut TimerQueue<K>, now: Instant) -> Vec<K> {
    std::iter::from_fn(|| queue.pop_due(now)).collect()
}

#[test]
fn entries_come_by_time_then_by_insertion() {
    let mut queue = TimerQueue::new();
    for (key, at) in [('c', 5000), ('a', 10), ('d', 5000), ('b', 11), ('e', 5001)] {
        queue.schedule(key, micros(at));
    }
    assert_eq!((queue.len(), queue.is_empty()), (5, false));
    assert_eq!(pop_all(&mut queue, micros(9)), []);
    assert_eq!(pop_all(&mut queue, micros(10)), ['a']);
    assert_eq!(pop_all(&mut queue, micros(5000)), ['b', 'c', 'd']);
    assert_eq!(queue.next(), Some(micros(5001)));
    assert_eq!(pop_all(&mut queue, micros(5001)), ['e']);
    assert_eq!((queue.len(), queue.next()), (0, None));
}

#[test]
fn the_past_is_due_at_once() {
    let mut queue = TimerQueue::new();
    assert_eq!(queue.pop_due(micros(1_000_000)), None);
    queue.schedule('a', micros(1_000_000));
    queue.schedule('b', micros(3));
    assert_eq!(queue.next(), Some(micros(3)));
    assert_eq!(pop_all(&mut queue, micros(1_000_000)), ['b', 'a']);
}

#[test]
fn the_end_of_time_is_not_too_far() {
    let mut queue = TimerQueue::new();
    queue.schedule('z', micros(u64::MAX));
    queue.schedule('y', micros(u64::MAX - 1));
    assert_eq!(pop_all(&mut queue, micros(u64::MAX - 1)), ['y']);
    assert_eq!(pop_all(&mut queue, micros(u64::MAX)), ['z']);
}

/// Whoever sleeps until `next` and then pops meets every entry, on time, after few wake-ups.
#[test]
fn waking_at_next_meets_every_entry_on_time() {
    let day = 24 * 3600 * 1_000_000;
    let moments = [
        1,
        1023,
        1024,
        999_999,
        63 << 10,
        64 << 10,
        600_000_000,
        day,
        300 * day,
    ];
    let mut queue = TimerQueue::new();
    moments
        .into_iter()
        .for_each(|at| queue.schedule(at, micros(at)));
    let mut met = Vec::new();
    let mut wake_ups = 0;
    while let Some(now) = queue.next() {
        wake_ups += 1;
        for at in pop_all(&mut queue, now) {
            assert_eq!(micros(at), now);
            met.push(at);
        }
    }
    assert_eq!(met.len(), moments.len());
    assert!(
        wake_ups < 40,
        "{wake_ups} wake-ups for {} entries",
        moments.len()
    );
}

#[test]
fn a_million_entries_fit() {
    assert!(size_of::<Entry<u64>>() <= 24);
}

#[derive(Clone, Debug)]
enum Step {
    Schedule { ahead_micros: i64 },
    Advance { micros: u64 },
    AdvanceToNext,
}

fn step() -> impl Strategy<Value = Step> {
    // Spans of all sizes: the exponent is drawn first.
    let span = || (0..40u32).prop_flat_map(|bits| 0..1i64 << bits);
    prop_oneof![
        6 => span().prop_map(|ahead_micros| Step::Schedule { ahead_micros }),
        1 => span().prop_map(|back| Step::Schedule { ahead_micros: -back }),
        2 => (0..4i64).prop_map(|ahead_micros| Step::Schedule { ahead_micros }),
        2 => span().prop_map(|micros| Step::Advance { micros: micros.cast_unsigned() }),
        4 => Just(Step::AdvanceToNext),
    ]
}

proptest! {
    #[test]
    fn agrees_with_a_sorted_list(steps in prop::collection::vec(step(), 1..200)) {
        let mut queue = TimerQueue::new();
        let mut list: Vec<(Instant, usize)> = Vec::new();
        let mut now = micros(1 << 41);
        prop_assert_eq!(queue.pop_due(now), None);
        for (key, step) in steps.into_iter().enumerate() {
            match step {
                Step::Schedule { ahead_micros } => {
                    let at = micros(now.as_micros().saturating_add_signed(ahead_micros));
                    queue.schedule(key, at);
                    list.push((at, key));
                    list.sort();
                }
                Step::Advance { micros: span } => now = micros(now.as_micros() + span),
                Step::AdvanceToNext => now = now.max(queue.next().unwrap_or(now)),
            }
            let first = list.first().map(|(at, _)| *at);
            prop_assert_eq!(queue.next().is_some(), first.is_some());
            prop_assert!(queue.next() <= first, "{:?} after {:?}", queue.next(), first);
            if !matches!(step, Step::Schedule { .. }) {
                let due = list.partition_point(|(at, _)| *at <= now);
                let expected: Vec<usize> = list.drain(..due).map(|(_, key)| key).collect();
                prop_assert_eq!(pop_all(&mut queue, now), expected);
            }
            prop_assert_eq!(queue.len(), list.len());
            let is_due = list.first().is_some_and(|(at, _)| *at <= now);
            prop_assert!(is_due || queue.next().is_none_or(|next| next > now));
        }
    }
}
