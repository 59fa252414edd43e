//! A real nginx on a host.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::process::children_of;
use crate::sockets::has_connections;
use crate::{Host, Process, Result, wait_until};

/// The sizes of the files that it serves as `/size/BYTES`.
const FILE_SIZES: [usize; 5] = [0, 100, 10_000, 1_000_000, 8_388_608];

/// How long clients that have gone may still be served.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct NginxConfig {
    /// The ports that it listens on, for IPv4 and IPv6.
    pub ports: Vec<u16>,
    /// The answer to `/`.
    pub body: String,
    /// Whether connections begin with a PROXY protocol header, whose client is then taken for the
    /// real one.
    pub is_proxied: bool,
    /// The header whose value is logged with each request.
    pub logged_header: Option<String>,
    /// The requests that go on to a server on the same host: how their paths begin, and its port.
    pub passed_on: Vec<(String, u16)>,
}

impl Default for NginxConfig {
    fn default() -> Self {
        Self {
            ports: vec![80],
            body: "hello from the lab\n".to_owned(),
            is_proxied: false,
            logged_header: None,
            passed_on: Vec::new(),
        }
    }
}

/// A running nginx; it ends when this value is dropped.
///
/// It serves `/` (a short text), `/r/...` (the path, also for a POST) and `/size/0`, `/size/100`, `/size/10000`, `/size/1000000` and
/// `/size/8388608` (files), and logs each request before it counts as answered.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    pid: u32,
    host: Host,
    port: u16,
    log: String,
}

/// One request as nginx logged it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// Who asked.
    pub client: IpAddr,
    /// The client's port.
    pub port: u16,
    /// The serial number of the connection on this server.
    pub connection: u64,
    /// The status of the answer.
    pub status: u16,
    /// When it was answered, since 1970; nginx tells milliseconds.
    pub at: Duration,
    /// The path asked for.
    pub path: String,
    /// The method.
    pub method: String,
    /// The value of the header that [`NginxConfig::logged_header`] names; `-` without one.
    pub header: String,
}

impl Nginx {
    /// Starts nginx and waits until it listens.
    ///
    /// # Errors
    /// [`LabError::Failed`](crate::LabError::Failed) with nginx's own words when it ends at once.
    pub fn start(host: &Host, config: &NginxConfig) -> Result<Self> {
        let shared = host.shared();
        let name = format!("nginx-{}-{}", host.name(), shared.next_number());
        host.command("mkdir")
            .args(["-p", &shared.path(&format!("{name}/size"))])
            .run()?;
        for bytes in FILE_SIZES {
            shared.write(&format!("{name}/size/{bytes}"), &pattern(bytes))?;
        }
        let text = config.text(&shared.path(&name));
        let file = shared.write(&format!("{name}/nginx.conf"), text.as_bytes())?;
        let error_log = shared.path(&format!("{name}/error.log"));
        let mut process = host
            .command("nginx")
            .args(["-c", &file, "-e", &error_log])
            .spawn()?;
        let port = config.ports.first().copied().unwrap_or(80);
        process.wait_listening(port)?;
        Ok(Self {
            pid: process.pid()?,
            process,
            host: host.clone(),
            port,
            log: format!("{name}/access.log"),
        })
    }

    /// Where it listens, on IPv4.
    pub fn ipv4(&self) -> SocketAddr {
        SocketAddr::new(self.host.ipv4().into(), self.port)
    }

    /// Where it listens, on IPv6.
    pub fn ipv6(&self) -> SocketAddr {
        SocketAddr::new(self.host.ipv6().into(), self.port)
    }

    /// How many requests it has answered since its start.
    ///
    /// # Errors
    /// [`LabError::Io`](crate::LabError::Io) when its log is gone.
    pub fn request_count(&self) -> Result<u64> {
        let lines = self.host.shared().read_bytes(&self.log)?;
        Ok(lines.iter().filter(|&&byte| byte == b'\n').count() as u64)
    }

    /// Every request that it has answered since its start, in the order of the log.
    ///
    /// # Errors
    /// As [`request_count`](Self::request_count).
    pub fn requests(&self) -> Result<Vec<Request>> {
        let lines = self.host.shared().read(&self.log)?;
        Ok(lines.lines().filter_map(Request::parse).collect())
    }

    /// The paths that were asked for on each connection, in order; the connections are sorted, so
    /// that two servers with the same conversations return the same.
    ///
    /// # Errors
    /// As [`request_count`](Self::request_count).
    pub fn conversations(&self) -> Result<Vec<Vec<String>>> {
        let mut conversations: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for request in self.requests()? {
            conversations
                .entry(request.connection)
                .or_default()
                .push(request.path);
        }
        let mut conversations: Vec<_> = conversations.into_values().collect();
        conversations.sort_unstable();
        Ok(conversations)
    }

    /// How many connections have carried at least one request.
    ///
    /// # Errors
    /// As [`request_count`](Self::request_count).
    pub fn connection_count(&self) -> Result<u64> {
        let mut connections: Vec<u64> = self
            .requests()?
            .iter()
            .map(|request| request.connection)
            .collect();
        connections.sort_unstable();
        connections.dedup();
        Ok(connections.len() as u64)
    }

    /// Waits until it has no connection any more, and thus has logged all that it will log of the
    /// clients that have gone.
    ///
    /// # Errors
    /// [`LabError::Timeout`](crate::LabError::Timeout) when some are still there.
    pub fn wait_idle(&self) -> Result<()> {
        let what = format!("nginx on {} to have no connection", self.host.name());
        let is_idle = |worker: &u32| !has_connections(*worker, self.port);
        let are_idle = || children_of(self.pid).iter().all(is_idle);
        wait_until(&what, IDLE_TIMEOUT, are_idle).map(drop)
    }

    /// Makes the server hang: nothing of it runs any more, while its kernel goes on to accept
    /// connections and data for it until the buffers are full.
    ///
    /// # Errors
    /// As [`Process::stop_children`].
    pub fn pause(&mut self) -> Result<()> {
        self.process.stop_children()
    }

    /// Lets the server go on after [`pause`](Self::pause).
    ///
    /// # Errors
    /// As [`Process::signal_children`].
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal_children(Signal::SIGCONT)
    }

    /// The server's processes, for signals and measurements.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl NginxConfig {
    /// The text of nginx.conf, with all paths under `dir`.
    fn text(&self, dir: &str) -> String {
        let (proxied, real_client) = if self.is_proxied {
            let from_anyone = "set_real_ip_from 0.0.0.0/0; set_real_ip_from ::/0;";
            (
                " proxy_protocol",
                format!("{from_anyone} real_ip_header proxy_protocol;"),
            )
        } else {
            ("", String::new())
        };
        let listen: String = self
            .ports
            .iter()
            .map(|port| {
                let options = format!("backlog=65535{proxied};");
                format!("listen {port} {options} listen [::]:{port} {options}\n        ")
            })
            .collect();
        let (header, passed_on) = (self.header_variable(), self.locations());
        let body = self
            .body
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        format!(
            r#"daemon off;
user root;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 16384; multi_accept on; }}
http {{
    log_format lab '$remote_addr $remote_port $connection $status $msec $request_uri '
                   '$request_method {header}';
    access_log {dir}/access.log lab;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    client_max_body_size 64m;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    sendfile on;
    tcp_nopush on;
    server {{
        {listen}{real_client}
        root {dir};
        location = / {{ return 200 "{body}"; }}
        location /r/ {{ return 200 "$request_uri\n"; }}
        location /size/ {{ default_type application/octet-stream; }}
        {passed_on}
    }}
}}
"#
        )
    }
}

impl NginxConfig {
    /// What nginx calls the header to log.
    fn header_variable(&self) -> String {
        match &self.logged_header {
            Some(name) => format!("$http_{}", name.to_ascii_lowercase().replace('-', "_")),
            None => "-".to_owned(),
        }
    }

    /// What is passed on.
    fn locations(&self) -> String {
        let location = |(path, port): &(String, u16)| {
            let host = "proxy_set_header Host $http_host;";
            format!("location {path} {{ proxy_pass http://127.0.0.1:{port}; {host} }}\n        ")
        };
        self.passed_on.iter().map(location).collect()
    }
}

impl Request {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(8, ' ');
        Some(Self {
            client: words.next()?.parse().ok()?,
            port: words.next()?.parse().ok()?,
            connection: words.next()?.parse().ok()?,
            status: words.next()?.parse().ok()?,
            at: Duration::from_millis(words.next()?.replace('.', "").parse().ok()?),
            path: words.next()?.to_owned(),
            method: words.next()?.to_owned(),
            header: words.next()?.to_owned(),
        })
    }
}

/// Bytes in which a hole or a shift shows.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_read() {
        let request = Request::parse("fd55::1 4711 3 200 17.025 /size/100 GET a b").unwrap();
        assert_eq!(request.client, "fd55::1".parse::<IpAddr>().unwrap());
        assert_eq!(
            (request.port, request.connection, request.status),
            (4711, 3, 200)
        );
        assert_eq!(request.at, Duration::from_millis(17_025));
        assert_eq!(request.path, "/size/100");
        assert_eq!(
            (request.method, request.header),
            ("GET".to_owned(), "a b".to_owned())
        );
        assert_eq!(Request::parse("nonsense"), None);
    }
}
