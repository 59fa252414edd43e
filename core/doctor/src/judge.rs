//! From evidence to findings.
//!
//! Each finding follows from what was seen, never from what is likely: where the evidence leaves
//! two causes, the finding names both.

use intercept_lib::tunnel::{Diagnosis, Place, ReversePath, Seen, TargetState};

use crate::finding::Finding;
use crate::investigation::{Evidence, Observer};
use crate::prober::{Answer, Sent, Trial};
use crate::report::{Health, Report};

/// What is wrong, according to the evidence.
#[must_use]
pub fn judge(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    let main = &evidence.main;
    for (observer, _) in forwarders(evidence) {
        findings.push(Finding::IpForward {
            intercept: observer.name.clone(),
            is_ipv4: evidence.target.address.is_ipv4(),
        });
    }
    match main.sent {
        Sent::Taken => {}
        Sent::NotPermitted => findings.push(not_permitted(evidence)),
        Sent::NoRoute | Sent::Failed => findings.push(Finding::NoRoute {
            target: evidence.target,
        }),
    }
    if main.sent != Sent::Taken {
        return findings;
    }
    if main.followed == Some(Sent::NotPermitted) {
        findings.push(Finding::Conntrack {
            target: evidence.target,
            is_full: evidence.conntrack_full,
        });
    }
    if main.reported.is_none() {
        findings.extend(silence(evidence));
    }
    if main.answer() == Some(Answer::Refused) {
        findings.push(Finding::PortClosed {
            target: evidence.target,
        });
    }
    findings.dedup();
    findings
}

/// The hops of the evidence, for the report.
pub fn tell(evidence: &Evidence, report: &mut Report) {
    let (main, target) = (&evidence.main, evidence.target);
    let name = main.tuple.source;
    let whose = if evidence.main_is_own {
        " (this host's own name)"
    } else {
        ""
    };
    let (health, fact) = match main.sent {
        Sent::Taken => (Health::Good, "left this host"),
        Sent::NotPermitted => (Health::Bad, "was dropped by this host (EPERM)"),
        Sent::NoRoute => (Health::Bad, "found no route"),
        Sent::Failed => (Health::Bad, "could not be sent"),
    };
    let text = format!("a SYN to {target} in the name of {name}{whose} {fact}");
    report.hop("send", health, text);
    if main.sent != Sent::Taken {
        return;
    }
    for (observer, diagnosis) in evidence.statements(main) {
        tell_statement(observer, diagnosis, report);
    }
    tell_answer(evidence, report);
    for (trial, whose) in [
        (&evidence.own, "this host's"),
        (&evidence.assistant, "the assistant's"),
    ] {
        if let Some(trial) = trial {
            let (health, fact) = match trial.answer() {
                Some(Answer::Accepted) => (Health::Good, "is answered"),
                Some(Answer::Refused) => (Health::Bad, "is refused"),
                None => (Health::Bad, "is not answered"),
            };
            let source = trial.tuple.source.address;
            let text = format!("the same in {whose} own name, {source}, {fact}");
            report.hop("compare", health, text);
        }
    }
}

fn tell_answer(evidence: &Evidence, report: &mut Report) {
    let (main, target) = (&evidence.main, evidence.target);
    let Some((answer, index, after)) = main.reported else {
        let (health, seen) = match main.direct {
            Some(_) if unjudged(evidence) => (Health::Untried, "came straight to this host"),
            Some(_) => (Health::Bad, "came straight to this host, not to intercept"),
            None => (Health::Bad, "was reported by no intercept"),
        };
        return report.hop("answer", health, format!("the answer of {target} {seen}"));
    };
    let (health, what) = match answer {
        Answer::Accepted => (Health::Good, "SYN-ACK"),
        Answer::Refused => (Health::Bad, "RST"),
    };
    let by = &evidence.observers[index].name;
    let after_ms = after.as_secs_f64() * 1_000.0;
    let text = format!("{by} reported the {what} of {target} after {after_ms:.1} ms");
    report.hop("answer", health, text);
    match main.followed {
        Some(Sent::Taken) => {
            report.hop(
                "follow",
                Health::Good,
                "the ACK that follows left this host",
            );
        }
        Some(Sent::NotPermitted | Sent::NoRoute | Sent::Failed) => {
            report.hop(
                "follow",
                Health::Bad,
                "the ACK that follows did not leave this host",
            );
        }
        None => {}
    }
}

fn tell_statement(observer: &Observer, diagnosis: &Diagnosis, report: &mut Report) {
    let mut facts = vec![match diagnosis.place {
        Place::Queue => "catches answers in a packet queue".to_owned(),
        Place::Assistant => "captures answers on a device".to_owned(),
    }];
    if !observer.is_registrar {
        facts = vec!["only looks".to_owned()];
    }
    if !diagnosis.watching {
        facts.push("can't watch its devices".to_owned());
    }
    for sighting in &diagnosis.sightings {
        let (device, source) = (&sighting.device, sighting.source);
        facts.push(match sighting.what {
            Seen::ProbeArrived => format!("the SYN of {source} arrived on {device}"),
            Seen::AnswerArrived => format!("the SYN-ACK arrived on {device}"),
            Seen::ResetArrived => format!("the RST arrived on {device}"),
            Seen::AnswerLeft => format!("the SYN-ACK left by {device}"),
            Seen::ResetLeft => format!("the RST left by {device}"),
        });
    }
    if diagnosis.has_seen(Seen::ProbeArrived) {
        facts.push(format!("rp_filter is {}", diagnosis.rp_filter));
    }
    if diagnosis.place == Place::Assistant && observer.is_registrar {
        facts.push(format!(
            "forwarding is {}",
            if diagnosis.forwards { "on" } else { "off" }
        ));
    }
    let text = format!("{}: {}", observer.name, facts.join("; "));
    let is_bad = diagnosis.forwards && diagnosis.place == Place::Assistant;
    let health = if is_bad { Health::Bad } else { Health::Good };
    report.hop("intercept", health, text);
}

fn forwarders(evidence: &Evidence) -> impl Iterator<Item = (&Observer, &Diagnosis)> {
    let forwards = |(observer, diagnosis): &(&Observer, &Diagnosis)| {
        observer.is_registrar && diagnosis.place == Place::Assistant && diagnosis.forwards
    };
    evidence.statements(&evidence.main).filter(forwards)
}

fn not_permitted(evidence: &Evidence) -> Finding {
    let target = evidence.target;
    if evidence.conntrack_full {
        let is_full = true;
        return Finding::Conntrack { target, is_full };
    }
    Finding::OutputRefused { target }
}

/// Whether nothing can be said: the only probe went in this host's own name, whose answers need not
/// come to an assistant.
fn unjudged(evidence: &Evidence) -> bool {
    evidence.main_is_own && evidence.main.direct.is_some() && evidence.assistant_of_main().is_some()
}

/// Why no intercept has reported an answer.
fn silence(evidence: &Evidence) -> Option<Finding> {
    let (main, target) = (&evidence.main, evidence.target);
    let source = main.tuple.source.address;
    if let Some(seen) = rewritten(evidence) {
        return Some(Finding::SourceRewritten {
            target,
            source,
            seen,
        });
    }
    if let Some((observer, device)) = unseen_arrival(evidence) {
        let intercept = observer.name.clone();
        return Some(Finding::InterceptBlind {
            target,
            intercept,
            device,
        });
    }
    match evidence.at_target(main) {
        Some((observer, diagnosis)) => Some(seen_from_target(evidence, observer, diagnosis)),
        None => seen_from_outside(evidence),
    }
}

/// Another source than the probe's, in which it arrived somewhere.
fn rewritten(evidence: &Evidence) -> Option<std::net::IpAddr> {
    let source = evidence.main.tuple.source.address;
    let arrivals = evidence
        .statements(&evidence.main)
        .flat_map(|(_, diagnosis)| diagnosis.seen(Seen::ProbeArrived));
    let mut others = arrivals.map(|s| s.source).filter(|seen| *seen != source);
    others.next()
}

/// An assistant on whose device an answer came that its intercept did not report.
fn unseen_arrival(evidence: &Evidence) -> Option<(&Observer, String)> {
    let (observer, diagnosis) = evidence.assistant_of_main()?;
    let mut arrivals = diagnosis
        .seen(Seen::AnswerArrived)
        .chain(diagnosis.seen(Seen::ResetArrived));
    let arrival = arrivals.next()?;
    (!diagnosis.target_is_here).then(|| (observer, arrival.device.clone()))
}

/// An intercept on the target has told what it saw there.
fn seen_from_target(evidence: &Evidence, observer: &Observer, diagnosis: &Diagnosis) -> Finding {
    let (main, target) = (&evidence.main, evidence.target);
    let source = main.tuple.source.address;
    let own_answered = evidence
        .own
        .as_ref()
        .is_some_and(|own| own.answer().is_some());
    let Some(arrival) = diagnosis.seen(Seen::ProbeArrived).next_back() else {
        if own_answered
            || evidence
                .own
                .as_ref()
                .is_some_and(|own| arrived(evidence, own))
        {
            let arrives_on = None;
            return Finding::SourceDropped {
                target,
                source,
                arrives_on,
            };
        }
        let detail = ": packets from here don't even arrive at it".to_owned();
        return Finding::TargetSilent { target, detail };
    };
    let device = arrival.device.clone();
    let departures = [Seen::AnswerLeft, Seen::ResetLeft];
    let departure = departures
        .into_iter()
        .find_map(|what| diagnosis.seen(what).next());
    if departure.is_some() || main.direct.is_some() {
        let left_by = departure.map_or_else(|| device.clone(), |seen| seen.device.clone());
        return left_unqueued(evidence, observer, diagnosis, left_by);
    }
    match (diagnosis.reverse_path, diagnosis.tcp) {
        (_, TargetState::Connected) => Finding::AnswerSwallowed { target },
        (ReversePath::Refuses, _) => Finding::RpFilter {
            target,
            source,
            device,
            value: diagnosis.rp_filter,
        },
        _ if own_answered => Finding::SourceDropped {
            target,
            source,
            arrives_on: Some(device),
        },
        (_, TargetState::Closed) => Finding::PortClosed { target },
        (_, TargetState::Listening | TargetState::Unknown) => Finding::TargetSilent {
            target,
            detail: format!(": packets arrive at its {device}, and its firewall drops them"),
        },
    }
}

/// The target has answered, and the answer left it by `device` without being queued.
fn left_unqueued(
    evidence: &Evidence,
    observer: &Observer,
    diagnosis: &Diagnosis,
    device: String,
) -> Finding {
    let target = evidence.target;
    let source = evidence.main.tuple.source.address;
    if observer.is_registrar && diagnosis.place == Place::Queue {
        return Finding::QueueRuleMissing {
            target,
            device,
            passlisted: diagnosis.passlisted.then_some(source),
        };
    }
    let evidence_text = format!("{} saw them leave by {device}", observer.name);
    bypass(evidence, evidence_text)
}

/// No intercept on the target has told anything.
fn seen_from_outside(evidence: &Evidence) -> Option<Finding> {
    let (main, target) = (&evidence.main, evidence.target);
    if unjudged(evidence) {
        return None;
    }
    if main.direct.is_some() {
        let text = "they come straight to this host".to_owned();
        return Some(bypass(evidence, text));
    }
    let own_answer = evidence.own.as_ref().and_then(Trial::answer);
    let Some(own_answer) = own_answer else {
        let detail = String::new();
        return Some(Finding::TargetSilent { target, detail });
    };
    if own_answer == Answer::Refused {
        return Some(Finding::PortClosed { target });
    }
    let in_queue_elsewhere = |(observer, d): (&Observer, &Diagnosis)| {
        observer.is_registrar && d.place == Place::Queue && !d.target_is_here
    };
    if evidence.statements(main).any(in_queue_elsewhere) {
        let text = "it runs on another host than the target, without -i".to_owned();
        return Some(bypass(evidence, text));
    }
    let source = main.tuple.source.address;
    match &evidence.assistant {
        Some(trial) if trial.answer().is_none() => Some(Finding::SourceDropped {
            target,
            source,
            arrives_on: None,
        }),
        _ => {
            let registrar = registrar(evidence);
            Some(Finding::ClientUnanswered {
                target,
                source,
                intercept: registrar.name.clone(),
                via: registrar.address,
            })
        }
    }
}

fn bypass(evidence: &Evidence, text: String) -> Finding {
    let registrar = registrar(evidence);
    Finding::RepliesBypass {
        target: evidence.target,
        source: evidence.main.tuple.source.address,
        intercept: registrar.name.clone(),
        via: registrar.address,
        evidence: text,
        by_route: evidence
            .assistant_of_main()
            .is_some_and(|(_, diagnosis)| !diagnosis.target_is_here),
    }
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
