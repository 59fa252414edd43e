//! The table against packets; `model` has the plain model.

mod model;

use tcpcopy_packet::{Endpoint, SegmentBuilder};

use super::*;
use crate::journal;

const SYN_ACK: TcpFlags = TcpFlags::from_bits(0x12);
const ACK: TcpFlags = TcpFlags::ACK;
const RST: TcpFlags = TcpFlags::from_bits(0x14);

fn tuple(client: u16) -> FourTuple {
    let [source, destination]: [IpAddr; 2] = if client.is_multiple_of(2) {
        [
            "198.51.100.9".parse().unwrap(),
            "192.0.2.1".parse().unwrap(),
        ]
    } else {
        [
            "2001:db8::9".parse().unwrap(),
            "2001:db8::1".parse().unwrap(),
        ]
    };
    FourTuple::new(
        Endpoint::new(source, 1000 + client),
        Endpoint::new(destination, 80),
    )
}

/// The initial sequence number of every session here.
const ISS: u32 = u32::MAX;

fn entry(session: u64, client: u16) -> Registration {
    Registration {
        session,
        tuple: tuple(client),
        iss: ISS,
    }
}

/// A table with a clock.
struct Bench {
    now: Instant,
    table: SessionTable,
    resets: Vec<Reset>,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let table = SessionTable::new(TableConfig::default(), now);
        Self {
            now,
            table,
            resets: Vec::new(),
        }
    }

    /// A table that is older than the grace of a reload.
    fn settled() -> Self {
        let mut bench = Self::new();
        bench.pass(RELOAD_GRACE);
        bench
    }

    fn up(&mut self, instance: u64) -> LinkId {
        self.table.link_up(self.now, instance, 0).0
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.table.timeout(self.now, &mut self.resets);
    }

    fn unregister(&mut self, link: LinkId, session: u64, client: u16) {
        let entry = Unregistration {
            session,
            tuple: tuple(client),
        };
        self.table.unregister(self.now, link, &entry);
    }

    /// Judges a packet of the target to a client.
    fn packet(&mut self, client: u16, flags: TcpFlags, ack: u32) -> Judgement {
        let mut builder = SegmentBuilder::new(tuple(client).reversed());
        (builder.flags, builder.ack) = (flags, ack);
        let mut packet = Vec::new();
        builder.write(std::iter::empty(), &mut packet).unwrap();
        let segment = TargetSegment::parse(&packet, packet.len()).unwrap();
        self.table.judge(self.now, &segment)
    }
}

const fn session(link: LinkId, session: u64) -> Judgement {
    Judgement::Session { link, session }
}

const LATE: Judgement = Judgement::Late { reset: None };

fn late_reset(client: u16, seq: u32) -> Judgement {
    Judgement::Late {
        reset: Some(Reset {
            tuple: tuple(client),
            seq,
        }),
    }
}

#[test]
fn only_packets_of_sessions_are_caught_and_each_goes_to_its_own_link() {
    let mut bench = Bench::new();
    let (a, b) = (bench.up(1), bench.up(2));
    bench.table.register(a, &entry(70, 0)).unwrap();
    bench.table.register(b, &entry(70, 1)).unwrap();
    assert_eq!(bench.packet(0, SYN_ACK, 0), session(a, 70));
    assert_eq!(bench.packet(1, SYN_ACK, 0), session(b, 70));
    assert_eq!(bench.packet(2, SYN_ACK, 0), Judgement::Foreign);
    assert_eq!(bench.packet(3, ACK, 0).verdict(), Verdict::Accept);
    assert_eq!(bench.packet(0, ACK, 0).verdict(), Verdict::Drop);
    let counts = bench.table.counts();
    assert_eq!(
        (
            counts.sessions,
            counts.session_packets,
            counts.foreign_packets
        ),
        (2, 3, 2)
    );
}

#[test]
fn a_tuple_belongs_to_one_instance_while_its_link_lives() {
    let mut bench = Bench::new();
    let (a, b) = (bench.up(1), bench.up(2));
    bench.table.register(a, &entry(1, 0)).unwrap();
    assert_eq!(bench.table.register(b, &entry(2, 0)), Err(Conflict));
    assert_eq!(bench.packet(0, ACK, 0), session(a, 1));
    bench.unregister(b, 2, 0);
    bench.unregister(a, 99, 0);
    assert_eq!(
        bench.packet(0, ACK, 0),
        session(a, 1),
        "others can't end it"
    );

    bench.table.link_down(bench.now, a);
    bench.table.register(b, &entry(2, 0)).unwrap();
    assert_eq!(bench.packet(0, ACK, 0), session(b, 2));
    bench.pass(DEFAULT_RESET_GRACE);
    assert_eq!(bench.resets, [], "what has moved is not reset");
}

#[test]
fn an_ended_session_is_dropped_until_its_target_has_been_quiet_for_long() {
    let mut bench = Bench::settled();
    let link = bench.up(1);
    bench.table.register(link, &entry(1, 0)).unwrap();
    bench.unregister(link, 1, 0);
    for _ in 0..5 {
        bench.pass(DEFAULT_TOMBSTONE - Duration::from_secs(1));
        assert_eq!(bench.packet(0, ACK, 5).verdict(), Verdict::Drop);
    }
    bench.pass(2 * DEFAULT_TOMBSTONE);
    assert_eq!(bench.packet(0, ACK, 5), Judgement::Foreign);
    assert_eq!(bench.table.counts().tombstones, 0);
}

#[test]
fn a_real_client_that_takes_the_tuple_is_served() {
    let mut bench = Bench::new();
    let link = bench.up(1);
    bench.table.register(link, &entry(1, 0)).unwrap();
    bench.unregister(link, 1, 0);
    assert_eq!(
        bench.packet(0, SYN_ACK, ISS.wrapping_add(1)),
        late_reset(0, ISS.wrapping_add(1)),
        "the session's own SYN-ACK"
    );
    assert_eq!(bench.packet(0, SYN_ACK, 4711), Judgement::Foreign);
    assert_eq!(
        bench.packet(0, ACK, 4711),
        Judgement::Foreign,
        "and so is all that follows"
    );
}

#[test]
fn a_tuple_can_be_registered_again_after_its_end() {
    let mut bench = Bench::new();
    let link = bench.up(1);
    for n in 1..4 {
        bench.table.register(link, &entry(n, 0)).unwrap();
        assert_eq!(bench.packet(0, ACK, 0), session(link, n));
        bench.unregister(link, n, 0);
        assert_eq!(bench.packet(0, ACK, 0), late_reset(0, 0));
        bench.pass(Duration::from_secs(1));
    }
    bench.pass(DEFAULT_TOMBSTONE);
    assert_eq!(bench.packet(0, ACK, 0), Judgement::Foreign);
}

#[test]
fn sessions_of_a_dead_link_are_reset_with_the_number_the_target_expects() {
    let mut bench = Bench::settled();
    let (a, b) = (bench.up(1), bench.up(2));
    for client in 0..3 {
        bench
            .table
            .register(a, &entry(client.into(), client))
            .unwrap();
    }
    bench.table.register(b, &entry(9, 9)).unwrap();
    bench.packet(0, SYN_ACK, 0);
    bench.packet(0, ACK, 500);
    bench.packet(1, ACK, 600);
    bench.table.link_down(bench.now, a);
    bench.pass(DEFAULT_RESET_GRACE - Duration::from_millis(1));
    assert_eq!(bench.resets, []);
    assert_eq!(
        bench.packet(0, ACK, 501),
        session(a, 0),
        "dropped, reported to nobody"
    );
    bench.pass(Duration::from_millis(1));
    let expected = [(0, 501), (1, 600)].map(|(c, seq)| Reset {
        tuple: tuple(c),
        seq,
    });
    assert_eq!(
        bench.resets, expected,
        "client 2 has no connection at the target yet"
    );

    assert_eq!(
        bench.packet(1, ACK, 777),
        late_reset(1, 777),
        "a challenge is answered exactly"
    );
    assert_eq!(bench.packet(1, RST, 777), LATE);
    for seq in 0..3 {
        assert_eq!(bench.packet(1, ACK, seq), late_reset(1, seq));
    }
    assert_eq!(bench.packet(1, ACK, 3), LATE, "told often enough");
    assert_eq!(bench.packet(9, ACK, 0), session(b, 9));
    assert_eq!(bench.table.counts().resets, 6);
}

#[test]
fn a_link_that_comes_back_keeps_what_is_registered_again() {
    let mut bench = Bench::settled();
    let old = bench.up(1);
    for client in [0, 2] {
        bench
            .table
            .register(old, &entry(client.into(), client))
            .unwrap();
        bench.packet(client, ACK, 50);
    }
    bench.table.link_down(bench.now, old);
    bench.pass(Duration::from_secs(2));
    let (new, replaced) = bench.table.link_up(bench.now, 1, 0);
    assert_eq!(replaced, None);
    bench.pass(Duration::from_secs(2));
    assert_eq!(
        bench.packet(0, ACK, 60),
        session(old, 0),
        "the grace starts anew"
    );
    bench.table.register(new, &entry(0, 0)).unwrap();
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.packet(0, ACK, 60), session(new, 0));
    assert_eq!(
        bench.resets,
        [Reset {
            tuple: tuple(2),
            seq: 50
        }]
    );
}

#[test]
fn a_link_of_the_same_shard_replaces_one_not_known_to_be_dead() {
    let mut bench = Bench::settled();
    let old = bench.up(1);
    bench.table.register(old, &entry(1, 0)).unwrap();
    assert_eq!(
        bench.table.link_up(bench.now, 1, 7).1,
        None,
        "another shard"
    );
    assert_eq!(
        bench.table.link_up(bench.now, 2, 0).1,
        None,
        "another instance"
    );
    let (new, replaced) = bench.table.link_up(bench.now, 1, 0);
    assert_eq!(replaced, Some(old));
    bench.table.register(new, &entry(1, 0)).unwrap();
    bench.table.link_down(bench.now, old);
    bench.pass(DEFAULT_RESET_GRACE);
    assert_eq!(bench.packet(0, ACK, 0), session(new, 1));
}

#[test]
fn a_target_that_has_not_heard_of_the_end_is_told_but_not_for_ever() {
    let mut bench = Bench::settled();
    let link = bench.up(1);
    bench.table.register(link, &entry(1, 0)).unwrap();
    bench.unregister(link, 1, 0);
    assert_eq!(bench.packet(0, RST, 9), LATE, "a RST needs no answer");
    let fin_ack = TcpFlags::FIN | ACK;
    for (flags, seq) in [(ACK, 9), (fin_ack, 9), (ACK, 10), (ACK, 11)] {
        assert_eq!(bench.packet(0, flags, seq), late_reset(0, seq));
    }
    assert_eq!(bench.packet(0, ACK, 12), LATE, "told often enough");
}

#[test]
fn a_full_table_takes_nothing_new_and_gives_up_no_tombstone() {
    let mut bench = Bench::settled();
    let config = TableConfig {
        max_tuples: 4,
        ..TableConfig::default()
    };
    bench.table = SessionTable::new(config, bench.now);
    let link = bench.up(1);
    // One tuple that comes and goes costs as much as many.
    for n in 0..3 {
        bench.table.register(link, &entry(n, 0)).unwrap();
        bench.unregister(link, n, 0);
    }
    bench.table.register(link, &entry(5, 1)).unwrap();
    assert_eq!(bench.table.register(link, &entry(6, 2)), Err(Conflict));
    bench.table.register(link, &entry(7, 1)).unwrap();
    assert_eq!(bench.packet(1, ACK, 0), session(link, 7), "it is not new");
    assert_eq!(bench.packet(0, ACK, 0).verdict(), Verdict::Drop);
    bench.pass(2 * DEFAULT_TOMBSTONE);
    bench.table.register(link, &entry(6, 2)).unwrap();
}

#[test]
fn goodbye_resets_at_once() {
    let mut bench = Bench::settled();
    let link = bench.up(1);
    bench.table.register(link, &entry(1, 0)).unwrap();
    bench.packet(0, ACK, 9);
    bench.table.link_bye(bench.now, link, &mut bench.resets);
    assert_eq!(
        bench.resets,
        [Reset {
            tuple: tuple(0),
            seq: 9
        }]
    );
    assert_eq!(bench.packet(0, ACK, 9), late_reset(0, 9));
}

#[test]
fn a_journal_brings_tombstones_back_and_sessions_may_rise_from_them() {
    let mut first = Bench::settled();
    let link = first.up(1);
    for client in 0..6 {
        first
            .table
            .register(link, &entry(client.into(), client))
            .unwrap();
    }
    first.unregister(link, 2, 2);
    first.unregister(link, 3, 3);
    first.packet(3, SYN_ACK, 4711);
    let mut bytes = Vec::new();
    first.table.take_journal(&mut bytes);
    let mut snapshot = Vec::new();
    first.table.snapshot(&mut snapshot);

    for bytes in [bytes, snapshot] {
        let mut second = Bench::new();
        let mut damaged = 0;
        damaged += journal::replay(&bytes, |record| second.table.load(second.now, record));
        assert_eq!((damaged, second.table.counts().tombstones), (0, 5));
        assert_eq!(
            second.packet(0, ACK, 5),
            LATE,
            "dropped, and not reset for now"
        );
        assert_eq!(
            second.packet(3, ACK, 5),
            Judgement::Foreign,
            "a real client had taken it"
        );
        let link = second.up(1);
        second.table.register(link, &entry(0, 0)).unwrap();
        assert_eq!(second.packet(0, ACK, 5), session(link, 0));
        second.pass(RELOAD_GRACE);
        assert_eq!(
            second.packet(1, ACK, 5),
            late_reset(1, 5),
            "nobody wanted it back"
        );
    }
}

#[test]
fn the_journal_forgets_with_the_table() {
    let mut bench = Bench::new();
    let link = bench.up(1);
    bench.table.register(link, &entry(1, 0)).unwrap();
    bench.unregister(link, 1, 0);
    bench.pass(2 * DEFAULT_TOMBSTONE);
    let mut bytes = Vec::new();
    bench.table.take_journal(&mut bytes);
    let mut records = Vec::new();
    assert_eq!(journal::replay(&bytes, |record| records.push(record)), 0);
    let live = JournalRecord::Live {
        tuple: tuple(0),
        iss: ISS,
    };
    assert_eq!(records, [live, JournalRecord::Gone { tuple: tuple(0) }]);

    let config = TableConfig {
        journal: false,
        ..TableConfig::default()
    };
    let mut silent = SessionTable::new(config, bench.now);
    silent.register(LinkId(0), &entry(1, 0)).unwrap();
    bytes.clear();
    silent.take_journal(&mut bytes);
    assert!(bytes.is_empty());
}
