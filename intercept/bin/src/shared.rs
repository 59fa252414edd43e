//! What the threads share: the table, the links, the resetter and the counters.
//!
//! Lock order: link, then table. Nobody takes a link while holding the table.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use intercept_lib::table::{LinkId, SessionTable};
use intercept_lib::tunnel::{Features, ServerLink};
use rustix::net::SendFlags;

use crate::resetter::Resetter;

/// One tunnel connection: its socket and its protocol.
#[derive(Debug)]
pub(crate) struct Link {
    /// Who is at the other end.
    pub(crate) peer: SocketAddr,
    /// The connection, non-blocking.
    pub(crate) socket: TcpStream,
    protocol: Mutex<ServerLink>,
    /// What was granted to the peer; readable without the lock.
    features: OnceLock<Features>,
}

impl Link {
    pub(crate) fn new(socket: TcpStream, peer: SocketAddr, protocol: ServerLink) -> Self {
        Self {
            peer,
            socket,
            protocol: Mutex::new(protocol),
            features: OnceLock::new(),
        }
    }

    /// Notes what was granted, before the link is shown to other threads.
    pub(crate) fn grant(&self, features: Features) {
        self.features.get_or_init(|| features);
    }

    /// Whether a feature was granted.
    pub(crate) fn wants(&self, feature: Features) -> bool {
        self.features
            .get()
            .is_some_and(|granted| granted.contains(feature))
    }

    pub(crate) fn protocol(&self) -> MutexGuard<'_, ServerLink> {
        lock(&self.protocol)
    }

    /// Writes what is queued, as far as the connection takes it. The server's event loop hears
    /// from the kernel when it takes more.
    pub(crate) fn flush(&self, protocol: &mut ServerLink) -> io::Result<()> {
        loop {
            let bytes = protocol.transmit();
            if bytes.is_empty() {
                return Ok(());
            }
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => protocol.consume(count),
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// The links that are up. Packet threads keep a copy and look at `generation` for its age.
#[derive(Debug, Default)]
pub(crate) struct Links {
    map: RwLock<BTreeMap<LinkId, Arc<Link>>>,
    generation: AtomicU64,
    /// Whether any of them wants payload.
    payload_wanted: AtomicBool,
}

impl Links {
    pub(crate) fn insert(&self, id: LinkId, link: Arc<Link>) {
        self.change(|map| drop(map.insert(id, link)));
    }

    pub(crate) fn remove(&self, id: LinkId) {
        self.change(|map| drop(map.remove(&id)));
    }

    pub(crate) fn get(&self, id: LinkId) -> Option<Arc<Link>> {
        self.map
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    pub(crate) fn payload_wanted(&self) -> bool {
        self.payload_wanted.load(Relaxed)
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<LinkId, Arc<Link>>)) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut map);
        let wanted = map.values().any(|link| link.wants(Features::PAYLOAD));
        self.payload_wanted.store(wanted, Relaxed);
        self.generation.fetch_add(1, Relaxed);
    }
}

/// What is counted beside the table's own counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Packets that are no TCP segment; they are accepted.
    pub(crate) unreadable: AtomicU64,
    /// Packets to addresses of the passlist.
    pub(crate) passed: AtomicU64,
    /// Reply records handed to a link.
    pub(crate) reported: AtomicU64,
    /// Reply records that no link took: dead, or its peer reads too slowly.
    pub(crate) unreported: AtomicU64,
    /// Times the kernel had no room for more packets.
    pub(crate) overruns: AtomicU64,
    /// Packets that found the capture ring full.
    pub(crate) ring_drops: AtomicU64,
}

/// All that the threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    table: Mutex<SessionTable>,
    pub(crate) links: Links,
    pub(crate) resetter: Resetter,
    pub(crate) counters: Counters,
    /// Addresses whose packets are always accepted.
    pub(crate) passlist: Vec<IpAddr>,
    /// The device that is captured on, on an assistant.
    pub(crate) device: Option<String>,
}

impl Shared {
    pub(crate) fn new(
        table: SessionTable,
        resetter: Resetter,
        passlist: Vec<IpAddr>,
        device: Option<String>,
    ) -> Self {
        Self {
            table: Mutex::new(table),
            links: Links::default(),
            resetter,
            counters: Counters::default(),
            passlist,
            device,
        }
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, SessionTable> {
        lock(&self.table)
    }
}

/// Takes a lock whatever became of its last holder: a thread that panics ends the program soon,
/// and until then packets are better judged than not.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
