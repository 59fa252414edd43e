//! The small grammars of the options that shape the load: `-n`, `-r`, `-g`, `--rate`, `--latency`.
//!
//! Their errors are what the user reads behind the option's name, so each says what is expected.

use std::time::Duration;

use tcpcopy_engine::{Latency, MAX_COPIES, RateLimit};

/// Time of a ramp that `-g` alone asks for, in seconds: that of tcpcopy 1.3.
pub const DEFAULT_RAMP_S: &str = "100";
/// What follows a bound of requests.
const REQUESTS_UNIT: &str = "rps";
/// Highest bound, a second.
const MOST_RATE: f64 = 1e9;
/// Lowest bound, a second: one in a thousand seconds.
const LEAST_RATE: f64 = 0.001;
/// Longest latency: more is not distance any more.
const MOST_LATENCY_MS: f64 = 60_000.0;

/// Reads `-n`: 1 to 1023, with decimals.
///
/// # Errors
/// What is expected instead.
pub fn parse_copies(text: &str) -> Result<f64, String> {
    let most = f64::from(MAX_COPIES);
    number(text, 1.0, most).ok_or_else(|| format!("a number from 1 to {most}, such as 1.5"))
}

/// Reads `-r`: above 0 up to 100, with decimals.
///
/// # Errors
/// What is expected instead.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    number(text, f64::MIN_POSITIVE, 100.0)
        .ok_or_else(|| "a percentage above 0 up to 100, such as 2.5".to_owned())
}

/// Reads `--rate`: `N` connections or `Nrps` requests a second.
///
/// # Errors
/// What is expected instead.
pub fn parse_rate(text: &str) -> Result<RateLimit, String> {
    let requests = text.strip_suffix(REQUESTS_UNIT);
    let rate = number(requests.unwrap_or(text), LEAST_RATE, MOST_RATE).ok_or_else(|| {
        "a number of connections (500) or of requests (500rps) a second, above 0".to_owned()
    })?;
    Ok(match requests {
        Some(_) => RateLimit::Requests(rate),
        None => RateLimit::Connections(rate),
    })
}

/// Reads `--latency`: milliseconds, and what they may vary by behind `±` or `+-`.
///
/// # Errors
/// What is expected instead.
pub fn parse_latency(text: &str) -> Result<Latency, String> {
    let parts = text.split_once('±').or_else(|| text.split_once("+-"));
    let (mean, jitter) = parts.unwrap_or((text, "0"));
    let read = || {
        let mean_ms = number(mean, 0.0, MOST_LATENCY_MS)?;
        let jitter_ms = number(jitter, 0.0, mean_ms)?;
        Some(Latency {
            mean: milliseconds(mean_ms),
            jitter: milliseconds(jitter_ms),
        })
    };
    read().ok_or_else(|| {
        format!(
            "milliseconds up to {MOST_LATENCY_MS}, such as 80 or 80±20 (or 80+-20), where the \
             second is at most the first"
        )
    })
}

/// A plain decimal number in a range.
fn number(text: &str, least: f64, most: f64) -> Option<f64> {
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value: f64 = text.parse().ok().filter(|_| is_plain)?;
    (least..=most).contains(&value).then_some(value)
}

fn milliseconds(ms: f64) -> Duration {
    Duration::from_micros((ms * 1000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_and_percentages_have_decimals_and_bounds() {
        assert_eq!(parse_copies("1.5"), Ok(1.5));
        assert_eq!(parse_copies("1023"), Ok(1023.0));
        assert_eq!(parse_percent("2.5"), Ok(2.5));
        for wrong in ["0.9", "1023.5", "-1", "1e2", "NaN", "inf", "", "1,5"] {
            assert!(parse_copies(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0", "100.1", "-1", "NaN", "2.5%"] {
            assert!(parse_percent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_is_of_connections_or_of_requests() {
        assert_eq!(parse_rate("500"), Ok(RateLimit::Connections(500.0)));
        assert_eq!(parse_rate("0.5rps"), Ok(RateLimit::Requests(0.5)));
        for wrong in ["0", "0rps", "rps", "5 rps", "5cps", "-5", "1e12", ""] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_latency_may_vary() {
        let latency = |mean_us, jitter_us| {
            Ok(Latency {
                mean: Duration::from_micros(mean_us),
                jitter: Duration::from_micros(jitter_us),
            })
        };
        assert_eq!(parse_latency("80"), latency(80_000, 0));
        assert_eq!(parse_latency("80±20"), latency(80_000, 20_000));
        assert_eq!(parse_latency("0.5+-0.25"), latency(500, 250));
        for wrong in ["", "±", "80±", "80±81", "60001", "-1", "80ms", "80-20"] {
            assert!(parse_latency(wrong).is_err(), "{wrong}");
        }
    }
}
