//! The values that all sessions of a plugin share, in all shards, and who waits for them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tcpcopy_engine::SessionId;

use crate::limits::Limits;

/// A map with a bound on its bytes, whose values expire. Times are microseconds of the calls'
/// clock. When it is full, the value that would expire first goes first.
#[derive(Debug)]
pub(crate) struct Share {
    map: Mutex<Map>,
    most_bytes: usize,
    most_of_value: usize,
}

#[derive(Debug, Default)]
struct Map {
    entries: HashMap<Arc<[u8]>, Entry, RandomState>,
    /// The keys by expiry; the serial number tells those of one moment apart.
    order: BTreeMap<(u64, u64), Arc<[u8]>>,
    serial: u64,
    bytes: usize,
    evicted: u64,
    waiters: HashMap<Vec<u8>, BTreeMap<Place, Waiter>, RandomState>,
}

#[derive(Debug)]
struct Entry {
    value: Box<[u8]>,
    place: (u64, u64),
}

/// Which session, of which mailbox.
type Place = (usize, u64);

#[derive(Debug)]
struct Waiter {
    mailbox: Arc<Mailbox>,
    /// For how many waits of the session it stands.
    count: u32,
}

/// How full a map is, and what it had to give up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShareState {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) evicted: u64,
}

impl Share {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            map: Mutex::default(),
            most_bytes: limits.share_bytes,
            most_of_value: limits.share_value_bytes,
        })
    }

    /// The value of a key.
    pub(crate) fn look<R>(
        &self,
        now: u64,
        key: &[u8],
        found: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        let map = self.lock();
        let entry = map.entries.get(key).filter(|entry| now < entry.place.0)?;
        Some(found(&entry.value))
    }

    /// Takes the value of a key out.
    pub(crate) fn take(&self, now: u64, key: &[u8]) -> Option<Box<[u8]>> {
        let entry = self.lock().remove(key)?;
        (now < entry.place.0).then_some(entry.value)
    }

    /// Sets a value; false when it is too large. Who waits for it finds a letter in its mailbox;
    /// mailboxes other than the `setter`'s are woken.
    pub(crate) fn set(
        &self,
        now: u64,
        key: &[u8],
        value: &[u8],
        expiry_us: u64,
        setter: Option<&Arc<Mailbox>>,
    ) -> bool {
        let size = size_of(key, value);
        if key.len() + value.len() > self.most_of_value || size > self.most_bytes {
            return false;
        }
        let mut map = self.lock();
        map.remove(key);
        map.expire(now);
        map.make_room(self.most_bytes - size);
        map.insert(key, value, now.saturating_add(expiry_us));
        let told = map.tell(key);
        drop(map);
        for mailbox in told {
            if !setter.is_some_and(|setter| Arc::ptr_eq(setter, &mailbox)) {
                (mailbox.wake)();
            }
        }
        true
    }

    /// A session waits for a key.
    pub(crate) fn wait(&self, key: &[u8], session: SessionId, mailbox: &Arc<Mailbox>) {
        let mut map = self.lock();
        let waiters = map.waiters.entry_ref(key).or_default();
        let waiter = waiters.entry(mailbox.place(session)).or_insert(Waiter {
            mailbox: Arc::clone(mailbox),
            count: 0,
        });
        waiter.count += 1;
    }

    /// It waits no longer.
    pub(crate) fn forget(&self, key: &[u8], session: SessionId, mailbox: &Arc<Mailbox>) {
        let mut map = self.lock();
        let Some(waiters) = map.waiters.get_mut(key) else {
            return;
        };
        let place = mailbox.place(session);
        if let Some(waiter) = waiters.get_mut(&place) {
            waiter.count -= 1;
            if waiter.count == 0 {
                waiters.remove(&place);
            }
        }
        if waiters.is_empty() {
            map.waiters.remove(key);
        }
    }

    pub(crate) fn state(&self) -> ShareState {
        let map = self.lock();
        ShareState {
            entries: map.entries.len() as u64,
            bytes: map.bytes as u64,
            evicted: map.evicted,
        }
    }

    /// A panic while it was held can only have been one of the allocator's.
    fn lock(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    fn insert(&mut self, key: &[u8], value: &[u8], until: u64) {
        self.serial += 1;
        let (key, place): (Arc<[u8]>, _) = (key.into(), (until, self.serial));
        self.bytes += size_of(&key, value);
        self.order.insert(place, Arc::clone(&key));
        let value = value.into();
        self.entries.insert(key, Entry { value, place });
    }

    fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.place);
        self.bytes -= size_of(key, &entry.value);
        Some(entry)
    }

    fn expire(&mut self, now: u64) {
        while let Some((place, key)) = self.order.first_key_value()
            && place.0 <= now
        {
            let key = Arc::clone(key);
            self.remove(&key);
        }
    }

    fn make_room(&mut self, most_bytes: usize) {
        while self.bytes > most_bytes
            && let Some((_, key)) = self.order.first_key_value()
        {
            let key = Arc::clone(key);
            self.remove(&key);
            self.evicted += 1;
        }
    }

    /// Writes to all who wait for a key; returns their mailboxes.
    fn tell(&mut self, key: &[u8]) -> Vec<Arc<Mailbox>> {
        let mut told: Vec<Arc<Mailbox>> = Vec::new();
        for (place, waiter) in self.waiters.get(key).into_iter().flatten() {
            waiter.mailbox.post(SessionId::from_u64(place.1));
            if !told.iter().any(|it| Arc::ptr_eq(it, &waiter.mailbox)) {
                told.push(Arc::clone(&waiter.mailbox));
            }
        }
        told
    }
}

fn size_of(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + Limits::ENTRY_BYTES
}

/// The sessions of one engine that are to look again.
pub(crate) struct Mailbox {
    letters: Mutex<VecDeque<SessionId>>,
    has_letters: AtomicBool,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = &self.letters;
        let mut fields = formatter.debug_struct("Mailbox");
        fields.field("letters", letters).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// `wake` is called from any thread when another engine has written.
    pub(crate) fn new(wake: Arc<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self {
            letters: Mutex::default(),
            has_letters: AtomicBool::new(false),
            wake,
        })
    }

    pub(crate) fn post(&self, session: SessionId) {
        let mut letters = self.lock();
        letters.push_back(session);
        self.has_letters.store(true, Ordering::Release);
    }

    /// The next session that is to look again.
    pub(crate) fn next(&self) -> Option<SessionId> {
        if !self.has_letters.load(Ordering::Acquire) {
            return None;
        }
        let mut letters = self.lock();
        let next = letters.pop_front();
        if letters.is_empty() {
            drop(mem::take(&mut *letters));
            self.has_letters.store(false, Ordering::Release);
        }
        next
    }

    /// The mailbox lives as long as anybody waits in it, so its address tells it from others.
    fn place(self: &Arc<Self>, session: SessionId) -> Place {
        (Arc::as_ptr(self).addr(), session.as_u64())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<SessionId>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set { key: u8, length: usize, life: u64 },
        Take { key: u8 },
        After(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..8_u8, 0..60_usize, 0..100_u64)
                .prop_map(|(key, length, life)| Step::Set { key, length, life }),
            1 => (0..8_u8).prop_map(|key| Step::Take { key }),
            2 => (0..60_u64).prop_map(Step::After),
        ]
    }

    /// A value with its key and its end.
    type Kept = (u8, Vec<u8>, u64);

    /// The same, as a list in the order of setting.
    fn set_in_model(model: &mut Vec<Kept>, now: u64, key: u8, value: Vec<u8>, life: u64) -> bool {
        let size = |value: &[u8]| 1 + value.len() + Limits::ENTRY_BYTES;
        if 1 + value.len() > 40 {
            return false;
        }
        model.retain(|kept| kept.0 != key && now < kept.2);
        let sum = |model: &[Kept]| model.iter().map(|kept| size(&kept.1)).sum::<usize>();
        while sum(model) + size(&value) > MOST {
            let first = (0..model.len()).min_by_key(|at| model[*at].2);
            model.remove(first.expect("one value fits"));
        }
        model.push((key, value, now + life));
        true
    }

    /// Room for four or five values.
    const MOST: usize = 4 * (Limits::ENTRY_BYTES + 41);

    proptest! {
        #[test]
        fn it_is_a_list_of_values(steps in vec(step(), 0..60)) {
            let (share, mut model, mut now) = (share(MOST), Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Set { key, length, life } => {
                        let value = vec![key; length];
                        let is_set = share.set(now, &[key], &value, life, None);
                        prop_assert_eq!(is_set, set_in_model(&mut model, now, key, value, life));
                    }
                    Step::Take { key } => {
                        let at = model.iter().position(|kept: &Kept| kept.0 == key);
                        let kept = at.map(|at| model.remove(at)).filter(|kept| now < kept.2);
                        let taken = share.take(now, &[key]).map(Vec::from);
                        prop_assert_eq!(taken, kept.map(|kept| kept.1));
                    }
                    Step::After(time) => now += time,
                }
                for key in 0..8 {
                    let kept = model.iter().find(|kept| kept.0 == key && now < kept.2);
                    let found = share.look(now, &[key], <[u8]>::to_vec);
                    prop_assert_eq!(found, kept.map(|kept| kept.1.clone()));
                }
                let bytes = model.iter().map(|kept| 1 + kept.1.len() + Limits::ENTRY_BYTES);
                prop_assert_eq!(share.state().bytes, bytes.sum::<usize>() as u64);
                prop_assert!(share.state().bytes <= MOST as u64);
            }
        }
    }

    fn share(most_bytes: usize) -> Arc<Share> {
        Share::new(&Limits {
            share_bytes: most_bytes,
            share_value_bytes: 40,
            ..Limits::default()
        })
    }

    fn value(share: &Share, now: u64, key: &str) -> Option<String> {
        share.look(now, key.as_bytes(), |value| {
            String::from_utf8_lossy(value).into_owned()
        })
    }

    #[test]
    fn a_value_lives_until_its_expiry() {
        let share = share(10_000);
        assert!(share.set(100, b"a", b"1", 50, None));
        assert_eq!(value(&share, 149, "a").as_deref(), Some("1"));
        assert_eq!(value(&share, 150, "a"), None);
        assert!(share.set(120, b"a", b"2", u64::MAX, None));
        assert_eq!(value(&share, 1 << 60, "a").as_deref(), Some("2"));
        assert_eq!(share.take(1 << 60, b"a").as_deref(), Some(&b"2"[..]));
        assert_eq!(share.take(1 << 60, b"a"), None);
        let state = share.state();
        assert_eq!((state.entries, state.bytes), (0, 0));
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let share = share(10_000);
        assert!(share.set(0, &[b'k'; 10], &[b'v'; 30], 1, None));
        assert!(!share.set(0, &[b'k'; 10], &[b'v'; 31], 1, None));
        assert_eq!(share.state().entries, 1);
    }

    #[test]
    fn a_full_map_gives_up_what_would_expire_first() {
        let room = 3 * (2 + Limits::ENTRY_BYTES);
        let share = share(room);
        for (key, expiry) in [(b"a", 30), (b"b", 10), (b"c", 20)] {
            assert!(share.set(0, key, b"v", expiry, None));
        }
        assert_eq!(share.state().bytes, room as u64);
        assert!(share.set(0, b"d", b"v", 40, None));
        assert_eq!(value(&share, 0, "b"), None);
        assert_eq!(share.state().evicted, 1);
        // What has expired makes room by itself.
        assert!(share.set(25, b"e", b"v", 40, None));
        assert_eq!((value(&share, 25, "c"), share.state().evicted), (None, 1));
        assert_eq!(share.state().bytes, room as u64);
    }

    #[test]
    fn who_waits_is_told_and_only_others_are_woken() {
        let share = share(10_000);
        let woken = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&woken);
        let wake = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        let (here, there) = (Mailbox::new(Arc::new(|| {})), Mailbox::new(Arc::new(wake)));
        let session = SessionId::from_u64;
        share.wait(b"k", session(1), &here);
        share.wait(b"k", session(2), &there);
        share.wait(b"k", session(3), &there);
        share.wait(b"other", session(4), &there);
        share.forget(b"k", session(3), &there);
        assert!(share.set(0, b"k", b"v", 10, Some(&here)));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert_eq!((here.next(), here.next()), (Some(session(1)), None));
        assert_eq!((there.next(), there.next()), (Some(session(2)), None));
        // It waits until it says that it does not.
        assert!(share.set(0, b"k", b"v", 10, Some(&there)));
        assert_eq!(there.next(), Some(session(2)));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        share.forget(b"k", session(1), &here);
        share.forget(b"k", session(2), &there);
        assert!(!share.lock().waiters.contains_key(&b"k"[..]));
    }
}
