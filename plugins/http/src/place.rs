//! Places of a message that rules speak of: `cookie:NAME`, `header:NAME`, `query:NAME` and so on.

/// A place in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Cookie(Vec<u8>),
    /// A header; behind the scheme, for one of credentials.
    Header(Vec<u8>),
    Query(Vec<u8>),
    Form(Vec<u8>),
    Json(Vec<Vec<u8>>),
}

impl Place {
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(format!("`{text}` is no place such as cookie:NAME"));
        }
        let bytes = name.as_bytes().to_vec();
        match kind {
            "cookie" => Ok(Self::Cookie(bytes)),
            "header" => {
                crate::template::check_name(name)?;
                Ok(Self::Header(bytes))
            }
            "query" => Ok(Self::Query(bytes)),
            "form" => Ok(Self::Form(bytes)),
            "json" => Ok(Self::Json(json_path(name))),
            _ => Err(format!(
                "`{kind}` is none of cookie, header, query, form and json"
            )),
        }
    }

    /// Whether it is in the body.
    pub(crate) fn is_in_body(&self) -> bool {
        matches!(self, Self::Form(_) | Self::Json(_))
    }
}

/// The keys of a path such as `data.items.0.id`.
pub(crate) fn json_path(text: &str) -> Vec<Vec<u8>> {
    text.split('.').map(|key| key.as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        assert_eq!(
            Place::read("cookie:sid"),
            Ok(Place::Cookie(b"sid".to_vec()))
        );
        let json = Place::Json(vec![b"a".to_vec(), b"0".to_vec()]);
        assert_eq!(Place::read("json:a.0"), Ok(json));
        assert!(Place::read("cookie").is_err() && Place::read("cookie:").is_err());
        assert!(Place::read("header:a b").is_err());
        let error = Place::read("cookies:a").expect_err("unknown");
        assert!(error.starts_with("`cookies` is none of cookie,"));
    }
}
