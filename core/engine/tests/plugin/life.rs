//! Plugin sessions from their beginning to their end, in all the ways there are.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tcpcopy_engine::plugin::Failure;
use tcpcopy_engine::{Closing, DropReason, Instant, ShutDown, SocketFailure, UpstreamEvent};

use crate::dialogue::{Asked, CLIENT, Dialogue, ORIGIN, Setup, TARGET};

#[test]
fn a_session_is_announced_and_closed() {
    let mut dialogue = Setup::new().marking().established();
    dialogue.say(0, "one");
    dialogue.client_ends(0);
    assert_eq!(dialogue.sent(), "one");
    dialogue.target(".");
    dialogue.tell(UpstreamEvent::Finished);
    dialogue.acknowledge();
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Finish));
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Release));
    assert_eq!(dialogue.asked(), Asked::Ended(None));
    let events = ["open", "client one", "client end", "target .", "target end"];
    assert_eq!(dialogue.heard(), events);
    let notes = dialogue.notes();
    let info = notes.infos[0];
    assert_eq!(
        (info.client, info.origin, info.target),
        (CLIENT, ORIGIN, TARGET)
    );
    assert!(info.start_seen && info.copy == 0);
    assert_eq!(notes.closed, 1);
}

#[test]
fn each_copy_is_a_session_of_its_own() {
    let setup = Setup::new().config(|config| config.copies = 3.0);
    let mut dialogue = setup.marking().established();
    dialogue.say(0, "one");
    let copies: Vec<u16> = dialogue.notes().infos.iter().map(|it| it.copy).collect();
    assert_eq!(copies, [0, 1, 2]);
    let heard = dialogue.heard();
    assert_eq!(heard.iter().filter(|it| *it == "client one").count(), 3);
    assert_eq!(dialogue.ledger().requests.captured, 3);
}

#[test]
fn a_refused_session_ends_and_no_other_follows() {
    let mut dialogue = Setup::new()
        .marking()
        .on("target", |actions, _| {
            actions.end_exchange(true);
            actions.refuse();
            actions.send(b"never");
            Ok(())
        })
        .established();
    dialogue.say(0, "one");
    assert_eq!(dialogue.sent(), "one");
    dialogue.say(100, "two");
    dialogue.target(".");
    assert_eq!(
        dialogue.asked(),
        Asked::Ended(Some(DropReason::PluginRefused))
    );
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Reset));
    dialogue.say(200, "three");
    assert_eq!(dialogue.asked(), Asked::Rest);
    assert_eq!(dialogue.notes().closed, 1);
    let ledger = dialogue.ledger();
    assert_eq!(ledger.bytes.dropped[DropReason::PluginRefused], 11);
    assert_eq!(ledger.plugin.refused, 1);
}

#[test]
fn a_session_refused_at_once_never_connects() {
    let setup = Setup::new().on("open", |actions, _| {
        actions.refuse();
        Ok(())
    });
    let mut dialogue = setup.build();
    dialogue.client(tcpcopy_packet::TcpFlags::SYN, 0, "");
    dialogue.client_seq = 1;
    dialogue.say(0, "one");
    assert_eq!(dialogue.asked(), Asked::Rest);
    dialogue.engine.shut_down(dialogue.now, ShutDown::Now);
    let ledger = dialogue.ledger();
    assert_eq!(ledger.connections.dropped[DropReason::PluginRefused], 1);
    assert_eq!(ledger.bytes.dropped[DropReason::PluginRefused], 3);
    assert_eq!(dialogue.notes().closed, 1);
}

#[test]
fn a_failure_ends_the_session_and_the_next_request_begins_another() {
    let mut dialogue = Setup::new()
        .marking()
        .on("client", |actions, text| {
            actions.begin_exchange();
            actions.send(text.as_bytes());
            match text {
                "bad" => Err(Failure::TimedOut),
                _ => Ok(()),
            }
        })
        .established();
    dialogue.say(0, "bad");
    assert_eq!(
        dialogue.asked(),
        Asked::Ended(Some(DropReason::PluginFailed))
    );
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Reset));
    assert_eq!(dialogue.asked(), Asked::Rest);
    dialogue.say(0, " rest of it");
    assert_eq!(dialogue.asked(), Asked::Rest);
    dialogue.say(100, "good");
    dialogue.connect();
    assert_eq!(dialogue.sent(), "good");
    assert!(!dialogue.notes().infos[1].start_seen);
    let ledger = dialogue.ledger();
    assert_eq!(ledger.bytes.dropped[DropReason::PluginFailed], 14);
    assert_eq!(ledger.plugin.timed_out, 1);
}

#[test]
fn a_plugin_that_is_switched_off_costs_no_connection() {
    let setup = Setup::new().on("open", |_, _| Err(Failure::SwitchedOff));
    let mut dialogue = setup.build();
    dialogue.client(tcpcopy_packet::TcpFlags::SYN, 0, "");
    dialogue.client_seq = 1;
    dialogue.say(0, "one");
    dialogue.say(100, "two");
    assert_eq!(dialogue.asked(), Asked::Rest);
    let ledger = dialogue.ledger();
    assert_eq!(ledger.bytes.dropped[DropReason::PluginFailed], 6);
    assert_eq!(ledger.plugin.switched_off, 3);
    assert_eq!(dialogue.notes().closed, 0);
}

#[test]
fn what_passes_through_passes_as_it_is() {
    let mut dialogue = Setup::new()
        .marking()
        .on("target", |actions, text| {
            actions.end_exchange(true);
            if text == "upgrade" {
                actions.pass_through();
            }
            Ok(())
        })
        .established();
    dialogue.say(0, "one");
    assert_eq!(dialogue.sent(), "one");
    dialogue.say(100, "two");
    dialogue.target("upgrade");
    assert_eq!(dialogue.sent(), "two");
    assert_eq!(dialogue.notes().closed, 1);
    dialogue.heard();
    dialogue.say(200, "as it is");
    assert_eq!(dialogue.sent(), "", "the answer has not begun");
    dialogue.target(&"x".repeat(100));
    assert_eq!(dialogue.sent(), "as it is");
    dialogue.client_ends(200);
    dialogue.acknowledge();
    assert!(dialogue.heard().is_empty());
    let ledger = dialogue.ledger();
    assert_eq!((ledger.bytes.captured, ledger.bytes.delivered), (14, 14));
    assert_eq!(ledger.requests.captured, 3);
    assert_eq!(ledger.plugin.passed_through, 1);
}

#[test]
fn a_timer_fires_once_and_never_without_rest() {
    let mut dialogue = Setup::new()
        .on("open", |actions, _| {
            actions.set_timer(Duration::from_millis(500));
            actions.set_timer(Duration::ZERO);
            Ok(())
        })
        .on("timer", |actions, _| {
            actions.send(b"tick");
            Ok(())
        })
        .established();
    assert_eq!(dialogue.sent(), "");
    dialogue.at_ms(1);
    assert_eq!(dialogue.sent(), "tick");
    dialogue.at_ms(1000);
    assert_eq!(dialogue.sent(), "");
}

#[test]
fn a_session_is_woken_for_what_happens_elsewhere() {
    let mut dialogue = Setup::new()
        .on("woken", |actions, _| {
            actions.begin_exchange();
            actions.send(b"at last");
            Ok(())
        })
        .established();
    let session = dialogue.notes().sessions[0];
    let stale = tcpcopy_engine::SessionId::from_u64(77);
    dialogue.notes().wakes.extend([session, stale]);
    dialogue.at_ms(1);
    assert_eq!(dialogue.sent(), "at last");
}

#[test]
fn sessions_that_wake_each_other_without_end_leave_everything_else_its_turn() {
    let mut dialogue = Setup::new().established();
    let session = dialogue.notes().sessions[0];
    dialogue.notes().wakes.extend(vec![session; 10_000]);
    dialogue.at_ms(1);
    let heard = dialogue.notes().heard.len();
    assert!((1..1000).contains(&heard), "{heard} at once");
    // The rest is due now, not some time.
    let due = dialogue.due();
    assert!(
        due.is_some_and(|at| at <= Instant::from_micros(1000)),
        "{due:?}"
    );
    while !dialogue.notes().wakes.is_empty() {
        dialogue.at_ms(1);
    }
    assert!(dialogue.notes().heard.len() >= 10_000);
}

/// A session whose target closes after the first answer, while the second request waits.
fn closed_early(setup: Setup) -> Dialogue {
    let mut dialogue = setup.marking().established();
    dialogue.say(0, "one");
    let greeted = dialogue.sent();
    assert!(greeted.ends_with("one"), "{greeted}");
    dialogue.acknowledge();
    dialogue.say(100, "two ");
    dialogue.say(100, "three");
    dialogue.client_ends(300);
    assert_eq!(dialogue.sent(), "");
    dialogue.tell(UpstreamEvent::Finished);
    dialogue
}

#[test]
fn requests_that_wait_when_the_target_closes_are_said_again_to_another_plugin_session() {
    let setup = Setup::new().on("open", |actions, _| {
        actions.send(b"login ");
        Ok(())
    });
    let mut dialogue = closed_early(setup);
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Finish));
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Release));
    assert_eq!(dialogue.asked(), Asked::Ended(None));
    dialogue.connect();
    assert_eq!(dialogue.sent(), "login two three");
    let start_seen: Vec<bool> = dialogue
        .notes()
        .infos
        .iter()
        .map(|it| it.start_seen)
        .collect();
    assert_eq!(start_seen, [true, false]);
    dialogue.acknowledge();
    dialogue.target("..");
    assert_eq!(dialogue.asked(), Asked::Rest, "the target may close first");
    dialogue.at_ms(20);
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Finish));
    let ledger = dialogue.ledger();
    assert_eq!(ledger.requests.captured, 3);
    assert_eq!(ledger.requests.delivered, 3);
    assert_eq!((ledger.bytes.captured, ledger.bytes.delivered), (12, 12));
}

#[test]
fn what_a_plugin_keeps_is_not_sent_twice_when_another_hears_it_again() {
    let mut dialogue = Setup::new()
        .marking()
        .on("client", |actions, text| {
            actions.begin_exchange();
            match text {
                "one" => actions.send(b"one"),
                _ => actions.set_timer(Duration::from_millis(50)),
            }
            Ok(())
        })
        .on("timer", |actions, _| {
            actions.begin_exchange();
            actions.send(b"two at last");
            Ok(())
        })
        .established();
    dialogue.say(0, "one");
    assert_eq!(dialogue.sent(), "one");
    dialogue.acknowledge();
    dialogue.target(".");
    dialogue.say(100, "two");
    assert_eq!(dialogue.sent(), "");
    dialogue.tell(UpstreamEvent::Finished);
    assert_eq!(dialogue.notes().closed, 1);
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Finish));
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Release));
    assert_eq!(dialogue.asked(), Asked::Ended(None));
    dialogue.connect();
    assert_eq!(dialogue.sent(), "");
    dialogue.at_ms(50);
    assert_eq!(dialogue.sent(), "two at last");
    assert_eq!(dialogue.sent(), "");
}

#[test]
fn a_connection_that_is_gone_is_not_closed() {
    let mut dialogue = Setup::new()
        .on("target", |actions, _| {
            actions.refuse();
            Ok(())
        })
        .established();
    dialogue.target("anything");
    dialogue.tell(|session| UpstreamEvent::Failed {
        session,
        failure: SocketFailure::Reset,
    });
    assert_eq!(
        dialogue.asked(),
        Asked::Ended(None),
        "the client had said nothing"
    );
    assert_eq!(dialogue.asked(), Asked::Rest);
    assert_eq!(dialogue.ledger().upstream.resets_sent, 0);
}

#[test]
fn a_target_that_turns_every_login_down_is_not_asked_for_ever() {
    let mut dialogue = Setup::new()
        .marking()
        .on("open", |actions, _| {
            actions.send(b"login");
            actions.hold();
            Ok(())
        })
        .established();
    dialogue.say(0, "one");
    assert_eq!(dialogue.sent(), "login");
    dialogue.acknowledge();
    dialogue.target("no");
    dialogue.tell(UpstreamEvent::Finished);
    assert_eq!(dialogue.asked(), Asked::Rest);
    dialogue.tell(|session| UpstreamEvent::Failed {
        session,
        failure: SocketFailure::Reset,
    });
    assert_eq!(
        dialogue.asked(),
        Asked::Ended(Some(DropReason::TargetReset))
    );
    assert_eq!(dialogue.asked(), Asked::Rest);
}

#[test]
fn requests_left_out_count_once_when_the_target_closes_behind_them() {
    let mut dialogue = Setup::new().leaving_out().established();
    dialogue.say(0, "one ");
    assert_eq!(dialogue.sent(), "one ");
    dialogue.acknowledge();
    dialogue.target(".");
    dialogue.say(100, "x1 x2 x3 ");
    assert_eq!(dialogue.sent(), "");
    dialogue.tell(UpstreamEvent::Finished);
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Finish));
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Release));
    assert_eq!(dialogue.asked(), Asked::Ended(None));
    // There may be more to come of the last one.
    dialogue.connect();
    assert_eq!(dialogue.sent(), "");
    dialogue.say(200, "two ");
    assert_eq!(dialogue.sent(), "two ");
    dialogue.acknowledge();
    dialogue.target(".");
    let requests = dialogue.ledger().requests;
    assert_eq!(requests.captured, 5);
    assert_eq!(requests.dropped[DropReason::PluginDropped], 3);
}

#[test]
fn what_is_left_out_takes_no_memory_for_long() {
    let mut dialogue = Setup::new().leaving_out().established();
    for request in 0..1_000 {
        dialogue.say(request * 100, "x-of-which-nothing-is-sent");
        assert_eq!(dialogue.sent(), "");
    }
    let held = dialogue.engine.gauges().buffered_bytes;
    assert!(held < 1_000, "{held} bytes");
}

#[test]
fn a_session_that_ends_while_it_hears_it_again_makes_room_for_another() {
    static HEARD: AtomicU32 = AtomicU32::new(0);
    let mut dialogue = Setup::new()
        .marking()
        .on("client", |actions, text| {
            if text == "two" && HEARD.fetch_add(1, Ordering::Relaxed) == 1 {
                return Err(Failure::Trapped);
            }
            actions.begin_exchange();
            actions.send(text.as_bytes());
            Ok(())
        })
        .established();
    dialogue.say(0, "one");
    assert_eq!(dialogue.sent(), "one");
    dialogue.acknowledge();
    dialogue.say(100, "two");
    assert_eq!(dialogue.sent(), "");
    dialogue.tell(UpstreamEvent::Finished);
    while dialogue.asked() != Asked::Rest {}
    assert_eq!(
        dialogue.ledger().requests.dropped[DropReason::PluginFailed],
        1
    );
    dialogue.say(200, "three");
    dialogue.connect();
    assert_eq!(dialogue.sent(), "three");
}
