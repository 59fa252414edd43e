//! From evidence to findings.
//!
//! Each finding follows from what was seen, never from what is likely: where the evidence leaves
//! two causes, the finding names both.

use std::net::IpAddr;

use intercept_lib::tunnel::{Diagnosis, Place, ReversePath, Seen, TargetState};

use crate::finding::{Back, Finding, Here, There};
use crate::investigation::{Evidence, Observer};
use crate::prober::{Answer, Sent, Trial};

/// What is wrong, according to the evidence.
#[must_use]
pub fn judge(evidence: &Evidence) -> Vec<Finding> {
    let (main, target) = (&evidence.main, evidence.target);
    let mut findings = Vec::new();
    for observer in forwarders(evidence) {
        findings.push(Finding::from(Back::IpForward {
            intercept: observer.name.clone(),
            is_ipv4: target.address.is_ipv4(),
        }));
    }
    match main.sent {
        Sent::Taken => {}
        Sent::NotPermitted => {
            findings.push(not_permitted(evidence).into());
            return findings;
        }
        Sent::NoRoute | Sent::Failed => {
            findings.push(Here::NoRoute { target }.into());
            return findings;
        }
    }
    if main.followed == Some(Sent::NotPermitted) {
        let is_full = evidence.conntrack_full;
        findings.push(Here::Conntrack { target, is_full }.into());
    }
    if main.reported.is_none() {
        findings.extend(silence(evidence));
    }
    let closed = Finding::from(There::PortClosed { target });
    if main.answer() == Some(Answer::Refused) && !findings.contains(&closed) {
        findings.push(closed);
    }
    findings
}

/// Whether nothing can be said of the answers' way: the only probe went in this host's own name,
/// whose answers need not come to an assistant.
#[must_use]
pub fn is_unjudged(evidence: &Evidence) -> bool {
    evidence.main_is_own
        && evidence.main.direct.is_some()
        && evidence
            .assistant_of_main()
            .is_some_and(|(_, diagnosis)| !diagnosis.target_is_here)
}

fn forwarders(evidence: &Evidence) -> impl Iterator<Item = &Observer> {
    let statements = evidence.statements(&evidence.main);
    statements
        .filter(|(observer, diagnosis)| {
            observer.is_registrar && diagnosis.place == Place::Assistant && diagnosis.forwards
        })
        .map(|(observer, _)| observer)
}

fn not_permitted(evidence: &Evidence) -> Here {
    let target = evidence.target;
    if evidence.conntrack_full {
        let is_full = true;
        return Here::Conntrack { target, is_full };
    }
    Here::OutputRefused { target }
}

/// Why no intercept has reported an answer.
fn silence(evidence: &Evidence) -> Vec<Finding> {
    let (main, target) = (&evidence.main, evidence.target);
    let source = main.tuple.source.address;
    if let Some(seen) = rewritten(evidence) {
        let fault = There::SourceRewritten {
            target,
            source,
            seen,
        };
        return vec![fault.into()];
    }
    if let Some((observer, device)) = unseen_arrival(evidence) {
        let fault = Back::InterceptBlind {
            target,
            intercept: observer.name.clone(),
            device,
        };
        return vec![fault.into()];
    }
    match evidence.at_target(main) {
        Some((observer, diagnosis)) => seen_from_target(evidence, observer, diagnosis),
        None => seen_from_outside(evidence).into_iter().collect(),
    }
}

/// Another source than the probe's, in which it arrived somewhere.
fn rewritten(evidence: &Evidence) -> Option<IpAddr> {
    let source = evidence.main.tuple.source.address;
    let statements = evidence.statements(&evidence.main);
    let mut arrivals = statements.flat_map(|(_, diagnosis)| diagnosis.seen(Seen::ProbeArrived));
    arrivals.find_map(|sighting| (sighting.source != source).then_some(sighting.source))
}

/// An assistant on whose device an answer came that its intercept did not report.
fn unseen_arrival(evidence: &Evidence) -> Option<(&Observer, String)> {
    let (observer, diagnosis) = evidence.assistant_of_main()?;
    if diagnosis.target_is_here {
        return None;
    }
    let mut arrivals = diagnosis
        .seen(Seen::AnswerArrived)
        .chain(diagnosis.seen(Seen::ResetArrived));
    let device = arrivals.next()?.device.clone();
    Some((observer, device))
}

/// An intercept on the target has told what it saw there.
fn seen_from_target(
    evidence: &Evidence,
    observer: &Observer,
    diagnosis: &Diagnosis,
) -> Vec<Finding> {
    let Some(arrival) = diagnosis.seen(Seen::ProbeArrived).next_back() else {
        return vec![not_arrived(evidence)];
    };
    let departures = [Seen::AnswerLeft, Seen::ResetLeft];
    let mut departures = departures.into_iter().flat_map(|what| diagnosis.seen(what));
    if let Some(departure) = departures.next() {
        let device = &departure.device;
        return vec![left_unqueued(evidence, observer, diagnosis, device)];
    }
    if evidence.main.direct.is_some() {
        let device = &arrival.device;
        return vec![left_unqueued(evidence, observer, diagnosis, device)];
    }
    if diagnosis.tcp == TargetState::Connected {
        return vec![swallowed(evidence, observer, diagnosis)];
    }
    let routing = routing(evidence, diagnosis, &arrival.device);
    if routing.is_empty() {
        return vec![not_taken(evidence, diagnosis, &arrival.device)];
    }
    routing
}

/// The probe has not arrived at the target.
fn not_arrived(evidence: &Evidence) -> Finding {
    let own = evidence.own.as_ref();
    if own.is_some_and(|own| own.answer().is_some() || arrived(evidence, own)) {
        return There::SourceDropped {
            target: evidence.target,
            source: evidence.main.tuple.source.address,
            arrives_on: None,
        }
        .into();
    }
    let detail = "packets from here, in whatever name, don't arrive at it";
    silent(evidence, detail.to_owned())
}

/// What the target's routes do to a probe that has arrived on `device`.
fn routing(evidence: &Evidence, diagnosis: &Diagnosis, device: &str) -> Vec<Finding> {
    let target = evidence.target;
    let source = evidence.main.tuple.source.address;
    let mut findings = Vec::new();
    if diagnosis.reverse_path == ReversePath::Refuses {
        findings.push(Finding::from(There::RpFilter {
            target,
            source,
            device: device.to_owned(),
            value: diagnosis.rp_filter,
        }));
    }
    if !diagnosis.routes_back {
        findings.push(There::NoRouteBack { target, source }.into());
    }
    findings
}

/// The probe has arrived on `device` and has not come up to TCP, for no reason of routing.
fn not_taken(evidence: &Evidence, diagnosis: &Diagnosis, device: &str) -> Finding {
    let target = evidence.target;
    let own = evidence.own.as_ref();
    if own.is_some_and(|own| own.answer().is_some()) {
        return There::SourceDropped {
            target,
            source: evidence.main.tuple.source.address,
            arrives_on: Some(device.to_owned()),
        }
        .into();
    }
    if diagnosis.tcp == TargetState::Closed {
        return There::PortClosed { target }.into();
    }
    let detail = format!("packets arrive on its {device} and go no further, as its firewall would");
    silent(evidence, detail)
}

/// The target's TCP has answered, and the answer did not leave. Without a rule it may still wait for
/// the link-layer address of a next hop that isn't there; then the answer to this host's own name
/// tells whether there is a rule.
fn swallowed(evidence: &Evidence, observer: &Observer, diagnosis: &Diagnosis) -> Finding {
    let is_queued_here = observer.is_registrar && diagnosis.place == Place::Queue;
    let unqueued = evidence.own.as_ref().filter(|own| own.reported.is_none());
    if let Some(own) = unqueued
        && is_queued_here
        && own.answer().is_some()
    {
        let left = evidence.at_target(own).and_then(|(_, own)| {
            let mut departures = own.seen(Seen::AnswerLeft).chain(own.seen(Seen::ResetLeft));
            departures.next().map(|departure| departure.device.clone())
        });
        let device = left.unwrap_or_else(|| "lo".to_owned());
        return left_unqueued(evidence, observer, diagnosis, &device);
    }
    let source = evidence.main.tuple.source.address;
    Back::AnswerSwallowed {
        target: evidence.target,
        waits_for: (!is_queued_here).then_some(source),
    }
    .into()
}

/// The target has answered, and the answer left it by `device` without being queued.
fn left_unqueued(
    evidence: &Evidence,
    observer: &Observer,
    diagnosis: &Diagnosis,
    device: &str,
) -> Finding {
    if observer.is_registrar && diagnosis.place == Place::Queue {
        let source = evidence.main.tuple.source.address;
        return Back::QueueRuleMissing {
            target: evidence.target,
            device: device.to_owned(),
            passlisted: diagnosis.passlisted.then_some(source),
        }
        .into();
    }
    let seen = format!("{} saw them leave by {device}", observer.name);
    bypass(evidence, seen)
}

/// No intercept on the target has told anything.
fn seen_from_outside(evidence: &Evidence) -> Option<Finding> {
    let (main, target) = (&evidence.main, evidence.target);
    if is_unjudged(evidence) {
        return None;
    }
    if main.direct.is_some() {
        let seen = "they come straight to this host";
        return Some(bypass(evidence, seen.to_owned()));
    }
    match evidence.own.as_ref().and_then(Trial::answer) {
        None => {
            let detail = "nothing comes back, in whatever name";
            return Some(silent(evidence, detail.to_owned()));
        }
        Some(Answer::Refused) => return Some(There::PortClosed { target }.into()),
        Some(Answer::Accepted) => {}
    }
    let is_queue_elsewhere = |(observer, diagnosis): (&Observer, &Diagnosis)| {
        observer.is_registrar && diagnosis.place == Place::Queue && !diagnosis.target_is_here
    };
    if evidence.statements(main).any(is_queue_elsewhere) {
        let seen = "it runs on another host than the target, without -i";
        return Some(bypass(evidence, seen.to_owned()));
    }
    let source = main.tuple.source.address;
    let assistant = evidence.assistant.as_ref();
    if assistant.is_some_and(|trial| trial.answer().is_none()) {
        let arrives_on = None;
        let fault = There::SourceDropped {
            target,
            source,
            arrives_on,
        };
        return Some(fault.into());
    }
    let registrar = registrar(evidence);
    let fault = Back::ClientUnanswered {
        target,
        source,
        intercept: registrar.name.clone(),
        via: registrar.address,
    };
    Some(fault.into())
}

fn silent(evidence: &Evidence, detail: String) -> Finding {
    let target = evidence.target;
    There::Silent { target, detail }.into()
}

fn bypass(evidence: &Evidence, seen: String) -> Finding {
    let assistant = evidence.assistant_of_main();
    let assistant = assistant.filter(|(_, diagnosis)| !diagnosis.target_is_here);
    Back::BypassIntercept {
        target: evidence.target,
        source: evidence.main.tuple.source.address,
        intercept: registrar(evidence).name.clone(),
        evidence: seen,
        via: assistant.map(|(observer, _)| observer.address),
    }
    .into()
}

fn registrar(evidence: &Evidence) -> &Observer {
    let mut registrars = evidence.observers.iter().filter(|o| o.is_registrar);
    registrars.next().expect("a probe is registered somewhere")
}

/// Whether an intercept on the target saw the trial's SYN come in.
fn arrived(evidence: &Evidence, trial: &Trial) -> bool {
    evidence
        .at_target(trial)
        .is_some_and(|(_, diagnosis)| diagnosis.has_seen(Seen::ProbeArrived))
}

#[cfg(test)]
mod tests;
