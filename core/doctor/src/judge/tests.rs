//! What the evidence means, case by case: what was seen, and the findings that follow.

use std::time::Duration;

use intercept_lib::tunnel::Sighting;
use tcpcopy_packet::{Endpoint, FourTuple};

use super::*;

const CLIENT: &str = "192.0.2.7";
const OWN: &str = "198.51.100.1";
const TARGET: &str = "198.51.100.9";
const ASSISTANT: &str = "198.51.100.8";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn target() -> Endpoint {
    Endpoint::new(address(TARGET), 80)
}

/// A trial that nobody saw anything of.
fn trial(source: &str) -> Trial {
    Trial {
        tuple: FourTuple::new(Endpoint::new(address(source), 61_000), target()),
        sent: Sent::Taken,
        reported: None,
        direct: None,
        followed: None,
        diagnoses: Vec::new(),
    }
}

fn reported(source: &str, answer: Answer) -> Trial {
    Trial {
        reported: Some((answer, 0, Duration::from_millis(1))),
        followed: (answer == Answer::Accepted).then_some(Sent::Taken),
        ..trial(source)
    }
}

/// The trial with one more diagnosis, whose sightings of the client are of the trial's source.
fn told(trial: Trial, mut diagnosis: Diagnosis) -> Trial {
    let of_client = |sighting: &&mut Sighting| sighting.source == address(CLIENT);
    for sighting in diagnosis.sightings.iter_mut().filter(of_client) {
        sighting.source = trial.tuple.source.address;
    }
    let diagnoses = [trial.diagnoses, vec![Some(diagnosis)]].concat();
    Trial { diagnoses, ..trial }
}

fn diagnosis(place: Place, target_is_here: bool, seen: &[Seen]) -> Diagnosis {
    let sighting = |what: &Seen| Sighting {
        what: *what,
        source: address(CLIENT),
        device: "eth0".to_owned(),
    };
    Diagnosis {
        iss: 1,
        place,
        target_is_here,
        forwards: false,
        passlisted: false,
        watching: true,
        routes_back: true,
        tcp: TargetState::Listening,
        reverse_path: ReversePath::Unknown,
        rp_filter: 0,
        sightings: seen.iter().map(sighting).collect(),
    }
}

/// An intercept on the target.
fn queue(seen: &[Seen]) -> Diagnosis {
    diagnosis(Place::Queue, true, seen)
}

/// An intercept on an assistant.
fn assistant(seen: &[Seen]) -> Diagnosis {
    diagnosis(Place::Assistant, false, seen)
}

fn evidence(main: Trial, own: Option<Trial>) -> Evidence {
    let main_is_own = main.tuple.source.address == address(OWN);
    let observer = |(index, is_at_target): (usize, bool)| Observer {
        name: format!("intercept-{index}"),
        address: address(if is_at_target { TARGET } else { ASSISTANT }),
        is_registrar: index == 0,
    };
    let places = main.diagnoses.iter().flatten().map(|d| d.target_is_here);
    let observers: Vec<Observer> = places.enumerate().map(observer).collect();
    Evidence {
        target: target(),
        observers,
        main,
        own,
        assistant: None,
        main_is_own,
        conntrack_full: false,
    }
}

#[track_caller]
fn finds(evidence: &Evidence, names: &[&str]) {
    let findings = judge(evidence);
    let found: Vec<&str> = findings.iter().map(Finding::name).collect();
    assert_eq!(found, names, "{findings:#?}");
}

const ARRIVED: &[Seen] = &[Seen::ProbeArrived];
const PASSED: &[Seen] = &[Seen::ProbeArrived, Seen::AnswerLeft];

#[test]
fn an_answer_that_is_reported_leaves_nothing_to_find() {
    let sound = told(reported(CLIENT, Answer::Accepted), queue(ARRIVED));
    finds(&evidence(sound, None), &[]);
    let sound = told(
        reported(CLIENT, Answer::Accepted),
        assistant(&[Seen::AnswerArrived]),
    );
    finds(&evidence(sound, None), &[]);
    let closed = told(reported(CLIENT, Answer::Refused), queue(ARRIVED));
    finds(&evidence(closed, None), &["port_closed"]);
}

#[test]
fn what_this_host_does_not_let_out() {
    let refused = |sent| Trial {
        sent,
        ..told(trial(CLIENT), queue(&[]))
    };
    let mut case = evidence(refused(Sent::NotPermitted), None);
    finds(&case, &["output_refused"]);
    case.conntrack_full = true;
    finds(&case, &["conntrack"]);
    finds(&evidence(refused(Sent::NoRoute), None), &["no_route"]);
    let invalid = Trial {
        followed: Some(Sent::NotPermitted),
        ..told(reported(CLIENT, Answer::Accepted), queue(ARRIVED))
    };
    finds(&evidence(invalid, None), &["conntrack"]);
}

#[test]
fn silence_as_the_target_explains_it() {
    let own = Some(told(reported(OWN, Answer::Accepted), queue(ARRIVED)));
    let silent = |diagnosis| evidence(told(trial(CLIENT), diagnosis), own.clone());
    finds(&silent(queue(PASSED)), &["queue_rule_missing"]);
    finds(&silent(queue(&[])), &["source_dropped"]);
    finds(&silent(queue(ARRIVED)), &["source_dropped"]);
    let reset = queue(&[Seen::ProbeArrived, Seen::ResetLeft]);
    finds(&silent(reset), &["queue_rule_missing", "port_closed"]);
    let swallowed = Diagnosis {
        tcp: TargetState::Connected,
        ..queue(ARRIVED)
    };
    finds(&silent(swallowed), &["answer_swallowed"]);
    // Without a rule it may wait for a next hop that isn't there; the own name tells.
    let unqueued = Trial {
        direct: Some(Answer::Accepted),
        ..told(trial(OWN), queue(PASSED))
    };
    let waiting = Diagnosis {
        tcp: TargetState::Connected,
        ..queue(ARRIVED)
    };
    let waiting = evidence(told(trial(CLIENT), waiting), Some(unqueued));
    finds(&waiting, &["queue_rule_missing"]);
    let filtered = Diagnosis {
        reverse_path: ReversePath::Refuses,
        rp_filter: 1,
        ..queue(ARRIVED)
    };
    finds(&silent(filtered), &["rp_filter"]);
    let unrouted = Diagnosis {
        routes_back: false,
        ..queue(ARRIVED)
    };
    finds(&silent(unrouted.clone()), &["no_route_back"]);
    let both = Diagnosis {
        reverse_path: ReversePath::Refuses,
        rp_filter: 2,
        ..unrouted
    };
    finds(&silent(both), &["rp_filter", "no_route_back"]);
    let mut rewritten = queue(ARRIVED);
    rewritten.sightings[0].source = address(OWN);
    finds(&silent(rewritten), &["source_rewritten"]);
}

#[test]
fn silence_in_every_name() {
    let silent = |seen: &[Seen]| {
        let own = told(trial(OWN), queue(seen));
        evidence(told(trial(CLIENT), queue(seen)), Some(own))
    };
    finds(&silent(&[]), &["target_silent"]);
    finds(&silent(ARRIVED), &["target_silent"]);
    let mut closed = silent(ARRIVED);
    closed.main.diagnoses[0].as_mut().unwrap().tcp = TargetState::Closed;
    finds(&closed, &["port_closed"]);
    let from_outside = |seen| told(trial(CLIENT), assistant(seen));
    let own = Some(told(trial(OWN), assistant(&[])));
    finds(&evidence(from_outside(&[]), own), &["target_silent"]);
}

#[test]
fn answers_that_don_t_come_to_an_assistant() {
    let direct = |source, answer| Trial {
        direct: Some(answer),
        ..told(trial(source), assistant(&[]))
    };
    let own = || Some(direct(OWN, Answer::Accepted));
    let silent = || told(trial(CLIENT), assistant(&[]));
    let mut case = evidence(silent(), own());
    finds(&case, &["client_unanswered"]);
    case.assistant = Some(told(trial(ASSISTANT), assistant(&[])));
    finds(&case, &["source_dropped"]);
    case.assistant = Some(told(trial(ASSISTANT), assistant(&[Seen::AnswerArrived])));
    finds(&case, &["client_unanswered"]);
    let refused = Some(direct(OWN, Answer::Refused));
    finds(&evidence(silent(), refused), &["port_closed"]);
    finds(
        &evidence(direct(CLIENT, Answer::Accepted), own()),
        &["replies_bypass_intercept"],
    );
    let blind = told(trial(CLIENT), assistant(&[Seen::AnswerArrived]));
    finds(&evidence(blind, own()), &["intercept_blind"]);
    // An intercept that takes packets from a queue, on a host that is not the target.
    let elsewhere = diagnosis(Place::Queue, false, &[]);
    let elsewhere = evidence(told(trial(CLIENT), elsewhere), own());
    finds(&elsewhere, &["replies_bypass_intercept"]);
}

#[test]
fn a_witness_at_the_target_ends_the_doubt() {
    let own = Some(Trial {
        direct: Some(Answer::Accepted),
        ..told(told(trial(OWN), assistant(&[])), queue(PASSED))
    });
    let silent = |witness| {
        let main = told(told(trial(CLIENT), assistant(&[])), witness);
        evidence(main, own.clone())
    };
    finds(&silent(queue(PASSED)), &["replies_bypass_intercept"]);
    finds(&silent(queue(&[])), &["source_dropped"]);
    finds(&silent(queue(ARRIVED)), &["source_dropped"]);
    let blind = Diagnosis {
        watching: false,
        ..queue(&[])
    };
    finds(&silent(blind), &["client_unanswered"]);
}

#[test]
fn the_own_name_says_nothing_of_a_route_for_clients() {
    let direct = Trial {
        direct: Some(Answer::Accepted),
        ..trial(OWN)
    };
    let case = evidence(told(direct.clone(), assistant(&[])), None);
    finds(&case, &[]);
    assert!(is_unjudged(&case));
    let case = evidence(told(direct, queue(PASSED)), None);
    finds(&case, &["queue_rule_missing"]);
}

#[test]
fn forwarding_is_found_beside_all_else() {
    let forwarding = |seen: &[Seen]| Diagnosis {
        forwards: true,
        ..assistant(seen)
    };
    let sound = told(
        reported(CLIENT, Answer::Accepted),
        forwarding(&[Seen::AnswerArrived]),
    );
    finds(&evidence(sound, None), &["ip_forward"]);
    let own = Some(told(trial(OWN), forwarding(&[])));
    let silent = evidence(told(trial(CLIENT), forwarding(&[])), own);
    finds(&silent, &["ip_forward", "target_silent"]);
    // A target may forward what it likes.
    let target = Diagnosis {
        forwards: true,
        ..queue(ARRIVED)
    };
    let sound = told(reported(CLIENT, Answer::Accepted), target);
    finds(&evidence(sound, None), &[]);
}
