//! Log lines that requests cause, gathered so that a caller cannot flood the log and hide other lines.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::secret::loggable;

/// The most names that stand in one line.
const MAX_SAMPLES: usize = 3;

/// The most codes that are told apart for one kind of line.
const MAX_CODES: usize = 32;

/// The code of what is over that.
const OTHER: &str = "other";

/// Events by kind of line and code, until the line about them is due.
#[derive(Debug)]
pub struct LogGate<L>(Mutex<BTreeMap<(L, Box<str>), Gathered>>);

/// Events that go into one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Number of events.
    pub count: u64,
    /// The sum of what each of them amounted to.
    pub amount: u64,
    /// The first few of the names they were about.
    samples: Vec<Box<str>>,
    /// The cause of the first.
    pub cause: Option<String>,
    /// Time of the last line, by boot time.
    told_at: Option<Duration>,
}

/// One event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event<'a> {
    /// The code of the failure or refusal.
    pub code: &'a str,
    /// The name of what it is about.
    pub sample: &'a str,
    /// Amount, such as a number of entries.
    pub amount: u64,
}

impl<L> Default for LogGate<L> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<L: Copy + Ord> LogGate<L> {
    /// Adds an event. `cause` is asked only for the first of a line. Returns whether it is the first of all that
    /// wait for their line.
    pub fn note(&self, line: L, event: Event<'_>, cause: impl FnOnce() -> Option<String>) -> bool {
        let mut lines = self.lock();
        let is_first = lines.values().all(|gathered| gathered.count == 0);
        let mut key = (line, Box::from(event.code));
        if !lines.contains_key(&key)
            && lines.keys().filter(|(other, _)| *other == line).count() >= MAX_CODES
        {
            key.1 = OTHER.into();
        }
        let gathered = lines.entry(key).or_default();
        if gathered.count == 0 {
            gathered.cause = cause();
        }
        gathered.count += 1;
        gathered.amount = gathered.amount.saturating_add(event.amount);
        let sample = loggable(event.sample);
        if gathered.samples.len() < MAX_SAMPLES
            && !sample.is_empty()
            && !gathered.samples.iter().any(|known| **known == *sample)
        {
            gathered.samples.push(sample.into());
        }
        is_first
    }

    /// Takes the lines that are due at boot time `now`. One kind of line and code is due once in `pause`.
    pub fn due(
        &self,
        now: Duration,
        pause: impl Fn(L) -> Duration,
    ) -> Vec<(L, Box<str>, Gathered)> {
        let mut due = Vec::new();
        self.lock().retain(|(line, code), gathered| {
            let is_early = gathered.told_at.is_some_and(|at| now < at + pause(*line));
            if !is_early && gathered.count > 0 {
                let told = Gathered {
                    told_at: Some(now),
                    ..Gathered::default()
                };
                due.push((*line, code.clone(), std::mem::replace(gathered, told)));
                return true;
            }
            is_early
        });
        due
    }

    /// Takes all lines that wait, due or not.
    pub fn rest(&self) -> Vec<(L, Box<str>, Gathered)> {
        std::mem::take(&mut *self.lock())
            .into_iter()
            .filter(|(_, gathered)| gathered.count > 0)
            .map(|((line, code), gathered)| (line, code, gathered))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(L, Box<str>), Gathered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    /// The sample names as one field of a line.
    pub fn names(&self) -> String {
        self.samples.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn note(gate: &LogGate<u8>, line: u8, code: &str, sample: &str) -> bool {
        let event = Event {
            code,
            sample,
            amount: 2,
        };
        gate.note(line, event, || Some(format!("because of {sample}")))
    }

    #[test]
    fn however_many_events_there_are_each_code_has_one_line_a_pause() {
        let gate = LogGate::default();
        let mut lines = 0;
        for second in 0..10 {
            for n in 0..1000 {
                note(&gate, 1, "A", &format!("s{n}"));
                note(&gate, 2, "B", "s");
            }
            let pause = |line| if line == 1 { SECOND } else { 60 * SECOND };
            lines += gate.due(second * SECOND, pause).len();
        }
        assert_eq!(lines, 11);
        assert_eq!(gate.rest().len(), 1, "what was not due yet is not lost");
    }

    #[test]
    fn a_line_has_the_count_a_few_names_and_the_first_cause() {
        let gate = LogGate::default();
        assert!(note(&gate, 1, "A", "s0"));
        for n in 0..9 {
            assert!(!note(&gate, 1, "A", &format!("s{n}")));
        }
        let due = gate.due(SECOND, |_| SECOND);
        let [(1, code, gathered)] = &due[..] else {
            panic!("{due:?}")
        };
        assert_eq!((&**code, gathered.count, gathered.amount), ("A", 10, 20));
        assert_eq!(gathered.names(), "s0, s1, s2");
        assert_eq!(gathered.cause.as_deref(), Some("because of s0"));
    }

    #[test]
    fn codes_that_others_choose_are_bounded_too() {
        let gate = LogGate::default();
        for n in 0..1000 {
            note(&gate, 1, &format!("C{n}"), "s");
        }
        let due = gate.due(SECOND, |_| SECOND);
        assert_eq!(due.len(), MAX_CODES + 1);
        let total: u64 = due.iter().map(|(_, _, gathered)| gathered.count).sum();
        assert_eq!(total, 1000);
    }
}
