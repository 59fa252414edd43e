use proptest::prelude::*;

use super::*;

const LONG: u16 = 3;
const STRING: u16 = 0xfd;
static NONE: BTreeSet<u16> = BTreeSet::new();

fn retelling(types: Option<&[u16]>) -> Retelling<'_> {
    Retelling {
        statement: 0x0403_0201,
        with_names: false,
        types,
        sent_before: &NONE,
    }
}

/// An execution of statement 9: flags, then what follows the iterations.
fn execute(flags: u8, rest: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![0x17, 9, 0, 0, 0, flags, 1, 0, 0, 0];
    payload.extend(rest.concat());
    payload
}

fn retold(flags: u8, rest: &[&[u8]]) -> Vec<u8> {
    let mut payload = execute(flags, rest);
    payload[1..5].copy_from_slice(&[1, 2, 3, 4]);
    payload
}

#[test]
fn only_the_statement_changes_where_the_shape_fits() {
    let rest: &[&[u8]] = &[&[0, 1, 3, 0, 0xfd, 0], &7_u32.to_le_bytes(), b"\x02ab"];
    let payload = execute(0, rest);
    let read = Execute::read(&payload, 2, Some(false)).expect("an execution");
    assert_eq!(read.types(), Some(&[LONG, STRING][..]));
    assert!(read.fits(retelling(None)));
    assert_eq!(read.retell(retelling(None)), Some(retold(0, rest)));
    let bare = execute(1, &[]);
    let read = Execute::read(&bare, 0, Some(false)).expect("an execution");
    assert_eq!(read.retell(retelling(None)), Some(retold(1, &[])));
}

#[test]
fn remembered_types_are_told() {
    let values: &[&[u8]] = &[&7_u32.to_le_bytes(), b"\x02ab"];
    let payload = execute(0, &[&[0, 0], &values.concat()]);
    let read = Execute::read(&payload, 2, Some(false)).expect("an execution");
    assert!(read.relies_on_types() && read.types().is_none());
    let types = [LONG, STRING];
    let expected = retold(0, &[&[0, 1, 3, 0, 0xfd, 0], &values.concat()]);
    assert_eq!(read.retell(retelling(Some(&types))), Some(expected));
    let expected = retold(0, &[&[0, 0], &values.concat()]);
    assert_eq!(read.retell(retelling(None)), Some(expected));
}

#[test]
fn attributes_are_left_out_for_a_target_without_them() {
    // Two parameters, of which the second was sent before, and one attribute.
    let head: &[u8] = &[3, 0b000, 1, 3, 0, 0, 0xfd, 0, 0, 0xfd, 0, 1, b'k'];
    let payload = execute(8, &[head, &7_u32.to_le_bytes(), b"\x03val"]);
    let read = Execute::read(&payload, 2, Some(true)).expect("an execution");
    let sent_before = BTreeSet::from([1]);
    let retelling = Retelling {
        sent_before: &sent_before,
        ..retelling(None)
    };
    let expected = retold(0, &[&[0, 1, 3, 0, 0xfd, 0], &7_u32.to_le_bytes()]);
    assert_eq!(read.retell(retelling), Some(expected));
    // Nothing but an attribute.
    let payload = execute(8, &[&[1, 0, 1, 0xfd, 0, 1, b'k'], b"\x03val"]);
    let read = Execute::read(&payload, 0, None).expect("an execution");
    assert_eq!(read.retell(retelling), Some(retold(0, &[])));
}

#[test]
fn the_number_of_parameters_is_given_without_the_flag_too() {
    let rest: &[&[u8]] = &[&[1, 0, 1, 3, 0, 0], &7_u32.to_le_bytes()];
    let payload = execute(0, rest);
    let read = Execute::read(&payload, 1, Some(true)).expect("an execution");
    assert_eq!(read.types(), Some(&[LONG][..]));
    let bare: &[&[u8]] = &[&[0, 1, 3, 0], &7_u32.to_le_bytes()];
    assert_eq!(read.retell(retelling(None)), Some(retold(0, bare)));
    let named = Retelling {
        with_names: true,
        ..retelling(None)
    };
    assert_eq!(read.retell(named), Some(retold(0, rest)));
    // Without parameters, nothing follows.
    let read = execute(0, &[]);
    let read = Execute::read(&read, 0, Some(true)).expect("an execution");
    assert_eq!(read.retell(named), Some(retold(0, &[])));
}

#[test]
fn the_text_behind_attributes_is_found() {
    assert_eq!(text_after_attributes(b"\x03\x00\x01select 1"), Some(3));
    let payload = b"\x03\x02\x01\x02\x01\xfd\x00\x01k\x06\x00\x01n\x03valselect 1";
    let at = text_after_attributes(payload).expect("a text");
    assert_eq!(&payload[at..], b"select 1");
    for cut in 0..at {
        assert_eq!(text_after_attributes(&payload[..cut]), None, "{cut}");
    }
}

#[test]
fn every_type_has_its_length() {
    for (kind, value) in [
        (0x06, &b""[..]),
        (0x01, b"1"),
        (0x0d, b"12"),
        (0x09, b"1234"),
        (0x08, b"12345678"),
        (0x0c, b"\x0412345"),
        (0xfc, b"\x03abc"),
        (0xf6, b"\xfc\x02\x00ab"),
    ] {
        let mut reader = Reader::new(value);
        assert_eq!(pass_value(&mut reader, kind), Some(()));
        let left = usize::from(kind == 0x0c);
        assert_eq!(reader.rest().len(), left, "{kind}");
    }
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        own in 0_u16..40,
        has_attributes in any::<Option<bool>>(),
        with_names in any::<bool>(),
        types in prop::collection::vec(any::<u16>(), 0..40),
    ) {
        let _ = text_after_attributes(&bytes);
        if let Some(read) = Execute::read(&bytes, own, has_attributes) {
            let retelling = Retelling { with_names, ..retelling(Some(&types)) };
            if let Some(out) = read.retell(retelling) {
                prop_assert!(out.len() <= 2 * bytes.len() + 20 + 3 * types.len());
            }
        }
    }
}
