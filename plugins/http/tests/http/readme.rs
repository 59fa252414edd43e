//! The example of the README is a configuration.

use plugin_api::{Config, Plugin, Value};
use tcpcopy_plugin_http::Http;

fn value(toml: &toml::Value) -> Value {
    match toml {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(yes) => (*yes).into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(list) => Value::List(list.iter().map(value).collect()),
        toml::Value::Table(table) => config(table).into(),
    }
}

fn config(table: &toml::Table) -> Config {
    let with = |config: Config, (key, toml): (&String, &toml::Value)| config.with(key, value(toml));
    table.iter().fold(Config::new(), with)
}

#[test]
fn the_example_is_a_configuration() {
    let readme = include_str!("../../README.md");
    let (_, after) = readme.split_once("```toml\n").expect("an example");
    let (example, _) = after.split_once("```").expect("its end");
    let tables: toml::Table = example.parse().expect("TOML");
    let mut http = config(tables["http"].as_table().expect("a table"));
    // tcpcopy reads the file.
    assert!(
        http.find("authorization")
            .is_some_and(|it| it.as_table().is_some())
    );
    http.set("authorization", "Bearer token");
    assert_eq!(Http::manifest().check(&http), Ok(()));
    assert!(Http::configure(&http).is_ok());
    // Nothing is left out of it.
    for key in Http::manifest().keys {
        assert!(
            http.find(&key.name).is_some(),
            "{} is not in the example",
            key.name
        );
    }
}
