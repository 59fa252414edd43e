//! The client's stream: from bytes to messages, and what is noted of each.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::dialogue::Dialogue;
use super::late::{Framing, Joining};
use super::queue::{Data, Item, Noted, Rest};
use super::{Connection, Turn};
use crate::answer::Answer;
use crate::capability::Capabilities;
use crate::command::Kind;
use crate::compression::Unpacker;
use crate::frame::{HEADER, Piece, Splitter};
use crate::login::Packet;
use crate::parameters::text_after_attributes;
use crate::sql::{Meaning, digest};
use crate::statements::{Side, Statement};

/// A message up to this size is gathered; of a longer one its beginning is, and the rest goes by as
/// it comes.
const WHOLE_BYTES: u32 = 256 * 1024;

/// How much of a longer one.
const HEAD_BYTES: usize = 64 * 1024;

/// A login's packets are shorter than this.
const LOGIN_BYTES: usize = 1 << 20;

/// The client's stream.
#[derive(Debug, Default)]
pub(super) struct Client {
    phase: Phase,
    unpacker: Option<Unpacker>,
    splitter: Splitter,
    assembly: Assembly,
    /// Whether queries have attributes; `None` where the login was not seen.
    pub(super) has_attributes: Option<bool>,
    /// Whether what follows the login is compressed.
    is_packed: bool,
    /// That of the newest command.
    pub(super) dialogue: Option<Dialogue>,
    /// The message that is coming in belongs to it; whether there is nothing in it.
    continuation: Option<bool>,
    /// The message that is coming in is left out.
    passes_over: bool,
    /// How many holes there were so far.
    pub(super) gaps: u32,
}

#[derive(Debug)]
enum Phase {
    /// Its packets are numbered from 1; the first command has number 0 again.
    Login(Zeroizing<Vec<u8>>),
    /// Behind a hole or a late beginning: the next message may begin anywhere.
    Search,
    Commands,
}

impl Default for Phase {
    fn default() -> Self {
        Self::Login(Zeroizing::default())
    }
}

/// The message that is coming in.
#[derive(Debug, Default)]
enum Assembly {
    #[default]
    Between,
    /// The first packet's sequence number and length, and the payload so far.
    Gathering(u8, u32, Vec<u8>),
    /// Its beginning has been handed on.
    Passing,
}

impl Client {
    /// Searches for the next message of a client that has agreed upon this with the origin.
    pub(super) fn search(&mut self, known: Option<Capabilities>) {
        if let Some(known) = known {
            self.agree(known);
        }
        (self.unpacker, self.splitter) = (None, Splitter::default());
        self.assembly = Assembly::Between;
        self.phase = Phase::Search;
    }

    /// Takes notice of what client and origin have agreed upon.
    fn agree(&mut self, capabilities: Capabilities) {
        self.has_attributes = Some(capabilities.has(Capabilities::QUERY_ATTRIBUTES));
        self.is_packed = is_packed(capabilities);
    }

    /// Whether the beginning of a message has been handed on whose end has not come.
    fn is_passing(&self) -> bool {
        matches!(self.assembly, Assembly::Passing) && !self.passes_over
    }

    /// Whether the client is sending a file.
    pub(super) fn is_within_file(&self) -> bool {
        self.dialogue.is_some_and(|it| it.is_within_file())
    }

    /// A message has come to its end, in a packet with this number.
    fn message_ended(&mut self, last: u8) {
        self.assembly = Assembly::Between;
        if let (Some(dialogue), Some(is_empty)) = (&mut self.dialogue, self.continuation) {
            dialogue.message_ended(last, is_empty);
        }
    }
}

/// Whether a record of TLS begins here (RFC 8446, section 5.1): its type, its version.
fn is_encrypted(bytes: &[u8]) -> bool {
    matches!(bytes, [0x14..=0x17, 0x03, 0x00..=0x04, ..])
}

/// Adds bytes of a login. Where there is no room a larger vector takes the place of the one before,
/// which is wiped: there may be a password in it.
fn gather(gathered: &mut Zeroizing<Vec<u8>>, bytes: &[u8]) {
    let length = gathered.len() + bytes.len();
    if gathered.capacity() < length {
        let mut larger = Zeroizing::new(Vec::with_capacity(2 * length));
        larger.extend_from_slice(gathered);
        *gathered = larger;
    }
    gathered.extend_from_slice(bytes);
}

/// Whether the streams behind a login are compressed.
pub(super) fn is_packed(capabilities: Capabilities) -> bool {
    capabilities.has(Capabilities::COMPRESS) || capabilities.has(Capabilities::ZSTD)
}

impl Connection {
    pub(super) fn client_bytes(&mut self, bytes: &[u8], turn: &mut Turn<'_, '_>) {
        let rest = match &mut self.client.phase {
            Phase::Login(gathered) => {
                gather(gathered, bytes);
                self.login_packets(turn)
            }
            Phase::Search => self.search(bytes, turn).then(|| bytes.to_vec()),
            Phase::Commands => return self.stream(bytes, turn),
        };
        if let Some(rest) = rest.filter(|_| !self.is_over) {
            self.client.phase = Phase::Commands;
            self.client.unpacker = self.client.is_packed.then(Unpacker::default);
            self.stream(&rest, turn);
        }
    }

    /// Hands on the packets of the login. The answer is what comes behind it.
    fn login_packets(&mut self, turn: &mut Turn<'_, '_>) -> Option<Vec<u8>> {
        let Phase::Login(gathered) = &mut self.client.phase else {
            return None;
        };
        let mut gathered = std::mem::take(gathered);
        while let Some(&[a, b, c, sequence]) = gathered.first_chunk::<HEADER>() {
            if sequence == 0 {
                if let Some(capabilities) = self.login.client_capabilities() {
                    self.client.agree(capabilities);
                    if !self.login.has_seen_origin() {
                        // Clients say that their queries may have attributes, whatever the origin.
                        self.client.has_attributes = None;
                    }
                }
                return Some(std::mem::take(&mut *gathered));
            }
            let length = u32::from_le_bytes([a, b, c, 0]) as usize;
            if length > LOGIN_BYTES {
                self.refuse("login_not_mysql", turn);
                return None;
            }
            if gathered.len() < HEADER + length {
                break;
            }
            let payload = gathered[HEADER..][..length].to_vec();
            gathered = Zeroizing::new(gathered.split_off(HEADER + length));
            self.login_packet(Packet { sequence, payload }, turn);
            if self.is_over {
                return None;
            }
        }
        self.client.phase = Phase::Login(gathered);
        None
    }

    fn login_packet(&mut self, packet: Packet, turn: &mut Turn<'_, '_>) {
        let mut out = Vec::new();
        let step = self
            .login
            .on_client(&turn.plugin.accounts, packet, turn.ctx, &mut out);
        self.say(&out, turn);
        self.login_step(step, turn);
    }

    /// Whether a message begins with these bytes, as far as they tell.
    fn search(&mut self, bytes: &[u8], turn: &mut Turn<'_, '_>) -> bool {
        if is_encrypted(bytes) {
            self.refuse("tls", turn);
            return false;
        }
        let known = self.client.has_attributes.map(|_| self.client.is_packed);
        match Framing::of(bytes, known) {
            Some(framing) => {
                self.client.is_packed = framing == Framing::Packed;
                self.origin.is_packed = framing == Framing::Packed;
                true
            }
            None => {
                turn.ctx.count("bytes_between_messages", bytes.len() as u64);
                false
            }
        }
    }

    /// Bytes of commands, perhaps compressed.
    fn stream(&mut self, bytes: &[u8], turn: &mut Turn<'_, '_>) {
        let Some(mut unpacker) = self.client.unpacker.take() else {
            return self.split(bytes, turn);
        };
        let (mut input, mut plain) = (bytes, Vec::new());
        loop {
            match unpacker.next(&mut input, &mut plain) {
                Ok(true) => self.split(&plain, turn),
                Ok(false) => break,
                Err(_) => return self.refuse("compression_corrupt", turn),
            }
            if self.is_over {
                return;
            }
        }
        self.client.unpacker = Some(unpacker);
    }

    fn split(&mut self, mut input: &[u8], turn: &mut Turn<'_, '_>) {
        while !self.is_over
            && let Some(piece) = self.client.splitter.next(&mut input)
        {
            self.client_piece(&piece, turn);
        }
    }

    fn client_piece(&mut self, piece: &Piece<'_>, turn: &mut Turn<'_, '_>) {
        if piece.starts_message() {
            self.client.assembly = Assembly::Gathering(piece.sequence, piece.length, Vec::new());
        }
        match &mut self.client.assembly {
            Assembly::Between => {}
            Assembly::Gathering(sequence, length, payload) => {
                let (sequence, length) = (*sequence, *length);
                let room = match length <= WHOLE_BYTES {
                    true => piece.bytes.len(),
                    false => (HEAD_BYTES - payload.len()).min(piece.bytes.len()),
                };
                let (head, tail) = piece.bytes.split_at(room);
                payload.extend_from_slice(head);
                let is_whole = piece.ends_message() && tail.is_empty();
                if is_whole || payload.len() == HEAD_BYTES && length > WHOLE_BYTES {
                    let payload = std::mem::take(payload);
                    self.client.assembly = Assembly::Passing;
                    self.message(sequence, length, payload, is_whole, turn);
                    if !tail.is_empty() {
                        self.rest(None, tail, turn);
                    }
                }
            }
            Assembly::Passing => self.rest(piece.starts.then_some(piece.length), piece.bytes, turn),
        }
        if piece.ends_message() {
            self.client.message_ended(piece.sequence);
        }
    }

    fn rest(&mut self, header: Option<u32>, bytes: &[u8], turn: &mut Turn<'_, '_>) {
        if !self.client.passes_over {
            let bytes = bytes.to_vec();
            self.enqueue(Item::Rest(Rest { header, bytes }), turn);
        }
    }

    fn enqueue(&mut self, item: Item, turn: &mut Turn<'_, '_>) {
        let options = &turn.plugin.options;
        let fits = self.queue.push(item, options.queue_bytes);
        let others = turn.plugin.queued.get().saturating_sub(self.weight);
        if !fits || others + self.load() > options.queue_total_bytes {
            return self.refuse("queue_full", turn);
        }
        // What comes at once need not wait in memory.
        self.pump(turn);
    }

    fn message(
        &mut self,
        sequence: u8,
        length: u32,
        payload: Vec<u8>,
        is_whole: bool,
        turn: &mut Turn<'_, '_>,
    ) {
        self.client.passes_over = false;
        let dialogue = self.client.dialogue;
        let dialogue = dialogue.filter(|it| it.continues_with(sequence));
        self.client.continuation = dialogue.map(|_| length == 0);
        if sequence == 0 && dialogue.is_none() {
            let Some(mut noted) = self.note(length, payload, is_whole, turn) else {
                return;
            };
            return match self.join(&mut noted, turn) {
                true => self.enqueue(Item::Command(noted), turn),
                false => self.client.passes_over = true,
            };
        }
        let Some(dialogue) = dialogue.filter(|_| !self.is_watching()) else {
            turn.ctx.count("messages_of_nothing", 1);
            self.client.passes_over = true;
            return;
        };
        let data = Data {
            sequence,
            kind: dialogue.kind,
            number: dialogue.number,
            payload,
            length,
            is_whole,
        };
        self.enqueue(Item::Data(data), turn);
    }

    pub(super) fn is_watching(&self) -> bool {
        !matches!(self.joining, Joining::Joined)
    }

    /// Notes a command: what it means, and that the origin will answer it.
    fn note(
        &mut self,
        length: u32,
        payload: Vec<u8>,
        is_whole: bool,
        turn: &mut Turn<'_, '_>,
    ) -> Option<Box<Noted>> {
        let kind = payload
            .first()
            .map_or(Kind::Unknown, |code| Kind::of(*code));
        let mut noted = Noted {
            kind,
            number: 0,
            length,
            is_whole,
            text_at: 1,
            meaning: Meaning::default(),
            prepares: None,
            statement: None,
            mark: self.statements.mark(),
            joins: None,
            gaps: self.client.gaps,
            payload,
        };
        if kind.names_statement() {
            noted.statement = self.statement_of(&noted.payload, turn);
        }
        self.note_closing(&noted, turn);
        self.has_quit |= kind == Kind::Quit;
        let label = self.read_text(&mut noted);
        let has_answer = kind.shape().is_some() || kind == Kind::ChangeUser;
        let Some(number) = self.account.open(label, has_answer) else {
            self.refuse("too_many_exchanges", turn);
            return None;
        };
        noted.number = number;
        let may_ask_file = noted.meaning.may_ask_file;
        self.client.dialogue = Some(Dialogue::new(kind, number, may_ask_file));
        if has_answer {
            let answer = kind.shape().map(Answer::new);
            let changes = self.login.changed_by(&noted.payload);
            self.origin.expect(number, answer, &noted, changes);
            if !self.origin.is_in_step() {
                // Older answers can't be told from this one's.
                for older in self.origin.forget_all_but_last() {
                    self.account.lose_answer(older, turn.ctx);
                }
            }
        }
        Some(Box::new(noted))
    }

    /// Reads the text of a statement, if the command has one; the answer is what reports call it.
    fn read_text(&mut self, noted: &mut Noted) -> Arc<str> {
        match noted.kind {
            Kind::Query => noted.text_at = self.text_at(&noted.payload),
            Kind::Prepare => {}
            kind => return self.account.name(kind.label()),
        }
        let escapes = self.origin.escapes();
        let text = &noted.payload[noted.text_at..];
        noted.meaning = Meaning::of(text, escapes);
        // What stands behind a long text's beginning is not known.
        noted.meaning.writes |= !noted.is_whole;
        let label = self.account.name(&digest(text, escapes));
        if noted.kind == Kind::Query {
            return label;
        }
        let mut statement = Statement::new(text, Arc::clone(&label));
        statement.writes = noted.meaning.writes;
        statement.may_ask_file = noted.meaning.may_ask_file;
        (statement.origin, statement.target) = (Side::Asked, Side::Asked);
        if !noted.is_whole {
            statement.text = None;
        }
        noted.prepares = self.statements.add(statement);
        self.last_prepared = noted.prepares;
        self.account.name(&format!("prepare: {label}"))
    }

    /// Where the text of a `COM_QUERY` begins.
    fn text_at(&self, payload: &[u8]) -> usize {
        /// No statement begins so: the one set of parameters that attributes are.
        fn looks_like_attributes(payload: &[u8]) -> bool {
            matches!(payload, [_, count, 1, ..] if *count < b' ')
        }
        let known = self.client.has_attributes;
        if known.unwrap_or_else(|| looks_like_attributes(payload)) {
            text_after_attributes(payload).unwrap_or(1)
        } else {
            1
        }
    }

    /// The capture has missed some of what the client said.
    pub(super) fn client_gap(&mut self, turn: &mut Turn<'_, '_>) {
        turn.ctx.count("client_gaps", 1);
        let is_login = matches!(self.client.phase, Phase::Login(_));
        if self.client.is_passing() || is_login || self.misses_file() {
            // The target waits for the rest of a message or of a file, or would have to be told
            // another login.
            return self.refuse("capture_gap", turn);
        }
        self.client.search(None);
        self.client.dialogue = None;
        self.client.gaps += 1;
        self.joining = Joining::watching();
        self.origin.fall_behind();
        // What is missing may have changed it.
        self.origin.status = None;
        self.statements.lose_origin();
        self.statements.lack();
        self.account.lose_origin(turn.ctx);
    }

    /// Whether a hole may be in a file that the target is to be sent.
    fn misses_file(&self) -> bool {
        self.client.dialogue.is_some_and(|dialogue| {
            let number = dialogue.number;
            let is_wanted = self.target.owes(number) || self.queue.has(number);
            is_wanted && dialogue.may_miss_file(self.origin.owes(number))
        })
    }
}
