use super::*;

fn take(slots: &ConnectionSlots) -> Option<ConnectionSlot> {
    slots.take(&CancellationToken::new())
}

/// Takes `count` slots; panics if there are not so many.
fn take_many(slots: &ConnectionSlots, count: usize) -> Vec<ConnectionSlot> {
    (0..count).map(|_| take(slots).unwrap()).collect()
}

fn evicted(held: &[ConnectionSlot]) -> Vec<bool> {
    held.iter().map(ConnectionSlot::is_evicted).collect()
}

#[test]
fn the_oldest_silent_connection_gives_way_first() {
    let slots = ConnectionSlots::new(3);
    let held = take_many(&slots, 3);
    held[0].begin_answer();
    let newcomer = take(&slots).unwrap();
    assert!(!newcomer.is_overflow());
    assert_eq!(evicted(&held), [false, true, false]);
    held[0].end_answers();
    take(&slots).unwrap();
    assert_eq!(evicted(&held), [true, true, false], "by age again");
}

#[test]
fn a_connection_with_the_token_never_gives_way_to_a_newcomer() {
    let slots = ConnectionSlots::new(2);
    let held = take_many(&slots, 2);
    for slot in &held {
        slot.begin_answer();
        slot.note_token();
    }
    let overflow = take_many(&slots, OVERFLOW_SHARE + 1);
    assert!(overflow.iter().all(ConnectionSlot::is_overflow));
    assert_eq!(evicted(&held), [false, false]);
    assert_eq!(
        evicted(&overflow),
        [true, false, false, false, false],
        "the oldest of the connections over the limit does"
    );
    for slot in &overflow[1..] {
        slot.begin_answer();
    }
    assert!(take(&slots).is_none(), "each of them is owed an answer");
    drop(held);
    assert!(!take(&slots).unwrap().is_overflow());
}

#[test]
fn a_half_closed_connection_gives_way_after_the_silent_ones_only() {
    let slots = ConnectionSlots::new(2);
    let held = take_many(&slots, 2);
    held[0].begin_answer();
    held[0].note_token();
    held[0].note_half_closed();
    let newcomer = take(&slots).unwrap();
    assert_eq!(evicted(&held), [false, true]);
    newcomer.begin_answer();
    assert!(!take(&slots).unwrap().is_overflow());
    assert_eq!(evicted(&held), [true, true]);
}

#[test]
fn a_request_that_came_with_the_order_to_leave_is_still_owed_its_answer() {
    let slots = ConnectionSlots::new(1);
    let first = take(&slots).unwrap();
    let second = take(&slots).unwrap();
    assert!(first.is_evicted());
    first.begin_answer();
    assert!(!first.is_evicted());
    first.note_half_closed();
    second.begin_answer();
    assert!(take(&slots).unwrap().is_overflow(), "both are owed answers");
    drop(first);
    assert!(take(&slots).unwrap().is_overflow());
    drop(second);
    assert!(!take(&slots).unwrap().is_overflow());
}

#[test]
fn nothing_stays_in_the_lists() {
    let slots = ConnectionSlots::new(8);
    let held = take_many(&slots, 100);
    assert!(slots.is_crowded());
    for slot in held.iter().step_by(2) {
        slot.begin_answer();
        slot.note_half_closed();
        slot.end_answers();
    }
    drop(held);
    let state = lock(&slots.0);
    for class in [&state.served, &state.overflow] {
        assert_eq!(class.taken, 0);
        assert!(class.silent.is_empty());
        assert!(class.half_closed.is_empty());
        assert!(class.leaving.is_empty());
    }
}
