//! The text that a statement prepares or runs: `PREPARE name FROM 'text'`, `EXECUTE IMMEDIATE 'text'`.

use super::escapes::Reading;
use super::meaning::Meaning;
use super::token::{Token, Tokens};

/// A text within a text.
#[derive(Debug)]
pub(super) struct Source {
    /// `None` where it is in a variable, or made by an expression.
    text: Option<Vec<u8>>,
    /// Where it stands, if it stands there letter by letter.
    at: Option<usize>,
    reading: Reading,
}

impl Source {
    /// Reads it, and passes over the rest of the statement. Several texts in a row are one.
    pub(super) fn read(tokens: &mut Tokens<'_>) -> Self {
        let reading = tokens.reading();
        let (mut text, mut at) = (Some(Vec::new()), None);
        let mut is_first = true;
        while let Some(token) = tokens.next() {
            match (token, tokens.quote()) {
                (Token::Sign(b';'), _) => break,
                (token, _) if token.is("USING") && !is_first => {
                    tokens.pass_statement();
                    break;
                }
                (Token::Text(raw), Some(quote)) => {
                    let said = reading.unescape(raw, quote);
                    let is_alone = is_first && said == raw;
                    at = is_alone.then_some(tokens.span().start + 1);
                    if let Some(text) = &mut text {
                        text.extend_from_slice(&said);
                    }
                }
                _ => text = None,
            }
            is_first = false;
        }
        Self { text, at, reading }
    }

    /// What it means; its places are those of the whole text.
    pub(super) fn meaning(self) -> Meaning {
        let Some(text) = self.text else {
            return Meaning {
                writes: true,
                is_hidden: true,
                ..Meaning::default()
            };
        };
        let mut meaning = Meaning::read(&text, self.reading);
        for change in &mut meaning.changes {
            change.is_quoted = true;
            let span = change.span.take().zip(self.at);
            change.span = span.map(|(span, at)| span.start + at..span.end + at);
        }
        meaning
    }
}
