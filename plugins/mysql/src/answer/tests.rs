use super::*;

fn message(payload: &[u8]) -> Message<'_> {
    Message {
        sequence: 1,
        last: 1,
        length: payload.len() as u32,
        payload,
    }
}

const COLUMN: &[u8] = b"\x03def\x04shop\x01t\x01t\x01a\x01a\x0c\x2d\0\0\0\0\0\x03\0\0\0\0\0";
const EOF: &[u8] = b"\xfe\0\0\x02\0";
const OK_FOR_EOF: &[u8] = b"\xfe\0\0\x02\0\0\0";
const OK: &[u8] = b"\0\x02\0\x02\0\0\0";

fn dialect(deprecates_eof: Option<bool>) -> Dialect {
    Dialect { deprecates_eof }
}

/// What comes of packets, all of which but the last leave more to come.
fn read(shape: Shape, mut dialect: Dialect, packets: &[&[u8]]) -> Summary {
    let mut answer = Answer::new(shape);
    for (at, packet) in packets.iter().enumerate() {
        let expected = match at + 1 == packets.len() {
            true => Step::Done,
            false => Step::More,
        };
        assert_eq!(
            answer.take(&mut dialect, message(packet)),
            Ok(expected),
            "packet {at}"
        );
    }
    answer.summary
}

#[test]
fn the_parameters_of_a_procedure_are_not_the_last_result() {
    // Their end tells no more that something follows.
    let parameters = [
        b"\x01",
        COLUMN,
        b"\xfe\0\0\x0a\x10",
        b"\0\0\x02\0\0\0",
        EOF,
        OK,
    ];
    let read = read(Shape::Results, dialect(Some(false)), &parameters);
    assert_eq!((read.rows, read.affected), (1, 2));
}

#[test]
fn rows_end_with_what_was_agreed_upon() {
    let old = read(
        Shape::Results,
        dialect(Some(false)),
        &[b"\x01", COLUMN, EOF, b"\x011", EOF],
    );
    assert_eq!((old.rows, old.error), (1, None));
    assert_eq!(old.column_schema.as_deref(), Some(&b"shop"[..]));
    // A row that begins like the end is longer.
    let row = [&[0xfe, 0, 0, 0, 1, 0, 0, 0, 0][..], b"more"].concat();
    let old = read(
        Shape::Results,
        dialect(Some(false)),
        &[b"\x01", COLUMN, EOF, &row, EOF],
    );
    assert_eq!(old.rows, 1);
    let packets = [b"\x01", COLUMN, b"\x011", OK_FOR_EOF];
    assert_eq!(read(Shape::Results, dialect(Some(true)), &packets).rows, 1);
    let empty = [b"\x01", COLUMN, OK_FOR_EOF];
    assert_eq!(read(Shape::Results, dialect(Some(true)), &empty).rows, 0);
}

#[test]
fn what_was_agreed_upon_shows_in_the_first_columns() {
    for packets in [
        &[b"\x01", COLUMN, EOF, b"\x011", EOF][..],
        &[b"\x01", COLUMN, b"\x011", OK_FOR_EOF],
        &[b"\x01", COLUMN, OK_FOR_EOF],
    ] {
        let summary = read(Shape::Results, dialect(None), packets);
        assert_eq!(summary.status, Some(Status(2)), "{packets:?}");
    }
}

#[test]
fn results_may_come_without_columns() {
    let dialect = dialect(Some(true));
    let without = read(Shape::Results, dialect, &[b"\x01\0", b"\x011", OK_FOR_EOF]);
    assert_eq!(without.rows, 1);
    assert_eq!(
        read(
            Shape::Results,
            dialect,
            &[b"\x01\x01", COLUMN, b"\x011", OK_FOR_EOF]
        )
        .rows,
        1
    );
    let prepared = read(
        Shape::Prepared,
        dialect,
        &[b"\0\x07\0\0\0\x02\0\x01\0\0\0\0\0"],
    );
    assert_eq!(
        prepared.prepared,
        Some(Prepared {
            id: 7,
            parameters: 1
        })
    );
}

#[test]
fn a_prepared_statement_has_parameters_and_columns() {
    let head = b"\0\x07\0\0\0\x01\0\x02\0\0\0\0";
    let old = [&head[..], COLUMN, COLUMN, EOF, COLUMN, EOF];
    let expected = Some(Prepared {
        id: 7,
        parameters: 2,
    });
    assert_eq!(
        read(Shape::Prepared, dialect(Some(false)), &old).prepared,
        expected
    );
    let new = [&head[..], COLUMN, COLUMN, COLUMN];
    assert_eq!(
        read(Shape::Prepared, dialect(Some(true)), &new).prepared,
        expected
    );
    let none = b"\0\x07\0\0\0\0\0\0\0\0\0\0";
    assert_eq!(
        read(Shape::Prepared, dialect(Some(false)), &[none])
            .prepared
            .map(|it| it.id),
        Some(7)
    );
}

#[test]
fn errors_end_everything_but_progress() {
    let error = b"\xff\x7a\x04#42S02no";
    for shape in [
        Shape::Okay,
        Shape::Text,
        Shape::Results,
        Shape::Prepared,
        Shape::Fields,
        Shape::Rows,
    ] {
        assert_eq!(
            read(shape, dialect(Some(false)), &[error]).error,
            Some(1146)
        );
    }
    let progress = b"\xff\xff\xff\x01\x01\x02\0\0\0\x04Copy";
    let summary = read(
        Shape::Results,
        dialect(Some(false)),
        &[progress, progress, OK],
    );
    assert_eq!((summary.affected, summary.error), (2, None));
    let within = [b"\x01", COLUMN, EOF, b"\x011", error];
    assert_eq!(
        read(Shape::Results, dialect(Some(false)), &within).error,
        Some(1146)
    );
}

#[test]
fn what_is_no_answer_is_found() {
    for (shape, packet) in [
        (Shape::Okay, &b"\x05"[..]),
        (Shape::Okay, b""),
        (Shape::Okay, b"\0"),
        (Shape::Prepared, b"\0\x01"),
        (Shape::Prepared, b"\x07"),
        (Shape::Results, b"\xfc\x01"),
        (Shape::Results, b"\xff"),
    ] {
        let taken = Answer::new(shape).take(&mut dialect(Some(false)), message(packet));
        assert_eq!(taken, Err(Malformed), "{shape:?} {packet:?}");
    }
}
