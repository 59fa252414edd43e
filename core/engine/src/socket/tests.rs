use super::*;

const T: fn(u64) -> Instant = |ms| Instant::from_micros(ms * 1000);
const OPEN: u64 = u64::MAX;

fn endpoint(text: &str) -> Endpoint {
    let address: std::net::SocketAddr = text.parse().unwrap();
    Endpoint::new(address.ip(), address.port())
}

/// A connection that is being asked for.
fn socket() -> Socket {
    let offer = SynOffer {
        mss: 1460,
        window: 64_240,
        window_scale: Some(7),
        sack: true,
        timestamps: true,
        latency: Duration::ZERO,
        immediate_acks: false,
        follows_client: true,
    };
    Socket::new(endpoint("[2001:db8::9]:8080"), offer)
}

/// An established one, of an established client.
fn connected() -> Socket {
    let mut socket = socket();
    socket.client_established();
    assert_eq!(socket.poll(T(0), OPEN), Some(Request::Connect));
    socket.event(
        T(0),
        SocketEvent::Connecting(endpoint("[2001:db8::1]:5000")),
    );
    let heard = socket.event(T(1), SocketEvent::Connected);
    assert!(heard.established);
    socket
}

fn push(socket: &mut Socket, text: &'static str) {
    socket.push(Bytes::from_static(text.as_bytes()));
}

/// What is on offer, as text.
fn offer(socket: &mut Socket, now: Instant, gate: u64) -> String {
    assert_eq!(socket.poll(now, gate), Some(Request::Send));
    assert_eq!(socket.poll(now, gate), None, "one offer at a time");
    String::from_utf8(socket.offered().to_vec()).unwrap()
}

#[test]
fn it_connects_once_and_then_knows_its_source() {
    let mut socket = socket();
    assert_eq!(socket.tuple().source, endpoint("[::]:0"));
    push(&mut socket, "early");
    assert_eq!(socket.poll(T(0), OPEN), Some(Request::Connect));
    assert_eq!(socket.poll(T(0), OPEN), None);
    let source = endpoint("[2001:db8::1]:5000");
    socket.event(T(0), SocketEvent::Connecting(source));
    assert_eq!(socket.tuple().source, source);
    assert!(socket.is_waiting_for_target() && socket.is_open());
    assert_eq!(socket.poll(T(0), OPEN), None, "nothing before it stands");
}

#[test]
fn first_bytes_wait_for_the_captured_client_but_not_for_ever() {
    for client_comes in [true, false] {
        let mut socket = socket();
        push(&mut socket, "hello");
        socket.poll(T(0), OPEN);
        socket.event(T(5), SocketEvent::Connected);
        assert_eq!(socket.poll(T(5), OPEN), None);
        let until = T(5) + MAX_HANDSHAKE_HOLD;
        assert_eq!(socket.deadline(), Some(until));
        let now = match client_comes {
            true => T(6),
            false => until,
        };
        match client_comes {
            true => socket.client_established(),
            false => socket.timeout(now),
        }
        assert_eq!(offer(&mut socket, now, OPEN), "hello");
        assert_eq!(socket.deadline(), None);
    }
}

#[test]
fn chunks_go_one_by_one_up_to_the_gate() {
    let mut socket = connected();
    push(&mut socket, "abc");
    push(&mut socket, "defgh");
    assert_eq!(offer(&mut socket, T(2), 5), "abc");
    socket.event(T(2), SocketEvent::Taken(3));
    assert_eq!(offer(&mut socket, T(2), 5), "de");
    socket.event(T(2), SocketEvent::Taken(2));
    assert_eq!(socket.poll(T(2), 5), None);
    assert_eq!(offer(&mut socket, T(3), OPEN), "fgh");
    socket.event(T(3), SocketEvent::Taken(3));
    assert_eq!((socket.sent(), socket.delivered(), socket.end()), (8, 0, 8));
    assert_eq!(
        socket.memory_bytes(),
        0,
        "what is taken is the kernel's to hold"
    );
}

#[test]
fn a_full_kernel_is_asked_again_when_it_has_room() {
    let mut socket = connected();
    push(&mut socket, "abcdef");
    offer(&mut socket, T(2), OPEN);
    socket.event(T(2), SocketEvent::Taken(2));
    assert_eq!(socket.poll(T(2), OPEN), None);
    socket.event(T(3), SocketEvent::Acknowledged(0));
    assert_eq!(socket.poll(T(3), OPEN), None, "room is another matter");
    assert!(socket.is_waiting_for_target(), "or nothing would ever end");
    socket.event(T(4), SocketEvent::Writable);
    assert_eq!(offer(&mut socket, T(4), OPEN), "cdef");
    socket.event(T(4), SocketEvent::Taken(0));
    assert_eq!(socket.sent(), 2);
    socket.event(T(5), SocketEvent::Writable);
    assert_eq!(offer(&mut socket, T(5), OPEN), "cdef");
}

#[test]
fn only_acknowledged_bytes_are_delivered_and_each_once() {
    let mut socket = connected();
    push(&mut socket, "abcdef");
    offer(&mut socket, T(2), OPEN);
    socket.event(T(2), SocketEvent::Taken(6));
    let delivered = |socket: &mut Socket, unacknowledged| {
        let event = SocketEvent::Acknowledged(unacknowledged);
        socket.event(T(3), event).delivered
    };
    assert_eq!(delivered(&mut socket, 6), 0);
    assert_eq!(delivered(&mut socket, 2), 4);
    assert_eq!(delivered(&mut socket, 5), 0, "an old word changes nothing");
    assert_eq!(delivered(&mut socket, 99), 0);
    assert!(socket.is_waiting_for_target());
    assert_eq!(delivered(&mut socket, 0), 2);
    assert!(!socket.is_waiting_for_target());
}

#[test]
fn the_fin_gives_the_target_a_moment_to_close_first() {
    let mut socket = connected();
    socket.finish();
    assert_eq!(socket.poll(T(5), 0), None, "the gate has not let it go");
    assert_eq!(socket.deadline(), None);
    assert_eq!(socket.poll(T(5), OPEN), None);
    let due = T(5) + FINISH_PATIENCE;
    assert_eq!(socket.deadline(), Some(due));
    assert_eq!(
        socket.poll(due, OPEN),
        Some(Request::Close(Closing::Finish))
    );
    assert_eq!(socket.deadline(), None);
    assert_eq!(socket.poll(due, OPEN), None, "the target has not closed");
    socket.event(T(40), SocketEvent::Finished);
    assert_eq!(
        socket.poll(T(40), OPEN),
        Some(Request::Close(Closing::Release))
    );
    assert!(socket.is_closed() && !socket.is_open());
}

#[test]
fn a_target_that_closes_first_is_followed_at_once_but_not_before_the_last_acknowledgement() {
    let mut socket = connected();
    push(&mut socket, "abc");
    socket.finish();
    offer(&mut socket, T(2), OPEN);
    socket.event(T(2), SocketEvent::Taken(3));
    assert_eq!(socket.poll(T(2), OPEN), None);
    let heard = socket.event(T(3), SocketEvent::Finished);
    assert!(heard.target_finished && socket.target_finished());
    assert_eq!(
        socket.poll(T(3), OPEN),
        Some(Request::Close(Closing::Finish))
    );
    assert_eq!(socket.poll(T(3), OPEN), None);
    socket.event(T(4), SocketEvent::Acknowledged(0));
    assert_eq!(
        socket.poll(T(4), OPEN),
        Some(Request::Close(Closing::Release))
    );
}

#[test]
fn the_end_waits_for_the_bytes_before_it() {
    let mut socket = connected();
    push(&mut socket, "abc");
    socket.finish();
    offer(&mut socket, T(2), OPEN);
    socket.event(T(2), SocketEvent::Taken(1));
    socket.event(T(2), SocketEvent::Finished);
    assert_eq!(socket.poll(T(9), OPEN), None);
    assert_eq!(socket.deadline(), None);
}

#[test]
fn an_abort_leaves_something_to_reset_only_where_there_is_a_connection() {
    let mut socket = socket();
    socket.abort();
    assert!(socket.is_closed() && !socket.is_open());
    assert_eq!(socket.poll(T(0), OPEN), None);
    let mut socket = connected();
    socket.abort();
    assert!(socket.is_closed() && socket.is_open());
    push(&mut socket, "abc");
    assert_eq!(socket.poll(T(2), OPEN), None);
    for event in [
        SocketEvent::Connected,
        SocketEvent::Writable,
        SocketEvent::Taken(7),
        SocketEvent::Acknowledged(0),
        SocketEvent::Finished,
    ] {
        assert_eq!(socket.event(T(3), event), Heard::default());
    }
    let mut socket = connected();
    socket.failed();
    assert!(socket.is_closed() && !socket.is_open());
}

#[test]
fn a_shortage_is_remembered_from_its_first_failure_to_a_connection() {
    let mut socket = socket();
    socket.poll(T(0), OPEN);
    socket.wait_in_line(T(0), DropReason::NoTupleLeft);
    assert_eq!(socket.poll(T(1), OPEN), None);
    assert!(socket.leave_line());
    assert!(!socket.leave_line());
    assert_eq!(socket.poll(T(50), OPEN), Some(Request::Connect));
    assert_eq!(
        socket.shortage(),
        None,
        "on its way, it is the target's turn"
    );
    socket.wait_in_line(T(50), DropReason::NoDescriptor);
    assert_eq!(socket.shortage(), Some((T(0), DropReason::NoDescriptor)));
    socket.leave_line();
    socket.poll(T(100), OPEN);
    socket.event(T(100), SocketEvent::Connecting(endpoint("[::1]:1")));
    assert_eq!(socket.shortage(), None);
}

#[test]
fn what_the_kernel_has_stays_and_the_rest_can_be_taken_back() {
    let mut socket = connected();
    push(&mut socket, "abcdef");
    offer(&mut socket, T(2), 4);
    socket.event(T(2), SocketEvent::Taken(3));
    assert!(!socket.got_through());
    assert_eq!(socket.take_from(4).concat(), b"ef");
    assert_eq!((socket.sent(), socket.end()), (3, 4));
    let answer = SocketEvent::Received {
        bytes: 10,
        is_last: true,
    };
    let heard = socket.event(T(3), answer);
    assert_eq!((heard.received, heard.pushed), (10, true));
    assert!(
        socket.got_through(),
        "an answer shows it before the acknowledgement is known"
    );
    socket.event(T(3), SocketEvent::Writable);
    assert_eq!(offer(&mut socket, T(3), OPEN), "d");
}

#[test]
fn what_is_said_while_the_end_waits_for_the_target_comes_before_the_end() {
    let mut socket = connected();
    socket.finish();
    assert_eq!(socket.poll(T(1), OPEN), None);
    assert_eq!(socket.deadline(), Some(T(21)));
    push(&mut socket, "a last word");
    assert_eq!(offer(&mut socket, T(2), OPEN), "a last word");
    socket.event(T(2), SocketEvent::Taken(6));
    assert_eq!(socket.deadline(), None, "the kernel is full");
    assert_eq!(socket.poll(T(30), OPEN), None);
    socket.event(T(40), SocketEvent::Writable);
    assert_eq!(offer(&mut socket, T(40), OPEN), " word");
    assert!(!socket.has_finished());
    socket.event(T(40), SocketEvent::Taken(5));
    let finish = Some(Request::Close(Closing::Finish));
    assert_eq!(socket.poll(T(40), OPEN), finish);
    assert!(socket.has_finished());
}
