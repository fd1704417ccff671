//! Files with damage of any kind anywhere: no wrong value is returned, and the backend works on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use kms_agent_test_support::{Dice, times};

use self::support::{Folder, NOW, entry, key, put, trouble, value};

/// Limit for work that ends at once unless it hangs.
const LIMIT: Duration = Duration::from_mins(1);

const PAGE: usize = 4096;

/// Files of a store: after a close, and as a kill leaves them.
struct Sample {
    /// All values of each entry, the last one at the end. `None`: removed.
    values: BTreeMap<String, Vec<Option<Vec<u8>>>>,
    closed: Folder,
    killed: Folder,
}

impl Sample {
    async fn draw(dice: &mut Dice) -> Self {
        let folder = Folder::default();
        let backend = folder.open().await.unwrap();
        let mut values: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for _ in 0..80 {
            let name = format!("s{}", dice.index(60));
            let longest = dice.pick(&[50, 1500, 9000]);
            let length = dice.index(longest);
            let value = dice.bytes(length);
            backend.put(&key(&name), entry(&value)).await.unwrap();
            values.entry(name).or_default().push(Some(value));
            if dice.percent(20) {
                backend.flush().await.unwrap();
            }
        }
        for n in 0..10 {
            let name = format!("s{n}");
            backend.remove(&key(&name)).await.unwrap();
            values.entry(name).or_default().push(None);
        }
        backend.flush().await.unwrap();
        let killed = folder.as_after_a_kill();
        backend.close().await.unwrap();
        Self {
            values,
            closed: folder,
            killed,
        }
    }

    /// Returns whether `found` is allowed: the last value, none, or an older one.
    fn allows(&self, name: &str, found: Option<Vec<u8>>, is_older: bool) -> bool {
        let values = self.values.get(name).map_or(&[][..], Vec::as_slice);
        found.is_none() || values.last() == Some(&found) || (is_older && values.contains(&found))
    }
}

/// Damages a file. Returns a description, and whether older values may be seen then.
fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) -> (String, bool) {
    let kind = dice.below(7);
    // An old page may replace a newer one.
    let exchanges = kind == 6;
    (damage_as(kind, bytes, dice), exchanges)
}

fn damage_as(kind: u64, bytes: &mut Vec<u8>, dice: &mut Dice) -> String {
    let pages = bytes.len().div_ceil(PAGE);
    match kind {
        0 => {
            let length = dice.index(bytes.len());
            bytes.truncate(length);
            format!("cut to {length} bytes")
        }
        1 => {
            let pages: Vec<usize> = (0..=dice.index(4)).map(|_| dice.index(pages)).collect();
            for page in &pages {
                bytes
                    .iter_mut()
                    .skip(page * PAGE)
                    .take(PAGE)
                    .for_each(|byte| *byte = 0);
            }
            format!("pages {pages:?} zeroed")
        }
        2 => {
            let page = dice.index(pages);
            let garbage = dice.bytes(PAGE);
            for (byte, random) in bytes.iter_mut().skip(page * PAGE).zip(garbage) {
                *byte = random;
            }
            format!("garbage in page {page}")
        }
        3 => {
            let offsets: Vec<usize> = (0..=dice.index(8))
                .map(|_| dice.index(bytes.len()))
                .collect();
            for offset in &offsets {
                *bytes.get_mut(*offset).unwrap() ^= 1 << dice.below(8);
            }
            format!("bits at {offsets:?} flipped")
        }
        // In the file header every byte counts.
        4 => {
            let offset = match dice.index(512) {
                // One bit of this byte selects one of the last two commits. The older one is a whole store too, as an older
                // copy of the file is.
                9 => 8,
                offset => offset,
            };
            *bytes.get_mut(offset).unwrap() = dice.number().to_le_bytes()[0];
            format!("byte {offset} of the head changed")
        }
        // The beginning of a page matters most.
        5 => {
            let offset = dice.index(pages) * PAGE + dice.index(64);
            if let Some(byte) = bytes.get_mut(offset) {
                *byte = dice.number().to_le_bytes()[0];
            }
            format!("byte {offset} changed")
        }
        _ => {
            let (one, other) = (dice.index(pages), dice.index(pages));
            for at in 0..PAGE {
                let (one, other) = (one * PAGE + at, other * PAGE + at);
                if one.max(other) < bytes.len() {
                    bytes.swap(one, other);
                }
            }
            format!("pages {one} and {other} exchanged")
        }
    }
}

/// Works with a damaged store as an agent would.
async fn work(folder: &Folder, sample: &Sample, is_older: bool) {
    let backend = folder.open().await.unwrap();
    for name in sample.values.keys() {
        let found = value(&backend, name).await;
        assert!(sample.allows(name, found, is_older), "{name} is wrong");
    }
    for n in 0..20 {
        put(&backend, &format!("new{n}")).await;
    }
    let removed = "s30";
    // It may fail while damage is handled; the next one works.
    if backend.remove(&key(removed)).await.is_err() {
        backend.remove(&key(removed)).await.unwrap();
    }
    backend.sweep(NOW).await.unwrap();
    backend.flush().await.unwrap();
    assert_eq!(trouble(&backend).await, None);
    for n in 0..20 {
        let name = format!("new{n}");
        assert_eq!(value(&backend, &name).await, Some(name.into_bytes()));
    }
    backend.close().await.unwrap();

    let later = folder.open().await.unwrap();
    for n in 0..20 {
        let name = format!("new{n}");
        assert_eq!(value(&later, &name).await, Some(name.into_bytes()));
    }
    assert_eq!(value(&later, removed).await, None);
    for name in sample.values.keys() {
        let found = value(&later, name).await;
        assert!(
            sample.allows(name, found, is_older),
            "{name} is wrong later"
        );
    }
    later.close().await.unwrap();
}

#[tokio::test]
async fn damage_of_any_kind_anywhere_never_yields_a_wrong_value_and_the_store_works_on() {
    let mut dice = Dice::from_env();
    let sample = Sample::draw(&mut dice).await;
    let mut quarantined = 0;
    let count = times("KMS_AGENT_TEST_SEEDS", 40);
    for n in 0..count {
        let from = if dice.percent(50) {
            &sample.closed
        } else {
            &sample.killed
        };
        let folder = from.as_after_a_kill();
        let mut bytes = fs::read(folder.store()).unwrap();
        let (how, is_older) = damage(&mut bytes, &mut dice);
        eprintln!("{n}: {how}");
        fs::write(folder.store(), bytes).unwrap();
        tokio::time::timeout(LIMIT, work(&folder, &sample, is_older))
            .await
            .unwrap_or_else(|_| panic!("it hangs"));
        let beside = folder.beside_the_store();
        assert!(beside.len() <= 2, "{beside:?}");
        quarantined += beside.len() - 1;
    }
    assert!(
        (1..count).contains(&quarantined),
        "{quarantined} of {count}"
    );
}
