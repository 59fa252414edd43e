//! What plugins did, for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use tcpcopy_host::{FailureFigures, LabelFigures, OutcomeFigures, PluginFigures, State};

/// Labels of each plugin that are told, the most frequent ones; JSON has all of them.
const LABELS_TOLD: usize = 10;
/// Labels that are told for what failed of them, those with most failures.
const FAILED_TOLD: usize = 20;
/// Kinds of outcomes of a label that are told.
const OUTCOMES_TOLD: usize = 4;

/// The lines about the plugins of one target.
pub(super) fn lines(target: Option<&str>, plugins: &[PluginFigures]) -> String {
    let mut text = String::new();
    for plugin in plugins {
        add(&mut text, target, plugin);
    }
    text
}

fn add(text: &mut String, target: Option<&str>, plugin: &PluginFigures) {
    let at = target.map(|target| format!(" at {target}"));
    let port = plugin.port.map(|port| format!(" for port {port}"));
    let _ = writeln!(
        text,
        "plugin       {} {} ({}){}{}: {} connections, {} calls",
        plugin.name,
        plugin.version,
        plugin.form,
        port.unwrap_or_default(),
        at.unwrap_or_default(),
        plugin.sessions,
        plugin.calls,
    );
    if let State::SwitchedOff { reason } = &plugin.state {
        let _ = writeln!(text, "  switched off: {reason}");
    }
    let failures = failures(&plugin.failures);
    add_counts(text, "failed", failures.into_iter());
    let counts = |map: &BTreeMap<String, u64>| {
        let counts = map.iter().map(|(name, count)| (name.clone(), *count));
        counts.collect::<Vec<_>>()
    };
    add_counts(text, "refused", counts(&plugin.refusals).into_iter());
    add_counts(text, "counted", counts(&plugin.counters).into_iter());
    if plugin.shared_evicted > 0 {
        let evicted = plugin.shared_evicted;
        let _ = writeln!(
            text,
            "  had no room for {evicted} shared values; --plugin-share-mb gives more"
        );
    }
    let mut labels: Vec<&LabelFigures> = plugin.labels.iter().collect();
    labels.sort_by_key(|label| std::cmp::Reverse(label.begun));
    for label in labels.iter().take(LABELS_TOLD) {
        add_label(text, label);
    }
    if labels.len() > LABELS_TOLD {
        let more = labels.len() - LABELS_TOLD;
        let _ = writeln!(text, "  and {more} kinds of requests more");
    }
    add_failed(text, &plugin.labels);
}

/// What failed, however rare it is among all requests.
fn add_failed(text: &mut String, labels: &[LabelFigures]) {
    let mut failed: Vec<_> = labels.iter().filter(|label| label.failed > 0).collect();
    failed.sort_by_key(|label| std::cmp::Reverse(label.failed));
    for label in failed.iter().take(FAILED_TOLD) {
        let LabelFigures {
            label: name,
            begun,
            failed,
            outcomes,
            ..
        } = label;
        let _ = write!(text, "  failed   {failed} of {begun} {name}");
        add_classes(text, ": ", outcomes);
        text.push('\n');
    }
    if failed.len() > FAILED_TOLD {
        let more = failed.len() - FAILED_TOLD;
        let _ = writeln!(text, "  failed   of {more} kinds of requests more");
    }
}

/// Names with their counts, on one line; zeros are nothing to tell.
fn add_counts(text: &mut String, title: &str, counts: impl Iterator<Item = (String, u64)>) {
    let counts: Vec<String> = counts
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if !counts.is_empty() {
        let _ = writeln!(text, "  {title:<8} {}", counts.join(", "));
    }
}

fn failures(failures: &FailureFigures) -> Vec<(String, u64)> {
    let FailureFigures {
        trapped,
        timed_out,
        out_of_memory,
        output_limit,
        session_limit,
        switched_off,
    } = *failures;
    [
        ("trapped", trapped),
        ("timed out", timed_out),
        ("out of memory", out_of_memory),
        ("over the output limit", output_limit),
        ("too many connections", session_limit),
        ("while switched off", switched_off),
    ]
    .map(|(name, count)| (name.to_owned(), count))
    .into()
}

fn add_label(text: &mut String, label: &LabelFigures) {
    let LabelFigures {
        label: name,
        begun,
        ok,
        failed,
        latency,
        ..
    } = label;
    let _ = write!(text, "  {name}: {begun} begun, {ok} ok, {failed} failed");
    if label.left_out > 0 {
        let _ = write!(text, ", {} left out", label.left_out);
    }
    if latency.count > 0 {
        let ms = |us: u64| us as f64 / 1_000.0;
        let (p50_ms, p99_ms) = (ms(latency.p50_us), ms(latency.p99_us));
        let _ = write!(text, "; {p50_ms:.1} ms (median), {p99_ms:.1} ms (p99)");
    }
    add_classes(text, "; ", &label.outcomes);
    text.push('\n');
}

/// How exchanges ended, behind `separator` if there is anything to tell.
fn add_classes(text: &mut String, separator: &str, outcomes: &[OutcomeFigures]) {
    let classes: Vec<String> = (classes(outcomes).iter().take(OUTCOMES_TOLD))
        .map(|(class, count)| format!("{class} {count}"))
        .collect();
    if !classes.is_empty() {
        let _ = write!(text, "{separator}{}", classes.join(", "));
    }
}

/// Outcomes by class, the most frequent first: three digits as in HTTP are told by their first.
fn classes(outcomes: &[OutcomeFigures]) -> Vec<(String, u64)> {
    let mut classes: Vec<(String, u64)> = Vec::new();
    for OutcomeFigures {
        status,
        word,
        count,
    } in outcomes
    {
        let class = match (status, word.as_str()) {
            (0, "") => continue,
            (0, word) => word.to_owned(),
            (100..=599, "") => format!("{}xx", status / 100),
            (status, "") => status.to_string(),
            (status, word) => format!("{status} {word}"),
        };
        match classes.iter_mut().find(|(known, _)| *known == class) {
            Some((_, sum)) => *sum += count,
            None => classes.push((class, *count)),
        }
    }
    classes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    classes
}

#[cfg(test)]
mod tests {
    use tcpcopy_host::LatencyFigures;

    use super::*;

    fn outcome(status: u32, word: &str, count: u64) -> OutcomeFigures {
        OutcomeFigures {
            status,
            word: word.to_owned(),
            count,
        }
    }

    #[test]
    fn what_failed_is_told_however_rare_it_is() {
        let label = |label: &str, begun: u64, failed: u64, outcomes: &[OutcomeFigures]| {
            let ok = begun - failed;
            let (left_out, latency) = (0, LatencyFigures::default());
            let (label, outcomes) = (label.to_owned(), outcomes.into());
            LabelFigures {
                label,
                begun,
                left_out,
                ok,
                failed,
                outcomes,
                latency,
            }
        };
        let missing = [outcome(1146, "not at the origin", 2), outcome(0, "", 1)];
        let labels = [
            label("delete", 9, 1, &[outcome(1213, "", 1)]),
            label("insert", 9, 0, &[outcome(1062, "as at the origin", 9)]),
            label("select", 3, 2, &missing),
        ];
        let mut text = String::new();
        add_failed(&mut text, &labels);
        let expected = "  failed   2 of 3 select: 1146 not at the origin 2\n  \
                        failed   1 of 9 delete: 1213 1\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn outcomes_are_told_by_class() {
        let outcomes = [
            outcome(200, "", 7),
            outcome(404, "", 3),
            outcome(403, "", 5),
            outcome(0, "WRONGPASS", 1),
            outcome(0, "", 9),
            outcome(1045, "28000", 2),
        ];
        let told = classes(&outcomes);
        let told: Vec<(&str, u64)> = told.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        let expected = [("4xx", 8), ("2xx", 7), ("1045 28000", 2), ("WRONGPASS", 1)];
        assert_eq!(told, expected);
    }
}
