use super::Message;
use super::*;
use crate::limits::Limits;
use crate::malformed::Malformed;

fn request(bytes: &[u8]) -> Head {
    let mut head = Head::default();
    let read = head.read(Message::Request, bytes, &Limits::DEFAULT);
    assert_eq!(read, Ok(Some(bytes.len())));
    head
}

fn written(head: &Head) -> String {
    let mut all = Vec::new();
    head.write(|piece| all.extend_from_slice(piece));
    String::from_utf8_lossy(&all).into_owned()
}

fn to(text: &str) -> impl FnOnce(&mut Vec<u8>) {
    |value| value.extend_from_slice(text.as_bytes())
}

#[test]
fn what_is_not_changed_stays_byte_by_byte() {
    let bytes = b"GET /a?b HTTP/1.1\r\nHOST:x\r\nA:  b \t\r\nEmpty:\r\nb: \xff\r\n\r\n";
    let mut all = Vec::new();
    request(bytes).write(|piece| all.extend_from_slice(piece));
    assert_eq!(all, bytes);
    let bytes = b"GET / HTTP/1.0\nA: b\n\n";
    let mut head = request(bytes);
    head.set(b"c", to("d"));
    assert_eq!(written(&head), "GET / HTTP/1.0\nA: b\nc: d\r\n\n");
}

#[test]
fn fields_are_set_added_removed_and_renamed() {
    let bytes = b"GET /a HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 2\r\na: 3\r\nC:4\r\n\r\n";
    let mut head = request(bytes);
    head.set(b"HOST", to("target"));
    head.set(b"a", to("one"));
    head.remove(b"b");
    head.rename(b"c", b"D");
    head.add(b"E", to("5"));
    head.set(b"f", to(""));
    head.set_target(b"/other");
    assert_eq!(
        written(&head),
        "GET /other HTTP/1.1\r\nHost: target\r\nA: one\r\nD: 4\r\nE: 5\r\nf: \r\n\r\n"
    );
    let mut fields = head.fields();
    assert_eq!(fields.nth(1), Some((&b"A"[..], &b"one"[..])));
    drop(fields);
    head.remove(b"e");
    head.set(b"Host", to("again"));
    assert_eq!(
        written(&head),
        "GET /other HTTP/1.1\r\nHost: again\r\nA: one\r\nD: 4\r\nf: \r\n\r\n"
    );
}

#[test]
fn a_target_may_have_bytes_that_are_no_utf_8() {
    let bytes = b"GET /caf\xe9?\xff=\x80 HTTP/1.1\r\nHost: x\r\nA: \xe9\r\n\r\nb\xe9dy";
    let (head_bytes, limits) = (bytes.len() - 4, Limits::DEFAULT);
    let mut head = Head::default();
    let read = head.read(Message::Request, bytes, &limits);
    assert_eq!(read, Ok(Some(head_bytes)));
    assert_eq!(head.target(), b"/caf\xe9?\xff=\x80");
    let fields: Vec<_> = head.fields().collect();
    assert_eq!(fields, [(&b"Host"[..], &b"x"[..]), (b"A", b"\xe9")]);
    let mut all = Vec::new();
    head.write(|piece| all.extend_from_slice(piece));
    assert_eq!(all, bytes[..head_bytes]);
    for cut in 1..head_bytes {
        let read = head.read(Message::Request, &bytes[..cut], &limits);
        assert_eq!(read, Ok(None), "cut at {cut}");
    }
    let small = |head_bytes| Limits {
        head_bytes,
        ..limits
    };
    let read = head.read(Message::Request, bytes, &small(head_bytes));
    assert_eq!(read, Ok(Some(head_bytes)));
    let read = head.read(Message::Request, bytes, &small(head_bytes - 1));
    assert_eq!(read, Err(Malformed::HeadTooLarge));
}

#[test]
fn a_head_without_fields_gets_its_first() {
    let mut head = request(b"GET / HTTP/1.1\r\n\r\n");
    head.add(b"A", to("b"));
    assert_eq!(written(&head), "GET / HTTP/1.1\r\nA: b\r\n\r\n");
}

#[test]
fn what_is_wrong_has_a_name() {
    let problem = |bytes: &[u8]| {
        let limits = Limits {
            head_bytes: 100,
            fields: 2,
        };
        Head::default()
            .read(Message::Request, bytes, &limits)
            .expect_err("wrong")
    };
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100));
    for (bytes, name) in [
        (
            &b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"[..],
            Malformed::ObsFold,
        ),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", Malformed::BadHead),
        (b"GET / HTTP/1.1\r\nA\r\n\r\n", Malformed::BadHead),
        (b"\x16\x03\x01\x02", Malformed::Tls),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Malformed::Http2),
        (b"GET / HTTP/3.0\r\n\r\n", Malformed::Version),
        (b"GET /\r\n\r\n", Malformed::BadHead),
        (b"G\xe9T /\xe9 HTTP/1.1\r\n\r\n", Malformed::BadHead),
        (b"GET /\xe9\x00 HTTP/1.1\r\n\r\n", Malformed::BadHead),
        (b"GET /\xe9 b HTTP/1.1\r\n\r\n", Malformed::Version),
        (
            b"GET /\xe9 HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            Malformed::ObsFold,
        ),
        (
            b"GET / HTTP/1.1\r\nA:\r\nB:\r\nC:\r\n\r\n",
            Malformed::TooManyHeaders,
        ),
        (long.as_bytes(), Malformed::HeadTooLarge),
        (&long.as_bytes()[..101], Malformed::HeadTooLarge),
    ] {
        assert_eq!(problem(bytes), name, "{}", bytes.escape_ascii());
    }
}
