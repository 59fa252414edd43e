//! One host of the lab: a network namespace with addresses, in which programs run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::lab::Shared;
use crate::{Command, Result};

/// A host; cheap to clone, and the lab lives on as long as one of them does.
#[derive(Debug, Clone)]
pub struct Host {
    shared: Arc<Shared>,
    name: String,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
}

impl Host {
    pub(crate) fn new(shared: Arc<Shared>, name: &str, ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> Self {
        Self {
            shared,
            name: name.to_owned(),
            ipv4,
            ipv6,
        }
    }

    /// The name that the lab knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its first IPv4 address.
    pub fn ipv4(&self) -> Ipv4Addr {
        self.ipv4
    }

    /// Its first IPv6 address.
    pub fn ipv6(&self) -> Ipv6Addr {
        self.ipv6
    }

    /// A program to run on this host.
    pub fn command(&self, program: &str) -> Command {
        Command::new(Arc::clone(&self.shared), &self.name, program)
    }

    /// Gives the host one more address on the lab's link.
    ///
    /// # Errors
    /// [`LabError::Failed`](crate::LabError::Failed) when the kernel refuses it.
    pub fn add_address(&self, address: IpAddr) -> Result<()> {
        let prefix = if address.is_ipv4() { 16 } else { 48 };
        let address = format!("{address}/{prefix}");
        self.command("ip")
            .args(["address", "add", &address, "dev", "eth0"])
            .run()
            .map(drop)
    }

    /// Sends what is meant for `subnet` to the host with address `via` from now on.
    ///
    /// # Errors
    /// [`LabError::Failed`](crate::LabError::Failed) when the kernel refuses it.
    pub fn route(&self, subnet: &str, via: IpAddr) -> Result<()> {
        let via = via.to_string();
        self.command("ip")
            .args(["route", "replace", subnet, "via", &via])
            .run()
            .map(drop)
    }

    /// Sets a kernel parameter of this host, such as `net.ipv4.tcp_syncookies`.
    ///
    /// # Errors
    /// [`LabError::Failed`](crate::LabError::Failed) when the kernel refuses it.
    pub fn sysctl(&self, name: &str, value: impl ToString) -> Result<()> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let value = value.to_string();
        let script = r#"echo "$1" > "$0""#;
        self.command("sh")
            .args(["-c", script, &path, &value])
            .run()
            .map(drop)
    }

    /// Makes a directory in the lab's own that belongs to another user, and returns its path.
    pub(crate) fn directory_of(&self, user: &str, name: &str) -> Result<String> {
        let path = self.shared.path(name);
        self.command("install")
            .args(["-d", "-m", "700", "-o", user, &path])
            .run()?;
        Ok(path)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}
