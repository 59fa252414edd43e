//! From evidence to the hops of a report.

use intercept_lib::tunnel::{Diagnosis, Place, Seen};

use crate::investigation::{Evidence, Observer};
use crate::judge::is_unjudged;
use crate::prober::{Answer, Sent};
use crate::report::{Health, Report};

/// Adds what was measured, hop by hop.
pub fn tell(evidence: &Evidence, report: &mut Report) {
    let (main, target) = (&evidence.main, evidence.target);
    let (health, fact) = match main.sent {
        Sent::Taken => (Health::Good, "left this host"),
        Sent::NotPermitted => (Health::Bad, "was dropped by this host (EPERM)"),
        Sent::NoRoute => (Health::Bad, "found no route"),
        Sent::Failed => (Health::Bad, "could not be sent"),
    };
    let whose = if evidence.main_is_own {
        ", this host's own,"
    } else {
        ""
    };
    let source = main.tuple.source;
    let text = format!("a SYN to {target} in the name of {source}{whose} {fact}");
    report.hop("send", health, text);
    if main.sent != Sent::Taken {
        return;
    }
    for (observer, diagnosis) in evidence.statements(main) {
        tell_statement(observer, diagnosis, report);
    }
    tell_answer(evidence, report);
    let others = [
        (&evidence.own, "this host's own"),
        (&evidence.assistant, "the assistant's"),
    ];
    for (trial, whose) in others {
        let Some(trial) = trial else { continue };
        let (health, fact) = match trial.answer() {
            Some(Answer::Accepted) => (Health::Good, "is answered"),
            Some(Answer::Refused) => (Health::Bad, "is refused"),
            None => (Health::Bad, "is not answered"),
        };
        let source = trial.tuple.source.address;
        let text = format!("the same in {whose} name, {source}, {fact}");
        report.hop("compare", health, text);
    }
}

fn tell_answer(evidence: &Evidence, report: &mut Report) {
    let (main, target) = (&evidence.main, evidence.target);
    let Some((answer, index, after)) = main.reported else {
        let (health, fact) = match main.direct {
            Some(_) if is_unjudged(evidence) => (Health::Untried, "came straight to this host"),
            Some(_) => (Health::Bad, "came straight to this host, not to intercept"),
            None => (Health::Bad, "was reported by no intercept"),
        };
        return report.hop("answer", health, format!("the answer of {target} {fact}"));
    };
    let (health, what) = match answer {
        Answer::Accepted => (Health::Good, "SYN-ACK"),
        Answer::Refused => (Health::Bad, "RST"),
    };
    let by = &evidence.observers[index].name;
    let after_ms = after.as_secs_f64() * 1_000.0;
    let text = format!("{by} reported the {what} of {target} after {after_ms:.1} ms");
    report.hop("answer", health, text);
    if let Some(followed) = main.followed {
        let (health, fact) = match followed {
            Sent::Taken => (Health::Good, "left this host"),
            Sent::NotPermitted | Sent::NoRoute | Sent::Failed => {
                (Health::Bad, "did not leave this host")
            }
        };
        report.hop("follow", health, format!("the ACK that follows {fact}"));
    }
}

fn tell_statement(observer: &Observer, diagnosis: &Diagnosis, report: &mut Report) {
    let is_assistant = observer.is_registrar && diagnosis.place == Place::Assistant;
    let mut facts = vec![match (observer.is_registrar, diagnosis.place) {
        (false, _) => "only looks".to_owned(),
        (true, Place::Queue) => "takes answers from a packet queue".to_owned(),
        (true, Place::Assistant) => "captures answers on a device".to_owned(),
    }];
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
    if is_assistant {
        let state = if diagnosis.forwards { "on" } else { "off" };
        facts.push(format!("forwarding is {state}"));
    }
    let health = if is_assistant && diagnosis.forwards {
        Health::Bad
    } else {
        Health::Good
    };
    let text = format!("{}: {}", observer.name, facts.join("; "));
    report.hop("intercept", health, text);
}
