//! Single changes, and the positions of watchers.

use super::*;

fn world(steps: &[Step]) -> World {
    let mut world = World::default();
    for step in steps {
        world.take(step);
    }
    world
}

fn changes(world: &World, tracker: &mut ChangeTracker) -> Vec<Change> {
    let now = world.now();
    let page = world.memory.read(Read { after: tracker.read_after(), limit: None }, now);
    match tracker.advance(page) {
        Ok(change) => change.into_iter().collect(),
        Err(NeedsComparison) => {
            let (head, receipts) = (world.memory.head(now), world.memory.receipts(now));
            let erasures = world.memory.erasures(now);
            let page = world.memory.read(Read::default(), now);
            let compared = tracker.compare(&page, &receipts, &erasures, &head).unwrap();
            compared.into_iter().map(|(change, _)| change).collect()
        }
    }
}

#[test]
fn a_flush_is_one_removal_with_its_summary() {
    let mut world = world(&[Step::Append(3), Step::Append(3)]);
    let mut tracker = ChangeTracker::start();
    assert!(
        matches!(&changes(&world, &mut tracker)[..], [Change::Appended(six)] if six.len() == 6)
    );
    world.take(&Step::Flush { summarized: 0b1110, evicted: 0b1 });
    world.take(&Step::Append(1));
    let seen = changes(&world, &mut tracker);
    let [Change::Removed(evicted), Change::Removed(summarized), Change::Appended(new)] = &seen[..]
    else {
        panic!("{seen:?}")
    };
    let range = |removal: &Removal| (removal.first.number(), removal.last.number(), removal.reason);
    assert_eq!(range(evicted), (1, 1, RemovalReason::Evicted));
    assert_eq!(range(summarized), (2, 4, RemovalReason::Summarized));
    assert!(evicted.summary.is_none() && summarized.summary.is_some());
    assert_eq!(new[0].meta.sequence, Sequence::new(7));
    assert!(changes(&world, &mut tracker).is_empty());
}

#[test]
fn messages_that_came_and_went_are_a_range() {
    let mut world = world(&[Step::Append(2)]);
    let mut tracker = ChangeTracker::start();
    changes(&world, &mut tracker);
    for step in [Step::Append(3), Step::Flush { summarized: 0, evicted: 0b11100 }, Step::Append(1)]
    {
        world.take(&step);
    }
    let seen = changes(&world, &mut tracker);
    let [Change::Removed(gone), Change::Appended(new)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((gone.first.number(), gone.last.number()), (3, 5));
    assert_eq!(new[0].meta.sequence, Sequence::new(6));
}

#[test]
fn clear_reports_its_last_place() {
    let mut world = world(&[Step::Append(4)]);
    let mut tracker = ChangeTracker::start();
    changes(&world, &mut tracker);
    for step in [Step::Append(1), Step::Clear, Step::Append(2), Step::Replace(0)] {
        world.take(&step);
    }
    let seen = changes(&world, &mut tracker);
    let [Change::Cleared { last }, Change::Appended(new)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((last.number(), new.len()), (5, 2));
    world.take(&Step::Replace(1));
    assert!(matches!(&changes(&world, &mut tracker)[..], [Change::Replaced(_)]));
}

#[test]
fn resumed_watcher_goes_on_in_its_generation() {
    let mut world = world(&[Step::Append(2)]);
    let mut tracker = ChangeTracker::start();
    changes(&world, &mut tracker);
    world.take(&Step::Append(1));
    let mut resumed = ChangeTracker::resume(tracker.cursor(), &world.memory.outline(world.now()));
    assert!(
        matches!(&changes(&world, &mut resumed)[..], [Change::Appended(one)] if one.len() == 1)
    );
    world.take(&Step::Flush { summarized: 0b11, evicted: 0 });
    assert!(matches!(&changes(&world, &mut resumed)[..], [Change::Removed(_)]));
    let mut late = ChangeTracker::resume(tracker.cursor(), &world.memory.outline(world.now()));
    let seen = changes(&world, &mut late);
    assert!(
        matches!(&seen[..], [Change::Lagged, Change::Removed(_), Change::Appended(_)]),
        "{seen:?}"
    );
}

#[test]
fn receipts_of_another_generation_are_read_again() {
    let mut world = world(&[Step::Append(2)]);
    let head = world.memory.head(world.now());
    world.take(&Step::Flush { summarized: 0b1, evicted: 0 });
    let page = world.memory.read(Read::default(), world.now());
    assert_eq!(ChangeTracker::start().compare(&page, &[], &[], &head), None);
}

#[test]
fn undone_flush_is_reported_with_its_messages() {
    let mut world = world(&[Step::Append(5)]);
    let mut tracker = ChangeTracker::start();
    changes(&world, &mut tracker);
    world.take(&Step::Flush { summarized: 0b1110, evicted: 0b1 });
    changes(&world, &mut tracker);
    world.take(&Step::Restore(0));
    let seen = changes(&world, &mut tracker);
    let [Change::Restored(first), Change::Removed(summary), Change::Restored(rest)] = &seen[..]
    else {
        panic!("{seen:?}")
    };
    let range = (summary.first.number(), summary.last.number(), summary.reason);
    assert_eq!(range, (2, 2, RemovalReason::Undone));
    let places = |messages: &[StoredMessage]| {
        messages.iter().map(|message| message.meta.sequence.number()).collect::<Vec<_>>()
    };
    assert_eq!((places(first), places(rest)), (vec![1], vec![2, 3, 4]));
}

#[test]
fn earlier_summary_returns_when_the_later_is_undone() {
    let mut world = world(&[Step::Append(4), Step::Flush { summarized: 0b11, evicted: 0 }]);
    let mut tracker = ChangeTracker::start();
    changes(&world, &mut tracker);
    world.take(&Step::Flush { summarized: 0b11, evicted: 0 });
    assert!(matches!(&changes(&world, &mut tracker)[..], [Change::Removed(_)]));
    world.take(&Step::Restore(0));
    let seen = changes(&world, &mut tracker);
    let [Change::Removed(undone), Change::Restored(messages)] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(undone.reason, RemovalReason::Undone);
    assert!(messages.len() == 2 && messages[0].meta.summary);
}
