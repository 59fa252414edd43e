//! A plugin that does as it is told: by lines that begin with its tag, in any stream. What is not
//! for it, it passes on.

use std::time::Duration;

use plugin_api::{
    Config, Context, Direction, Key, Level, Manifest, Needs, Outcome, Plugin, Session, SessionInfo,
};

/// The plugin.
#[derive(Debug)]
pub(super) struct Puppet {
    tag: String,
}

/// One session of it.
#[derive(Debug)]
pub(super) struct Strings {
    hears_ends: bool,
}

impl Plugin for Puppet {
    type Session = Strings;

    fn manifest() -> Manifest {
        Manifest::new("puppet", "1.0.0", "does as it is told")
            .key(Key::text("tag", "").required())
            .key(Key::boolean("target", "").needs(Needs::TARGET))
            .key(Key::boolean("origin", "").needs(Needs::ORIGIN))
            .key(Key::list("open", "what to do when a session opens"))
    }

    fn configure(config: &Config) -> Result<Self, String> {
        let tag = config.text("tag")?.to_owned();
        match tag.is_empty() {
            true => Err("tag: empty".to_owned()),
            false => Ok(Self { tag }),
        }
    }

    fn open(&mut self, info: &SessionInfo, ctx: &mut Context<'_>) -> Strings {
        let mut session = Strings { hears_ends: true };
        // The copy's number is the script.
        if info.copy == 1 {
            let text = format!("{}login", self.tag);
            ctx.send(text.as_bytes());
            session.obey("hold", "", ctx);
        }
        session
    }
}

impl Strings {
    fn lines(&mut self, plugin: &Puppet, bytes: &[u8], is_client: bool, ctx: &mut Context<'_>) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            let text = text.trim_end();
            let order = text.strip_prefix(plugin.tag.as_str());
            match order.and_then(|order| order.strip_prefix('.')) {
                Some(order) => {
                    let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
                    self.obey(verb, rest, ctx);
                }
                None if is_client => ctx.send(line),
                None => {}
            }
        }
    }

    fn obey(&mut self, verb: &str, rest: &str, ctx: &mut Context<'_>) {
        let number = || Duration::from_millis(rest.parse().unwrap_or(0));
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        match verb {
            "send" => ctx.send(rest.as_bytes()),
            "begin" => ctx.begin_exchange(rest),
            "end" => ctx.end_exchange(Outcome::ok().status(200)),
            "bad" => ctx.end_exchange(Outcome::failed().status(500).label(rest)),
            "hold" => ctx.hold(),
            "release" => ctx.release(),
            "refuse" => ctx.refuse(rest),
            "count" => ctx.count(rest, 1),
            "timer" => ctx.set_timer(number()),
            "pass" => ctx.pass_through(),
            "log" => ctx.log(Level::Warn, rest),
            "set" => {
                let life = Duration::from_secs(1);
                ctx.share().set(key.as_bytes(), value.as_bytes(), life);
            }
            "wait" => ctx.share().wait(rest.as_bytes(), Duration::from_millis(50)),
            "panic" => panic!("as told"),
            "much" => ctx.send(&vec![b'x'; 100_000]),
            "deaf" => self.hears_ends = false,
            other => panic!("there is no {other}"),
        }
    }
}

impl Session<Puppet> for Strings {
    fn on_client(&mut self, plugin: &mut Puppet, bytes: &[u8], ctx: &mut Context<'_>) {
        self.lines(plugin, bytes, true, ctx);
    }

    fn on_origin(&mut self, plugin: &mut Puppet, bytes: &[u8], ctx: &mut Context<'_>) {
        self.lines(plugin, bytes, false, ctx);
    }

    fn on_target(&mut self, plugin: &mut Puppet, bytes: &[u8], ctx: &mut Context<'_>) {
        self.lines(plugin, bytes, false, ctx);
    }

    fn on_gap(
        &mut self,
        plugin: &mut Puppet,
        direction: Direction,
        missing: Option<u64>,
        ctx: &mut Context<'_>,
    ) {
        let missing = missing.map_or("?".to_owned(), |missing| missing.to_string());
        ctx.send(format!("<{} {direction} gap {missing}>", plugin.tag).as_bytes());
    }

    fn on_client_end(&mut self, plugin: &mut Puppet, ctx: &mut Context<'_>) {
        if self.hears_ends {
            ctx.send(format!("<{} end>", plugin.tag).as_bytes());
        }
    }

    fn on_timer(&mut self, plugin: &mut Puppet, ctx: &mut Context<'_>) {
        ctx.send(format!("<{} timer>", plugin.tag).as_bytes());
    }

    fn on_shared(
        &mut self,
        plugin: &mut Puppet,
        key: &[u8],
        value: Option<&[u8]>,
        ctx: &mut Context<'_>,
    ) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (key, value) = (text(key), value.map(text));
        if key == "again" && value.is_some() {
            return self.obey("wait", "again", ctx);
        }
        let value = value.unwrap_or_else(|| "none".to_owned());
        ctx.begin_exchange("shared");
        ctx.send(format!("<{} {key}={value}>", plugin.tag).as_bytes());
    }
}
