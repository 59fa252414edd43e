//! Accounts as texts: what is in the files that `accounts`, `hashes` and `plugin_conf` name.

use zeroize::Zeroizing;

use crate::auth::native::StoredHash;
use crate::secret::Secret;

/// The pairs of lines such as `USER PASSWORD`. The password is everything behind the first blanks,
/// without those at the line's end; without any, it is empty.
pub(super) fn accounts(text: &str) -> impl Iterator<Item = (&str, Secret)> {
    lines(text).map(|(user, password)| (user, Secret::from(password)))
}

/// The pairs of lines such as `USER *2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19`.
///
/// # Errors
/// A sentence about the line that has no hash.
pub(super) fn hashes(text: &str) -> Result<Vec<(Vec<u8>, StoredHash)>, String> {
    let pair = |(user, hash): (&str, &str)| match StoredHash::parse(hash) {
        Some(hash) => Ok((user.into(), hash)),
        None => Err(format!(
            "what follows `{user}` must be * and 40 hexadecimal digits, as mysql.user shows it"
        )),
    };
    lines(text).map(pair).collect()
}

/// The pairs of the older module's `user a@p1,b@p2;`. Other directives are passed over.
///
/// # Errors
/// A sentence about what is wrong.
pub(super) fn plugin_conf(text: &str) -> Result<Vec<(Vec<u8>, Secret)>, String> {
    let is_comment = |line: &&str| line.trim_start().starts_with('#');
    let bare: Vec<&str> = text.lines().filter(|line| !is_comment(line)).collect();
    let bare = Zeroizing::new(bare.join("\n"));
    let mut pairs = Vec::new();
    for directive in bare.split(';') {
        let Some(("user", value)) = directive.trim().split_once(char::is_whitespace) else {
            continue;
        };
        for pair in value.trim().trim_matches(['"', '\'']).split(',') {
            // The first `@`, as the older module has it: a password may contain others.
            let split = pair.trim().split_once('@');
            let (user, password) = split.ok_or("each entry of `user` must be NAME@PASSWORD")?;
            pairs.push((user.into(), Secret::from(password)));
        }
    }
    match pairs.is_empty() && !text.is_empty() {
        true => Err("there must be a line such as: user NAME@PASSWORD;".to_owned()),
        false => Ok(pairs),
    }
}

/// The lines that are neither empty nor comments, cut behind their first word.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let (user, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        (user, rest.trim_start())
    })
}
