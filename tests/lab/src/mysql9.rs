//! MySQL 9, which no Debian release has: Debian's development packages, fetched with the machine's
//! own apt and signatures, unpacked beside everything and run with their own C library. Nothing is
//! installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fetched::{find_or_fetch, for_test, run};
use crate::{Host, LabError, Result};

/// The Debian suite that has MySQL 9.
const SUITE: &str = "sid";

/// The packages whose programs are wanted; apt names the others that they need.
const PACKAGES: [&str; 2] = ["mysql-server-core", "mysql-client-core"];

/// Needed by packages, and by none of the programs.
const LEFT_OUT: [&str; 6] = [
    "perl",
    "libperl",
    "libgdbm",
    "libdb5",
    "libc-gconv",
    "libtirpc-common",
];

/// Where apt of this machine is told of its mirrors.
const SOURCES: [&str; 2] = ["/etc/apt/sources.list.d", "/etc/apt/sources.list"];

/// The keys of Debian, where a source names none of its own.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// MySQL 9 unpacked.
#[derive(Debug, Clone)]
pub(crate) struct Mysql9 {
    root: PathBuf,
    /// The directory of its C library, with the loader in it.
    libraries: PathBuf,
    loader: PathBuf,
}

/// Whether the lab can have MySQL 9; where not, and the test may do without, it prints why.
///
/// # Panics
/// When it can't be had and `CI` is set.
pub fn has_mysql9_for_test() -> bool {
    for_test("MySQL 9", Mysql9::find_or_fetch()).is_some()
}

impl Mysql9 {
    /// What an earlier call has unpacked below the target directory of cargo, or what apt has now.
    ///
    /// # Errors
    /// [`LabError::Missing`] with the reason where apt does not have it.
    pub(crate) fn find_or_fetch() -> Result<Self> {
        find_or_fetch("mysql-9", Self::at, fetch, missing)
    }

    fn at(root: &Path) -> Option<Self> {
        let is_loader = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("ld-linux") || name.starts_with("ld64")
        };
        let loader = files_below(&root.join("usr/lib"), 2)
            .into_iter()
            .find(is_loader)?;
        let libraries = loader.parent()?.to_owned();
        root.join("usr/sbin/mysqld").is_file().then(|| Self {
            root: root.to_owned(),
            libraries,
            loader,
        })
    }

    /// One of its programs, such as `sbin/mysqld`, on a host.
    pub(crate) fn command(&self, host: &Host, program: &str) -> crate::Command {
        host.command(&self.loader.display().to_string())
            .args(["--library-path", &self.libraries.display().to_string()])
            .arg(self.root.join("usr").join(program).display())
    }

    /// Where its plugins are.
    pub(crate) fn plugins(&self) -> String {
        self.root.join("usr/lib/mysql/plugin").display().to_string()
    }

    /// What the server must be told of where it is.
    pub(crate) fn places(&self) -> [String; 3] {
        let usr = self.root.join("usr");
        [
            format!("--basedir={}", usr.display()),
            format!("--lc-messages-dir={}", usr.join("share/mysql").display()),
            format!("--plugin-dir={}", self.plugins()),
        ]
    }
}

fn missing(reason: &str) -> LabError {
    LabError::Missing {
        programs: format!("MySQL 9 ({reason})"),
        command: format!(
            "on a Debian machine that reaches a mirror of {SUITE}, the lab fetches it by itself"
        ),
    }
}

/// Fetches and unpacks the packages; nothing else stays in the directory.
fn fetch(root: &Path) -> Result<(), String> {
    let work = root.join("apt");
    let apt = Apt::prepare(&work)?;
    apt.run("apt-get", &["-qq", "update"])?;
    let wanted = [&["-s", "--no-install-recommends", "install"][..], &PACKAGES].concat();
    let names = to_unpack(&apt.run("apt-get", &wanted)?);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    apt.run("apt-get", &[&["-qq", "download"][..], &names].concat())?;
    for package in files_below(&work.join("packages"), 1) {
        let (package, root) = (package.display().to_string(), root.display().to_string());
        apt.run("dpkg", &["-x", &package, &root])?;
    }
    fs::remove_dir_all(&work).map_err(|cause| cause.to_string())
}

/// An apt with nothing but the suite of MySQL 9, which takes nothing for installed.
struct Apt {
    configuration: PathBuf,
    packages: PathBuf,
}

impl Apt {
    fn prepare(work: &Path) -> Result<Self, String> {
        let source = SOURCES
            .iter()
            .flat_map(|place| files_below(Path::new(place), 1))
            .filter_map(|file| fs::read_to_string(file).ok())
            .find_map(|text| source_in(&text))
            .ok_or("this machine's apt has no mirror")?;
        let (lists, cache) = (work.join("lists"), work.join("cache"));
        let (none, packages) = (work.join("none"), work.join("packages"));
        let made = [
            lists.join("partial"),
            cache.join("archives/partial"),
            none.clone(),
            packages.clone(),
        ];
        for directory in made {
            fs::create_dir_all(directory).map_err(|cause| cause.to_string())?;
        }
        let configuration = format!(
            "Dir::State::lists \"{}\";\nDir::State::status \"{}\";\nDir::Cache \"{}\";\n\
             Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"{}\";\n\
             Dir::Etc::preferencesparts \"{4}\";\nDir::Etc::preferences \"{4}/preferences\";\n\
             Acquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n",
            lists.display(),
            work.join("status").display(),
            cache.display(),
            work.join("sources.list").display(),
            none.display(),
        );
        let files = [
            ("status", String::new()),
            ("sources.list", source),
            ("apt.conf", configuration),
        ];
        for (name, content) in files {
            fs::write(work.join(name), content).map_err(|cause| cause.to_string())?;
        }
        Ok(Self {
            configuration: work.join("apt.conf"),
            packages,
        })
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(program);
        run(command
            .args(arguments)
            .env("APT_CONFIG", &self.configuration)
            .env("LC_ALL", "C")
            .current_dir(&self.packages))
    }
}

/// The line of a `sources.list` for our suite, from the first mirror in a file of either form that
/// apt reads.
fn source_in(text: &str) -> Option<String> {
    let lines = || text.lines().map(str::trim);
    let field = |name: &str| lines().find_map(|line| line.strip_prefix(name).map(str::trim));
    let of_words = || {
        let mut words = lines()
            .find(|line| line.starts_with("deb "))?
            .split_whitespace();
        words.find(|word| word.contains("://"))
    };
    let mirror = field("URIs:")
        .and_then(|all| all.split_whitespace().next())
        .or_else(of_words)?;
    let keys = field("Signed-By:")
        .filter(|keys| keys.starts_with('/'))
        .unwrap_or(KEYRING);
    Some(format!("deb [signed-by={keys}] {mirror} {SUITE} main\n"))
}

/// The packages that apt would install, without those that no program needs.
fn to_unpack(simulation: &str) -> Vec<String> {
    let name = |line: &str| {
        Some(
            line.strip_prefix("Inst ")?
                .split_whitespace()
                .next()?
                .to_owned(),
        )
    };
    let is_needed = |name: &String| {
        let is_base = name.starts_with("gcc-") && name.ends_with("-base");
        !is_base && !LEFT_OUT.iter().any(|prefix| name.starts_with(prefix))
    };
    simulation
        .lines()
        .filter_map(name)
        .filter(is_needed)
        .collect()
}

/// The files in a directory, and in those within, down to a depth; the file itself where it is one.
fn files_below(path: &Path, depth: usize) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    if depth == 0 {
        return Vec::new();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
        .iter()
        .flat_map(|path| files_below(path, depth - 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_found_in_both_forms_of_sources() {
        let new = "Types: deb\n# old\nURIs: http://mirror.example/debian\nSuites: a b\n\
                   Signed-By: /usr/share/keyrings/other.gpg\n";
        assert_eq!(
            source_in(new).as_deref(),
            Some(
                "deb [signed-by=/usr/share/keyrings/other.gpg] http://mirror.example/debian sid main\n"
            )
        );
        let old = "# comment\ndeb [arch=amd64] http://mirror.example/debian stable main\n";
        let expected = format!("deb [signed-by={KEYRING}] http://mirror.example/debian sid main\n");
        assert_eq!(source_in(old), Some(expected));
        assert_eq!(source_in("# nothing\n"), None);
    }

    #[test]
    fn what_no_program_needs_is_left_out() {
        let simulation = "NOTE: simulation\nInst libc6 (2.42 Debian:unstable [amd64])\n\
                          Inst perl-base (5.40)\nInst gcc-15-base (15)\nInst mysql-server-core (9.7)\n\
                          Conf libc6 (2.42)\n";
        assert_eq!(to_unpack(simulation), ["libc6", "mysql-server-core"]);
    }
}
