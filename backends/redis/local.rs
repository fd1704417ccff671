//! This agent's own entries: a bounded map of records sealed under a key of this process.

mod log;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use kms_agent_core::backend::ScanItem;
use kms_agent_core::{CacheEntry, Lifetime, Secret, SecretKey, SecretValue, Timestamp};
use kms_agent_sealed::key::RootKey;
use kms_agent_sealed::map::{Found, SealedMap};
use kms_agent_sealed::record::Header;
use kms_agent_sealed::seal::{CannotSeal, RecordHash, SealedRecord, Sealer};

pub(crate) use self::log::Moment;
use self::log::{Floors, RemovalLog, Removed, StoreLog};
use crate::keyring::{Id, Keyring};
use crate::record::content;

/// Entries of this agent, and what it knows of them through the journal.
pub(crate) struct LocalMap {
    sealer: Sealer,
    map: SealedMap,
    details: HashMap<RecordHash, Details>,
    by_place: HashMap<Id, RecordHash>,
    by_name: HashMap<Id, HashSet<RecordHash>>,
    /// Ids of the journal; `None` until the key of the fleet is known.
    keyring: Option<Arc<Keyring>>,
    removals: RemovalLog,
    stores: StoreLog,
    floors: Floors,
}

/// Knowledge about an entry besides its sealed record.
#[derive(Clone, Debug)]
struct Details {
    lifetime: Lifetime,
    /// Ids in the journal, once the key of the fleet is known.
    ids: Option<(Id, Id)>,
    content: [u8; 8],
    state: State,
}

/// Standing of an entry among the fleet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No other is known to be newer.
    Confirmed,
    /// The server has a newer one, or may have lost what it knew.
    Doubtful,
}

/// An entry that was found.
#[derive(Debug)]
pub(crate) struct LocalRecord {
    hash: RecordHash,
    record: SealedRecord,
    lifetime: Lifetime,
    pub(crate) state: State,
}

impl LocalMap {
    pub(crate) fn new(capacity: NonZeroUsize) -> std::io::Result<Self> {
        Ok(Self {
            sealer: Sealer::new(&RootKey::random()?),
            map: SealedMap::new(capacity),
            details: HashMap::new(),
            by_place: HashMap::new(),
            by_name: HashMap::new(),
            keyring: None,
            removals: RemovalLog::default(),
            stores: StoreLog::default(),
            floors: Floors {
                at: HashMap::new(),
                order: VecDeque::new(),
                limit: capacity.get().saturating_mul(2).max(1024),
            },
        })
    }

    /// Takes up the key of the fleet: from now on the journal's ids are known.
    pub(crate) fn adopt(&mut self, keyring: Arc<Keyring>) {
        self.by_place.clear();
        self.by_name.clear();
        self.floors.at.clear();
        self.floors.order.clear();
        let held: Vec<_> = self.map.held().collect();
        for (hash, record) in held {
            let key = self
                .sealer
                .open_header(&hash, &record)
                .ok()
                .and_then(|header| Header::decode(&header)?.key());
            let Some(key) = key else { continue };
            let ids = (
                keyring.place_id(&key),
                keyring.name_id(key.secret.id.name()),
            );
            if let Some(details) = self.details.get_mut(&hash) {
                details.ids = Some(ids);
                self.by_place.insert(ids.0, hash);
                self.by_name.entry(ids.1).or_default().insert(hash);
            }
        }
        self.keyring = Some(keyring);
    }

    /// Present moment in the sequence of removals, for [`hold`](Self::hold).
    pub(crate) fn mark(&self) -> Moment {
        Moment {
            removals: self.removals.count,
            stores: self.stores.count,
        }
    }

    /// Holds `entry` unless it was removed since `mark`. `on_server` is when it was fetched by the server's clock.
    /// Returns whether it is held.
    pub(crate) fn hold(
        &mut self,
        key: &SecretKey,
        entry: &CacheEntry,
        on_server: Option<Timestamp>,
        mark: Moment,
    ) -> Result<bool, CannotSeal> {
        let ids = self.ids(key);
        if let Some((place, name)) = ids {
            if self
                .removals
                .covers_since(mark, (place, name), entry.lifetime.fetched_at)
            {
                return Ok(false);
            }
            if let Some(at) = on_server {
                self.floors.raise(place, at);
            }
        } else if mark.removals != self.removals.count {
            return Ok(false);
        }
        let hash = self.sealer.hash(key);
        let record = self.sealer.seal(
            &hash,
            &Header::encode(key, entry),
            entry.secret.answer.expose(),
        )?;
        let tag = self
            .keyring
            .as_ref()
            .map(|keyring| keyring.content_tag(&content(entry.secret.answer.expose())));
        self.map.hold(hash, record, &entry.lifetime);
        if let Some((place, name)) = ids {
            self.by_place.insert(place, hash);
            self.by_name.entry(name).or_default().insert(hash);
        }
        self.details.insert(
            hash,
            Details {
                lifetime: entry.lifetime,
                ids,
                content: tag.unwrap_or_default(),
                state: State::Confirmed,
            },
        );
        while let Some(evicted) = self.map.evict() {
            self.forget(&evicted);
        }
        Ok(true)
    }

    /// Holds a record that the server answered to a question asked at `mark`. It is doubtful if another was stored
    /// since.
    pub(crate) fn hold_from_server(
        &mut self,
        key: &SecretKey,
        entry: &CacheEntry,
        on_server: Timestamp,
        mark: Moment,
    ) -> Result<bool, CannotSeal> {
        let held = self.hold(key, entry, Some(on_server), mark)?;
        if held
            && let Some((place, _)) = self.ids(key)
            && self.stores.has_since(mark, place)
        {
            let hash = self.sealer.hash(key);
            if let Some(details) = self.details.get_mut(&hash) {
                details.state = State::Doubtful;
            }
        }
        Ok(held)
    }

    /// Finds the entry of `key` that is not dead at `now`.
    pub(crate) fn find(&mut self, key: &SecretKey, now: Timestamp) -> Option<LocalRecord> {
        let hash = self.sealer.hash(key);
        let details = self.details.get(&hash)?;
        if now >= details.lifetime.usable_until {
            return None;
        }
        let (lifetime, state) = (details.lifetime, details.state);
        match self.map.find(&hash)? {
            Found::Here(record) => Some(LocalRecord {
                hash,
                record,
                lifetime,
                state,
            }),
            Found::Stored => None,
        }
    }

    /// Opens what [`find`](Self::find) found.
    pub(crate) fn open(&self, found: &LocalRecord) -> Option<CacheEntry> {
        let header = self.sealer.open_header(&found.hash, &found.record).ok()?;
        let header = Header::decode(&header)?;
        let value = self.sealer.open_value(&found.hash, &found.record).ok()?;
        Some(CacheEntry {
            secret: Secret {
                answer: SecretValue::new(value),
                version_id: header.version_id.into(),
                stages: header.owned_stages(),
            },
            lifetime: found.lifetime,
        })
    }

    /// Removes the entry of `key`.
    pub(crate) fn remove(&mut self, key: &SecretKey) {
        let hash = self.sealer.hash(key);
        self.drop_record(&hash);
    }

    /// Removes the entry of a place that was fetched before `at` by the server's clock, `until` on this agent's
    /// timeline. From now on none such is held.
    pub(crate) fn remove_place(&mut self, place: Id, at: Timestamp, until: Timestamp) {
        self.removals.note(Removed::Place(place, until));
        self.floors.raise(place, at);
        if let Some(hash) = self.by_place.get(&place).copied() {
            self.drop_fetched_until(&hash, until);
        }
    }

    /// The same for the entries of a name.
    pub(crate) fn remove_name(&mut self, name: Id, at: Timestamp, until: Timestamp) {
        self.removals.note(Removed::Name(name, until));
        self.floors.raise(name, at);
        for hash in self.by_name.get(&name).cloned().unwrap_or_default() {
            self.drop_fetched_until(&hash, until);
        }
    }

    fn drop_fetched_until(&mut self, hash: &RecordHash, until: Timestamp) {
        let details = self.details.get(hash);
        if details.is_some_and(|it| it.lifetime.fetched_at <= until) {
            self.drop_record(hash);
        }
    }

    /// Removes the entry of `key` if it is the one that was fetched at `fetched_at`.
    pub(crate) fn take_back(&mut self, key: &SecretKey, fetched_at: Timestamp) {
        let hash = self.sealer.hash(key);
        let details = self.details.get(&hash);
        if details.is_some_and(|it| it.lifetime.fetched_at == fetched_at) {
            self.drop_record(&hash);
        }
    }

    /// Removes all entries.
    pub(crate) fn clear(&mut self) {
        self.removals.note(Removed::Everything);
        self.map.clear();
        self.details.clear();
        self.by_place.clear();
        self.by_name.clear();
    }

    /// Notes that the server has a record of `place` that was fetched at `fetched_at`. An entry with the same
    /// content lives longer for it; any other is doubtful.
    pub(crate) fn stored_elsewhere(&mut self, place: Id, content: [u8; 8], fetched_at: Timestamp) {
        self.stores.note(place);
        let Some(hash) = self.by_place.get(&place).copied() else {
            return;
        };
        let Some(details) = self.details.get_mut(&hash) else {
            return;
        };
        if details.content != content {
            // Whichever of both is newer: the server tells.
            details.state = State::Doubtful;
            return;
        }
        // Announcements may come late, so one of the same content does not end a doubt.
        if details.state == State::Doubtful || fetched_at <= details.lifetime.fetched_at {
            return;
        }
        let longer = fetched_at.since(details.lifetime.fetched_at);
        details.lifetime = Lifetime {
            fetched_at,
            rotates_at: details.lifetime.rotates_at.filter(|at| *at > fetched_at),
            usable_until: details.lifetime.usable_until.plus(longer),
        };
        let lifetime = details.lifetime;
        if let Some(Found::Here(record)) = self.map.find(&hash) {
            self.map.hold(hash, record, &lifetime);
        }
    }

    /// Notes that the server may have lost what it knew: every entry is doubtful.
    pub(crate) fn doubt_all(&mut self) {
        self.stores.lose_count();
        for details in self.details.values_mut() {
            details.state = State::Doubtful;
        }
    }

    /// Returns whether a record fetched at `at` by the server's clock is older than one that was held or removed.
    pub(crate) fn is_outdated(&self, key: &SecretKey, at: Timestamp) -> bool {
        self.ids(key).is_some_and(|(place, name)| {
            self.floors.is_below(place, at) || self.floors.is_below(name, at)
        })
    }

    /// Wipes at most `limit` of the entries that are dead at `now`. Returns whether there may be more.
    pub(crate) fn sweep(&mut self, now: Timestamp, limit: usize) -> bool {
        let dead = self.map.dead(now, limit);
        for hash in &dead {
            self.drop_record(hash);
        }
        dead.len() == limit
    }

    /// Lists at most `limit` entries after `from`, and the hash of the last one.
    pub(crate) fn page(
        &self,
        from: Option<&RecordHash>,
        limit: NonZeroUsize,
    ) -> (Vec<ScanItem>, Option<RecordHash>) {
        let listed = self.map.page(from, limit);
        let last = listed
            .last()
            .filter(|_| listed.len() == limit.get())
            .map(|listed| listed.hash);
        let items = listed
            .iter()
            .filter_map(|listed| {
                let header = self.sealer.open_header(&listed.hash, &listed.record).ok()?;
                let header = Header::decode(&header)?;
                Some(ScanItem {
                    key: header.key()?,
                    version_id: header.version_id.into(),
                    lifetime: self.details.get(&listed.hash)?.lifetime,
                    hits: listed.hits,
                })
            })
            .collect();
        (items, last)
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn capacity(&self) -> NonZeroUsize {
        self.map.capacity()
    }

    fn ids(&self, key: &SecretKey) -> Option<(Id, Id)> {
        let keyring = self.keyring.as_ref()?;
        Some((keyring.place_id(key), keyring.name_id(key.secret.id.name())))
    }

    fn drop_record(&mut self, hash: &RecordHash) {
        self.map.remove(hash);
        self.forget(hash);
    }

    fn forget(&mut self, hash: &RecordHash) {
        let Some(Details {
            ids: Some((place, name)),
            ..
        }) = self.details.remove(hash)
        else {
            return;
        };
        self.by_place.remove(&place);
        if let Some(of_name) = self.by_name.get_mut(&name) {
            of_name.remove(hash);
            if of_name.is_empty() {
                self.by_name.remove(&name);
            }
        }
    }
}

impl LocalRecord {
    /// The entry as one that has rotated: expired, whatever its age.
    pub(crate) fn expired(mut self) -> Self {
        self.lifetime.rotates_at = Some(self.lifetime.fetched_at);
        self
    }
}

impl fmt::Debug for LocalMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalMap")
            .field("entries", &self.map.len())
            .finish_non_exhaustive()
    }
}
