use std::time::Duration;

use crate::testkit::{PlayError, Transcript, run};
use crate::{
    Config, Context, Direction, Key, Level, Manifest, Needs, Outcome, Plugin, Session, SessionInfo,
};

/// Commands of one line: each does what its name says.
struct Puppet {
    greeting: String,
}

struct Strings;

impl Plugin for Puppet {
    type Session = Strings;

    fn manifest() -> Manifest {
        Manifest::new("puppet", "1.0.0", "does as told")
            .needs(Needs::TARGET)
            .key(Key::text("greeting", ""))
    }

    fn configure(config: &Config) -> Result<Self, String> {
        let greeting = config.text_or("greeting", "")?.to_owned();
        Ok(Self { greeting })
    }

    fn open(&mut self, info: &SessionInfo, ctx: &mut Context<'_>) -> Strings {
        if !self.greeting.is_empty() && info.start_seen {
            ctx.send(self.greeting.as_bytes());
        }
        Strings
    }
}

impl Session<Puppet> for Strings {
    fn on_client(&mut self, _: &mut Puppet, bytes: &[u8], ctx: &mut Context<'_>) {
        let text = String::from_utf8_lossy(bytes);
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("hold", _) => ctx.hold(),
            ("release", _) => ctx.release(),
            ("refuse", why) => ctx.refuse(why),
            ("pass", _) => ctx.pass_through(),
            ("count", name) => ctx.count(name, 2),
            ("request", label) => {
                ctx.begin_exchange(label);
                ctx.send(bytes);
            }
            ("drop", label) => ctx.begin_exchange(label),
            ("timer", millis) => {
                let millis = millis.parse().expect("a number");
                ctx.set_timer(Duration::from_millis(millis));
            }
            ("wait", key) => ctx.share().wait(key.as_bytes(), Duration::from_millis(100)),
            ("set", key) => {
                ctx.share()
                    .set(key.as_bytes(), b"value", Duration::from_secs(1));
            }
            ("take", key) => {
                let taken = ctx.share().take(key.as_bytes());
                ctx.send(&taken.unwrap_or_default());
            }
            ("random", _) => {
                let mut bytes = [0; 11];
                ctx.random(&mut bytes);
                ctx.send(&bytes);
            }
            ("log", words) => ctx.log(Level::Info, words),
            _ => ctx.send(bytes),
        }
    }

    fn on_target(&mut self, _: &mut Puppet, bytes: &[u8], ctx: &mut Context<'_>) {
        match bytes {
            b"challenge" => ctx.send(b"<response>"),
            b"welcome" => {
                ctx.send(b"<thanks>");
                ctx.begin_exchange("greeting");
                ctx.send(b"<hello>");
                ctx.release();
            }
            bytes => ctx.end_exchange(Outcome::ok().status(bytes.len() as u32)),
        }
    }

    fn on_origin(&mut self, _: &mut Puppet, _: &[u8], ctx: &mut Context<'_>) {
        ctx.refuse("origin_was_not_asked_for");
    }

    fn on_target_end(&mut self, _: &mut Puppet, ctx: &mut Context<'_>) {
        ctx.count("target_ends", 1);
    }

    fn on_origin_end(&mut self, _: &mut Puppet, ctx: &mut Context<'_>) {
        ctx.refuse("origin_was_not_asked_for");
    }

    fn on_client_end(&mut self, _: &mut Puppet, ctx: &mut Context<'_>) {
        ctx.send(b"bye");
    }

    fn on_timer(&mut self, _: &mut Puppet, ctx: &mut Context<'_>) {
        ctx.send(format!("timer at {} ms", ctx.now().as_millis()).as_bytes());
        ctx.set_timer(Duration::ZERO);
    }

    fn on_shared(
        &mut self,
        _: &mut Puppet,
        key: &[u8],
        value: Option<&[u8]>,
        ctx: &mut Context<'_>,
    ) {
        ctx.send(key);
        ctx.send(value.unwrap_or(b" missed"));
    }

    fn on_gap(
        &mut self,
        _: &mut Puppet,
        direction: Direction,
        missing: Option<u64>,
        ctx: &mut Context<'_>,
    ) {
        ctx.send(format!("{direction} {missing:?}").as_bytes());
    }

    fn on_close(&mut self, plugin: &mut Puppet) {
        plugin.greeting.clear();
    }
}

fn played(text: &str) -> crate::testkit::Played {
    let transcript: Transcript = text.parse().expect("a transcript");
    run::<Puppet>(&Config::new(), &transcript).expect("played")
}

fn sent(text: &str) -> String {
    String::from_utf8(played(text).sent().to_vec()).expect("UTF-8")
}

#[test]
fn held_bytes_are_sent_when_released() {
    let story = played("C: a\nC: hold\nC: b\n");
    assert_eq!(story.sent(), b"a");
    assert_eq!(story.sessions[0].held, b"b");
    assert_eq!(sent("C: a\nC: hold\nC: b\nC: release\nC: c\n"), "abc");
}

#[test]
fn what_answers_the_target_goes_ahead_of_what_is_held() {
    let text = "C: login\nC: hold\nC: a\nT: challenge\nC: b\nT: welcome\nC: c\n";
    assert_eq!(sent(text), "login<response><thanks>ab<hello>c");
    let request = "C: request a\nC: request b\nT: challenge\n";
    let exchanges = played(request).exchanges().to_vec();
    assert_eq!(exchanges[0].request, b"request a<response>");
}

#[test]
fn ends_are_told() {
    let played = played("O end\nC end\nT end\n");
    assert_eq!(played.sent(), b"bye");
    assert_eq!((played.count("target_ends"), played.refusal()), (1, None));
}

#[test]
fn exchanges_have_their_bytes_and_end_in_order() {
    let played = played("C: request a\nC: more\nC: request b\nT: yes\nT: y\nT: z\n");
    let exchanges = played.exchanges();
    assert_eq!(exchanges[0].request, b"request amore");
    assert_eq!(exchanges[0].outcome, Some((true, 3, String::new())));
    assert_eq!(exchanges[1].label, "b");
    assert_eq!(exchanges[1].outcome, Some((true, 1, String::new())));
    assert_eq!(played.sessions[0].surplus_ends, 1);
}

#[test]
fn an_exchange_of_which_nothing_was_sent_is_left_out() {
    let played = played("C: request a\nC: drop b\nC: request c\nC: drop d\nT: 1\nT: 12\n");
    let of = |at: usize| {
        let exchange = &played.exchanges()[at];
        (
            exchange.is_left_out,
            exchange.outcome.as_ref().map(|it| it.1),
        )
    };
    assert_eq!([of(0), of(2)], [(false, Some(1)), (false, Some(2))]);
    assert_eq!([of(1), of(3)], [(true, None), (true, None)]);
}

#[test]
fn after_a_refusal_nothing_is_called() {
    let played = played("C: timer 5\nC: refuse no_way\nC: a\nafter 10 ms\nC end\n");
    assert_eq!(
        (played.sent(), played.refusal()),
        (&b""[..], Some("no_way"))
    );
}

#[test]
fn after_passing_through_the_client_speaks_to_the_target() {
    let played = played("C: a\nC: pass\nC: refuse\nT: x\nC end\n");
    assert_eq!(played.sent(), b"arefuse");
    assert!(played.sessions[0].passed_through && played.refusal().is_none());
}

#[test]
fn streams_that_are_not_asked_for_do_not_come() {
    assert_eq!(played("O: x\nO gap 3\n").refusal(), None);
    assert_eq!(
        sent("C gap 3\nT gap unknown\n"),
        "client Some(3)target None"
    );
}

#[test]
fn timers_go_off_once_at_their_time() {
    let story = played("C: timer 5\nafter 4 ms\nC: .\nC: timer 2\nafter 1 ms\nC: .\n");
    assert_eq!(story.sent(), b"..");
    assert_eq!(
        sent("C: timer 5\nafter 6 ms\n"),
        "timer at 5 mstimer at 6 ms"
    );
    let endless: Transcript = "C: timer 5\nafter 999999 ms\n"
        .parse()
        .expect("a transcript");
    let endless = run::<Puppet>(&Config::new(), &endless).expect_err("sets it anew each time");
    assert_eq!(endless, PlayError::Endless { step: 2 });
}

#[test]
fn values_travel_between_sessions() {
    let text = "
        session 1
        C: wait k
        session 2
        C: set k
        C: take k
        C: take k
        session 1
        C: wait k
        after 99 ms
        C: .
        after 1 ms
    ";
    let played = played(text);
    assert_eq!(played.sent(), b"kvalue.k missed");
    assert_eq!(played.session(2).expect("there").sent, b"value");
    let story = played.to_string();
    assert!(story.contains("C: set k\nshared 1: k = value\n"), "{story}");
    assert!(story.contains("waited in vain 1: k\n"), "{story}");
}

#[test]
fn values_expire() {
    assert_eq!(sent("C: set k\nafter 1000 ms\nC: take k\nC: .\n"), ".");
}

#[test]
fn a_session_knows_what_it_is_told() {
    let config = Config::new().with("greeting", "hello");
    let text = "session 1\nC end\nclose\nsession 2 mid-stream copy=1\nC: a\n";
    let transcript: Transcript = text.parse().expect("a transcript");
    let played = run::<Puppet>(&config, &transcript).expect("played");
    assert_eq!(played.sent(), b"hellobye");
    let second = played.session(2).expect("there");
    assert_eq!((second.info.copy, second.sent.as_slice()), (1, &b"a"[..]));
}

#[test]
fn counts_logs_and_randomness() {
    let first = played("C: count x\nC: count x\nC: log hi\nC: random\n");
    assert_eq!((first.count("x"), first.count("y")), (4, 0));
    assert_eq!(first.log, [(Level::Info, "hi".to_owned())]);
    assert_eq!(first.sent().len(), 11);
    assert_eq!(first.sent(), played("C: random\n").sent());
    assert_ne!(first.sent(), [0; 11]);
}

#[test]
fn what_cannot_be_played_is_an_error() {
    let transcript: Transcript = "C: a\nclose\nC: b\n".parse().expect("a transcript");
    let error = run::<Puppet>(&Config::new(), &transcript).expect_err("closed");
    assert_eq!(error.to_string(), "step 3: session 1 is closed");
    let config = Config::new().with("greting", "hello");
    let error = run::<Puppet>(&config, &transcript).expect_err("unknown key");
    assert_eq!(
        error.to_string(),
        "configuration: greting: unknown key, there is: greeting"
    );
}
