//! What is asked and answered on the control socket.

use serde::{Deserialize, Serialize};

/// One line to a running tcpcopy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The figures so far.
    Status,
    /// Ends the replay: captures nothing more, delivers what is there. `now`: drops it.
    Stop {
        /// Whether to wait for nothing.
        now: bool,
    },
}

/// One line of a running tcpcopy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done, or under way.
    Done,
    /// The figures so far: the object that `--report` writes.
    Status(Box<serde_json::Value>),
    /// It can't be done, and why.
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_short_lines_of_json() {
        for (request, line) in [
            (Request::Status, r#""status""#),
            (Request::Stop { now: true }, r#"{"stop":{"now":true}}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).expect("JSON"), line);
            assert_eq!(serde_json::from_str::<Request>(line).expect(line), request);
        }
    }
}
