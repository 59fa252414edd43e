//! What we answer to the target's greeting, made of what the captured client answered to the
//! origin's.

use crate::capability::Capabilities;

use super::greeting::Greeting;
use super::response::Response;

/// The collation `utf8mb4_general_ci`, which both kinds of servers know.
pub(super) const UTF8MB4: u16 = 45;

/// `CLIENT_LONG_FLAG`.
const LONG_FLAG: Capabilities = Capabilities(1 << 2);

/// Of a client that nothing is known of: what every client of the last twenty years can do.
pub(super) const USUAL: Capabilities = Capabilities(
    LONG_FLAG.0
        | Capabilities::PROTOCOL_41.0
        | Capabilities::TRANSACTIONS.0
        | Capabilities::MULTI_STATEMENTS.0
        | Capabilities::MULTI_RESULTS.0
        | Capabilities::PS_MULTI_RESULTS.0
        | Capabilities::LOCAL_FILES.0,
);

/// Flags that a server heeds without ever having offered them: the lower 16 but for what shapes
/// packets.
const WISHES: Capabilities = Capabilities(
    0xffff
        & !(Capabilities::CONNECT_WITH_DB.0
            | Capabilities::COMPRESS.0
            | Capabilities::PROTOCOL_41.0
            | Capabilities::SSL.0),
);

/// What is never asked of the target: what would wrap its packets, and proofs that nobody can give.
const NEVER: Capabilities = Capabilities(
    Capabilities::SSL.0
        | Capabilities::COMPRESS.0
        | Capabilities::ZSTD.0
        | Capabilities::MULTI_FACTOR.0
        | (1 << 30)
        | (1 << 31),
);

/// What our own dialogue needs, whatever the client could do.
pub(super) const OURS: Capabilities = Capabilities(
    Capabilities::SECURE_CONNECTION.0
        | Capabilities::PLUGIN_AUTH.0
        | Capabilities::PLUGIN_AUTH_LENENC_DATA.0,
);

/// What client and origin have agreed upon. Without the origin's greeting: what the client said.
pub(super) fn agreed(client: Capabilities, origin: Option<&Greeting>) -> Capabilities {
    match origin {
        Some(origin) => client & (origin.capabilities | WISHES),
        None => client,
    }
}

/// The response to the target's greeting, still without user and proof.
///
/// `client` is the captured response; its capabilities are those [agreed](agreed) upon.
pub(super) fn response(client: &Response, database: &[u8], target: &Greeting) -> Response {
    let offered = target.capabilities;
    let wanted = client.capabilities & !NEVER & !OURS & !Capabilities::CONNECT_WITH_DB;
    let mut capabilities = wanted & offered | (OURS & offered) | Capabilities::PROTOCOL_41;
    // Where the flag is off, MariaDB looks for its own flags behind the filler.
    if offered.has(Capabilities::LONG_PASSWORD) {
        capabilities = capabilities | Capabilities::LONG_PASSWORD;
        capabilities = capabilities & Capabilities(u64::from(u32::MAX));
    } else {
        capabilities = capabilities & !Capabilities::LONG_PASSWORD;
    }
    if !database.is_empty() {
        capabilities = capabilities | Capabilities::CONNECT_WITH_DB;
    }
    Response {
        capabilities,
        max_packet_bytes: client.max_packet_bytes,
        character_set: collation(client.character_set, target.is_mariadb),
        database: database.to_vec(),
        attributes: client.attributes.clone(),
        ..Response::default()
    }
}

/// The collation nearest to one that the target may not know. A server takes one that it doesn't
/// know for its own default, and then the client's text for text of another character set.
pub(super) fn collation(of_client: u16, target_is_mariadb: bool) -> u16 {
    /// `utf8mb3_general_ci`.
    const UTF8MB3: u16 = 33;
    match (knows(target_is_mariadb, of_client), of_client) {
        (true, known) => known,
        (false, 2048..=2303) => UTF8MB3,
        (false, _) => UTF8MB4,
    }
}

/// The collation that the origin has begun the session with.
pub(super) fn collation_at_origin(of_client: u16, origin: &Greeting) -> u16 {
    match u16::from(origin.collation) {
        0 => of_client,
        _ if knows(origin.is_mariadb, of_client) => of_client,
        own => own,
    }
}

/// Whether a server of this kind may know a collation.
fn knows(is_mariadb: bool, collation: u16) -> bool {
    match collation {
        // MySQL's utf8mb4_*_0900_*.
        255..=323 => !is_mariadb,
        // MariaDB's utf8mb3_uca1400_* and utf8mb4_uca1400_*.
        2048..=2559 => is_mariadb,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(bits: u64) -> Greeting {
        Greeting {
            capabilities: Capabilities(bits),
            is_mariadb: bits & 1 == 0,
            ..Greeting::default()
        }
    }

    const MYSQL: u64 = 0xdfff_ffff;
    const MARIADB: u64 = 0x1d_81ff_f7fe;

    fn client(bits: u64) -> Response {
        Response {
            capabilities: Capabilities(bits),
            ..Response::default()
        }
    }

    #[test]
    fn only_what_all_three_can_is_asked_for() {
        let agreed = agreed(Capabilities(MYSQL), Some(&greeting(MARIADB)));
        assert!(!agreed.has(Capabilities::QUERY_ATTRIBUTES));
        assert!(agreed.has(Capabilities::DEPRECATE_EOF));
        let ours = response(&client(agreed.0), b"", &greeting(MYSQL)).capabilities;
        assert!(!ours.has(Capabilities::QUERY_ATTRIBUTES));
        assert!(ours.has(Capabilities::DEPRECATE_EOF | Capabilities(0b10)));
        assert!(ours.has(Capabilities::LONG_PASSWORD | OURS));
    }

    #[test]
    fn nothing_that_wraps_packets_is_asked_for() {
        for target in [MYSQL, MARIADB | NEVER.0] {
            let ours = response(&client(u64::MAX), b"", &greeting(target)).capabilities;
            assert_eq!(ours & NEVER, Capabilities::default());
        }
    }

    #[test]
    fn mariadbs_own_flags_go_to_mariadb_only() {
        /// `MARIADB_CLIENT_CACHE_METADATA`.
        const CACHE_METADATA: Capabilities = Capabilities(1 << 36);
        let flags = Capabilities::MARIADB_BULK | CACHE_METADATA;
        let mariadb_client = client(MARIADB);
        let ours = response(&mariadb_client, b"", &greeting(MARIADB)).capabilities;
        assert!(ours.has(flags) && !ours.has(Capabilities::LONG_PASSWORD));
        let ours = response(&mariadb_client, b"", &greeting(MYSQL)).capabilities;
        assert_eq!(ours.0 >> 32, 0);
        assert!(ours.has(Capabilities::LONG_PASSWORD));
        let ours = response(&client(MYSQL), b"", &greeting(MARIADB)).capabilities;
        assert_eq!(ours.0 >> 32, 0);
    }

    #[test]
    fn the_flag_of_a_database_follows_the_database() {
        let flag = Capabilities::CONNECT_WITH_DB;
        let without = response(&client(MYSQL), b"", &greeting(MYSQL));
        assert!(!without.capabilities.has(flag));
        let with = response(&client(MYSQL & !flag.0), b"shop", &greeting(MYSQL));
        assert!(with.capabilities.has(flag));
        assert_eq!(with.database, b"shop");
    }

    #[test]
    fn an_old_client_gets_a_login_that_a_new_target_takes() {
        let old = Capabilities::PROTOCOL_41 | LONG_FLAG;
        let ours = response(&client(old.0), b"", &greeting(MYSQL)).capabilities;
        assert_eq!(ours, old | OURS | Capabilities::LONG_PASSWORD);
    }

    #[test]
    fn a_collation_that_the_target_does_not_know_becomes_the_nearest() {
        assert_eq!(collation(255, true), 45);
        assert_eq!(collation(255, false), 255);
        assert_eq!(collation(2304, false), 45);
        assert_eq!(collation(2304, true), 2304);
        assert_eq!(collation(8, true), 8);
    }

    #[test]
    fn a_collation_that_the_origin_does_not_know_is_its_own() {
        let origin = |is_mariadb, collation| Greeting {
            is_mariadb,
            collation,
            ..Greeting::default()
        };
        assert_eq!(collation_at_origin(255, &origin(true, 8)), 8);
        assert_eq!(collation_at_origin(255, &origin(true, 0)), 255);
        assert_eq!(collation_at_origin(255, &origin(false, 8)), 255);
        assert_eq!(collation_at_origin(2304, &origin(false, 255)), 255);
        assert_eq!(collation_at_origin(33, &origin(true, 8)), 33);
    }
}
