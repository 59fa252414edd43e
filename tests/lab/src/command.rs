//! How programs are started on a host of the lab.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::User;

use crate::lab::Shared;
use crate::requirements::search_path;
use crate::{LabError, Output, Process, Result};

/// How long a program may run when the caller says nothing.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// A program about to run on a host, with its arguments.
#[derive(Debug)]
pub struct Command {
    shared: Arc<Shared>,
    host: String,
    program: String,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    user: Option<String>,
    input: Option<String>,
    timeout: Duration,
}

impl Command {
    pub(crate) fn new(shared: Arc<Shared>, host: &str, program: &str) -> Self {
        Self {
            shared,
            host: host.to_owned(),
            program: program.to_owned(),
            args: Vec::new(),
            envs: Vec::new(),
            user: None,
            input: None,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl ToString) -> Self {
        self.args.push(arg.to_string());
        self
    }

    /// Adds several arguments.
    pub fn args<T: ToString>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.to_string()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.envs.push((name.to_owned(), value.to_string()));
        self
    }

    /// Runs the program as another user of the machine, with that user's own groups and with no
    /// privilege at all, nor a way to gain one.
    pub fn as_user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Gives the program this text as its standard input; without it, there is none.
    pub fn input(mut self, text: &str) -> Self {
        self.input = Some(text.to_owned());
        self
    }

    /// Limits how long [`run`](Self::run) waits.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs the program to its end and returns what it printed.
    ///
    /// # Errors
    /// [`LabError::Failed`] when it ends with another status than 0, [`LabError::Timeout`] when
    /// it does not end.
    pub fn run(self) -> Result<Output> {
        let timeout = self.timeout;
        let mut process = self.spawn()?;
        let output = process.wait(timeout)?;
        if output.status.success() {
            Ok(output)
        } else {
            Err(process.failed(output.status))
        }
    }

    /// Starts the program and returns at once; dropping the [`Process`] kills it.
    ///
    /// # Errors
    /// [`LabError::Spawn`] or [`LabError::Io`].
    pub fn spawn(self) -> Result<Process> {
        let name = Path::new(&self.program)
            .file_name()
            .and_then(OsStr::to_str)
            .unwrap_or("?");
        let log = self.shared.next_log(name);
        let open = |extension: &str| {
            let path = log.with_extension(extension);
            File::create(&path).map_err(|cause| LabError::io("create", path.display(), cause))
        };
        let (stdout, stderr) = (open("out")?, open("err")?);
        let stdin = match &self.input {
            Some(text) => {
                let path = log.with_extension("in");
                let written = fs::write(&path, text).and_then(|()| File::open(&path));
                let file = written.map_err(|cause| LabError::io("write", path.display(), cause))?;
                Stdio::from(file)
            }
            None => Stdio::null(),
        };
        let text = format!("{} {}", self.program, self.args.join(" "));
        let become_user = match &self.user {
            Some(user) => become_user(user)?,
            None => Vec::new(),
        };
        let outer = std::process::Command::new("nsenter")
            .args([
                "--target",
                &self.shared.init_pid().to_string(),
                "--pid",
                "--mount",
                "--ipc",
                "--",
            ])
            .args(["ip", "netns", "exec", &self.host])
            .args(become_user)
            .arg(&self.program)
            .args(&self.args)
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .env("PATH", search_path())
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(|source| LabError::Spawn {
                command: text.clone(),
                source,
            })?;
        Ok(Process::new(self.shared, self.host, text, outer, log))
    }
}

/// The command that becomes a user before it becomes the program whose name follows.
fn become_user(name: &str) -> Result<Vec<String>> {
    let unknown = || LabError::Start {
        detail: format!("this machine has no user `{name}`"),
    };
    let user = User::from_name(name).ok().flatten().ok_or_else(unknown)?;
    let words = [
        "setpriv".to_owned(),
        format!("--reuid={}", user.uid),
        format!("--regid={}", user.gid),
        "--init-groups".to_owned(),
        "--inh-caps=-all".to_owned(),
        "--bounding-set=-all".to_owned(),
        "--no-new-privs".to_owned(),
    ];
    Ok(words.into())
}
