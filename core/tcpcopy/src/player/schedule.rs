//! When packets are due: the speed, the gaps, the part of the files and the rounds.

use std::time::{Duration, Instant};

/// Nanoseconds of a second.
const NS_PER_S: u64 = 1_000_000_000;
/// Slowest and fastest of a given speed.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.1..=100.0;
/// Farther in the future than any packet: when times overflow.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times as fast as it was captured, 0.1 to 100.
    Times(f64),
    /// As fast as the target takes it.
    Max,
}

impl Speed {
    /// When something is due that was captured so long after the begin of the round.
    pub(super) fn due(self, begin: Instant, captured_ns: u64) -> Instant {
        match self {
            Self::Max => begin,
            Self::Times(times) => {
                let span =
                    Duration::try_from_secs_f64(captured_ns as f64 / times / NS_PER_S as f64);
                begin + span.unwrap_or(NEVER).min(NEVER)
            }
        }
    }
}

/// A moment of the captured time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimePoint {
    /// Nanoseconds since the Unix epoch.
    Absolute(u64),
    /// So long after the first frame of all files.
    SinceBegin(Duration),
}

impl TimePoint {
    /// In nanoseconds since the Unix epoch, given when the first frame was captured.
    pub(super) fn at_ns(self, begin_ns: u64) -> u64 {
        match self {
            Self::Absolute(at_ns) => at_ns,
            Self::SinceBegin(span) => {
                let span_ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
                begin_ns.saturating_add(span_ns)
            }
        }
    }
}

/// When packets are due.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// How fast (`-a`).
    pub speed: Speed,
    /// The longest gap between two packets, in captured time; longer ones are shortened to it
    /// (`-I`).
    pub idle_cut: Option<Duration>,
    /// How often everything is played (`-T`), at least once.
    pub rounds: u32,
    /// The first moment that is played (`--from`).
    pub from: Option<TimePoint>,
    /// The last (`--until`).
    pub until: Option<TimePoint>,
}

impl Default for Schedule {
    /// As it was captured, once, from end to end.
    fn default() -> Self {
        Self {
            speed: Speed::Times(1.0),
            idle_cut: None,
            rounds: 1,
            from: None,
            until: None,
        }
    }
}

/// Why there can be no such schedule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// `-a` out of range, or no number.
    #[error("'{0}' in -a is neither a number from {min} to {max} nor 'max'",
            min = SPEEDS.start(), max = SPEEDS.end())]
    Speed(String),
    /// A time that can't be read.
    #[error("'{text}' in {option} is neither a date and time nor a number of seconds")]
    Time {
        /// `--from` or `--until`.
        option: &'static str,
        /// As it was written.
        text: String,
    },
    /// No round at all.
    #[error("-T asks for no round at all")]
    NoRound,
    /// The end lies before the begin.
    #[error("--until lies before --from, so that nothing is left to play")]
    EmptyWindow,
}

impl ScheduleError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Speed(_) => "write for example -a 2, -a 0.5 or -a max",
            Self::Time { .. } => {
                "write for example 2026-03-01T12:00:00Z, or 90.5 for 90.5 seconds after the begin \
                 of the file"
            }
            Self::NoRound => "write -T 1, or leave it out",
            Self::EmptyWindow => "exchange the two",
        }
    }
}

impl Schedule {
    /// Checks what must hold.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub fn check(&self) -> Result<(), ScheduleError> {
        if let Speed::Times(times) = self.speed
            && !SPEEDS.contains(&times)
        {
            return Err(ScheduleError::Speed(times.to_string()));
        }
        if self.rounds == 0 {
            return Err(ScheduleError::NoRound);
        }
        match (self.from, self.until) {
            (Some(TimePoint::Absolute(from)), Some(TimePoint::Absolute(until))) if until < from => {
                Err(ScheduleError::EmptyWindow)
            }
            (Some(TimePoint::SinceBegin(from)), Some(TimePoint::SinceBegin(until)))
                if until < from =>
            {
                Err(ScheduleError::EmptyWindow)
            }
            _ => Ok(()),
        }
    }
}

/// Reads the value of `-a`.
///
/// # Errors
/// [`ScheduleError::Speed`].
pub fn parse_speed(text: &str) -> Result<Speed, ScheduleError> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match text.parse() {
        Ok(times) if SPEEDS.contains(&times) => Ok(Speed::Times(times)),
        _ => Err(ScheduleError::Speed(text.to_owned())),
    }
}

/// Reads a moment: a date and time as in RFC 3339, or seconds since the begin of the files.
///
/// # Errors
/// [`ScheduleError::Time`], which names the option.
pub fn parse_time_point(option: &'static str, text: &str) -> Result<TimePoint, ScheduleError> {
    let is_number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let point = if is_number {
        let seconds = text.parse().ok();
        let span = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        span.map(TimePoint::SinceBegin)
    } else {
        date_time(text).map(TimePoint::Absolute)
    };
    point.ok_or_else(|| ScheduleError::Time {
        option,
        text: text.to_owned(),
    })
}

/// Reads a date and time (RFC 3339 section 5.6) as nanoseconds since the Unix epoch; `None` for
/// what is none, or lies before the epoch or after the year 2554.
fn date_time(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at(zone_at);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let month_len = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    // A leap second counts as the one before it.
    let is_valid = (1..=month_len).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !is_valid || year < 1970 {
        return None;
    }
    let days = days_before(year, month) + day - 1;
    let local_s = ((days * 24 + hour) * 60 + minute) * 60 + second.min(59);
    let at_s = local_s.checked_sub(zone_offset_s(zone)?)?;
    let at_ns = i128::from(at_s) * i128::from(NS_PER_S) + i128::from(fraction_ns(fraction)?);
    u64::try_from(at_ns).ok()
}

/// Numbers of these widths with a sign between.
fn numbers(text: &str, sign: char, widths: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(sign);
    let mut values = [0; 3];
    for (value, width) in values.iter_mut().zip(widths) {
        *value = number(parts.next()?, width)?;
    }
    parts.next().is_none().then_some(values)
}

fn number(digits: &str, width: usize) -> Option<i64> {
    let is_right = digits.len() == width && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_right)
}

/// Digits after the point; those beyond nanoseconds count for nothing.
fn fraction_ns(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{digits:0<9}").get(..9)?.parse().ok()
}

/// Seconds that the local time of a zone is ahead.
fn zone_offset_s(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)
}

/// Days from the Unix epoch to the first of a month, in the Gregorian calendar.
fn days_before(year: i64, month: i64) -> i64 {
    // Years that begin in March have their odd day at the end, and months follow a pattern of 153
    // days in five.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    const EPOCH: i64 = 719_468;
    year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 - EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds() {
        for (text, speed) in [
            ("1", Speed::Times(1.0)),
            ("0.1", Speed::Times(0.1)),
            ("100", Speed::Times(100.0)),
            ("2.5", Speed::Times(2.5)),
            ("max", Speed::Max),
        ] {
            assert_eq!(parse_speed(text), Ok(speed), "{text}");
        }
        for text in ["0", "0.09", "100.1", "-1", "NaN", "inf", "fast", "", "1x"] {
            let error = parse_speed(text).expect_err(text);
            assert!(error.to_string().contains("from 0.1 to 100"), "{error}");
        }
    }

    #[test]
    fn dates_and_times() {
        const DAY_NS: u64 = 86_400 * NS_PER_S;
        for (text, at_ns) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.000000001Z", 1),
            ("1970-03-01t00:00:00z", 59 * DAY_NS),
            ("2000-02-29T12:00:00Z", 951_825_600 * NS_PER_S),
            ("2000-03-01 00:00:00+00:00", 951_868_800 * NS_PER_S),
            (
                "2026-11-22T20:40:00.5+01:30",
                1_795_374_600 * NS_PER_S + NS_PER_S / 2,
            ),
            (
                "2026-11-22T17:40:00.5-01:30",
                1_795_374_600 * NS_PER_S + NS_PER_S / 2,
            ),
            ("2100-03-01T00:00:00Z", 4_107_542_400 * NS_PER_S),
            ("2016-12-31T23:59:60Z", 1_483_228_799 * NS_PER_S),
        ] {
            assert_eq!(date_time(text), Some(at_ns), "{text}");
        }
        for text in [
            "2026-11-22",
            "2026-11-22T20:40:00",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-1-1T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00Zulu",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "9999-01-01T00:00:00Z",
            "yesterday",
        ] {
            assert_eq!(date_time(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = 0;
        for year in 1970..2200 {
            for month in 1..=12 {
                assert_eq!(days_before(year, month), expected, "{year}-{month}");
                let leap = i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
                expected += [31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
                    [usize::try_from(month).unwrap() - 1];
            }
        }
    }

    #[test]
    fn moments() {
        let point = |text| parse_time_point("--from", text);
        let span = Duration::from_millis(12_500);
        assert_eq!(point("12.5"), Ok(TimePoint::SinceBegin(span)));
        assert_eq!(
            point("1970-01-01T00:00:01Z"),
            Ok(TimePoint::Absolute(NS_PER_S))
        );
        for text in ["", ".", "1.2.3", "-5", "1e3", "noon"] {
            let error = point(text).expect_err(text);
            assert!(error.to_string().contains("in --from"), "{error}");
        }
    }

    #[test]
    fn windows_and_rounds() {
        let check = |from, until, rounds| {
            let schedule = Schedule {
                from,
                until,
                rounds,
                ..Schedule::default()
            };
            schedule.check()
        };
        let after = |seconds| Some(TimePoint::SinceBegin(Duration::from_secs(seconds)));
        assert_eq!(check(None, None, 1), Ok(()));
        assert_eq!(check(None, None, 0), Err(ScheduleError::NoRound));
        assert_eq!(check(after(1), after(1), 1), Ok(()));
        assert_eq!(
            check(after(2), after(1), 1),
            Err(ScheduleError::EmptyWindow)
        );
        let at = |at_ns| Some(TimePoint::Absolute(at_ns));
        assert_eq!(check(at(2), at(1), 1), Err(ScheduleError::EmptyWindow));
        assert_eq!(check(at(2), after(1), 1), Ok(()));
    }
}
