//! Names that clients and servers choose, of which reports can take only so many.

use std::collections::BTreeSet;

/// What a name is called that came when there were too many, or that is none.
const OTHER: &str = "other";

/// The longest name, in bytes.
const NAME_BYTES: usize = 48;

/// A bounded set of names.
#[derive(Debug)]
pub(crate) struct Names {
    known: BTreeSet<String>,
    most: usize,
}

impl Names {
    /// Takes the first so many names.
    pub(crate) fn up_to(most: usize) -> Self {
        Self {
            known: BTreeSet::new(),
            most,
        }
    }

    /// The name itself where there is room for it, else `other`.
    pub(crate) fn admit(&mut self, name: &str) -> &str {
        if !self.known.contains(name) {
            if self.known.len() >= self.most || !is_sound(name) {
                return OTHER;
            }
            self.known.insert(name.to_owned());
        }
        self.known.get(name).map_or(OTHER, String::as_str)
    }
}

fn is_sound(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b" ._-".contains(&byte);
    (1..=NAME_BYTES).contains(&name.len()) && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many() {
        let mut names = Names::up_to(2);
        assert_eq!(names.admit("GET"), "GET");
        assert_eq!(names.admit("not\nsound"), OTHER);
        assert_eq!(names.admit("CLIENT SETINFO"), "CLIENT SETINFO");
        assert_eq!(names.admit("SET"), OTHER);
        assert_eq!(names.admit("GET"), "GET");
        assert_eq!(names.admit(""), OTHER);
    }
}
