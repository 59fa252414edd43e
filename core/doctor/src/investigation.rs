//! Which probes are sent, until the evidence is complete.
//!
//! The first goes in the name of a client. Only when nothing reports its answer, two more follow:
//! one in this host's own name tells whether the target answers at all, and one in an assistant's
//! name tells whether packets in another's name come through: its answer needs no special route.

use std::net::IpAddr;

use intercept_lib::tunnel::{Diagnosis, Place};
use tcpcopy_packet::Endpoint;

use crate::prober::{ProbeError, Prober, Trial, Witness};

/// An intercept, as far as the judgement is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observer {
    /// As the user named it.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Whether answers have to come to it.
    pub is_registrar: bool,
}

/// All that is known of the way to a target and back.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The target.
    pub target: Endpoint,
    /// The intercepts, in the order of the trials' diagnoses.
    pub observers: Vec<Observer>,
    /// The probe in the name of a client, or in this host's own where none is known.
    pub main: Trial,
    /// The probe in this host's own name, if it was needed and `main` was not it.
    pub own: Option<Trial>,
    /// The probe in the assistant's name, if it was needed.
    pub assistant: Option<Trial>,
    /// Whether `main` went in this host's own name.
    pub main_is_own: bool,
    /// Whether this host's table of tracked connections is full.
    pub conntrack_full: bool,
}

impl Evidence {
    /// What each intercept said of a trial.
    pub fn statements<'e>(
        &'e self,
        trial: &'e Trial,
    ) -> impl Iterator<Item = (&'e Observer, &'e Diagnosis)> {
        self.observers
            .iter()
            .zip(&trial.diagnoses)
            .filter_map(|(observer, diagnosis)| Some((observer, diagnosis.as_ref()?)))
    }

    /// What an intercept on the target itself said of a trial; one that answers have to come to
    /// goes before one that only looks.
    #[must_use]
    pub fn at_target<'e>(&'e self, trial: &'e Trial) -> Option<(&'e Observer, &'e Diagnosis)> {
        let here = |(_, diagnosis): &(&Observer, &Diagnosis)| {
            diagnosis.target_is_here && diagnosis.watching
        };
        self.statements(trial)
            .filter(here)
            .max_by_key(|(observer, _)| observer.is_registrar)
    }

    /// The assistant that the target's answers should come to, if it is one.
    #[must_use]
    pub fn assistant_of_main(&self) -> Option<(&Observer, &Diagnosis)> {
        self.statements(&self.main)
            .find(|(observer, d)| observer.is_registrar && d.place == Place::Assistant)
    }
}

/// Sends the probes that are needed to tell what is wrong on the way to `target` and back.
///
/// `source` is who the first probe is sent in the name of, `own` this host's own address there.
///
/// # Errors
/// [`ProbeError`].
pub fn investigate(
    prober: &mut Prober,
    target: Endpoint,
    source: IpAddr,
    own: IpAddr,
) -> Result<Evidence, ProbeError> {
    let main = prober.probe(target, source)?;
    let observer = |witness: &Witness| Observer {
        name: witness.name.clone(),
        address: witness.address,
        is_registrar: witness.is_registrar,
    };
    let mut evidence = Evidence {
        target,
        observers: prober.witnesses().iter().map(observer).collect(),
        main,
        own: None,
        assistant: None,
        main_is_own: source == own,
        conntrack_full: conntrack_full(),
    };
    let is_silent = evidence.main.reported.is_none();
    if !is_silent || evidence.main.sent != crate::prober::Sent::Taken || evidence.main_is_own {
        return Ok(evidence);
    }
    evidence.own = Some(prober.probe(target, own)?);
    let assistant = evidence
        .assistant_of_main()
        .map(|(observer, _)| observer.address)
        .filter(|address| address.is_ipv4() == source.is_ipv4() && *address != own);
    if let Some(address) = assistant
        && evidence.at_target(&evidence.main).is_none()
    {
        evidence.assistant = Some(prober.probe(target, address)?);
    }
    Ok(evidence)
}

/// Whether connection tracking is loaded and has no room left.
fn conntrack_full() -> bool {
    let value = |name: &str| {
        let path = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().parse::<u64>().ok()
    };
    match (value("count"), value("max")) {
        (Some(count), Some(max)) => max > 0 && count >= max,
        _ => false,
    }
}
