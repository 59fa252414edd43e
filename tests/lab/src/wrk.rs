//! The load generator wrk.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{Command, Host, LabError, Process, Result, Usage, wait_until};

/// How much longer than asked a load may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much longer a load of pipelined requests lasts, in which it says none.
const DRAIN: Duration = Duration::from_secs(2);

/// How a load is made.
#[derive(Debug, Clone)]
pub struct Wrk {
    /// The server.
    pub server: SocketAddr,
    /// The path that is asked for.
    pub path: String,
    /// How many connections are open at once.
    pub connections: u32,
    /// How long the load lasts.
    pub duration: Duration,
    /// Whether each connection carries one request only.
    pub close: bool,
    /// Requests a second in all, or as fast as it goes.
    pub rate: Option<u32>,
    /// Whether each request has a path of its own (and `path` counts for nothing), and every
    /// fourth a body.
    pub varied: bool,
    /// How many requests are said before their answers are waited for.
    pub pipelined: u32,
}

impl Wrk {
    /// Keep-alive connections, as fast as it goes.
    pub fn keep_alive(server: SocketAddr, connections: u32, duration: Duration) -> Self {
        let path = "/".to_owned();
        Self {
            server,
            path,
            connections,
            duration,
            close: false,
            rate: None,
            varied: false,
            pipelined: 1,
        }
    }

    /// One request a connection, as fast as it goes.
    pub fn short(server: SocketAddr, connections: u32, duration: Duration) -> Self {
        Self {
            close: true,
            ..Self::keep_alive(server, connections, duration)
        }
    }

    /// Holds the load near `rate` requests a second.
    pub fn at_rate(self, rate: u32) -> Self {
        Self {
            rate: Some(rate),
            ..self
        }
    }

    /// Makes no two requests the same: paths are `/r/LOAD/NUMBER`, and every fourth request is a
    /// POST with a body of up to 3 kB.
    pub fn varied(self) -> Self {
        Self {
            varied: true,
            ..self
        }
    }

    /// Says so many requests at once on each connection.
    pub fn pipelined(self, requests: u32) -> Self {
        Self {
            pipelined: requests,
            ..self
        }
    }

    /// Runs the load from `host` to its end.
    ///
    /// # Errors
    /// As [`Command::run`], or [`LabError::Unreadable`].
    pub fn run(&self, host: &Host) -> Result<WrkReport> {
        let output = self
            .command(host)?
            .timeout(self.duration + PATIENCE)
            .run()?;
        WrkReport::parse(&output.stdout)
    }

    /// Runs the load from `host` and measures what wrk itself uses for it.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_measured(&self, host: &Host) -> Result<(WrkReport, Usage)> {
        let mut process = self.spawn(host)?;
        let mut usage = Usage::default();
        // The last look before the end counts: wrk's threads are idle by then.
        wait_until("the end of wrk", self.duration + PATIENCE, || {
            if let Ok(now) = process.usage() {
                usage = now;
            }
            !process.is_running()
        })?;
        let output = process.wait(PATIENCE)?;
        if output.status.success() {
            Ok((WrkReport::parse(&output.stdout)?, usage))
        } else {
            Err(process.failed(output.status))
        }
    }

    /// Starts the load on `host` and returns at once.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn spawn(&self, host: &Host) -> Result<Process> {
        self.command(host)?.spawn()
    }

    fn command(&self, host: &Host) -> Result<Command> {
        let number = host.shared().next_number();
        let script = self.script(number);
        let name = format!("wrk-{number}.lua");
        let script = host.shared().write(&name, script.as_bytes())?;
        let drain = match self.pipelined {
            1 => Duration::ZERO,
            _ => DRAIN,
        };
        let duration = self.whole_seconds() + drain;
        Ok(host
            .command("wrk")
            .args(["-t", "1", "-c", &self.connections.to_string()])
            .args(["-d", &format!("{}s", duration.as_secs())])
            .args(["--timeout", "30s", "-s", &script])
            .arg(format!("http://{}{}", self.server, self.path)))
    }

    /// How long requests are made: wrk takes whole seconds only.
    fn whole_seconds(&self) -> Duration {
        Duration::from_secs(self.duration.as_secs().max(1))
    }

    /// The Lua script that makes wrk send what this load asks for.
    fn script(&self, number: u32) -> String {
        let close = if self.close {
            "wrk.headers[\"Connection\"] = \"close\"\n"
        } else {
            ""
        };
        let delay = self.delay();
        let one = if self.varied {
            format!(
                "local n = 0\n\
                 local function one()\n  n = n + 1\n  local path = \"/r/{number}/\" .. n\n\
                 if n % 4 > 0 then return wrk.format(\"GET\", path) end\n\
                 local letter = string.char(97 + n % 26)\n\
                 local body = string.rep(letter, 1 + (n * 37) % 3000)\n\
                 return wrk.format(\"POST\", path, nil, body)\nend\n"
            )
        } else {
            "local function one() return wrk.format() end\n".to_owned()
        };
        let requests = match (self.varied, self.pipelined) {
            (false, 1) => String::new(),
            (_, pipelined) => format!(
                "{one}function request()\n  local all = {{}}\n\
                 for i = 1, {pipelined} do all[i] = one() end\n\
                 return table.concat(all)\nend\n"
            ),
        };
        // A load that sees errors is no load: they are shown where the counts are.
        close.to_owned()
            + &delay
            + &requests
            + "function done(summary, latency, requests)\n\
               local e = summary.errors\n\
               io.write(string.format(\"lab requests=%d errors=%d\\n\", summary.requests,\n\
               e.connect + e.read + e.write + e.status + e.timeout))\nend\n"
    }

    /// The Lua function that says how long wrk pauses a connection before its next requests, in
    /// milliseconds.
    fn delay(&self) -> String {
        let pause_ms = match self.rate {
            Some(rate) => 1_000 * self.connections * self.pipelined / rate.max(1),
            None if self.pipelined > 1 => 0,
            None => return String::new(),
        };
        if self.pipelined == 1 {
            return format!("function delay() return {pause_ms} end\n");
        }
        // A server drops what it has not yet read of a client that has gone, and how much that
        // is differs from server to server: so nothing may be under way when wrk ends.
        let last_ms = self.whole_seconds().as_millis();
        format!(
            "local ffi = require(\"ffi\")\n\
             ffi.cdef[[\n  typedef struct {{ long s, ns; }} lab_time;\n\
             int clock_gettime(int clock, lab_time *now);\n]]\n\
             local time, first = ffi.new(\"lab_time[1]\")\n\
             local function now_ms()\n  ffi.C.clock_gettime(1, time)\n\
             return tonumber(time[0].s) * 1000 + tonumber(time[0].ns) / 1000000\nend\n\
             function delay()\n  first = first or now_ms()\n\
             if now_ms() - first > {last_ms} then return 1000000 end\n\
             return {pause_ms}\nend\n"
        )
    }
}

/// What wrk counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrkReport {
    /// Requests whose answers it has seen whole.
    pub requests: u64,
    /// Connections, reads, writes and answers that failed or took too long.
    pub errors: u64,
}

impl WrkReport {
    /// Reads what wrk printed, for loads that were started with [`Wrk::spawn`].
    ///
    /// # Errors
    /// [`LabError::Unreadable`].
    pub fn parse(stdout: &str) -> Result<Self> {
        let unreadable = || LabError::Unreadable {
            program: "wrk",
            detail: stdout.trim().to_owned(),
        };
        let line = stdout
            .lines()
            .find_map(|line| line.strip_prefix("lab requests="));
        let (requests, errors) = line
            .and_then(|line| line.split_once(" errors="))
            .ok_or_else(unreadable)?;
        Ok(Self {
            requests: requests.parse().map_err(|_| unreadable())?,
            errors: errors.parse().map_err(|_| unreadable())?,
        })
    }
}
