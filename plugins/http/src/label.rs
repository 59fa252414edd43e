//! The label of a request: its method and the template of its path.

/// Most segments of a path that a label shows.
const SEGMENTS: usize = 5;

/// Longest segment that a label shows as it is.
const SEGMENT_BYTES: usize = 32;

/// Longest method that a label shows; those that exist are shorter.
const METHOD_BYTES: usize = 16;

/// Writes `METHOD /path/:id`: without the query, with what looks like an identifier replaced, and
/// with `*` for what is deeper than five segments.
pub(crate) fn write(label: &mut String, method: &[u8], path: &[u8]) {
    label.clear();
    push(label, &method[..method.len().min(METHOD_BYTES)]);
    label.push(' ');
    if !path.starts_with(b"/") {
        // `*`, or the authority of a CONNECT, of which there may be any number.
        return label.push('*');
    }
    let mut segments = path[1..].split(|byte| *byte == b'/');
    for segment in segments.by_ref().take(SEGMENTS) {
        label.push('/');
        match is_identifier(segment) {
            true => label.push_str(":id"),
            false => push(label, segment),
        }
    }
    if segments.next().is_some() {
        label.push_str("/*");
    }
}

/// Numbers, UUIDs, hexadecimal numbers of eight digits and more, and whatever is too long to be a
/// word.
fn is_identifier(segment: &[u8]) -> bool {
    let digits = segment.iter().filter(|it| it.is_ascii_digit()).count();
    let is_hex = |it: &u8| it.is_ascii_hexdigit() || *it == b'-';
    let is_number = digits > 0 && digits == segment.len();
    let is_hex_number = digits > 0 && segment.len() >= 8 && segment.iter().all(is_hex);
    is_number || is_hex_number || segment.len() > SEGMENT_BYTES
}

fn push(label: &mut String, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && bytes.iter().all(u8::is_ascii_graphic)
    {
        return label.push_str(text);
    }
    let printable = |byte: &u8| match byte {
        0x21..=0x7e => char::from(*byte),
        _ => '?',
    };
    label.extend(bytes.iter().map(printable));
}

#[cfg(test)]
mod tests {
    fn of(method: &str, path: &str) -> String {
        let mut label = String::from("old");
        super::write(&mut label, method.as_bytes(), path.as_bytes());
        label
    }

    #[test]
    fn identifiers_are_left_out_and_words_are_not() {
        assert_eq!(of("GET", "/"), "GET /");
        assert_eq!(of("GET", "/users/17/posts/"), "GET /users/:id/posts/");
        let uuid = "/a/123e4567-e89b-12d3-a456-426614174000";
        assert_eq!(of("PUT", uuid), "PUT /a/:id");
        assert_eq!(of("GET", "/commit/9fceb02d0ae5"), "GET /commit/:id");
        assert_eq!(
            of("GET", "/feedback/v2/a-b.html"),
            "GET /feedback/v2/a-b.html"
        );
        assert_eq!(
            of("GET", "/facade/deadbeefcafe"),
            "GET /facade/deadbeefcafe"
        );
        assert_eq!(of("GET", &format!("/{}", "x".repeat(33))), "GET /:id");
    }

    #[test]
    fn a_label_is_bounded_and_printable() {
        assert_eq!(of("GET", "/a/b/c/d/e/f/g"), "GET /a/b/c/d/e/*");
        assert_eq!(of("GET", "/\u{e9}"), "GET /??");
        assert_eq!(of("CONNECT", "example.com:443"), "CONNECT *");
        assert_eq!(of("OPTIONS", "*"), "OPTIONS *");
        let long = of(&"M".repeat(300), &format!("/{}", "abc/".repeat(100)));
        assert!(long.len() < 200);
    }
}
