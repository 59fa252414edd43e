//! Requests as a plugin marks them, and what the gate makes of that.

use std::time::Duration;

use tcpcopy_engine::plugin::{Actions, Failure};
use tcpcopy_engine::{Closing, DropReason};

use crate::dialogue::{Asked, Setup};

#[test]
fn a_request_waits_for_the_end_of_the_answer_before_and_for_nothing_else() {
    let mut dialogue = Setup::new().marking().established();
    dialogue.say(0, "one");
    assert_eq!(dialogue.sent(), "one");
    dialogue.say(100, "two");
    dialogue.target("as much as the origin said, and more, but without an end");
    dialogue.at_ms(10_000);
    assert_eq!(dialogue.sent(), "", "quiet is no end");
    dialogue.target(".");
    assert_eq!(dialogue.sent(), "two");
    dialogue.target(".");
    dialogue.acknowledge();
    let ledger = dialogue.ledger();
    assert_eq!(ledger.requests.delivered, 2);
    assert_eq!(ledger.answered_requests, 2);
    assert_eq!(ledger.bytes.delivered, 6);
}

#[test]
fn an_exchange_takes_from_its_departure_to_its_end() {
    let mut dialogue = Setup::new().marking().established();
    dialogue.say(0, "one");
    assert_eq!(dialogue.sent(), "one");
    dialogue.at_ms(3);
    dialogue.say(100, "two");
    assert_eq!(dialogue.sent(), "");
    dialogue.at_ms(8);
    dialogue.target(".");
    assert_eq!(dialogue.sent(), "two");
    dialogue.at_ms(12);
    // The last one ends nothing.
    dialogue.target("..");
    dialogue.say(0, "three four ");
    assert_eq!(dialogue.sent(), "three four ");
    dialogue.acknowledge();
    dialogue.at_ms(14);
    dialogue.target(".");
    dialogue.at_ms(15);
    dialogue.target(".");
    let took = std::mem::take(&mut dialogue.notes().took);
    let expected = [Some(8), Some(4), None, Some(2), Some(3)];
    assert_eq!(took, expected.map(|ms| ms.map(Duration::from_millis)));
    assert_eq!(dialogue.ledger().plugin.stray_ends, 1);
}

#[test]
fn an_exchange_that_was_under_way_before_the_first_mark_is_none_of_the_marked() {
    let mut dialogue = Setup::new()
        .marking()
        .on("client", |actions, text| {
            if text == "marked" {
                actions.begin_exchange();
            }
            actions.send(text.as_bytes());
            Ok(())
        })
        .established();
    dialogue.say(0, "unmarked");
    // Both leave at once, the second three milliseconds after it was said.
    dialogue.at_ms(3);
    dialogue.say(0, "marked");
    assert_eq!(dialogue.sent(), "unmarkedmarked");
    dialogue.at_ms(5);
    dialogue.target(".");
    let took = std::mem::take(&mut dialogue.notes().took);
    assert_eq!(took, [Some(Duration::from_millis(2))]);
}

#[test]
fn what_is_sent_in_order_waits_behind_what_is_held() {
    let order = |in_order| {
        let setup = Setup::new().marking().on("open", |actions, _| {
            actions.hold();
            actions.set_timer(Duration::from_millis(1));
            Ok(())
        });
        let rule: fn(&mut Actions, &str) -> Result<(), Failure> = match in_order {
            true => |actions, _| {
                actions.in_order();
                actions.send(b"!");
                actions.release();
                Ok(())
            },
            false => |actions, _| {
                actions.send(b"!");
                actions.release();
                Ok(())
            },
        };
        let mut dialogue = setup.on("timer", rule).established();
        dialogue.say(0, "one");
        assert_eq!(dialogue.sent(), "");
        dialogue.at_ms(1);
        dialogue.sent()
    };
    assert_eq!([order(false), order(true)], ["!one", "one!"]);
}

#[test]
fn requests_sent_without_seeing_an_answer_leave_at_once() {
    let mut dialogue = Setup::new().marking().established();
    dialogue.say(0, "one two ");
    dialogue.say(0, "three");
    assert_eq!(dialogue.sent(), "one two three");
    dialogue.say(100, "four five ");
    dialogue.target("..");
    assert_eq!(dialogue.sent(), "", "one answer is to come");
    dialogue.target(".");
    assert_eq!(dialogue.sent(), "four five ");
    assert_eq!(dialogue.ledger().requests.captured, 5);
}

#[test]
fn a_plugin_that_does_not_hear_answers_marks_requests_and_no_ends() {
    let mut dialogue = Setup::new().needs(false, false).marking().established();
    dialogue.say(0, "one two ");
    assert_eq!(dialogue.sent(), "one two ");
    dialogue.say(1000, "three");
    dialogue.target("something.");
    dialogue.at_ms(9);
    assert_eq!(dialogue.sent(), "");
    dialogue.at_ms(10);
    assert_eq!(dialogue.sent(), "three", "the target has fallen quiet");
    assert_eq!(dialogue.ledger().requests.captured, 3);
    assert_eq!(dialogue.ledger().plugin.target_bytes, 0);
}

#[test]
fn an_answer_that_never_ends_ends_the_session_under_its_name() {
    let mut dialogue = Setup::new().marking().established();
    dialogue.say(0, "one");
    assert_eq!(dialogue.sent(), "one");
    dialogue.acknowledge();
    dialogue.say(100, "two");
    assert_eq!(dialogue.sent(), "");
    dialogue.at_ms(600_000);
    assert_eq!(
        dialogue.asked(),
        Asked::Ended(Some(DropReason::GateTimeout))
    );
}

#[test]
fn without_waiting_nothing_waits_but_what_is_held() {
    let setup = Setup::new().config(|config| config.wait_for_answers = false);
    let mut dialogue = setup
        .marking()
        .on("open", |actions, _| {
            actions.hold();
            Ok(())
        })
        .on("timer", |actions, _| {
            actions.release();
            Ok(())
        })
        .on("client end", |actions, _| {
            actions.set_timer(std::time::Duration::from_millis(5));
            Ok(())
        })
        .established();
    dialogue.say(0, "one");
    dialogue.say(100, "two");
    assert_eq!(dialogue.sent(), "");
    dialogue.client_ends(0);
    dialogue.at_ms(4);
    assert_eq!(dialogue.sent(), "");
    dialogue.at_ms(5);
    assert_eq!(dialogue.sent(), "onetwo");
    dialogue.at_ms(25);
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Finish));
}

#[test]
fn what_answers_the_target_goes_ahead_of_what_waits() {
    let mut dialogue = Setup::new()
        .marking()
        .on("target", |actions, text| {
            match text {
                "?" => actions.send(b"answer"),
                _ => actions.end_exchange(true),
            }
            Ok(())
        })
        .established();
    dialogue.say(0, "one");
    assert_eq!(dialogue.sent(), "one");
    dialogue.say(100, "two");
    dialogue.target("?");
    assert_eq!(dialogue.sent(), "answer");
    dialogue.target(".");
    assert_eq!(dialogue.sent(), "two");
    dialogue.acknowledge();
    let ledger = dialogue.ledger();
    assert_eq!((ledger.bytes.captured, ledger.bytes.delivered), (6, 6));
    assert_eq!(ledger.plugin.sent_bytes, 12);
}

#[test]
fn a_login_goes_ahead_of_what_the_client_has_said_meanwhile() {
    let mut dialogue = Setup::new()
        .marking()
        .on("open", |actions, _| {
            actions.send(b"user ");
            actions.hold();
            Ok(())
        })
        .on("target", |actions, text| {
            match text {
                "password?" => actions.send(b"password "),
                "welcome" => actions.release(),
                _ => actions.end_exchange(text == "."),
            }
            Ok(())
        })
        .established();
    dialogue.say(0, "one ");
    dialogue.say(100, "two");
    dialogue.client_ends(200);
    assert_eq!(dialogue.sent(), "user ");
    dialogue.target("password?");
    assert_eq!(dialogue.sent(), "password ");
    dialogue.target("welcome");
    assert_eq!(dialogue.sent(), "one ");
    dialogue.target("!");
    assert_eq!(dialogue.sent(), "two");
    dialogue.acknowledge();
    assert_eq!(dialogue.asked(), Asked::Rest, "the answer comes first");
    dialogue.target(".");
    assert_eq!(dialogue.asked(), Asked::Rest, "the target may close first");
    dialogue.at_ms(20);
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Finish));
    let ledger = dialogue.ledger();
    assert_eq!(ledger.requests.delivered, 2);
    assert_eq!(
        (ledger.answered_requests, ledger.plugin.bad_answers),
        (2, 1)
    );
}

#[test]
fn what_is_held_for_ever_ends_under_its_name() {
    let setup = Setup::new().marking().on("open", |actions, _| {
        actions.hold();
        Ok(())
    });
    let mut dialogue = setup.established();
    dialogue.at_ms(650_000);
    assert_eq!(dialogue.asked(), Asked::Rest, "nothing is held yet");
    dialogue.say(0, "one");
    assert_eq!(dialogue.asked(), Asked::Rest);
    dialogue.at_ms(1_249_000);
    assert_eq!(dialogue.asked(), Asked::Rest);
    dialogue.at_ms(1_250_000);
    assert_eq!(dialogue.asked(), Asked::Ended(Some(DropReason::PluginHeld)));
    let dropped = &dialogue.ledger().requests.dropped;
    assert_eq!(dropped[DropReason::PluginHeld], 1);
}

#[test]
fn a_request_of_which_nothing_is_sent_is_left_out() {
    let mut dialogue = Setup::new().leaving_out().established();
    dialogue.say(0, "one ");
    dialogue.say(100, "x1 two ");
    assert_eq!(dialogue.sent(), "one ");
    dialogue.target(".");
    assert_eq!(dialogue.sent(), "two ", "it waited in place of the other");
    dialogue.target(".");
    dialogue.say(300, "x2 ");
    dialogue.client_ends(400);
    dialogue.acknowledge();
    dialogue.tell(tcpcopy_engine::UpstreamEvent::Finished);
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Finish));
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Release));
    assert_eq!(dialogue.asked(), Asked::Ended(None));
    let ledger = dialogue.ledger();
    assert_eq!(ledger.requests.captured, 4);
    assert_eq!(ledger.requests.delivered, 2);
    assert_eq!(ledger.requests.dropped[DropReason::PluginDropped], 2);
    assert_eq!(ledger.bytes.dropped[DropReason::PluginDropped], 3);
    assert_eq!(ledger.plugin.stray_ends, 0);
}

#[test]
fn behind_a_first_request_that_is_left_out_nothing_is_waited_for() {
    for hears_answers in [true, false] {
        let mut dialogue = Setup::new()
            .leaving_out()
            .needs(false, hears_answers)
            .established();
        dialogue.say(0, "x1");
        dialogue.say(100, "x2");
        assert_eq!(dialogue.sent(), "");
        dialogue.say(200, "one");
        assert_eq!(dialogue.sent(), "one", "nobody else was asked anything");
        dialogue.say(300, "two");
        assert_eq!(dialogue.sent(), "", "it waits for the answer");
    }
}

#[test]
fn a_request_without_an_answer_is_ended_before_or_after_it_has_left() {
    let mut dialogue = Setup::new()
        .marking()
        .on("client", |actions, text| {
            for word in text.split_inclusive(' ') {
                actions.begin_exchange();
                actions.send(word.as_bytes());
                if word == "alone " {
                    actions.end_exchange(true);
                }
            }
            Ok(())
        })
        .on("target", |actions, text| {
            text.chars().for_each(|_| actions.end_exchange(true));
            Ok(())
        })
        .established();
    dialogue.say(0, "alone ");
    dialogue.say(0, "one mute two ");
    assert_eq!(dialogue.sent(), "alone one mute two ");
    dialogue.say(100, "three mute ");
    dialogue.target(".:.");
    assert_eq!(dialogue.sent(), "three mute ");
    dialogue.say(200, "four ");
    dialogue.target(".");
    assert_eq!(dialogue.sent(), "", "one is open");
    dialogue.target(":");
    assert_eq!(dialogue.sent(), "four ");
    dialogue.target(".");
    dialogue.say(300, "alone ");
    dialogue.say(300, "five ");
    assert_eq!(dialogue.sent(), "alone five ");
    dialogue.target(".");
    dialogue.acknowledge();
    let ledger = dialogue.ledger();
    assert_eq!(ledger.requests.delivered, 9);
    assert_eq!(ledger.answered_requests, 9);
    assert_eq!(ledger.plugin.stray_ends, 0);
    dialogue.target("!");
    assert_eq!(dialogue.ledger().plugin.stray_ends, 1);
}

#[test]
fn without_marks_requests_are_told_apart_as_without_a_plugin() {
    let upper = |setup: Setup| {
        setup.on("client", |actions, text| {
            actions.send(text.to_uppercase().as_bytes());
            Ok(())
        })
    };
    let mut dialogue = upper(Setup::new().needs(false, false)).established();
    dialogue.say(0, "one");
    assert_eq!(dialogue.sent(), "ONE");
    dialogue.say(100, "two");
    assert_eq!(dialogue.sent(), "");
    dialogue.target("something");
    dialogue.at_ms(11);
    assert_eq!(dialogue.sent(), "TWO", "the target has fallen quiet");
    assert!(dialogue.heard().iter().all(|it| !it.starts_with("target")));
    assert_eq!(dialogue.ledger().requests.captured, 2);
    assert_eq!(dialogue.ledger().answered_requests, 1);
}

#[test]
fn without_marks_what_is_swallowed_is_no_request() {
    let mut dialogue = Setup::new()
        .on("client", |actions, text| {
            if !text.starts_with('x') {
                actions.send(text.as_bytes());
            }
            Ok(())
        })
        .established();
    dialogue.say(0, "x1");
    dialogue.say(100, "x2");
    dialogue.say(200, "one");
    assert_eq!(dialogue.sent(), "one", "no request before waits");
    dialogue.say(300, "x3");
    dialogue.say(400, "two");
    dialogue.target("it");
    dialogue.at_ms(10);
    assert_eq!(dialogue.sent(), "two");
    dialogue.acknowledge();
    let ledger = dialogue.ledger();
    assert_eq!(ledger.requests.captured, 2);
    assert_eq!((ledger.bytes.captured, ledger.bytes.delivered), (12, 12));
}
