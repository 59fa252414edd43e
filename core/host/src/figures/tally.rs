//! The counts of one plugin in one shard. The shard writes; reports read and add up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tcpcopy_engine::DelayHistogram;
use tcpcopy_engine::plugin::Failure;

use super::{FailureFigures, LabelFigures, OTHER, OutcomeFigures};
use crate::limits::Limits;

/// The counts of one plugin in one shard.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Only the shard writes it.
    calls: AtomicU64,
    counts: Mutex<Counts>,
}

/// What is counted less often than calls.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sessions: u64,
    pub(crate) passed_through: u64,
    pub(crate) slow_calls: u64,
    /// Nanoseconds, as if they were microseconds.
    pub(crate) call_time: DelayHistogram,
    pub(crate) failures: FailureFigures,
    pub(crate) refusals: Names,
    pub(crate) counters: Names,
    pub(crate) labels: Labels,
    pub(crate) log_lines_dropped: u64,
}

impl Tally {
    /// Counts a call; returns how many there have been.
    pub(crate) fn call(&self) -> u64 {
        let calls = self.calls.load(Ordering::Relaxed) + 1;
        self.calls.store(calls, Ordering::Relaxed);
        calls
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    pub(crate) fn fail(&mut self, failure: Failure) {
        let failures = &mut self.failures;
        *match failure {
            Failure::Trapped => &mut failures.trapped,
            Failure::TimedOut => &mut failures.timed_out,
            Failure::OutOfMemory => &mut failures.out_of_memory,
            Failure::OutputLimit => &mut failures.output_limit,
            Failure::SessionLimit => &mut failures.session_limit,
            Failure::SwitchedOff => &mut failures.switched_off,
        } += 1;
    }

    /// Adds another shard's.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.passed_through += other.passed_through;
        self.slow_calls += other.slow_calls;
        self.call_time.merge(&other.call_time);
        let (ours, theirs) = (&mut self.failures, &other.failures);
        ours.trapped += theirs.trapped;
        ours.timed_out += theirs.timed_out;
        ours.out_of_memory += theirs.out_of_memory;
        ours.output_limit += theirs.output_limit;
        ours.session_limit += theirs.session_limit;
        ours.switched_off += theirs.switched_off;
        self.refusals.merge(&other.refusals);
        self.counters.merge(&other.counters);
        self.labels.merge(&other.labels);
        self.log_lines_dropped += other.log_lines_dropped;
    }
}

/// Counters by name.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<String, u64, RandomState>);

impl Names {
    /// Adds to a name, or to the rest when there are `most` already.
    pub(crate) fn add(&mut self, name: &str, n: u64, most: usize) {
        if let Some(count) = self.0.get_mut(name) {
            *count = count.saturating_add(n);
            return;
        }
        let name = if self.0.len() < most { name } else { OTHER };
        let count = self.0.entry_ref(name).or_default();
        *count = count.saturating_add(n);
    }

    /// In the names' order.
    pub(crate) fn to_map(&self) -> BTreeMap<String, u64> {
        let all = self.0.iter().map(|(name, count)| (name.clone(), *count));
        all.collect()
    }

    fn merge(&mut self, other: &Self) {
        for (name, count) in other.to_map() {
            self.add(&name, count, usize::MAX);
        }
    }
}

/// Exchanges by label.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    places: HashMap<String, u32, RandomState>,
    labels: Vec<Label>,
}

#[derive(Debug)]
struct Label {
    name: Box<str>,
    begun: u64,
    left_out: u64,
    ok: u64,
    failed: u64,
    outcomes: Outcomes,
    latency: Option<DelayHistogram>,
}

/// How exchanges ended: a few, so that looking through them is quickest.
#[derive(Debug, Default)]
struct Outcomes(Vec<OutcomeFigures>);

impl Labels {
    /// An exchange begins; the answer is its label's place.
    pub(crate) fn begin(&mut self, name: &str, most: usize) -> u32 {
        let place = self.place(name, most);
        self.labels[place as usize].begun += 1;
        place
    }

    /// It had nothing to say.
    pub(crate) fn leave_out(&mut self, place: u32) {
        self.labels[place as usize].left_out += 1;
    }

    /// It has ended.
    pub(crate) fn end(&mut self, place: u32, ok: bool, status: u32, word: &str, limits: &Limits) {
        let label = &mut self.labels[place as usize];
        match ok {
            true => label.ok += 1,
            false => label.failed += 1,
        }
        label.outcomes.add(status, word, 1, limits.outcomes);
    }

    /// How long it took.
    pub(crate) fn took(&mut self, place: u32, took: Duration) {
        let latency = &mut self.labels[place as usize].latency;
        latency.get_or_insert_default().record(took);
    }

    /// In the labels' order.
    pub(crate) fn to_figures(&self) -> Vec<LabelFigures> {
        let mut all: Vec<_> = self.labels.iter().map(Label::to_figures).collect();
        all.sort_by(|one, other| one.label.cmp(&other.label));
        all
    }

    fn place(&mut self, name: &str, most: usize) -> u32 {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let name = if self.labels.len() < most {
            name
        } else {
            OTHER
        };
        let labels = &mut self.labels;
        *self.places.entry_ref(name).or_insert_with(|| {
            labels.push(Label {
                name: name.into(),
                begun: 0,
                left_out: 0,
                ok: 0,
                failed: 0,
                outcomes: Outcomes::default(),
                latency: None,
            });
            u32::try_from(labels.len() - 1).expect("labels have a bound")
        })
    }

    fn merge(&mut self, other: &Self) {
        for theirs in &other.labels {
            let place = self.place(&theirs.name, usize::MAX);
            let ours = &mut self.labels[place as usize];
            ours.begun += theirs.begun;
            ours.left_out += theirs.left_out;
            ours.ok += theirs.ok;
            ours.failed += theirs.failed;
            for outcome in &theirs.outcomes.0 {
                let OutcomeFigures {
                    status,
                    word,
                    count,
                } = outcome;
                ours.outcomes.add(*status, word, *count, usize::MAX);
            }
            if let Some(latency) = &theirs.latency {
                ours.latency.get_or_insert_default().merge(latency);
            }
        }
    }
}

impl Label {
    fn to_figures(&self) -> LabelFigures {
        let mut outcomes = self.outcomes.0.clone();
        outcomes.sort_by(|one, other| {
            let by_count = other.count.cmp(&one.count);
            by_count.then_with(|| (one.status, &one.word).cmp(&(other.status, &other.word)))
        });
        LabelFigures {
            label: self.name.to_string(),
            begun: self.begun,
            left_out: self.left_out,
            ok: self.ok,
            failed: self.failed,
            outcomes,
            latency: self.latency.as_ref().map(Into::into).unwrap_or_default(),
        }
    }
}

impl Outcomes {
    /// Adds to an outcome, or to the rest when there are `most` already.
    fn add(&mut self, status: u32, word: &str, n: u64, most: usize) {
        if let Some(outcome) = self.find(status, word) {
            outcome.count += n;
            return;
        }
        let is_full = self.0.len() >= most;
        let (status, word) = if is_full { (0, OTHER) } else { (status, word) };
        match self.find(status, word) {
            Some(outcome) => outcome.count += n,
            None => self.0.push(OutcomeFigures {
                status,
                word: word.to_owned(),
                count: n,
            }),
        }
    }

    fn find(&mut self, status: u32, word: &str) -> Option<&mut OutcomeFigures> {
        let mut all = self.0.iter_mut();
        all.find(|outcome| outcome.status == status && outcome.word == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_bound_are_the_rest() {
        let mut names = Names::default();
        for name in ["a", "b", "c", "a", "d"] {
            names.add(name, 1, 2);
        }
        let expected = [("(other)", 2), ("a", 2), ("b", 1)];
        let expected = expected.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(names.to_map(), BTreeMap::from(expected));
    }

    #[test]
    fn labels_add_up_over_shards() {
        let limits = Limits {
            outcomes: 2,
            ..Limits::default()
        };
        let mut one = Labels::default();
        let get = one.begin("GET", 2);
        one.end(get, true, 200, "", &limits);
        one.took(get, Duration::from_micros(100));
        assert_eq!(one.begin("GET", 2), get);
        one.leave_out(get);
        one.begin("PUT", 2);
        let rest = one.begin("POST", 2);
        assert_eq!(one.begin("PATCH", 2), rest);

        let mut other = Labels::default();
        let get = other.begin("GET", 2);
        for status in [500, 500, 404, 403, 402] {
            other.end(get, false, status, "no", &limits);
        }
        other.took(get, Duration::from_micros(300));

        let mut all = Labels::default();
        all.merge(&one);
        all.merge(&other);
        let figures = all.to_figures();
        let names: Vec<_> = figures.iter().map(|it| (&*it.label, it.begun)).collect();
        assert_eq!(names, [("(other)", 2), ("GET", 3), ("PUT", 1)]);
        let get = &figures[1];
        assert_eq!((get.ok, get.failed, get.left_out), (1, 5, 1));
        assert_eq!((get.latency.count, get.latency.mean_us), (2, 200));
        let outcomes = get.outcomes.iter();
        let outcomes: Vec<_> = outcomes
            .map(|it| (it.status, &*it.word, it.count))
            .collect();
        let expected = [
            (0, "(other)", 2),
            (500, "no", 2),
            (200, "", 1),
            (404, "no", 1),
        ];
        assert_eq!(outcomes, expected);
    }
}
