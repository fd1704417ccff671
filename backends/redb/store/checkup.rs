//! The check of the whole file after a start: a thread that takes its time, and nobody else's.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::shared::Shared;

/// How long the check may keep the disk busy before it pauses for as long.
const PIECE: Duration = Duration::from_millis(10);

/// Begins to compare the file, as it is now, with its checksums. What is wrong is left for the writing thread.
pub(crate) fn start(shared: &Arc<Shared>) {
    let opening = shared.lock().opening;
    let pace = Mutex::new(Pace::default());
    let checkup = {
        let shared = Arc::clone(shared);
        move |disk: &Disk| {
            disk.checkup(move || {
                let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
                if shared.give_way() {
                    *pace = Pace::default();
                }
                pace.pause();
            })
        }
    };
    let Some(Ok(checkup)) = shared.ask(checkup) else {
        return;
    };
    let started = thread::Builder::new()
        .name("kms-store-check".to_owned())
        .spawn({
            let shared = Arc::clone(shared);
            move || {
                if let Err(fault) = checkup.run() {
                    shared.lock().report(opening, fault);
                    shared.wake();
                }
            }
        });
    if let Err(error) = started {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "The cache's store could not be checked"
        );
    }
}

/// Half of the time, the disk is for others.
#[derive(Debug, Default)]
struct Pace {
    began: Option<Instant>,
}

impl Pace {
    fn pause(&mut self) {
        let began = self.began.get_or_insert_with(Instant::now);
        let busy = began.elapsed();
        if busy >= PIECE {
            thread::sleep(busy);
            self.began = None;
        }
    }
}
