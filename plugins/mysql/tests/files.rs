//! `LOAD DATA LOCAL`: which packets are of the file, and holes in it.

mod common;

use common::*;
use plugin_api::Direction;
use plugin_api::testkit::Step;

const LOAD: &str = "load data local infile 'x' into table t";

fn gap() -> Step {
    Step::Gap {
        direction: Direction::Client,
        missing: None,
    }
}

/// A client that loads a file of so many pieces, asked for by the origin in a packet `asked`.
fn load(talk: &mut Talk, asked: u8, pieces: u32) -> u8 {
    for at in 0..pieces {
        let sequence = (u32::from(asked) + 1 + at) as u8;
        talk.client(sequence, format!("{at}\n").as_bytes());
    }
    let end = (u32::from(asked) + 1 + pieces) as u8;
    talk.client(end, b"");
    end
}

#[test]
fn the_numbers_of_a_long_files_packets_go_round() {
    for pieces in [252, 253, 254, 255, 600] {
        let mut talk = Talk::usual();
        talk.client(0, &query(LOAD)).both(&[b"\xfbx".to_vec()]);
        let end = load(&mut talk, 1, pieces);
        talk.origin(end.wrapping_add(1), &ok(3, AUTOCOMMIT));
        talk.target(end.wrapping_add(1), &ok(3, AUTOCOMMIT));
        // What follows is numbered and answered as if nothing had been.
        talk.prepare("select ?", 7, 3, 1);
        talk.client(0, &execute(7, true, 5))
            .both(&rows(1, AUTOCOMMIT, USUAL));
        let played = talk.play();
        let said = told(&played);
        assert_eq!(said.len() as u32, 1 + pieces + 1 + 2, "{pieces}");
        for (at, (sequence, _)) in said[1..][..pieces as usize + 1].iter().enumerate() {
            assert_eq!(*sequence, (at + 2) as u8, "{pieces}");
        }
        assert_eq!(said[said.len() - 1].1, execute(3, true, 5), "{pieces}");
        assert_eq!(left_out(&played), [""; 0], "{pieces}");
        let ended = |(_, outcome): &(_, _)| *outcome == Some((true, 0));
        assert!(outcomes(&played).iter().all(ended), "{pieces}");
    }
}

#[test]
fn a_second_file_may_begin_where_numbers_go_round() {
    let mut talk = Talk::usual();
    let both = format!("{LOAD}; {LOAD}");
    talk.client(0, &query(&both)).both(&[b"\xfbx".to_vec()]);
    // Behind this file come an OK and another request, the latter with 255.
    let end = load(&mut talk, 1, 251);
    assert_eq!(end, 253);
    for direction in [Direction::Origin, Direction::Target] {
        talk.raw(direction, &message(254, &ok(3, AUTOCOMMIT | MORE_RESULTS)));
        talk.raw(direction, &message(255, b"\xfbx"));
    }
    let end = load(&mut talk, 255, 3);
    talk.origin(end + 1, &ok(3, AUTOCOMMIT));
    talk.target(end + 1, &ok(3, AUTOCOMMIT));
    talk.query("select 1", &rows(1, AUTOCOMMIT, USUAL));
    let played = talk.play();
    let said = told(&played);
    assert_eq!(said.len(), 1 + 252 + 4 + 1);
    assert_eq!(said[said.len() - 5], (0, b"0\n".to_vec()));
    assert_eq!(said[said.len() - 2], (3, Vec::new()));
    assert_eq!(outcomes(&played)[1].1, Some((true, 0)));
}

#[test]
fn a_hole_in_a_file_ends_the_session() {
    // The target has asked for it already, or not yet.
    for target_has_asked in [true, false] {
        let mut talk = Talk::usual();
        talk.client(0, &query(LOAD)).origin(1, b"\xfbx");
        if target_has_asked {
            talk.target(1, b"\xfbx");
        }
        // The hole is all of the file, or its end.
        for pieces in [0, 2] {
            for at in 0..pieces {
                talk.client(2 + at, b"1\n");
            }
            let steps = talk.steps.clone();
            talk.step(gap());
            talk.client(9, b"8\n").client(10, b"");
            talk.origin(11, &ok(8, AUTOCOMMIT));
            for _ in 0..2 {
                talk.client(0, &query("select 1"))
                    .origin_all(&rows(1, AUTOCOMMIT, USUAL));
            }
            let played = talk.play();
            assert_eq!(played.refusal(), Some("capture_gap"));
            let ends = told(&played).iter().any(|(_, bytes)| bytes.is_empty());
            assert!(!ends, "the target takes half a file for a whole one");
            talk.steps = steps;
        }
    }
}

#[test]
fn a_hole_in_a_file_that_the_target_does_not_want_costs_nothing_more() {
    let mut talk = Talk::usual();
    talk.client(0, &query(LOAD))
        .origin(1, b"\xfbx")
        .target(1, &error(3948));
    talk.client(2, b"1\n").step(gap());
    for _ in 0..2 {
        talk.client(0, &query("select 1"))
            .origin_all(&rows(1, AUTOCOMMIT, USUAL));
    }
    let played = talk.play();
    assert_eq!(played.refusal(), None);
    assert_eq!(commands(&played), [query(LOAD), query("select 1")]);
}

#[test]
fn a_client_that_goes_within_a_file_does_not_end_it() {
    let mut talk = Talk::usual();
    talk.client(0, &query(LOAD)).both(&[b"\xfbx".to_vec()]);
    talk.client(2, b"1\n").end(Direction::Client);
    assert_eq!(told(&talk.play()), [(0, query(LOAD)), (2, b"1\n".to_vec())]);
}
