//! Commands that are written anew for the target.

use crate::accounts::Account;
use crate::command::Command;
use crate::kind::Wait;
use crate::settings::Settings;

/// Appends a command as an array of bulk strings.
pub(crate) fn write<'a>(out: &mut Vec<u8>, arguments: impl Iterator<Item = &'a [u8]> + Clone) {
    let length = |sign: u8, number: usize, out: &mut Vec<u8>| {
        out.push(sign);
        out.extend_from_slice(number.to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    };
    length(b'*', arguments.clone().count(), out);
    for argument in arguments {
        length(b'$', argument.len(), out);
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// The same of a few words.
pub(crate) fn write_words(out: &mut Vec<u8>, words: &[&[u8]]) {
    write(out, words.iter().copied());
}

/// `AUTH` for an account.
pub(crate) fn auth(out: &mut Vec<u8>, account: &Account) {
    match &account.user {
        Some(user) => write_words(out, &[b"AUTH", user, &account.password]),
        None => write_words(out, &[b"AUTH", &account.password]),
    }
}

/// `SELECT` of a database of the target.
pub(crate) fn select(out: &mut Vec<u8>, database: u64) {
    write_words(out, &[b"SELECT", database.to_string().as_bytes()]);
}

/// Where `HELLO` has its `AUTH` clause, which is three words long.
pub(crate) fn auth_clause(command: &Command<'_>) -> Option<usize> {
    // HELLO version [AUTH user password] [SETNAME name], in any order.
    let mut at = 2;
    while command.arg(at).is_some() {
        if command.is(at, "auth") {
            return command.arg(at + 2).map(|_| at);
        }
        at += if command.is(at, "setname") { 2 } else { 1 };
    }
    None
}

/// `HELLO` with the clause at `clause` for another account, or without it.
pub(crate) fn hello(command: &Command<'_>, clause: usize, account: Option<&Account>) -> Vec<u8> {
    let mut words: Vec<&[u8]> = command.args().take(clause).collect();
    if let Some(Account { user, password }) = account {
        let user = user.as_deref().unwrap_or(crate::accounts::DEFAULT_USER);
        words.extend([&b"AUTH"[..], user, password]);
    }
    words.extend(command.args().skip(clause + 3));
    let mut out = Vec::new();
    write_words(&mut out, &words);
    out
}

/// The command with one argument replaced.
fn with(command: &Command<'_>, at: usize, argument: &[u8]) -> Vec<u8> {
    let argument = |(number, old)| if number == at { argument } else { old };
    let mut out = Vec::with_capacity(command.raw.len() + 16);
    let arguments: Vec<&[u8]> = command.args().enumerate().map(argument).collect();
    write_words(&mut out, &arguments);
    out
}

/// `MOVE`, `SWAPDB` or `COPY` with the target's numbers of databases; `None` where they are the
/// same.
pub(crate) fn databases(command: &Command<'_>, settings: &Settings) -> Option<Vec<u8>> {
    let places = match command.arg(0)? {
        name if name.eq_ignore_ascii_case(b"move") => vec![2],
        name if name.eq_ignore_ascii_case(b"swapdb") => vec![1, 2],
        // COPY source destination [DB number] [REPLACE]
        _ => (3..command.args().count())
            .filter(|at| command.is(*at, "db"))
            .map(|at| at + 1)
            .collect(),
    };
    let mut numbers = places.iter().map(|at| command.number(*at));
    if !numbers.any(|number| number.is_some_and(|it| settings.database(it) != it)) {
        return None;
    }
    let argument = |(at, old): (usize, &[u8])| {
        let number = command.number(at).filter(|_| places.contains(&at));
        number.map_or(old.to_vec(), |number| {
            settings.database(number).to_string().into_bytes()
        })
    };
    let words: Vec<Vec<u8>> = command.args().enumerate().map(argument).collect();
    let mut out = Vec::new();
    write(&mut out, words.iter().map(Vec::as_slice));
    Some(out)
}

/// A blocking command that waits no longer than the limit; `None` where it does not anyway.
pub(crate) fn blocking(command: &Command<'_>, wait: Wait, limit_ms: u64) -> Option<Vec<u8>> {
    let last = command.args().count().checked_sub(1)?;
    let (at, is_millis) = match wait {
        Wait::LastSeconds => (last, false),
        Wait::FirstSeconds => (1, false),
        Wait::LastMillis => (last, true),
        Wait::Block => {
            let before_streams = |at: &usize| !command.is(*at, "streams");
            let block = (1..last).take_while(before_streams);
            (
                block.into_iter().find(|at| command.is(*at, "block"))? + 1,
                true,
            )
        }
    };
    let time: f64 = std::str::from_utf8(command.arg(at)?).ok()?.parse().ok()?;
    let limit = std::time::Duration::from_millis(limit_ms);
    let (is_longer, written) = match is_millis {
        true => (time > limit.as_secs_f64() * 1e3, limit_ms.to_string()),
        false => (time > limit.as_secs_f64(), limit.as_secs_f64().to_string()),
    };
    // 0 is for ever.
    (time == 0.0 || is_longer).then(|| with(command, at, written.as_bytes()))
}
