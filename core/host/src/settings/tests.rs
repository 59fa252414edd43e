use std::fs;
use std::os::unix::fs::PermissionsExt;

use plugin_api::{Config, Key, Manifest};

use super::*;

fn manifest() -> Manifest {
    Manifest::new("http", "1.0.0", "")
        .key(Key::text("host", ""))
        .key(Key::secret("token", ""))
        .key(Key::integer("retries", ""))
        .key(Key::float("ratio", ""))
        .key(Key::list("rules", ""))
        .key(Key::table("names", ""))
}

fn config(text: &str, set: &[&str]) -> Result<Config, SettingsError> {
    let mut settings = Settings::parse(text)?;
    for option in set {
        settings.set(option)?;
    }
    settings.config_of(&manifest())
}

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("tcpcopy-host-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it, and a panic here would hide the test's own.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_table_becomes_a_configuration() {
    let text = "[http]\nhost = 'a'\nretries = 3\nratio = 0.5\nrules = [{x = true}, 'y']\n\
                [http.names]\na = 'b'\n[other]\nz = 1\n";
    let rule = Config::new().with("x", true);
    let expected = Config::new()
        .with("host", "a")
        .with("retries", 3)
        .with("ratio", 0.5)
        .with("rules", vec![rule.into(), plugin_api::Value::from("y")])
        .with("names", Config::new().with("a", "b"));
    assert_eq!(config(text, &[]), Ok(expected));
}

#[test]
fn options_go_over_the_table() {
    let text = "[http]\nhost = 'a'\nretries = 3\n";
    let set = [
        "http.host=1.5",
        "http.token=true",
        "http.retries=4",
        "http.ratio=x",
        "http.names.a=1",
        "http.names.b.c=[1, 2]",
        "http.rules=[{ header = 'x' }]",
        "http.retries=5",
    ];
    let names = Config::new()
        .with("a", 1)
        .with("b", Config::new().with("c", vec![1, 2]));
    let expected = Config::new()
        .with("host", "1.5")
        .with("token", "true")
        .with("retries", 5)
        .with("ratio", "x")
        .with("names", names)
        .with("rules", vec![Config::new().with("header", "x")]);
    assert_eq!(config(text, &set), Ok(expected));
    let quoted = config("", &["http.host=\"a b\""]);
    assert_eq!(quoted, Ok(Config::new().with("host", "a b")));
    let injected = config("", &["http.host=\"a\"\nb = 1"]);
    assert_eq!(injected, Ok(Config::new().with("host", "\"a\"\nb = 1")));
    let error = config("[http]\nhost = 'a'", &["http.host.b=1"]).expect_err("no table");
    assert_eq!(error.what, "--set http.host.b");
}

#[test]
fn mistakes_are_named_without_showing_values() {
    let error = Settings::parse("[http]\ntoken = hunter2\n").expect_err("no quotes");
    assert_eq!(error.what, "line 2");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let error = Settings::parse("host = 'a'").expect_err("outside");
    assert_eq!(error.what, "host");
    for option in ["hunter2", "=x", "http=x", ".a=x", "http.=x", "http..a=x"] {
        let error = Settings::default().set(option).expect_err("malformed");
        assert!(error.why.contains('='), "{error}");
    }
    let error = Settings::default().set("http=hunter2").expect_err("no key");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let error = config("[http]\nhost = 1979-05-27", &[]).expect_err("a date");
    assert_eq!(
        (&*error.what, &*error.remedy),
        ("http.host", "put it in quotes")
    );
}

#[test]
fn tables_without_a_plugin_are_named() {
    let mut settings = Settings::parse("[http]\n[htpp]\n").expect("TOML");
    settings.set("redis.a=1").expect("an option");
    settings.config_of(&manifest()).expect("nothing in it");
    assert_eq!(settings.unused(), ["htpp", "redis"]);
}

#[test]
fn secrets_come_from_files_that_nobody_else_can_read() {
    let scratch = Scratch::new("secrets");
    let good = scratch.file("good", "hunter2\n", 0o600);
    let told = |path: &Path| {
        let text = format!("[http]\ntoken = {{ file = '{}' }}", path.display());
        config(&text, &[])
    };
    let expected = Config::new().with("token", "hunter2");
    assert_eq!(told(&good), Ok(expected.clone()));
    let option = format!("http.token={{ file = '{}' }}", good.display());
    assert_eq!(config("", &[&option]), Ok(expected.clone()));

    for mode in [0o640, 0o604, 0o620] {
        let open = scratch.file("open", "hunter2\n", mode);
        let error = told(&open).expect_err("others can read it");
        assert_eq!(error.what, "http.token");
        assert!(error.why.contains(&format!("mode {mode:03o}")), "{error}");
        assert_eq!(error.remedy, format!("chmod 600 {}", open.display()));
    }
    let missing = told(&scratch.0.join("none")).expect_err("not there");
    assert!(missing.why.contains("can't be read"), "{missing}");
    let directory = told(&scratch.0).expect_err("a directory");
    assert!(directory.why.contains("is not a file"), "{directory}");
    let long = scratch.file("long", &"x".repeat(70_000), 0o600);
    assert!(told(&long).expect_err("too long").why.contains("longer"));

    // Paths begin where the configuration is.
    let text = "[http]\ntoken = { file = 'good' }";
    let path = scratch.file("plugins.toml", text, 0o644);
    let mut settings = Settings::read(&path).expect("a file");
    assert_eq!(settings.config_of(&manifest()), Ok(expected));
}

#[test]
fn secrets_come_from_the_environment() {
    // Of all variables, this one is there wherever tests run.
    let expected = std::env::var("PATH").expect("PATH is set");
    let told = config("[http]\ntoken = { env = 'PATH' }", &[]);
    assert_eq!(told, Ok(Config::new().with("token", expected.as_str())));
    let error = config("[http]\ntoken = { env = 'NO_SUCH_VARIABLE' }", &[]);
    let error = error.expect_err("not set");
    assert_eq!(error.why, "the variable NO_SUCH_VARIABLE is not set");

    // Inside of tables and lists, plain names are the plugin's own.
    let text = "[http]\nnames = { a = { env = 'PATH' } }\nrules = [{ secret_env = 'PATH' }]";
    let names = Config::new().with("a", Config::new().with("env", "PATH"));
    let told = Config::new()
        .with("names", names)
        .with("rules", vec![expected]);
    assert_eq!(config(text, &[]), Ok(told));
}
