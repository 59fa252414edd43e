//! Prepared statements: which one of the target is which one of the origin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::answer::Prepared;
use crate::command::LAST_PREPARED;
use crate::sql::{ByName, Meaning};

/// So many a session may have; servers allow 16 382 of all connections together.
const STATEMENTS: usize = 16 * 1024;

/// Names of statements that are prepared in text; when there are more, all are forgotten.
const NAMES: usize = 4096;

/// A statement whose text is longer can't be prepared again.
const TEXT_BYTES: usize = 64 * 1024;

/// A statement of a session, in the order in which they were prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u64);

/// What one of the servers has made of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// It was not asked, or its answer was not seen.
    Unknown,
    /// It was asked, or will be with what waits to be said.
    Asked,
    Ready(Prepared),
    Failed,
    /// It can't be prepared there, but said as a text.
    Unpreparable,
}

/// A prepared statement.
#[derive(Debug)]
pub(crate) struct Statement {
    /// `None` for one that is too long to be kept.
    pub(crate) text: Option<Vec<u8>>,
    pub(crate) label: Arc<str>,
    pub(crate) writes: bool,
    pub(crate) may_ask_file: bool,
    pub(crate) origin: Side,
    pub(crate) target: Side,
    /// The types of its parameters, as the client told them last.
    pub(crate) types: Option<Vec<u16>>,
    /// Behind how many holes of the client's stream it told them: a later hole may have told others.
    pub(crate) types_behind: u32,
    pub(crate) target_knows_types: bool,
    /// Parameters whose values were sent by commands of their own since the last execution.
    pub(crate) sent_before: BTreeSet<u16>,
    /// Values for its next execution were left out, behind so many holes of the client's stream.
    pub(crate) misses_data: Option<u32>,
}

impl Statement {
    pub(crate) fn new(text: &[u8], label: Arc<str>) -> Self {
        Self {
            text: (text.len() <= TEXT_BYTES).then(|| text.to_vec()),
            label,
            writes: false,
            may_ask_file: false,
            origin: Side::Unknown,
            target: Side::Unknown,
            types: None,
            types_behind: 0,
            target_knows_types: false,
            sent_before: BTreeSet::new(),
            misses_data: None,
        }
    }

    /// The types of its parameters as they hold behind so many holes.
    pub(crate) fn types_behind(&self, gaps: u32) -> Option<&[u16]> {
        let types = self.types.as_deref();
        types.filter(|_| self.types_behind == gaps)
    }

    /// How many parameters it has, once a server has told.
    pub(crate) fn parameters(&self) -> Option<u16> {
        [self.target, self.origin]
            .into_iter()
            .find_map(|side| match side {
                Side::Ready(prepared) => Some(prepared.parameters),
                Side::Unknown | Side::Asked | Side::Failed | Side::Unpreparable => None,
            })
    }
}

/// What a statement does that was prepared in text, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Named {
    Reads,
    Writes,
    /// The target was not told to prepare it.
    LeftOut,
}

/// The statements of a session.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    all: BTreeMap<Key, Statement>,
    by_origin: BTreeMap<u32, Key>,
    next: u64,
    /// Statements that come before this one may be known to the origin, and not here.
    unknown_before: u64,
    /// Those that `PREPARE name FROM` has made.
    by_name: BTreeMap<Vec<u8>, Named>,
    /// Numbers of the target for statements that nobody can name any more.
    to_close: Vec<u32>,
}

impl Statements {
    /// What the statements do that a text runs by name; what it prepares is noted.
    pub(crate) fn follow(&mut self, meaning: &Meaning) -> Named {
        let mut all = Named::Reads;
        for by_name in &meaning.by_name {
            match by_name {
                ByName::Prepares(name, true) => self.name(name, Named::Writes),
                ByName::Prepares(name, false) => self.name(name, Named::Reads),
                ByName::Executes(name) => {
                    let run = self.by_name.get(&name.to_ascii_lowercase());
                    all = all.max(run.copied().unwrap_or(Named::Writes));
                }
            }
        }
        all
    }

    /// The target does not hear a text, so it does not know what that prepares.
    pub(crate) fn left_out(&mut self, meaning: &Meaning) {
        for by_name in &meaning.by_name {
            if let ByName::Prepares(name, _) = by_name {
                self.name(name, Named::LeftOut);
            }
        }
    }

    fn name(&mut self, name: &[u8], named: Named) {
        if self.by_name.len() >= NAMES {
            self.by_name.clear();
        }
        self.by_name.insert(name.to_ascii_lowercase(), named);
    }

    /// Adds a statement; `None` when there are too many.
    pub(crate) fn add(&mut self, statement: Statement) -> Option<Key> {
        if self.all.len() >= STATEMENTS {
            self.remove_nameless();
        }
        if self.all.len() >= STATEMENTS {
            self.lack();
            return None;
        }
        let key = Key(self.next);
        self.next += 1;
        self.all.insert(key, statement);
        Some(key)
    }

    /// What statements prepared from now on come after.
    pub(crate) fn mark(&self) -> Key {
        Key(self.next)
    }

    /// The statement of this key.
    pub(crate) fn find(&mut self, key: Key) -> Option<&mut Statement> {
        self.all.get_mut(&key)
    }

    /// The statement that the client calls so. `last` is the one it has prepared last.
    pub(crate) fn of_origin(&self, id: u32, last: Option<Key>) -> Option<Key> {
        match id {
            LAST_PREPARED => last.filter(|key| self.all.contains_key(key)),
            id => self.by_origin.get(&id).copied(),
        }
    }

    /// The origin has prepared a statement, or has not.
    pub(crate) fn origin_answered(&mut self, key: Key, prepared: Option<Prepared>) {
        let Some(statement) = self.all.get_mut(&key) else {
            return;
        };
        statement.origin = prepared.map_or(Side::Failed, Side::Ready);
        match prepared {
            // Whoever still means another statement by this number has found it before.
            Some(prepared) => drop(self.by_origin.insert(prepared.id, key)),
            None => self.remove_failed(key),
        }
    }

    /// The target has prepared a statement, or has not.
    pub(crate) fn target_answered(&mut self, key: Key, side: Side) {
        if let Some(statement) = self.all.get_mut(&key) {
            statement.target = side;
            self.remove_failed(key);
        }
    }

    /// Forgets a statement that has no number at the origin, once both servers have answered.
    fn remove_failed(&mut self, key: Key) {
        let is_over = self
            .all
            .get(&key)
            .is_some_and(|it| it.origin == Side::Failed && it.target != Side::Asked);
        if is_over {
            self.remove_to_close(key);
        }
    }

    /// Forgets statements that have no number at the origin, and never will.
    fn remove_nameless(&mut self) {
        let is_nameless = |it: &Statement| it.origin == Side::Unknown && it.target != Side::Asked;
        let nameless = self.all.iter().filter(|(_, it)| is_nameless(it));
        let nameless: Vec<Key> = nameless.map(|(key, _)| *key).collect();
        for key in nameless {
            self.remove_to_close(key);
        }
    }

    /// Forgets a statement that the target has still to hear of.
    fn remove_to_close(&mut self, key: Key) {
        if let Some(Statement {
            target: Side::Ready(prepared),
            ..
        }) = self.remove(key)
        {
            self.to_close.push(prepared.id);
        }
    }

    /// Makes the target forget what it knows of a statement besides its text: it is prepared there
    /// again when it is next executed.
    pub(crate) fn renew(&mut self, key: Key) {
        let Some(statement) = self.all.get_mut(&key) else {
            return;
        };
        if let Side::Ready(prepared) = statement.target {
            statement.target = Side::Unknown;
            statement.target_knows_types = false;
            statement.sent_before.clear();
            self.to_close.push(prepared.id);
        }
    }

    /// The same for all that were prepared before `mark`.
    pub(crate) fn renew_before(&mut self, mark: Key) {
        let keys: Vec<Key> = self.all.range(..mark).map(|(key, _)| *key).collect();
        for key in keys {
            self.renew(key);
        }
    }

    /// Forgets all that were prepared before `mark`, of which the target is to be told.
    pub(crate) fn close_before(&mut self, mark: Key) {
        self.renew_before(mark);
        let to_close = std::mem::take(&mut self.to_close);
        self.remove_before(mark);
        self.to_close = to_close;
    }

    /// Notes behind how many holes values for the next execution were left out, if they were.
    pub(crate) fn misses_data(&mut self, key: Key, behind: Option<u32>) {
        if let Some(statement) = self.all.get_mut(&key) {
            statement.misses_data = behind;
        }
    }

    /// The target's numbers of statements that are to be closed there.
    pub(crate) fn take_to_close(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.to_close)
    }

    /// The number by which the client means this statement.
    pub(crate) fn number(&self, key: Key) -> Option<u32> {
        let Side::Ready(prepared) = self.all.get(&key)?.origin else {
            return None;
        };
        (self.by_origin.get(&prepared.id) == Some(&key)).then_some(prepared.id)
    }

    /// The client has closed a statement while the target did not hear it.
    pub(crate) fn closed_unheard(&mut self, key: Key) {
        self.drop_number(key);
        if let Some(statement) = self.all.get_mut(&key) {
            statement.origin = Side::Failed;
            self.remove_failed(key);
        }
    }

    /// The client closes a statement: its number may become another's, but what the client has said
    /// before still means this one.
    pub(crate) fn drop_number(&mut self, key: Key) {
        if let Some(id) = self.number(key) {
            self.by_origin.remove(&id);
        }
    }

    /// The client makes the servers forget all statements.
    pub(crate) fn drop_numbers(&mut self) {
        self.by_origin.clear();
    }

    /// Whether there are statements prepared before `mark` of which the origin's answer is still to
    /// come.
    pub(crate) fn waits_for_origin(&self, mark: Key) -> bool {
        let mut before = self.all.range(..mark);
        before.any(|(_, statement)| statement.origin == Side::Asked)
    }

    /// The origin's answers to what was asked before can't be found any more.
    pub(crate) fn lose_origin(&mut self) {
        if self.waits_for_origin(Key(self.next)) {
            self.lack();
        }
        for statement in self.all.values_mut() {
            if statement.origin == Side::Asked {
                statement.origin = Side::Unknown;
            }
        }
    }

    /// The origin may know statements that are not known here.
    pub(crate) fn lack(&mut self) {
        self.next += 1;
        self.unknown_before = self.next;
    }

    /// Whether all statements that the origin knows are here, in a session that was seen from its
    /// beginning.
    pub(crate) fn are_all_known(&self) -> bool {
        self.unknown_before == 0
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Statement> {
        self.drop_number(key);
        self.all.remove(&key)
    }

    /// Forgets all that were prepared before `mark`: the target does so too.
    pub(crate) fn remove_before(&mut self, mark: Key) {
        if self.unknown_before <= mark.0 {
            self.unknown_before = 0;
        }
        self.all = self.all.split_off(&mark);
        self.by_origin.retain(|_, key| *key >= mark);
        self.to_close.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Escapes;

    fn statement() -> Statement {
        Statement::new(b"select ?", Arc::from("select ?"))
    }

    fn prepared(id: u32) -> Option<Prepared> {
        Some(Prepared { id, parameters: 1 })
    }

    #[test]
    fn statements_are_found_by_the_origins_number() {
        let mut statements = Statements::default();
        let first = statements.add(statement()).expect("room");
        let second = statements.add(statement()).expect("room");
        statements.origin_answered(first, prepared(7));
        statements.origin_answered(second, None);
        assert_eq!(statements.of_origin(7, None), Some(first));
        assert_eq!(
            statements.of_origin(LAST_PREPARED, Some(first)),
            Some(first)
        );
        assert!(statements.find(second).is_none(), "nobody can name it");
        statements.remove(first);
        assert_eq!(statements.of_origin(7, None), None);
    }

    #[test]
    fn a_reset_forgets_what_was_before_it() {
        let mut statements = Statements::default();
        let before = statements.add(statement()).expect("room");
        let mark = statements.mark();
        let after = statements.add(statement()).expect("room");
        statements.origin_answered(before, prepared(1));
        statements.origin_answered(after, prepared(2));
        statements.remove_before(mark);
        assert_eq!(statements.of_origin(1, None), None);
        assert_eq!(statements.of_origin(2, None), Some(after));
    }

    #[test]
    fn what_was_missed_before_a_reset_is_forgotten_with_it() {
        let mut statements = Statements::default();
        assert!(statements.are_all_known());
        // Nothing was under way.
        statements.lose_origin();
        assert!(statements.are_all_known());
        let before = statements.mark();
        let asked = statements.add(statement()).expect("room");
        statements.find(asked).expect("known").origin = Side::Asked;
        statements.lose_origin();
        statements.remove_before(before);
        assert!(!statements.are_all_known());
        statements.remove_before(statements.mark());
        assert!(statements.are_all_known());
    }

    #[test]
    fn what_is_prepared_by_name_writes_when_it_runs() {
        let mut statements = Statements::default();
        let read = |text: &str| Meaning::of(text.as_bytes(), Escapes::default());
        let mut runs = |text: &str| statements.follow(&read(text));
        runs("prepare r from 'select 1'; prepare w from '' 'delete from t'");
        assert_eq!(runs("execute R"), Named::Reads);
        assert_eq!(runs("execute r; execute `w`"), Named::Writes);
        assert_eq!(runs("execute unknown"), Named::Writes);
        statements.left_out(&read("prepare r from 'shutdown'"));
        let mut runs = |text: &str| statements.follow(&read(text));
        assert_eq!(runs("execute w; execute r"), Named::LeftOut);
        assert_eq!(runs("prepare r from 'select 2'; execute r"), Named::Reads);
    }

    #[test]
    fn there_is_a_bound() {
        let mut statements = Statements::default();
        for id in 0..STATEMENTS {
            let key = statements.add(statement()).expect("room");
            statements.origin_answered(key, prepared(id as u32));
        }
        assert!(statements.add(statement()).is_none());
        // Those whose numbers never come to be known make room.
        statements.remove(Key(7));
        for _ in 0..2 {
            assert!(statements.add(statement()).is_some());
        }
    }
}
