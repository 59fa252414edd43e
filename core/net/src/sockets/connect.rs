//! Opening a connection: its options, its local address, its port.

use std::collections::HashMap;
use std::ffi::c_int;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, ipproto, socket_with,
    sockopt,
};

use super::ports::{PortSet, Ports};
use super::{SocketConfig, SocketFailure};
use crate::{NetError, sys};

/// Ports of our own choice that are tried for one connection.
const OWN_PORT_TRIES: usize = 64;

/// A connection on its way.
pub(super) struct Started {
    pub(super) descriptor: OwnedFd,
    pub(super) local: SocketAddr,
    pub(super) port: PortOwner,
}

/// Which account the port of a connection is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortOwner {
    /// The configured address that the connection is bound to, if any.
    source: Option<IpAddr>,
    target: SocketAddr,
    /// The port, if it is one of the reserve.
    reserved: Option<u16>,
}

/// Opens connections from the configured addresses in turn.
pub(super) struct Connector {
    ipv4: Sources,
    ipv6: Sources,
    hop_limit: Option<u8>,
    unsent_bytes_max: u32,
    /// Ports that the kernel never hands out.
    reserve: PortSet,
    ports: HashMap<(Option<IpAddr>, SocketAddr), Ports, foldhash::fast::RandomState>,
    /// Connections whose port was of our own choice.
    pub(super) own_ports: u64,
}

/// Addresses of one family to bind to, and whose turn it is; `None` leaves it to the kernel.
#[derive(Clone)]
struct Sources {
    addresses: Vec<Option<IpAddr>>,
    next: usize,
}

/// Who chooses the local port.
#[derive(Clone, Copy)]
enum Choice {
    Kernels,
    Ours,
}

impl Connector {
    pub(super) fn new(config: &SocketConfig) -> Result<Self, NetError> {
        for address in &config.sources {
            check_source(*address)?;
        }
        let of_family = |is_ipv4: bool| {
            let family = config.sources.iter().filter(|a| a.is_ipv4() == is_ipv4);
            let mut addresses: Vec<_> = family.copied().map(Some).collect();
            if config.sources.is_empty() {
                addresses.push(None);
            }
            Sources { addresses, next: 0 }
        };
        Ok(Self {
            ipv4: of_family(true),
            ipv6: of_family(false),
            hop_limit: config.hop_limit,
            unsent_bytes_max: config.unsent_bytes_max,
            reserve: PortSet::beyond_the_kernels(config.ports.clone()),
            ports: HashMap::default(),
            own_ports: 0,
        })
    }

    /// Begins a handshake: first with a port of the kernel's choice from each address, then with
    /// ports of ours.
    pub(super) fn connect(
        &mut self,
        target: SocketAddr,
        now: Option<Instant>,
    ) -> Result<Started, SocketFailure> {
        let count = self.sources(target).addresses.len();
        for choice in [Choice::Kernels, Choice::Ours] {
            for _ in 0..count {
                let source = self.sources(target).turn();
                let started = match choice {
                    Choice::Kernels => self.connect_by_kernel(source, target, now),
                    Choice::Ours => self.connect_by_ourselves(source, target, now),
                };
                let Err(errno) = started else {
                    return started.map_err(SocketFailure::from);
                };
                if errno != Errno::ADDRNOTAVAIL {
                    return Err(errno.into());
                }
            }
        }
        Err(SocketFailure::NoPort)
    }

    /// A connection is over: its port may be used again.
    pub(super) fn give_back(&mut self, owner: PortOwner) {
        let ports = self.ports(owner.source, owner.target);
        match owner.reserved {
            Some(port) => ports.give_back(port),
            None => ports.kernel_has_one_back(),
        }
    }

    fn sources(&mut self, target: SocketAddr) -> &mut Sources {
        match target {
            SocketAddr::V4(_) => &mut self.ipv4,
            SocketAddr::V6(_) => &mut self.ipv6,
        }
    }

    fn ports(&mut self, source: Option<IpAddr>, target: SocketAddr) -> &mut Ports {
        let reserve = &self.reserve;
        self.ports
            .entry((source, target))
            .or_insert_with(|| Ports::new(reserve))
    }

    fn connect_by_kernel(
        &mut self,
        source: Option<IpAddr>,
        target: SocketAddr,
        now: Option<Instant>,
    ) -> Result<Started, Errno> {
        if !self.ports(source, target).kernel_may_have_one(now) {
            return Err(Errno::ADDRNOTAVAIL);
        }
        let descriptor = self.open(target)?;
        if let Some(address) = source {
            // The port is chosen when the target is known, so that one serves several targets.
            // Without the option (before Linux 4.2) it is chosen here, from the whole range.
            let _ = sys::set_option(
                &descriptor,
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                &(1 as c_int),
            );
            bind(&descriptor, &SocketAddr::new(address, 0)).map_err(port_error)?;
        }
        let owner = PortOwner {
            source,
            target,
            reserved: None,
        };
        let started = self.start(descriptor, owner);
        if started.as_ref().err() == Some(&Errno::ADDRNOTAVAIL) {
            self.ports(source, target).kernel_has_none(now);
        }
        started
    }

    fn connect_by_ourselves(
        &mut self,
        source: Option<IpAddr>,
        target: SocketAddr,
        now: Option<Instant>,
    ) -> Result<Started, Errno> {
        for _ in 0..OWN_PORT_TRIES {
            let ports = self.ports(source, target);
            let Some(address) = source.or(ports.address()) else {
                break;
            };
            let Some(port) = ports.take(now) else {
                break;
            };
            let owner = PortOwner {
                source,
                target,
                reserved: Some(port),
            };
            match self.connect_from(SocketAddr::new(address, port), owner) {
                Err(Errno::ADDRNOTAVAIL) => self.ports(source, target).is_busy(port, now),
                Err(errno) => {
                    self.give_back(owner);
                    return Err(errno);
                }
                started => {
                    self.own_ports += 1;
                    return started;
                }
            }
        }
        Err(Errno::ADDRNOTAVAIL)
    }

    fn connect_from(&mut self, local: SocketAddr, owner: PortOwner) -> Result<Started, Errno> {
        let descriptor = self.open(owner.target)?;
        bind(&descriptor, &local).map_err(port_error)?;
        self.start(descriptor, owner)
    }

    /// A socket with the options that every connection has.
    fn open(&self, target: SocketAddr) -> Result<OwnedFd, Errno> {
        let family = match target {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let descriptor = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        // The captured client's own segments decide what is sent when.
        sockopt::set_tcp_nodelay(&descriptor, true)?;
        // Ports of our own choice need it, and no service of this host that wants to listen at a
        // port that a connection of ours has is kept from it.
        sockopt::set_socket_reuseaddr(&descriptor, true)?;
        match (self.hop_limit, target) {
            (None, _) => {}
            (Some(limit), SocketAddr::V4(_)) => sockopt::set_ip_ttl(&descriptor, limit.into())?,
            (Some(limit), SocketAddr::V6(_)) => {
                sockopt::set_ipv6_unicast_hops(&descriptor, Some(limit))?;
            }
        }
        // Urgent bytes are bytes of the stream.
        sockopt::set_socket_oobinline(&descriptor, true)?;
        let unsent_bytes_max = self.unsent_bytes_max;
        sys::set_option(
            &descriptor,
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            &unsent_bytes_max,
        )
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(descriptor)
    }

    fn start(&mut self, descriptor: OwnedFd, port: PortOwner) -> Result<Started, Errno> {
        match connect(&descriptor, &port.target) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let local = SocketAddr::try_from(getsockname(&descriptor)?)?;
        if local == port.target {
            // Nobody listens there, and the connection has met itself.
            return Err(Errno::CONNREFUSED);
        }
        self.ports(port.source, port.target).has_address(local.ip());
        Ok(Started {
            descriptor,
            local,
            port,
        })
    }
}

impl Sources {
    fn turn(&mut self) -> Option<IpAddr> {
        let address = self.addresses[self.next];
        self.next = (self.next + 1) % self.addresses.len();
        address
    }
}

/// A port that is in use, or not ours to use, is no port.
fn port_error(errno: Errno) -> Errno {
    match errno {
        Errno::ADDRINUSE | Errno::ACCESS => Errno::ADDRNOTAVAIL,
        other => other,
    }
}

/// Refuses an address that is not this host's.
fn check_source(address: IpAddr) -> Result<(), NetError> {
    let family = match address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let failed = |errno: Errno| NetError::io("open a TCP socket", errno);
    let flags = SocketFlags::CLOEXEC;
    let descriptor =
        socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP)).map_err(failed)?;
    match bind(&descriptor, &SocketAddr::new(address, 0)) {
        Err(Errno::ADDRNOTAVAIL) => Err(NetError::NotOwnAddress { address }),
        // No port is free now; it may be one when a connection is opened.
        Ok(()) | Err(Errno::ADDRINUSE) => Ok(()),
        Err(errno) => Err(NetError::io("bind a TCP socket to a source address", errno)),
    }
}
