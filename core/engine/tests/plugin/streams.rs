//! The streams a plugin is given: with holes, of the origin, and of clients that came before.

use tcpcopy_engine::plugin::Actions;
use tcpcopy_engine::{DropReason, RateLimit, Tuning};
use tcpcopy_packet::TcpFlags;

use crate::dialogue::{Asked, Dialogue, Setup};

fn echo(setup: Setup) -> Setup {
    setup.on("client", |actions: &mut Actions, text| {
        actions.send(text.as_bytes());
        Ok(())
    })
}

#[test]
fn a_connection_that_was_there_before_gives_all_its_bytes() {
    let mut dialogue = echo(Setup::new()).build();
    dialogue.client_seq = 5000;
    dialogue.say(700, "end of something. ");
    dialogue.connect();
    assert_eq!(dialogue.sent(), "end of something. ");
    assert!(!dialogue.notes().infos[0].start_seen);
    dialogue.say(700, "more");
    assert_eq!(dialogue.sent(), "more");
    assert_eq!(dialogue.ledger().bytes.dropped_total(), 0);
}

#[test]
fn a_plugin_may_go_on_after_a_hole() {
    let mut dialogue = echo(Setup::new()).established();
    dialogue.say(0, "one ");
    dialogue.client_seq += 7;
    dialogue.say(0, "two");
    assert_eq!(dialogue.sent(), "one ");
    dialogue.at_ms(10_001);
    assert_eq!(dialogue.sent(), "two");
    let events = ["open", "client one ", "gap Client Some(7)", "client two"];
    let events: Vec<&str> = events.iter().map(|it| it.trim_end()).collect();
    assert_eq!(dialogue.heard(), events);
    dialogue.acknowledge();
    let ledger = dialogue.ledger();
    assert_eq!(ledger.bytes.dropped[DropReason::CaptureGap], 7);
    assert_eq!(ledger.bytes.delivered, 7);
}

#[test]
fn a_plugin_may_refuse_to_go_on_after_a_hole() {
    let setup = echo(Setup::new()).on("gap", |actions, _| {
        actions.refuse();
        Ok(())
    });
    let mut dialogue = setup.established();
    dialogue.say(0, "one ");
    assert_eq!(dialogue.sent(), "one ");
    dialogue.client_seq += 7;
    dialogue.say(0, "two");
    dialogue.at_ms(10_001);
    assert_eq!(
        dialogue.asked(),
        Asked::Ended(Some(DropReason::PluginRefused))
    );
    let dropped = &dialogue.ledger().bytes.dropped;
    assert_eq!(dropped[DropReason::CaptureGap], 7);
    assert_eq!(dropped[DropReason::PluginRefused], 7);
}

#[test]
fn requests_left_out_are_a_hole_for_a_plugin() {
    let setup = Setup::new().config(|config| config.rate = Some(RateLimit::Requests(1.0)));
    let mut dialogue = echo(setup).established();
    dialogue.say(0, "one ");
    dialogue.say(10, "two ");
    dialogue.say(20, "three ");
    dialogue.engine.tune(dialogue.now, Tuning::Rate(None));
    dialogue.say(30, "four ");
    let heard = dialogue.heard();
    assert_eq!(
        heard[1..],
        ["client one", "gap Client Some(10)", "client four"]
    );
    let dropped = &dialogue.ledger().bytes.dropped;
    assert_eq!(dropped[DropReason::RateLimit], 10);
}

#[test]
fn the_origin_is_heard_in_order_where_it_is_wanted() {
    let mut dialogue = echo(Setup::new().needs(true, false)).established();
    dialogue.heard();
    dialogue.origin(TcpFlags::ACK, 5, "me");
    dialogue.origin(TcpFlags::ACK, 0, "wel");
    dialogue.origin(TcpFlags::ACK, 2, "lco");
    assert_eq!(dialogue.heard(), ["origin wel", "origin co", "origin me"]);
    dialogue.say(7, "one");
    dialogue.origin(TcpFlags::ACK, 10, "late");
    dialogue.say(14, "two");
    dialogue.origin(TcpFlags::FIN, 14, "");
    let events = [
        "client one",
        "gap Origin Some(3)",
        "origin late",
        "client two",
        "origin end",
    ];
    assert_eq!(dialogue.heard(), events);
}

#[test]
fn a_hole_in_what_the_origin_said_is_given_up_after_a_time() {
    let mut dialogue = echo(Setup::new().needs(true, false)).established();
    dialogue.origin(TcpFlags::SYN, u32::MAX, "");
    dialogue.origin(TcpFlags::ACK, 5, "x");
    assert_eq!(dialogue.engine.gauges().buffered_bytes, 1);
    dialogue.heard();
    dialogue.at_ms(10_001);
    assert_eq!(dialogue.heard(), ["gap Origin Some(5)", "origin x"]);
    assert_eq!(dialogue.engine.gauges().buffered_bytes, 0);
}

#[test]
fn the_origin_is_not_heard_where_nobody_asked() {
    let mut dialogue = echo(Setup::new().needs(false, true)).established();
    dialogue.origin(TcpFlags::ACK, 0, "welcome");
    dialogue.origin(TcpFlags::FIN, 7, "");
    assert_eq!(dialogue.heard(), ["open"]);
    assert_eq!(dialogue.ledger().plugin.origin_bytes, 0);
}

#[test]
fn requests_that_there_is_no_room_for_are_counted() {
    let refused = |dialogue: &Dialogue| {
        let requests = dialogue.ledger().requests;
        (
            requests.captured,
            requests.dropped[DropReason::MemoryBudget],
        )
    };
    // None for a connection,
    let mut dialogue = Setup::new()
        .config(|config| config.memory_budget_bytes = 100)
        .build();
    dialogue.client(TcpFlags::SYN, 0, "");
    dialogue.client_seq = 1;
    for text in ["one", "two"] {
        dialogue.client(TcpFlags::ACK | TcpFlags::PSH, 1, text);
    }
    dialogue.client(TcpFlags::ACK | TcpFlags::FIN, 1, "");
    assert_eq!(refused(&dialogue), (2, 2));
    // and for a connection but none for what it says.
    let mut dialogue = Setup::new()
        .marking()
        .config(|config| config.memory_budget_bytes = 10_000)
        .established();
    dialogue.say(0, &"long ".repeat(3_000));
    assert_eq!(refused(&dialogue), (1, 1));
}
