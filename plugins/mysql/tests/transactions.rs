//! Transactions that one of the two servers has rolled back by itself.

mod common;

use common::*;
use plugin_api::testkit::Played;

/// A deadlock, by its number.
const DEADLOCK: u16 = 1213;

/// A transaction whose update the two servers answer so, and another one behind it; `rollback` is
/// what the target answers to a command that is not the client's.
fn another_transaction(origin: Vec<u8>, target: Vec<u8>, rollback: Option<Vec<u8>>) -> Played {
    let mut talk = Talk::usual();
    talk.query("BEGIN", &[ok(0, IN_TRANSACTION)]);
    talk.client(0, &query("update t set a = 1"))
        .origin_all(&[origin])
        .target_all(&[target]);
    talk.client(0, &query("BEGIN"));
    talk.origin_all(&[ok(0, IN_TRANSACTION)]);
    if let Some(rollback) = rollback {
        talk.target_all(&[rollback]);
    }
    talk.target_all(&[ok(0, IN_TRANSACTION)]);
    talk.play()
}

#[test]
fn what_only_the_origin_has_rolled_back_the_target_rolls_back_too() {
    let changed = ok(1, IN_TRANSACTION);
    let played = another_transaction(error(DEADLOCK), changed, Some(ok(0, AUTOCOMMIT)));
    let said = ["BEGIN", "update t set a = 1", "ROLLBACK", "BEGIN"];
    assert_eq!(commands(&played), said.map(query));
    assert_eq!(played.count("transactions_rolled_back"), 1);
    assert_eq!(played.count("errors_only_at_origin"), 1);
    assert!(
        outcomes(&played)
            .iter()
            .all(|(_, outcome)| outcome == &Some((true, 0)))
    );
}

#[test]
fn what_both_have_rolled_back_needs_no_word() {
    let played = another_transaction(error(DEADLOCK), error(DEADLOCK), None);
    let said = ["BEGIN", "update t set a = 1", "BEGIN"];
    assert_eq!(commands(&played), said.map(query));
    assert_eq!(played.count("transactions_rolled_back"), 0);
}

#[test]
fn other_errors_leave_the_transaction_open() {
    let changed = ok(1, IN_TRANSACTION);
    let played = another_transaction(error(1062), changed, None);
    assert_eq!(played.count("transactions_rolled_back"), 0);
    assert_eq!(played.count("errors_only_at_origin"), 1);
}
