//! Fields of queries and of submitted forms: `application/x-www-form-urlencoded` (WHATWG URL,
//! section 5) and `multipart/form-data` (RFC 7578).

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;

/// Where the values of a field are in `a=1&b=2`, still encoded.
pub(crate) fn find<'a>(
    fields: &'a [u8],
    name: &'a [u8],
) -> impl Iterator<Item = Range<usize>> + 'a {
    let mut start = 0;
    let pairs = fields.split(|byte| *byte == b'&').map(move |pair| {
        let at = start;
        start += pair.len() + 1;
        (at, pair)
    });
    pairs.filter_map(move |(at, pair)| {
        let equals = memchr::memchr(b'=', pair)?;
        let is_it = decode(&pair[..equals]).as_ref() == name;
        is_it.then_some(at + equals + 1..at + pair.len())
    })
}

/// Undoes the encoding of a query or a form; what is no encoding stays as it is.
pub(crate) fn decode(value: &[u8]) -> Cow<'_, [u8]> {
    decode_with(b' ', value)
}

/// Undoes `%xx` only.
pub(crate) fn decode_percent(value: &[u8]) -> Cow<'_, [u8]> {
    decode_with(b'+', value)
}

fn decode_with(plus: u8, value: &[u8]) -> Cow<'_, [u8]> {
    if !value.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(value);
    }
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, after @ ..] = rest {
        rest = after;
        plain.push(match (first, after) {
            (b'+', _) => plus,
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            (byte, _) => *byte,
        });
    }
    Cow::Owned(plain)
}

/// Encodes a value for a query or a form.
pub(crate) fn encode(value: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(value.len());
    for byte in value {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'*' => {
                encoded.push(*byte);
            }
            byte => {
                let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble)];
                encoded.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    encoded
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

/// The boundary of a `multipart/form-data`, from the value of `Content-Type`.
pub(crate) fn boundary(content_type: &[u8]) -> Option<&[u8]> {
    let mut parameters = content_type.split(|byte| *byte == b';');
    let kind = parameters.next()?.trim_ascii();
    if !kind.eq_ignore_ascii_case(b"multipart/form-data") {
        return None;
    }
    parameters.find_map(|it| parameter(it, b"boundary"))
}

/// The value of `name=value` or `name="value"`.
fn parameter<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let equals = memchr::memchr(b'=', text)?;
    let (left, right) = (text[..equals].trim_ascii(), text[equals + 1..].trim_ascii());
    let value = super::cookie::unquoted(right);
    (left.eq_ignore_ascii_case(name) && !value.is_empty()).then_some(value)
}

/// Where the content of the parts of this name is in a body.
pub(crate) fn find_parts(body: &[u8], boundary: &[u8], name: &[u8]) -> Vec<Range<usize>> {
    let delimiter = [b"--", boundary].concat();
    let starts: Vec<_> = memmem::find_iter(body, &delimiter).collect();
    let part = |pair: &[usize]| {
        let from = pair[0] + delimiter.len();
        let part = body.get(from..pair[1])?;
        let head = memmem::find(part, b"\r\n\r\n")?;
        let end = part.len().checked_sub(2).filter(|it| *it >= head + 4)?;
        has_name(&part[..head], name).then_some(from + head + 4..from + end)
    };
    starts.windows(2).filter_map(part).collect()
}

/// Whether a part's `Content-Disposition` gives it this name.
fn has_name(head: &[u8], name: &[u8]) -> bool {
    let lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut parameters = lines
        .filter(|line| {
            let start = line.get(..20).unwrap_or_default();
            start.eq_ignore_ascii_case(b"content-disposition:")
        })
        .flat_map(|line| line.split(|byte| *byte == b';'));
    parameters.any(|it| parameter(it, b"name") == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_decoded_names() {
        let fields = b"a=1&csrf%5Ftoken=x%2By&b&csrf_token=&c=csrf_token=3";
        let of = |name| {
            let found = find(fields, name).map(|it| decode(&fields[it]).into_owned());
            found.collect::<Vec<_>>()
        };
        assert_eq!(of(b"csrf_token"), [&b"x+y"[..], b""]);
        assert_eq!(of(b"c"), [b"csrf_token=3"]);
        assert_eq!(of(b"b"), [&b""[..]; 0]);
    }

    #[test]
    fn values_are_decoded_and_encoded() {
        assert_eq!(decode(b"a+b%20c%zz%4").as_ref(), b"a b c%zz%4");
        assert_eq!(decode_percent(b"a+b%20").as_ref(), b"a+b ");
        assert_eq!(encode(b"a b/\xff~"), b"a%20b%2F%FF~");
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).as_ref(), all);
    }

    #[test]
    fn parts_are_found_by_name() {
        let kind = b"multipart/form-data; charset=x; boundary=\"a b\"";
        assert_eq!(boundary(kind), Some(&b"a b"[..]));
        assert_eq!(boundary(b"text/html; boundary=x"), None);
        let body = b"--B\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nsecret\r\n\
            --B\r\ncontent-disposition: form-data; name=file; filename=\"name=token\"\r\n\r\n\r\n--B--\r\n";
        let of = |name| -> Vec<&[u8]> {
            let found = find_parts(body, b"B", name);
            found.into_iter().map(|it| &body[it]).collect()
        };
        assert_eq!(of(b"token"), [b"secret"]);
        assert_eq!(of(b"file"), [b""]);
        assert_eq!(of(b"none"), [&b""[..]; 0]);
    }
}
