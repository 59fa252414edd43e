//! What is asked and answered on the control socket.

use serde::{Deserialize, Serialize};
use tcpcopy_engine::{Selection, Tuning};

use crate::shaping::{parse_copies, parse_percent, parse_rate};

/// One line to a running tcpcopy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The figures so far.
    Status,
    /// Replays nothing more for now: what is captured meanwhile is counted as `paused`; a capture
    /// file stands still.
    Pause,
    /// Goes on.
    Resume,
    /// Sessions for each connection that begins from now on, as `-n` takes it.
    Multiplier(String),
    /// Per cent of the connections that begin from now on, as `-r` takes it.
    Percent(String),
    /// The bound of `--rate`, as that takes it, or `off`.
    Rate(String),
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

impl Request {
    /// What the shards have to be told, for requests that change the load.
    ///
    /// # Errors
    /// What is wrong with the value, for the user.
    pub fn tuning(&self) -> Option<Result<Tuning, String>> {
        let tuning = match self {
            Self::Pause => Ok(Tuning::Pause(true)),
            Self::Resume => Ok(Tuning::Pause(false)),
            Self::Multiplier(text) => parse_copies(text).map(Tuning::Copies),
            Self::Percent(text) => {
                parse_percent(text).map(|percent| Tuning::Selection(Selection::Percent(percent)))
            }
            Self::Rate(text) if text == "off" => Ok(Tuning::Rate(None)),
            Self::Rate(text) => parse_rate(text).map(|rate| Tuning::Rate(Some(rate))),
            Self::Status | Self::Stop { .. } => return None,
        };
        Some(tuning)
    }
}

#[cfg(test)]
mod tests {
    use tcpcopy_engine::RateLimit;

    use super::*;

    #[test]
    fn values_read_as_on_the_command_line() {
        let tuning = |request: Request| request.tuning().expect("it changes the load");
        assert_eq!(tuning(Request::Pause), Ok(Tuning::Pause(true)));
        assert_eq!(
            tuning(Request::Multiplier("1.5".to_owned())),
            Ok(Tuning::Copies(1.5))
        );
        assert_eq!(
            tuning(Request::Percent("2.5".to_owned())),
            Ok(Tuning::Selection(Selection::Percent(2.5)))
        );
        assert_eq!(
            tuning(Request::Rate("500rps".to_owned())),
            Ok(Tuning::Rate(Some(RateLimit::Requests(500.0))))
        );
        assert_eq!(
            tuning(Request::Rate("off".to_owned())),
            Ok(Tuning::Rate(None))
        );
        for wrong in [
            Request::Multiplier("0".to_owned()),
            Request::Percent("101".to_owned()),
            Request::Rate("fast".to_owned()),
        ] {
            assert!(tuning(wrong.clone()).is_err(), "{wrong:?}");
        }
        assert!(Request::Status.tuning().is_none());
    }

    #[test]
    fn requests_are_short_lines_of_json() {
        for (request, line) in [
            (Request::Status, r#""status""#),
            (
                Request::Multiplier("1.5".to_owned()),
                r#"{"multiplier":"1.5"}"#,
            ),
            (Request::Rate("500rps".to_owned()), r#"{"rate":"500rps"}"#),
            (Request::Stop { now: true }, r#"{"stop":{"now":true}}"#),
        ] {
            assert_eq!(serde_json::to_string(&request).expect("JSON"), line);
            assert_eq!(serde_json::from_str::<Request>(line).expect(line), request);
        }
    }
}
