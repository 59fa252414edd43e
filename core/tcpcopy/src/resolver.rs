//! Where a target is that was given as a name: its addresses in turn, and asked for again when
//! connections to it fail.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tcpcopy_packet::Endpoint;

/// A name is asked for again at most once in this time.
pub const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);

/// A target that was given as a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTarget {
    /// The endpoint that the mapping has: the name's first address of the mapping's family.
    pub endpoint: Endpoint,
    /// The name, as written.
    pub name: String,
    /// Every address that the name had at the start.
    pub addresses: Vec<IpAddr>,
}

/// The present addresses of all targets; clones share them.
///
/// Only addresses of the mapping's family are used, and only those that are allowed: a name must
/// not lead to an origin one day.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    names: Arc<[Name]>,
    requests: Option<mpsc::Sender<usize>>,
}

#[derive(Debug)]
struct Name {
    endpoint: Endpoint,
    name: String,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    /// Never empty.
    addresses: Vec<IpAddr>,
    /// The address in use.
    current: usize,
    /// When the name was last asked for, other than at the start.
    asked_at: Option<Instant>,
}

impl Targets {
    /// Starts a thread that resolves `named` again when that is asked for; it ends with the last
    /// clone. It keeps the privileges that its maker has now, and needs none.
    ///
    /// `allowed` says whether an endpoint may be a target; the mappings' own are.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn new(
        named: Vec<NamedTarget>,
        resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + 'static,
        allowed: impl Fn(Endpoint) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        if named.is_empty() {
            return Ok(Self::default());
        }
        let names: Arc<[Name]> = named
            .into_iter()
            .map(|target| Name::new(target, &allowed))
            .collect();
        let (requests, asked) = mpsc::channel();
        let theirs = names.clone();
        thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || {
                for index in asked {
                    let name: &Name = &theirs[index];
                    match resolve(&name.name) {
                        Ok(addresses) => name.renew(addresses, &allowed),
                        Err(error) => {
                            tracing::warn!(name = name.name, %error, "can't resolve the target");
                        }
                    }
                }
            })?;
        Ok(Self {
            names,
            requests: Some(requests),
        })
    }

    /// Where to connect to for the mapping's target `endpoint`; an address that was given as such
    /// is its own.
    #[must_use]
    pub fn address_of(&self, endpoint: Endpoint) -> SocketAddr {
        let address = match self.find(endpoint) {
            Some((_, name)) => name.read(|state| state.addresses[state.current]),
            None => endpoint.address,
        };
        SocketAddr::new(address, endpoint.port)
    }

    /// A connection to `address`, which [`Self::address_of`] had told for `endpoint`, was refused
    /// or not answered: the next address is used from now on, and the name is asked for again.
    pub fn connect_failed(&self, now: Instant, endpoint: Endpoint, address: SocketAddr) {
        let Some((index, name)) = self.find(endpoint) else {
            return;
        };
        let asks = name.write(|state| {
            // Many connections fail at once, and the first one has changed it.
            if state.addresses[state.current] == address.ip() {
                state.current = (state.current + 1) % state.addresses.len();
            }
            let elapsed = state.asked_at.map(|at| now.saturating_duration_since(at));
            let asks = elapsed.is_none_or(|elapsed| elapsed >= RESOLVE_INTERVAL);
            if asks {
                state.asked_at = Some(now);
            }
            asks
        });
        if let (true, Some(requests)) = (asks, &self.requests) {
            // It only fails when the thread is gone; then the addresses stay as they are.
            let _ = requests.send(index);
        }
    }

    fn find(&self, endpoint: Endpoint) -> Option<(usize, &Name)> {
        let mut names = self.names.iter().enumerate();
        names.find(|(_, name)| name.endpoint == endpoint)
    }
}

impl Name {
    fn new(target: NamedTarget, allowed: &impl Fn(Endpoint) -> bool) -> Self {
        let own = target.endpoint;
        let usable = |address: &IpAddr| {
            *address != own.address
                && address.is_ipv4() == own.address.is_ipv4()
                && allowed(Endpoint::new(*address, own.port))
        };
        let others = target.addresses.into_iter().filter(usable);
        Self {
            endpoint: own,
            name: target.name,
            state: RwLock::new(State {
                addresses: std::iter::once(own.address).chain(others).collect(),
                current: 0,
                asked_at: None,
            }),
        }
    }

    /// Takes over what the resolver has answered.
    fn renew(&self, mut addresses: Vec<IpAddr>, allowed: &impl Fn(Endpoint) -> bool) {
        addresses.retain(|address| {
            address.is_ipv4() == self.endpoint.address.is_ipv4()
                && allowed(Endpoint::new(*address, self.endpoint.port))
        });
        if addresses.is_empty() {
            tracing::warn!(name = self.name, "the target's name has no usable address");
            return;
        }
        let changed = self.write(|state| {
            let before = state.addresses[state.current];
            let same = addresses.iter().position(|address| *address == before);
            state.current = same.unwrap_or(0);
            state.addresses = addresses;
            same.is_none().then(|| state.addresses[0])
        });
        if let Some(address) = changed {
            tracing::info!(name = self.name, %address, "the target has another address");
        }
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 8080;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn endpoint(last: u8) -> Endpoint {
        Endpoint::new(address(last), PORT)
    }

    fn socket(last: u8) -> SocketAddr {
        SocketAddr::new(address(last), PORT)
    }

    fn named(addresses: &[u8]) -> NamedTarget {
        NamedTarget {
            endpoint: endpoint(addresses[0]),
            name: "web".to_owned(),
            addresses: addresses.iter().map(|last| address(*last)).collect(),
        }
    }

    type Answer = io::Result<Vec<IpAddr>>;

    /// A resolver that tells what it was asked for and answers what it is given.
    fn by_hand() -> (
        impl Fn(&str) -> Answer + Send + 'static,
        mpsc::Receiver<String>,
        mpsc::Sender<Answer>,
    ) {
        let (asks, asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let resolve = move |name: &str| {
            asks.send(name.to_owned()).unwrap();
            answers.recv().unwrap()
        };
        (resolve, asked, answer)
    }

    #[test]
    fn an_address_is_its_own() {
        let targets = Targets::new(Vec::new(), |_| panic!("no name"), |_| true).unwrap();
        targets.connect_failed(Instant::now(), endpoint(1), socket(1));
        assert_eq!(targets.address_of(endpoint(1)), socket(1));
    }

    #[test]
    fn addresses_take_turns_when_one_fails() {
        let (resolve, _asked, _answer) = by_hand();
        let targets = Targets::new(vec![named(&[1, 2, 3])], resolve, |_| true).unwrap();
        let now = Instant::now();
        assert_eq!(targets.address_of(endpoint(1)), socket(1));
        // Ten connections that were made before the first failure was heard of.
        for _ in 0..10 {
            targets.connect_failed(now, endpoint(1), socket(1));
        }
        assert_eq!(targets.address_of(endpoint(1)), socket(2));
        targets.connect_failed(now, endpoint(1), socket(2));
        targets.connect_failed(now, endpoint(1), socket(3));
        assert_eq!(targets.address_of(endpoint(1)), socket(1));
        // Another target is not concerned.
        assert_eq!(targets.address_of(endpoint(9)), socket(9));
    }

    #[test]
    fn a_failure_asks_again_and_not_too_often() {
        let (resolve, asked, answer) = by_hand();
        let targets = Targets::new(vec![named(&[1])], resolve, |_| true).unwrap();
        let start = Instant::now();
        let fail = |after| {
            let address = targets.address_of(endpoint(1));
            targets.connect_failed(start + after, endpoint(1), address);
        };
        fail(Duration::ZERO);
        fail(RESOLVE_INTERVAL / 2);
        assert_eq!(asked.recv().unwrap(), "web");
        answer.send(Ok(vec![address(7)])).unwrap();
        fail(RESOLVE_INTERVAL);
        // The second question shows that the first answer was taken over.
        assert_eq!(asked.recv().unwrap(), "web");
        assert_eq!(targets.address_of(endpoint(1)), socket(7));
        let error = io::Error::new(io::ErrorKind::NotFound, "no such host");
        answer.send(Err(error)).unwrap();
        fail(RESOLVE_INTERVAL * 2);
        asked.recv().unwrap();
        assert_eq!(targets.address_of(endpoint(1)), socket(7));
        assert!(asked.try_recv().is_err(), "three questions in all");
    }

    #[test]
    fn the_thread_ends_with_the_last_clone() {
        let (resolve, asked, _answer) = by_hand();
        let targets = Targets::new(vec![named(&[1])], resolve, |_| true).unwrap();
        let clone = targets.clone();
        drop(targets);
        assert_eq!(asked.try_recv(), Err(mpsc::TryRecvError::Empty));
        drop(clone);
        // The resolve function is the thread's, and with it the other end.
        assert!(asked.recv().is_err());
    }

    #[test]
    fn what_is_not_allowed_is_not_used() {
        let allowed = |endpoint: Endpoint| endpoint.address != address(2);
        let mut target = named(&[1, 2]);
        target.addresses.push("fd00::1".parse().unwrap());
        let name = Name::new(target, &allowed);
        assert_eq!(name.read(|state| state.addresses.clone()), [address(1)]);
        name.renew(vec![address(2)], &allowed);
        assert_eq!(name.read(|state| state.addresses.clone()), [address(1)]);
        name.renew(vec![address(2), address(3)], &allowed);
        assert_eq!(name.read(|state| state.addresses.clone()), [address(3)]);
    }

    #[test]
    fn an_answer_keeps_the_address_in_use() {
        let allowed = |_: Endpoint| true;
        let name = Name::new(named(&[1, 2]), &allowed);
        name.write(|state| state.current = 1);
        name.renew(vec![address(3), address(1), address(2)], &allowed);
        let current = name.read(|state| state.addresses[state.current]);
        assert_eq!(current, address(2));
    }
}
