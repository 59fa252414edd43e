//! Gives HTTP requests a header, and does it wrong on purpose: it takes each read for one request.
//!
//! That holds as long as clients wait for each answer and never pipeline, so it looks right at
//! first. The end-to-end tests use it to show that their checks can fail. How it is done right is in
//! the `http` plugin.

#![forbid(unsafe_code)]

use plugin_api::{Config, Context, Manifest, Plugin, Session, SessionInfo, export_plugin};

/// The header that requests get, and its value.
pub const MARK: &str = "X-Lab-Mark: e2e 4711\r\n";

/// How requests begin.
const METHODS: [&[u8]; 3] = [b"GET ", b"POST ", b"PUT "];

/// The plugin.
#[derive(Debug)]
pub struct Careless;

/// One connection.
#[derive(Debug)]
pub struct Reads;

impl Plugin for Careless {
    type Session = Reads;

    fn manifest() -> Manifest {
        let version = env!("CARGO_PKG_VERSION");
        let about = "marks HTTP requests and forgets pipelined ones, for tests";
        Manifest::new("careless", version, about)
    }

    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn open(&mut self, _info: &SessionInfo, _ctx: &mut Context<'_>) -> Reads {
        Reads
    }
}

impl Session<Careless> for Reads {
    fn on_client(&mut self, _plugin: &mut Careless, bytes: &[u8], ctx: &mut Context<'_>) {
        let is_request = METHODS.iter().any(|method| bytes.starts_with(method));
        let line = bytes.iter().position(|byte| *byte == b'\n');
        let (line, rest) = match line {
            Some(end) if is_request => bytes.split_at(end + 1),
            _ => return ctx.send(bytes),
        };
        ctx.send(line);
        ctx.send(MARK.as_bytes());
        ctx.send(rest);
    }
}

export_plugin!(Careless);

#[cfg(test)]
mod tests {
    use plugin_api::testkit::{self, Transcript};

    use super::*;

    #[test]
    fn the_first_of_two_requests_is_marked() -> Result<(), Box<dyn std::error::Error>> {
        let two: Transcript = r"C: GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n".parse()?;
        let played = testkit::run::<Careless>(&Config::new(), &two)?;
        let expected = format!("GET /1 HTTP/1.1\r\n{MARK}\r\nGET /2 HTTP/1.1\r\n\r\n");
        assert_eq!(played.sent(), expected.as_bytes());
        Ok(())
    }
}
