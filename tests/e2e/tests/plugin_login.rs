//! Origin and target of a site with a login issue cookies and tokens of their own. The HTTP plugin
//! puts the target's into the place of the origin's, and all posts are taken; without it none is.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_e2e::{Form, plug, programs, scaled};
use tcpcopy_lab::{Lab, LoginSite, Mode, Programs, Report, Setup, Visitors, wait_until};

const TIMEOUT: Duration = Duration::from_secs(60);
const REPORT: &str = "report.json";

/// How many random bytes the cookies and tokens of origin and target have.
const TOKEN_BYTES: [u32; 2] = [18, 33];

const USERS: u32 = 4;

/// What the plugin is told of the site.
const MAPPING: &str = r#"
[[http.learn]]
from = "cookie:sid"
wait_ms = 5000

[[http.learn]]
name = "token"
from = 'body:name="csrf_token" value="([^"]+)"'
to = ["form:csrf_token", "header:X-CSRF-Token"]
path = "^/site/"
wait_ms = 5000
"#;

/// Replays visitors of one site to another, so many times at once; the answer is both sites, and the
/// balance.
fn replay(mode: Mode, copies: u64, plugin: Option<Form>) -> Option<(LoginSite, LoginSite, Report)> {
    let lab = Lab::for_test()?;
    let site = |host: &str, bytes| LoginSite::start(lab.host(host), bytes).unwrap();
    let (origin, target) = (
        site("origin", TOKEN_BYTES[0]),
        site("target", TOKEN_BYTES[1]),
    );
    let mut setup = Setup::new(mode).with(["-n".to_owned(), copies.to_string()]);
    if let Some(form) = plugin {
        setup = setup.with(plug(&lab, "http", form, MAPPING));
    }
    let _intercepts = programs().start_intercepts(&lab, &setup).unwrap();
    let host = lab.host("origin");
    let tcpcopy = programs()
        .start_tcpcopy(&lab, host, &setup, REPORT)
        .unwrap();
    let visitors = Visitors {
        users: USERS,
        posts: scaled(20, 200),
        connections: 3,
    };
    origin.receive(lab.host("client"), visitors).unwrap();
    let counts = origin.counts().unwrap();
    let posts = u64::from(visitors.users * visitors.posts);
    assert_eq!((counts.accepted, counts.refused), (posts, 0));
    let requests = copies * origin.nginx().request_count().unwrap();
    let caught_up = wait_until("the replay to catch up", TIMEOUT, || {
        target.nginx().request_count().unwrap() >= requests
    });
    let report = Programs::finish_tcpcopy(&lab, tcpcopy, REPORT).unwrap();
    let replayed = target.nginx().request_count().unwrap();
    assert_eq!(replayed, requests, "{caught_up:?}\n{report}");
    report.assert_nothing_lost();
    Some((origin, target, report))
}

fn all_posts_are_taken(mode: Mode, form: Form) {
    let Some((origin, target, report)) = replay(mode, 1, Some(form)) else {
        return;
    };
    assert_eq!(
        target.counts().unwrap(),
        origin.counts().unwrap(),
        "{report}"
    );
    assert_eq!(target.posts().unwrap(), origin.posts().unwrap());
}

#[test]
fn all_posts_are_taken_in_the_clients_names_native() {
    all_posts_are_taken(Mode::Target, Form::Native);
}

#[test]
fn all_posts_are_taken_in_the_clients_names_wasm() {
    all_posts_are_taken(Mode::Target, Form::Wasm);
}

#[test]
fn all_posts_are_taken_over_sockets_native() {
    all_posts_are_taken(Mode::Socket, Form::Native);
}

#[test]
fn all_posts_are_taken_over_sockets_wasm() {
    all_posts_are_taken(Mode::Socket, Form::Wasm);
}

#[test]
fn each_copy_logs_in_by_itself() {
    let Some((origin, target, report)) = replay(Mode::Target, 2, Some(Form::Wasm)) else {
        return;
    };
    let (origin, target) = (origin.counts().unwrap(), target.counts().unwrap());
    assert_eq!(target.logins, 2 * origin.logins, "{report}");
    let posts = (target.accepted, target.refused);
    assert_eq!(posts, (2 * origin.accepted, 0), "{report}");
}

fn without_the_plugin_none_is(mode: Mode) {
    let Some((origin, target, _)) = replay(mode, 1, None) else {
        return;
    };
    let (origin, target) = (origin.counts().unwrap(), target.counts().unwrap());
    assert_eq!((target.logins, target.accepted), (0, 0));
    assert_eq!(target.refused, origin.logins + origin.accepted);
}

#[test]
fn without_the_plugin_none_is_in_the_clients_names() {
    without_the_plugin_none_is(Mode::Target);
}

#[test]
fn without_the_plugin_none_is_over_sockets() {
    without_the_plugin_none_is(Mode::Socket);
}
