//! The few connections over the limit that are still listened to, so that probes get through.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// How many there may be.
const PLACES: usize = 4;

/// The places for guests: connections over the limit, to be told so, or answered if they ask for health.
#[derive(Debug, Default)]
pub(super) struct Reserve(Arc<Mutex<VecDeque<Arc<Place>>>>);

#[derive(Debug)]
struct Place {
    leave: CancellationToken,
    /// The guest has asked and has not been answered yet.
    is_waiting: AtomicBool,
}

/// A guest's stay; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Guest {
    place: Arc<Place>,
    places: Arc<Mutex<VecDeque<Arc<Place>>>>,
}

impl Reserve {
    /// A place for a new guest. Where all are taken the oldest guest gives way that waits for no answer: it
    /// has not asked yet, or has had its answer and does not go. `None` if every one waits. Guests leave when
    /// `stop` is cancelled, too.
    pub(super) fn take_in(&self, stop: &CancellationToken) -> Option<Guest> {
        let mut places = lock(&self.0);
        if places.len() >= PLACES {
            let idle = places
                .iter()
                .position(|place| !place.is_waiting.load(Ordering::Relaxed))?;
            if let Some(place) = places.remove(idle) {
                place.leave.cancel();
            }
        }
        let place = Arc::new(Place {
            leave: stop.child_token(),
            is_waiting: AtomicBool::new(false),
        });
        places.push_back(Arc::clone(&place));
        Some(Guest {
            place,
            places: Arc::clone(&self.0),
        })
    }
}

impl Guest {
    /// Cancelled when the guest must go.
    pub(super) fn leave(&self) -> CancellationToken {
        self.place.leave.clone()
    }

    /// Notes whether the guest waits for an answer.
    pub(super) fn set_waiting(&self, is_waiting: bool) {
        self.place.is_waiting.store(is_waiting, Ordering::Relaxed);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        lock(&self.places).retain(|place| !Arc::ptr_eq(place, &self.place));
    }
}

fn lock(places: &Mutex<VecDeque<Arc<Place>>>) -> MutexGuard<'_, VecDeque<Arc<Place>>> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_guest_that_waits_for_nothing_gives_way() {
        let (reserve, stop) = (Reserve::default(), CancellationToken::new());
        let guests: Vec<Guest> = (0..PLACES)
            .map(|_| reserve.take_in(&stop).unwrap())
            .collect();
        guests[0].set_waiting(true);
        let late = reserve.take_in(&stop).unwrap();
        let left: Vec<bool> = guests
            .iter()
            .map(|guest| guest.leave().is_cancelled())
            .collect();
        assert_eq!(left, [false, true, false, false]);
        for guest in guests.iter().skip(2).chain([&late]) {
            guest.set_waiting(true);
        }
        assert!(reserve.take_in(&stop).is_none());
        guests[0].set_waiting(false);
        let later = reserve.take_in(&stop).unwrap();
        assert!(guests[0].leave().is_cancelled());
        later.set_waiting(true);
        drop(late);
        assert!(reserve.take_in(&stop).is_some());
    }
}
