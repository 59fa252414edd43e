//! A real site with a login behind a real web server, and real visitors.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::requirements::PYTHON;
use crate::{Host, LabError, Nginx, NginxConfig, Process, Result};

/// Where the application listens, behind nginx.
const PORT: u16 = 8000;

const APP: &str = include_str!("login_site/app.py");

const VISITORS: &str = include_str!("login_site/visitors.py");

/// How long a load may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// A running site; it ends when this value is dropped.
///
/// Cookies and tokens are random. A post is taken only with the cookie of a session that has
/// logged in, and with the token that this session's form carried; everything else is a 403.
#[derive(Debug)]
pub struct LoginSite {
    _app: Process,
    nginx: Nginx,
    host: Host,
}

/// What a site has counted since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginCounts {
    /// Users who have logged in.
    pub logins: u64,
    /// Posts that were taken.
    pub accepted: u64,
    /// Logins and posts that were not.
    pub refused: u64,
}

/// What visitors of a site do.
#[derive(Debug, Clone, Copy)]
pub struct Visitors {
    /// How many users come at once, at most 8.
    pub users: u32,
    /// How often each of them posts.
    pub posts: u32,
    /// Over how many connections at once.
    pub connections: u32,
}

impl LoginSite {
    /// Starts the site and waits until it listens. Its cookies and tokens have so many random
    /// bytes, and are a third longer.
    ///
    /// # Errors
    /// [`LabError::Failed`] with its own words when a part of it ends at once.
    pub fn start(host: &Host, token_bytes: u32) -> Result<Self> {
        let shared = host.shared();
        let name = format!("login-site-{}-{}", host.name(), shared.next_number());
        let app = shared.write(&format!("{name}.py"), APP.as_bytes())?;
        let mut app = host
            .command(PYTHON)
            .args([app, PORT.to_string(), shared.path(&format!("{name}.db"))])
            .arg(token_bytes)
            .spawn()?;
        app.wait_listening(PORT)?;
        let config = NginxConfig {
            passed_on: vec![("/site/".to_owned(), PORT)],
            ..NginxConfig::default()
        };
        Ok(Self {
            _app: app,
            nginx: Nginx::start(host, &config)?,
            host: host.clone(),
        })
    }

    /// Where it listens, on IPv4.
    pub fn ipv4(&self) -> SocketAddr {
        self.nginx.ipv4()
    }

    /// The web server, which has the log.
    pub fn nginx(&self) -> &Nginx {
        &self.nginx
    }

    /// Lets visitors come from another host, and waits until they have gone.
    ///
    /// # Errors
    /// As [`Command::run`](crate::Command::run), also when one of them was refused anything.
    pub fn receive(&self, from: &Host, visitors: Visitors) -> Result<()> {
        let shared = from.shared();
        let name = format!("visitors-{}.py", shared.next_number());
        let script = shared.write(&name, VISITORS.as_bytes())?;
        let Visitors {
            users,
            posts,
            connections,
        } = visitors;
        from.command(PYTHON)
            .args([script, format!("http://{}", self.ipv4())])
            .args([users, posts, connections])
            .timeout(LOAD_TIMEOUT)
            .run()
            .map(drop)
    }

    /// What it has counted so far.
    ///
    /// # Errors
    /// [`LabError::Failed`] or [`LabError::Unreadable`] when it does not tell.
    pub fn counts(&self) -> Result<LoginCounts> {
        let answer = self.ask("/counters")?;
        let count = |name: &str| answer[name].as_u64().ok_or_else(|| unreadable(&answer));
        Ok(LoginCounts {
            logins: count("logins")?,
            accepted: count("accepted")?,
            refused: count("refused")?,
        })
    }

    /// Every post with its author, sorted.
    ///
    /// # Errors
    /// As [`counts`](Self::counts).
    pub fn posts(&self) -> Result<Vec<(String, String)>> {
        let answer = self.ask("/posts")?;
        serde_json::from_value(answer.clone()).map_err(|_| unreadable(&answer))
    }

    /// Asks the application itself, where no capture sees it.
    fn ask(&self, path: &str) -> Result<Value> {
        let url = format!("http://127.0.0.1:{PORT}{path}");
        let curl = self.host.command("curl").args(["-sS", "--fail", &url]);
        let text = curl.run()?.stdout;
        serde_json::from_str(&text).map_err(|_| unreadable(&text.into()))
    }
}

fn unreadable(answer: &Value) -> LabError {
    LabError::Unreadable {
        program: "the login site",
        detail: answer.to_string(),
    }
}
