//! Logins at a model server that checks proofs as real ones do, after captured ones at another.

mod model;

use plugin_api::Config;
use proptest::prelude::*;

use super::*;
use crate::auth::native;
use crate::secret::Secret;
use crate::testing::Counted;

use model::{Client, MARIADB, MYSQL, Server};

/// A log and no randomness.
#[derive(Default)]
struct Around {
    random: Counted,
    log: Vec<String>,
}

impl Random for Around {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.random.fill(bytes);
    }
}

impl Surroundings for Around {
    fn log(&mut self, _level: Level, message: &str) {
        self.log.push(message.to_owned());
    }
}

/// Who said a captured packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Client,
    Origin,
}

/// What client and origin say to each other.
fn capture(client: &mut Client, origin: &mut Server) -> Vec<(By, Packet)> {
    let greeting = origin.greet();
    let mut said = vec![(By::Origin, greeting.clone())];
    let mut next = client.hear(&greeting);
    while let Some(packet) = next.take() {
        said.push((By::Client, packet.clone()));
        let mut answer = origin.hear(&packet);
        while let Some(packet) = answer.take() {
            answer = origin.after(&packet);
            next = client.hear(&packet).or(next);
            said.push((By::Origin, packet));
        }
    }
    said
}

/// A login between what was captured and a target, in an order that `choices` chooses.
struct Replay<'a> {
    login: Login,
    accounts: &'a Accounts,
    around: Around,
    client: Vec<Packet>,
    origin: Vec<Packet>,
    /// What the target has said and the login has not heard.
    target_said: Vec<Packet>,
    step: LoginStep,
}

impl<'a> Replay<'a> {
    fn new(login: Login, accounts: &'a Accounts, captured: &[(By, Packet)]) -> Self {
        let of = |who| {
            let said = captured.iter().filter(|(by, _)| *by == who);
            said.map(|(_, packet)| packet.clone()).collect()
        };
        Self {
            login,
            accounts,
            around: Around::default(),
            client: of(By::Client),
            origin: of(By::Origin),
            target_said: Vec::new(),
            step: LoginStep::Continue,
        }
    }

    /// Until nobody has anything to say. A choice is whose packet comes next; the target's comes
    /// only when it is there.
    fn run(&mut self, target: &mut Server, choices: &mut dyn Iterator<Item = u8>) {
        while self.step == LoginStep::Continue {
            let queues = [
                !self.target_said.is_empty(),
                !self.client.is_empty(),
                !self.origin.is_empty(),
            ];
            let open: Vec<usize> = (0..3).filter(|at| queues[*at]).collect();
            if open.is_empty() {
                return;
            }
            let choice = usize::from(choices.next().unwrap_or(0));
            let out = &mut Vec::new();
            let (login, around) = (&mut self.login, &mut self.around);
            self.step = match open[choice % open.len()] {
                0 => login.on_target(self.accounts, self.target_said.remove(0), around, out),
                1 => login.on_client(self.accounts, self.client.remove(0), around, out),
                _ => login.on_origin(self.accounts, self.origin.remove(0), around, out),
            };
            for packet in out {
                let mut answer = target.hear(packet);
                while let Some(packet) = answer.take() {
                    answer = target.after(&packet);
                    self.target_said.push(packet);
                }
            }
        }
    }

    fn logged_in(&self) -> &LoggedIn {
        match &self.step {
            LoginStep::Done(logged_in) => logged_in,
            step => panic!("{step:?}: {:?}", self.around.log),
        }
    }
}

/// Plays a whole login and gives what has come of it, in the order that is usual.
fn play<'a>(
    accounts: &'a Accounts,
    client: &mut Client,
    origin: &mut Server,
    target: &mut Server,
) -> Replay<'a> {
    play_in_order(accounts, client, origin, target, &[])
}

fn play_in_order<'a>(
    accounts: &'a Accounts,
    client: &mut Client,
    origin: &mut Server,
    target: &mut Server,
    choices: &[u8],
) -> Replay<'a> {
    let captured = capture(client, origin);
    let mut replay = Replay::new(Login::new(), accounts, &captured);
    replay.target_said.push(target.greet());
    replay.run(target, &mut choices.iter().copied());
    replay
}

fn with_password(password: &str) -> Accounts {
    let config = Config::new().with("accounts", format!("app {password}").as_str());
    Accounts::configure(&config.with("clear_password", true)).expect("accounts")
}

fn with_hash(password: &str) -> Accounts {
    use sha1::{Digest, Sha1};
    let sha1 = native::sha1_of(&Secret::from(password));
    let stored = Sha1::digest(sha1.reveal());
    let digits: String = stored.iter().map(|byte| format!("{byte:02X}")).collect();
    let config = Config::new().with("hashes", format!("app *{digits}").as_str());
    Accounts::configure(&config).expect("accounts")
}

const BOTH: [Capabilities; 2] = [MYSQL, MARIADB];

fn server(capabilities: Capabilities, begins_with: Method) -> Server {
    Server::new(capabilities, begins_with)
}

fn every_pair() -> impl Iterator<Item = (Method, Method)> {
    let pairs = |of_origin| {
        Method::ALL
            .into_iter()
            .map(move |of_target| (of_origin, of_target))
    };
    Method::ALL.into_iter().flat_map(pairs)
}

#[test]
fn every_method_at_the_origin_becomes_every_method_at_the_target() {
    let accounts = with_password("other");
    for (of_origin, of_target) in every_pair() {
        for is_warm in [false, true] {
            for (from, to) in BOTH.into_iter().flat_map(|from| BOTH.map(|to| (from, to))) {
                let mut origin = server(from, Method::Native).with("app", of_origin, "secret");
                let mut target = server(to, Method::CachingSha2).with("app", of_target, "other");
                (origin.is_warm, target.is_warm) = (!is_warm, is_warm);
                let mut client = Client::new("app", "secret", "shop");
                let replay = play(&accounts, &mut client, &mut origin, &mut target);
                assert!(
                    origin.is_in && target.is_in,
                    "{of_origin:?} to {of_target:?}"
                );
                assert_eq!(replay.logged_in().user, b"app");
                assert_eq!(target.response.database, b"shop");
                assert_eq!(target.response.attributes, b"\x05_name\x05value");
                assert_eq!(target.response.character_set, 45);
            }
        }
    }
}

#[test]
fn a_target_that_begins_with_its_users_method_needs_no_switch() {
    for method in [Method::Native, Method::CachingSha2, Method::Sha256] {
        let accounts = with_password("other");
        let mut origin = server(MARIADB, Method::Native).with("app", Method::Native, "secret");
        let mut target = server(MYSQL, method).with("app", method, "other");
        let mut client = Client::new("app", "secret", "");
        let replay = play(&accounts, &mut client, &mut origin, &mut target);
        assert_eq!(replay.logged_in().target_id, 7);
        assert_eq!(target.response.method, method.name().as_bytes());
    }
}

#[test]
fn an_empty_password_logs_in_without_any_configuration() {
    let accounts = Accounts::configure(&Config::new()).expect("no accounts");
    for (of_origin, of_target) in every_pair() {
        // An empty password goes over the wire as a signature where a method signs.
        if matches!(of_origin, Method::Ed25519 | Method::Parsec) {
            continue;
        }
        let mut origin = server(MARIADB, Method::Native).with("app", of_origin, "");
        let mut target = server(MYSQL, Method::CachingSha2).with("app", of_target, "");
        let mut client = Client::new("app", "", "");
        let replay = play(&accounts, &mut client, &mut origin, &mut target);
        if of_target == Method::Clear {
            assert_eq!(replay.step, LoginStep::Refused("auth_clear_password"));
        } else {
            assert!(target.is_in, "{of_origin:?} to {of_target:?}");
        }
    }
}

#[test]
fn a_hash_and_the_captured_login_are_enough() {
    let accounts = with_hash("secret");
    for begins_with in [Method::Native, Method::CachingSha2] {
        for target_begins_with in [Method::Native, Method::CachingSha2] {
            let mut origin = server(MARIADB, begins_with).with("app", Method::Native, "secret");
            let mut target =
                server(MYSQL, target_begins_with).with("app", Method::Native, "secret");
            target.seed = 99;
            let mut client = Client::new("app", "secret", "");
            let replay = play(&accounts, &mut client, &mut origin, &mut target);
            assert!(target.is_in, "{:?}", replay.step);
        }
    }
}

#[test]
fn a_hash_that_is_not_enough_is_refused_by_name() {
    let cases = [
        (
            Method::Native,
            Method::CachingSha2,
            "secret",
            "auth_hash_only",
        ),
        (
            Method::CachingSha2,
            Method::Native,
            "secret",
            "login_hash_mismatch",
        ),
        (
            Method::Native,
            Method::Native,
            "another",
            "login_hash_mismatch",
        ),
    ];
    for (of_origin, of_target, hashed, name) in cases {
        let accounts = with_hash(hashed);
        let mut origin = server(MYSQL, of_origin).with("app", of_origin, "secret");
        let mut target = server(MYSQL, of_target).with("app", of_target, "secret");
        let mut client = Client::new("app", "secret", "");
        let replay = play(&accounts, &mut client, &mut origin, &mut target);
        assert_eq!(replay.step, LoginStep::Refused(name));
        assert_eq!(replay.around.log.len(), 1);
    }
}

#[test]
fn a_refusal_at_the_target_says_what_to_do_and_nothing_of_the_password() {
    let accounts = with_password("hunter2");
    let mut origin = server(MARIADB, Method::Native).with("app", Method::Native, "hunter1");
    let mut target = server(MYSQL, Method::CachingSha2).with("app", Method::CachingSha2, "other");
    let mut client = Client::new("app", "hunter1", "");
    let replay = play(&accounts, &mut client, &mut origin, &mut target);
    assert_eq!(replay.step, LoginStep::Denied { code: 1045 });
    assert!(!replay.login.is_denied_at_origin());
    let log = replay.around.log.join("\n");
    assert!(
        log.contains("`app`") && log.contains("1045") && !log.contains("hunter"),
        "{log}"
    );
}

#[test]
fn no_debug_output_of_a_login_has_a_password_in_it() {
    let accounts = with_password("hunter2");
    let mut origin = server(MARIADB, Method::Clear).with("app", Method::Clear, "hunter1");
    let mut target = server(MYSQL, Method::Clear).with("app", Method::Clear, "hunter2");
    let mut client = Client::new("app", "hunter1", "");
    let captured = capture(&mut client, &mut origin);
    let mut login = Login::new();
    let (around, out) = (&mut Around::default(), &mut Vec::new());
    login.on_client(&accounts, captured[1].1.clone(), around, out);
    login.on_target(&accounts, target.greet(), around, out);
    let shown = format!("{login:?} {out:?} {captured:?}");
    assert_eq!(out.len(), 1);
    let as_numbers = "104, 117, 110, 116, 101, 114";
    assert!(
        !shown.contains("hunter") && !shown.contains(as_numbers),
        "{shown}"
    );
}

#[test]
fn a_login_that_both_refuse_is_not_worth_a_line() {
    let accounts = with_password("wrong");
    let mut origin = server(MARIADB, Method::Native).with("app", Method::Native, "secret");
    let mut target = server(MYSQL, Method::CachingSha2).with("app", Method::CachingSha2, "other");
    let mut client = Client::new("app", "wrong", "");
    let captured = capture(&mut client, &mut origin);
    let mut replay = Replay::new(Login::new(), &accounts, &captured);
    // The captured half first.
    replay.run(&mut target, &mut std::iter::empty());
    replay.target_said.push(target.greet());
    replay.run(&mut target, &mut std::iter::empty());
    assert_eq!(replay.step, LoginStep::Denied { code: 1045 });
    assert!(replay.login.is_denied_at_origin() && replay.around.log.is_empty());
}

#[test]
fn a_database_that_is_not_there_is_named_by_its_number() {
    let accounts = with_password("other");
    let mut origin = server(MARIADB, Method::Native).with("app", Method::Native, "secret");
    let mut target = server(MYSQL, Method::Native).with("app", Method::Native, "other");
    target.databases.clear();
    let mut client = Client::new("app", "secret", "shop");
    let replay = play(&accounts, &mut client, &mut origin, &mut target);
    assert_eq!(replay.step, LoginStep::Denied { code: 1049 });
}

#[test]
fn names_are_changed_on_the_way() {
    let config = Config::new()
        .with("accounts", "app_test other")
        .with("users", Config::new().with("app", "app_test"))
        .with("databases", Config::new().with("shop", "shop_test"));
    let accounts = Accounts::configure(&config).expect("accounts");
    let mut origin = server(MARIADB, Method::Native).with("app", Method::Native, "secret");
    let mut target = server(MYSQL, Method::Native).with("app_test", Method::Native, "other");
    target.databases = vec!["shop_test"];
    let mut client = Client::new("app", "secret", "shop");
    let replay = play(&accounts, &mut client, &mut origin, &mut target);
    assert_eq!(replay.logged_in().user, b"app");
    assert_eq!(replay.logged_in().database, b"shop");
    assert_eq!(target.response.user, b"app_test");
    assert_eq!(target.response.database, b"shop_test");
}

#[test]
fn a_user_without_a_password_in_the_configuration_is_named() {
    let accounts = Accounts::configure(&Config::new()).expect("no accounts");
    let mut origin = server(MARIADB, Method::Native).with("app", Method::Native, "secret");
    let mut target = server(MYSQL, Method::Native).with("app", Method::Native, "other");
    let mut client = Client::new("app", "secret", "");
    let replay = play(&accounts, &mut client, &mut origin, &mut target);
    assert_eq!(replay.step, LoginStep::Refused("login_no_password"));
    assert!(replay.around.log[0].contains("`app`"));
}

#[test]
fn a_client_that_wants_tls_is_refused_and_the_target_hears_nothing() {
    let accounts = with_password("other");
    let mut login = Login::new();
    let mut response = Client::new("app", "secret", "").response;
    response.capabilities = response.capabilities | Capabilities::SSL;
    let mut request = response.write();
    request.truncate(32);
    let mut target = server(MYSQL, Method::Native);
    let (around, out) = (&mut Around::default(), &mut Vec::new());
    let packet = |sequence, payload| Packet { sequence, payload };
    login.on_target(&accounts, target.greet(), around, out);
    let step = login.on_client(&accounts, packet(1, request), around, out);
    assert_eq!(step, LoginStep::Refused("tls"));
    assert!(out.is_empty() && around.log[0].contains("TLS"));
}

#[test]
fn a_target_that_asks_for_what_is_not_spoken_is_refused_by_name() {
    let cases: [(&[u8], &str); 6] = [
        (b"\xfe", "auth_old_password"),
        (b"\xfemysql_old_password\0abcdefgh\0", "auth_old_password"),
        (b"\xfeauth_gssapi_client\0host/x\0", "auth_method_unknown"),
        (b"\xfemysql_clear_password\0", "auth_clear_password"),
        (b"\x02caching_sha2_password\0abc\0", "auth_second_factor"),
        (b"\x01what", "auth_unexpected"),
    ];
    let config = Config::new().with("accounts", "app other");
    let accounts = Accounts::configure(&config).expect("accounts");
    for (said, name) in cases {
        let mut origin = server(MARIADB, Method::Native).with("app", Method::Native, "secret");
        let captured = capture(&mut Client::new("app", "secret", ""), &mut origin);
        let mut login = Login::new();
        let (around, out) = (&mut Around::default(), &mut Vec::new());
        let greeting = server(MARIADB, Method::Native).greet();
        login.on_target(&accounts, greeting, around, out);
        login.on_client(&accounts, captured[1].1.clone(), around, out);
        let packet = Packet {
            sequence: 2,
            payload: said.to_vec(),
        };
        let step = login.on_target(&accounts, packet, around, out);
        assert_eq!(step, LoginStep::Refused(name));
    }
}

#[test]
fn a_target_that_never_ends_is_given_up() {
    let accounts = with_password("other");
    let mut origin = server(MARIADB, Method::Native).with("app", Method::Native, "secret");
    let captured = capture(&mut Client::new("app", "secret", ""), &mut origin);
    let mut login = Login::new();
    let (around, out) = (&mut Around::default(), &mut Vec::new());
    login.on_client(&accounts, captured[1].1.clone(), around, out);
    login.on_target(
        &accounts,
        server(MARIADB, Method::Native).greet(),
        around,
        out,
    );
    let switch = b"\xfemysql_native_password\0abcdefghijklmnopqrst\0".to_vec();
    let mut step = LoginStep::Continue;
    for round in 0..40_u8 {
        let packet = Packet {
            sequence: round,
            payload: switch.clone(),
        };
        step = login.on_target(&accounts, packet, around, out);
        if step != LoginStep::Continue {
            break;
        }
    }
    assert_eq!(step, LoginStep::Refused("auth_unexpected"));
}

#[test]
fn a_connection_joined_late_logs_in_with_the_default_account() {
    let config = Config::new()
        .with("user", "replay")
        .with("password", "p")
        .with("database", "shop");
    let accounts = Accounts::configure(&config).expect("accounts");
    for method in Method::ALL
        .into_iter()
        .filter(|method| *method != Method::Clear)
    {
        let mut target = server(MYSQL, Method::CachingSha2).with("replay", method, "p");
        let mut replay = Replay::new(Login::late(Known::default()), &accounts, &[]);
        replay.target_said.push(target.greet());
        replay.run(&mut target, &mut std::iter::empty());
        assert!(target.is_in, "{:?}", replay.step);
        assert_eq!(target.response.database, b"shop");
        assert_eq!(target.response.character_set, 45);
        assert_eq!(replay.logged_in().client, None);
    }
}

#[test]
fn a_connection_joined_late_keeps_what_is_known_of_it() {
    let accounts = with_password("other");
    let mut target = server(MARIADB, Method::Native).with("app", Method::Ed25519, "other");
    let known = Known {
        user: b"app".to_vec(),
        database: b"shop".to_vec(),
        character_set: 8,
        client: Some(MYSQL),
    };
    let mut replay = Replay::new(Login::late(known), &accounts, &[]);
    replay.target_said.push(target.greet());
    replay.run(&mut target, &mut std::iter::empty());
    assert_eq!(replay.logged_in().client, Some(MYSQL));
    assert_eq!(target.response.user, b"app");
    assert_eq!(target.response.database, b"shop");
    assert_eq!(target.response.character_set, 8);
}

#[test]
fn a_connection_joined_late_needs_an_account() {
    for (accounts, user, name) in [
        (with_password("other"), "", "login_unknown_user"),
        (with_password("other"), "eve", "login_no_password"),
        (with_hash("secret"), "app", "login_hash_without_exchange"),
    ] {
        let known = Known {
            user: user.into(),
            ..Known::default()
        };
        let mut login = Login::late(known);
        let (around, out) = (&mut Around::default(), &mut Vec::new());
        let greeting = server(MYSQL, Method::CachingSha2).greet();
        let step = login.on_target(&accounts, greeting, around, out);
        assert_eq!(step, LoginStep::Refused(name));
        assert!(out.is_empty());
    }
}

/// Changes the user on a connection where `before` holds: what has come of it.
fn change_user<'a>(
    accounts: &'a Accounts,
    before: &LoggedIn,
    client: &mut Client,
    origin: &mut Server,
    target: &mut Server,
) -> Replay<'a> {
    let mut response = client.response.clone();
    response.capabilities = before.client.expect("a captured client");
    response.method = b"caching_sha2_password".to_vec();
    let command = Packet {
        sequence: 0,
        payload: response.write_change_user(),
    };
    let mut captured = vec![(By::Client, command.clone())];
    let mut answer = origin.hear(&command);
    while let Some(packet) = answer.take() {
        captured.push((By::Origin, packet.clone()));
        let next = client.hear(&packet);
        answer = origin.after(&packet);
        if let Some(packet) = next {
            captured.push((By::Client, packet.clone()));
            answer = origin.hear(&packet);
        }
    }
    let mut replay = Replay::new(Login::change_user(before), accounts, &captured);
    replay.run(target, &mut std::iter::empty());
    replay
}

#[test]
fn a_change_of_user_is_a_login_of_its_own() {
    let config = Config::new()
        .with("accounts", "app other\nroot third")
        .with("clear_password", true);
    let accounts = Accounts::configure(&config).expect("accounts");
    for (first, second) in every_pair() {
        let mut origin = server(MARIADB, Method::Native)
            .with("app", Method::Native, "secret")
            .with("root", Method::CachingSha2, "top");
        let mut target = server(MYSQL, Method::CachingSha2)
            .with("app", first, "other")
            .with("root", second, "third");
        let mut client = Client::new("app", "secret", "");
        let before = play(&accounts, &mut client, &mut origin, &mut target)
            .logged_in()
            .clone();
        let mut client = Client::new("root", "top", "shop");
        let replay = change_user(&accounts, &before, &mut client, &mut origin, &mut target);
        assert!(target.is_in, "{first:?} then {second:?}: {:?}", replay.step);
        assert_eq!(replay.logged_in().user, b"root");
        assert_eq!(replay.logged_in().target_id, before.target_id);
        assert_eq!(target.response.database, b"shop");
    }
}

#[test]
fn a_change_of_user_by_hash_uses_its_own_exchange() {
    let accounts = with_hash("secret");
    let mut origin = server(MARIADB, Method::Native).with("app", Method::Native, "secret");
    let mut target = server(MARIADB, Method::Native).with("app", Method::Native, "secret");
    target.seed = 77;
    let mut client = Client::new("app", "secret", "");
    let before = play(&accounts, &mut client, &mut origin, &mut target)
        .logged_in()
        .clone();
    let replay = change_user(&accounts, &before, &mut client, &mut origin, &mut target);
    assert_eq!(replay.logged_in().user, b"app");
    assert!(target.is_in);
}

proptest! {
    #[test]
    fn the_order_in_which_the_three_are_heard_does_not_matter(
        choices in proptest::collection::vec(any::<u8>(), 0..24),
        of_origin in 0..Method::ALL.len(),
        of_target in 0..Method::ALL.len(),
        is_warm: bool,
        by_hash: bool,
    ) {
        let (of_origin, of_target) = (Method::ALL[of_origin], Method::ALL[of_target]);
        let by_hash = by_hash && (of_origin, of_target) == (Method::Native, Method::Native);
        let accounts = if by_hash { with_hash("secret") } else { with_password("secret") };
        let mut origin = server(MARIADB, Method::CachingSha2).with("app", of_origin, "secret");
        let mut target = server(MYSQL, Method::CachingSha2).with("app", of_target, "secret");
        (origin.is_warm, target.is_warm, target.seed) = (is_warm, !is_warm, 50);
        let mut client = Client::new("app", "secret", "shop");
        let replay = play_in_order(&accounts, &mut client, &mut origin, &mut target, &choices);
        prop_assert!(target.is_in, "{:?}", replay.step);
        prop_assert_eq!(&replay.logged_in().database, b"shop");
    }

    #[test]
    fn no_packet_of_anybody_is_a_panic(
        said in proptest::collection::vec((0..3_u8, any::<u8>(), 0..200_usize), 1..12),
        bytes in proptest::collection::vec(any::<u8>(), 200),
        kind in 0..3_u8,
    ) {
        let accounts = with_password("secret");
        let mut origin = server(MARIADB, Method::CachingSha2).with("app", Method::Native, "secret");
        let good = capture(&mut Client::new("app", "secret", "shop"), &mut origin);
        let mut login = match kind {
            0 => Login::new(),
            1 => Login::late(Known::default()),
            _ => Login::change_user(&LoggedIn::default()),
        };
        let (around, out) = (&mut Around::default(), &mut Vec::new());
        for (who, pick, cut) in said {
            let mut payload = match good.get(usize::from(pick) % (good.len() + 2)) {
                Some((_, packet)) => packet.payload.clone(),
                None => bytes.clone(),
            };
            payload.truncate(cut);
            let packet = Packet { sequence: pick, payload };
            match who {
                0 => login.on_client(&accounts, packet, around, out),
                1 => login.on_origin(&accounts, packet, around, out),
                _ => login.on_target(&accounts, packet, around, out),
            };
        }
    }
}
