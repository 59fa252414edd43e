//! What can't be replayed byte by byte: logins, which are bound to a challenge of the server.

use std::net::SocketAddr;

use tcpcopy_lab::{
    Command, Lab, LabError, Mode, Mysql, MysqlClient, MysqlKind, Programs, Setup, wait_until,
};

use super::{CATCH_UP_TIMEOUT, REPORT, indented, show_balance};
use crate::error::{Result, claim};
use crate::plugins;

const PORT: u16 = 3306;

/// How many sessions there are, one after another.
const SESSIONS: u32 = 10;

/// Who logs in, and the passwords, of which only the target's is told to the plugin.
const USER: &str = "app";
const AT_ORIGIN: &str = "of-the-origin";
const AT_TARGET: &str = "of-the-target";

const TABLES: &str = "create database shop; \
    create table shop.orders (id int auto_increment primary key, who varchar(80), amount int)";

/// What a session says.
const STATEMENTS: &str = "begin; insert into orders (who, amount) values (current_user(), 7); \
    update orders set amount = amount + 1 where id = last_insert_id(); commit; \
    prepare ask from 'select count(*) from orders where amount > ?'; \
    set @least = 7; execute ask using @least; deallocate prepare ask";

/// Replays sessions of one database server to another, with other passwords and another method.
pub(super) fn run(programs: &Programs) -> Result<()> {
    println!("\n14. logins, which are never twice the same: the MySQL plugin does them anew");
    let plugin = plugins::build(&["mysql".to_owned()])?.join("mysql.wasm");
    let lab = Lab::new()?;
    let origin = Mysql::start(lab.host("origin"), MysqlKind::MariaDb)?;
    origin.sql(TABLES)?;
    origin.create_user(USER, "mysql_native_password", AT_ORIGIN)?;
    let target = target(&lab)?;
    target.sql(TABLES)?;

    let configuration = format!("[mysql]\naccounts = \"{USER} {AT_TARGET}\"\n");
    let setup = Setup {
        port: PORT,
        ..Setup::new(Mode::Socket)
    };
    let setup = setup.with(plugins::plugged(&lab, &plugin, &configuration)?);
    println!("15. on the origin: tcpcopy {}", setup.tcpcopy.join(" "));
    print!("{}", indented(&configuration));
    let tcpcopy = programs.start_tcpcopy(&lab, lab.host("origin"), &setup, REPORT)?;
    println!("16. on the client: {SESSIONS} sessions of the program `mariadb`, who each say");
    print!("{}", indented(&STATEMENTS.replace("; ", ";\n")));
    for _ in 0..SESSIONS {
        client(&lab, origin.ipv4())?
            .args(["-e", STATEMENTS])
            .run()?;
    }
    let caught_up = wait_until(
        "the same rows at both",
        CATCH_UP_TIMEOUT,
        || matches!((rows(&origin), rows(&target)), (Ok(here), Ok(there)) if here == there),
    );
    show_balance(&Programs::finish_tcpcopy(&lab, tcpcopy, REPORT)?)?;
    for (name, server) in [("origin", &origin), ("target", &target)] {
        println!(
            "\n   {name}, {}: rows, sum, checksum, failed logins",
            server.sql("select version()")?.trim()
        );
        let refused = server.counters("Aborted_connects")?["Aborted_connects"];
        println!("   {} {refused}", rows(server)?.replace(['\t', '\n'], " "));
        claim(refused == 0, || {
            format!("{refused} logins failed at the {name}")
        })?;
    }
    caught_up?;
    println!("\nevery session logged in at the target, with another password and method");
    Ok(())
}

/// MySQL 9, or where this machine can't have it, MariaDB with another method.
fn target(lab: &Lab) -> Result<Mysql, LabError> {
    let host = lab.host("target");
    match Mysql::start(host, MysqlKind::Mysql9) {
        Ok(server) => {
            println!("    MariaDB is the origin (mysql_native_password), MySQL 9 the target");
            println!("    (caching_sha2_password, with the server's RSA key), passwords differ");
            server.create_user(USER, "caching_sha2_password", AT_TARGET)?;
            Ok(server)
        }
        Err(LabError::Missing { programs, .. }) => {
            println!("    MySQL 9 can't be had here ({programs}): MariaDB stands in for it, with");
            println!("    mysql_native_password at the origin and ed25519 at the target");
            let server = Mysql::start(host, MysqlKind::MariaDb)?;
            server.create_user(USER, "ed25519", AT_TARGET)?;
            Ok(server)
        }
        Err(error) => Err(error),
    }
}

fn client(lab: &Lab, server: SocketAddr) -> Result<Command, LabError> {
    let client = MysqlClient::of(MysqlKind::MariaDb);
    let client = client.connect(lab.host("client"), server, USER, AT_ORIGIN)?;
    Ok(client.args(["-D", "shop"]))
}

fn rows(server: &Mysql) -> Result<String, LabError> {
    let sums = server.sql("select count(*), sum(amount) from shop.orders")?;
    Ok(sums + &server.checksums("shop")?)
}
