use super::*;

fn accounts(config: Config) -> Accounts {
    Accounts::configure(&config).expect("a good configuration")
}

fn problem(config: Config) -> String {
    Accounts::configure(&config).expect_err("a bad configuration")
}

fn password_of(accounts: &Accounts, user: &str, target: &str) -> Option<(String, String)> {
    let target = target.parse().expect("an address");
    let account = accounts.account(user.as_bytes(), Some(target))?;
    let Proof::Password(password) = account.proof else {
        panic!("a hash");
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    Some((text(&account.user), text(password.reveal())))
}

fn pair(user: &str, password: &str) -> Option<(String, String)> {
    Some((user.to_owned(), password.to_owned()))
}

const TARGET: &str = "203.0.113.1:3306";

#[test]
fn a_password_is_found_by_user_and_target() {
    let text = "# of the test servers\n\
                app secret of app\n\
                app@203.0.113.1 narrower\n\
                app@203.0.113.1:3307\tnarrowest\n\
                mail@example.com  with blanks \n\
                nobody\n";
    let accounts = accounts(Config::new().with("accounts", text));
    let of = |user, target| password_of(&accounts, user, target);
    assert_eq!(of("app", "192.0.2.9:3306"), pair("app", "secret of app"));
    assert_eq!(of("app", TARGET), pair("app", "narrower"));
    assert_eq!(of("app", "203.0.113.1:3307"), pair("app", "narrowest"));
    assert_eq!(
        of("mail@example.com", TARGET),
        pair("mail@example.com", "with blanks")
    );
    assert_eq!(of("nobody", TARGET), pair("nobody", ""));
    assert_eq!(of("stranger", TARGET), None);
    assert_eq!(of("", TARGET), None);
}

#[test]
fn an_entry_for_an_ipv6_target() {
    let text = "app@2001:db8::1 host\napp@[2001:db8::1]:3307 server\n";
    let accounts = accounts(Config::new().with("accounts", text));
    let of = |target| password_of(&accounts, "app", target);
    assert_eq!(of("[2001:db8::1]:3306"), pair("app", "host"));
    assert_eq!(of("[2001:db8::1]:3307"), pair("app", "server"));
    assert_eq!(of("[2001:db8::2]:3306"), None);
}

#[test]
fn who_has_no_entry_takes_the_default_account() {
    let config = Config::new().with("user", "replay").with("password", "p");
    let one = accounts(config.with("accounts", "app own"));
    assert_eq!(password_of(&one, "stranger", TARGET), pair("replay", "p"));
    assert_eq!(password_of(&one, "", TARGET), pair("replay", "p"));
    assert_eq!(password_of(&one, "app", TARGET), pair("app", "own"));

    let everybody = accounts(Config::new().with("password", "p"));
    assert_eq!(
        password_of(&everybody, "stranger", TARGET),
        pair("stranger", "p")
    );
    assert_eq!(password_of(&everybody, "", TARGET), None);
}

#[test]
fn users_and_databases_have_other_names_at_the_target() {
    let config = Config::new()
        .with("accounts", "app_test secret")
        .with("users", Config::new().with("app", "app_test"))
        .with("databases", Config::new().with("shop", "shop_test"));
    let accounts = accounts(config);
    assert_eq!(
        password_of(&accounts, "app", TARGET),
        pair("app_test", "secret")
    );
    assert_eq!(accounts.user(b"app"), b"app_test");
    assert_eq!(accounts.database(b"shop"), b"shop_test");
    assert_eq!(accounts.database(b"other"), b"other");
}

#[test]
fn hashes_are_for_the_origins_names() {
    let hash = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";
    let text = format!("app {hash}\napp *81F5E21E35407D884A6CD4A731AEBFB6AF209E1B\n");
    let config = Config::new()
        .with("hashes", text.as_str())
        .with("users", Config::new().with("app", "app_test"));
    let account = accounts(config).account(b"app", None).expect("an account");
    assert_eq!(account.user, b"app_test");
    assert!(matches!(&account.proof, Proof::Hashes(hashes) if hashes.len() == 2));
    assert_eq!(
        problem(Config::new().with("hashes", "app secret")),
        "hashes: what follows `app` must be * and 40 hexadecimal digits, as mysql.user shows it"
    );
}

#[test]
fn the_older_modules_file_is_read() {
    let text = "# passwords\nuser root@123456,app@p@ss,  other@x;\nlog_level info;\n";
    let accounts = accounts(Config::new().with("plugin_conf", text));
    assert_eq!(
        password_of(&accounts, "root", TARGET),
        pair("root", "123456")
    );
    assert_eq!(password_of(&accounts, "app", TARGET), pair("app", "p@ss"));
    assert_eq!(password_of(&accounts, "other", TARGET), pair("other", "x"));
    for text in ["user root;", "# nothing", "password root@123456;"] {
        let problem = problem(Config::new().with("plugin_conf", text));
        assert!(problem.starts_with("plugin_conf: "), "{problem}");
        assert!(!problem.contains("123456"), "{problem}");
    }
}

#[test]
fn half_a_default_account_is_none() {
    assert_eq!(
        problem(Config::new().with("user", "replay")),
        "user: needs `password` beside it, which may be empty"
    );
    assert_eq!(
        problem(Config::new().with("user", "").with("password", "p")),
        "user: must not be empty"
    );
}

#[test]
fn debug_output_has_no_password_in_it() {
    let config = Config::new()
        .with("password", "hunter1")
        .with("accounts", "app hunter2")
        .with("plugin_conf", "user root@hunter3;");
    let shown = format!("{:?}", accounts(config));
    assert!(!shown.contains("hunter"), "{shown}");
}
