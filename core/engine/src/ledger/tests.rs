use std::collections::HashSet;

use super::*;

#[test]
fn what_entered_is_delivered_dropped_or_in_flight() {
    let mut account = Account::default();
    account.capture(10);
    account.deliver(4);
    account.drop(DropReason::TargetReset, 3);
    account.drop(DropReason::ShutDown, 1);
    assert_eq!(
        (
            account.dropped_total(),
            account.in_flight(),
            account.overdrawn()
        ),
        (4, 2, 0)
    );
    account.deliver(3);
    assert_eq!((account.in_flight(), account.overdrawn()), (0, 1));
}

#[test]
fn the_balance_is_zero_only_when_all_accounts_are_even() {
    let mut ledger = Ledger::default();
    assert!(ledger.balance().is_zero());
    ledger.bytes.capture(1);
    assert!(!ledger.balance().is_zero());
    ledger.bytes.drop(DropReason::CaptureGap, 1);
    assert!(ledger.balance().is_zero());
    ledger.requests.deliver(1);
    assert!(!ledger.balance().is_zero());
}

#[test]
fn the_loss_rate_leaves_out_what_the_user_left_out() {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.balance().loss_rate, 0.0);
    ledger.requests.capture(1000);
    ledger.requests.drop(DropReason::NotSelected, 600);
    ledger.requests.drop(DropReason::TargetSilent, 100);
    ledger.requests.deliver(300);
    let balance = ledger.balance();
    assert_eq!(balance.requests_meant, 400);
    assert_eq!(balance.loss_rate, 0.25);
}

#[test]
fn merging_adds_every_row() {
    let mut one = Ledger::default();
    one.connections.capture(5);
    one.connections.drop(DropReason::Bug, 2);
    one.requests.capture(7);
    one.bytes.deliver(11);
    one.answered_requests = 13;
    one.capture.ring_dropped = 17;
    one.upstream.challenge_acks = 19;
    one.send_errors.other = 23;
    let mut sum = one;
    sum.merge(&one);
    for (sum, one) in sum.rows().zip(one.rows()) {
        assert_eq!(
            sum,
            Row {
                value: 2 * one.value,
                ..one
            }
        );
    }
    assert_eq!(sum.send_errors.total(), 46);
}

#[test]
fn rows_are_unique_and_say_what_they_mean() {
    let mut seen = HashSet::new();
    for row in Ledger::default().rows() {
        assert!(
            seen.insert((row.section, row.name)),
            "{row:?} appears twice"
        );
        assert!(
            row.name.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
            "{row:?}"
        );
        assert!(
            !row.meaning.is_empty() && row.meaning.trim() == row.meaning,
            "{row:?}"
        );
    }
}

#[test]
fn reasons_know_their_place() {
    for (index, reason) in DropReason::ALL.into_iter().enumerate() {
        assert_eq!(reason.index(), index);
        assert!(!reason.describe().ends_with('.'), "{reason:?}");
    }
    let mut counts = PerReason::<u64>::default();
    counts[DropReason::Bug] = 1;
    let nonzero: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).collect();
    assert_eq!(nonzero, [(DropReason::Bug, &1)]);
}

#[test]
fn the_load_tells_what_was_asked_and_what_came_of_it() {
    let nothing = LoadCounters::default();
    assert_eq!(nothing.selected_percent(), None);
    assert_eq!((nothing.copies(), nothing.rate_percent()), (None, None));
    let shard = LoadCounters {
        connections_seen: 400,
        connections_asked_millionths: 10_000_000,
        connections_selected: 9,
        connections_replayed: 8,
        sessions_asked_millionths: 12_000_000,
        sessions_given: 11,
        rate_allowed: 50,
        rate_admitted: 49,
        ..nothing
    };
    let mut load = shard;
    load.merge(&shard);
    assert_eq!(load.selected_percent(), Some((2.5, 2.25)));
    assert_eq!(load.copies(), Some((1.5, 1.375)));
    assert_eq!(load.rate_percent(), Some(98.0));
}
