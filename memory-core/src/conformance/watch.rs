//! Signals of changes.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};

use super::replace::{filled, replace};
use super::unused::DAY;
use super::{Case, Subject, cases_of, key, message, writer};
use crate::Sequence;
use crate::store::{Access, Clear, Read, Splice, StoreWatch};

pub(super) const CASES: &[Case] = cases_of![
    every_kind_of_write_is_signaled,
    signals_are_kept_until_waited_for,
    signal_during_a_wait_ends_it,
    writes_of_other_memories_are_read_as_nothing,
    dropped_watch_leaves_others,
];

/// Returns only if the write is signaled; otherwise the test ends by its time limit.
async fn signaled(watch: &mut dyn StoreWatch) {
    watch.changed().await.unwrap();
}

async fn every_kind_of_write_is_signaled(subject: Subject) {
    let (store, k) = (&subject.store, key("k"));
    let mut watch = store.watch(&k).await.unwrap();
    let outline = filled(&subject).await;
    signaled(&mut *watch).await;
    let by = message("!new");
    store.replace(&k, Access::OPEN, &replace(writer(2).write(1), &outline, 1, by)).await.unwrap();
    signaled(&mut *watch).await;
    let generation = store.head(&k).await.unwrap().generation;
    let evict = Splice { evicted: vec![Sequence::new(2)], ..Splice::new(generation) };
    store.splice(&k, Access::OPEN, &evict).await.unwrap();
    signaled(&mut *watch).await;
    store.clear(&k, Access::OPEN, &Clear::new(writer(2).write(2))).await.unwrap();
    signaled(&mut *watch).await;
    subject.append(&k, writer(1).write(2), &["after"]).await;
    signaled(&mut *watch).await;
    subject.clock.advance(2 * DAY);
    let unused = subject.old().await;
    subject.remove(&unused[0], 100).await;
    signaled(&mut *watch).await;
    assert!(store.read(&k, Read::default()).await.unwrap().messages.is_empty());
}

async fn signals_are_kept_until_waited_for(subject: Subject) {
    let k = key("k");
    let mut watch = subject.store.watch(&k).await.unwrap();
    for number in 1..4 {
        subject.append(&k, writer(1).write(number), &["one"]).await;
    }
    signaled(&mut *watch).await;
    let page = subject.store.read(&k, Read::default()).await.unwrap();
    assert_eq!(page.messages.len(), 3);
    subject.append(&k, writer(1).write(4), &["four"]).await;
    signaled(&mut *watch).await;
}

async fn signal_during_a_wait_ends_it(subject: Subject) {
    let k = key("k");
    let mut watch = subject.store.watch(&k).await.unwrap();
    {
        let mut changed = pin!(watch.changed());
        // A wait that was begun, and is then dropped, loses no signal.
        let _ = changed.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        subject.append(&k, writer(1).write(1), &["one"]).await;
    }
    signaled(&mut *watch).await;
    let mut changed = pin!(watch.changed());
    let _ = changed.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    subject.append(&k, writer(1).write(2), &["two"]).await;
    changed.await.unwrap();
}

/// A signal without a change is allowed, a lost one is not.
async fn writes_of_other_memories_are_read_as_nothing(subject: Subject) {
    let k = key("k");
    let mut watch = subject.store.watch(&k).await.unwrap();
    for number in 1..=3 {
        subject.append(&key("other"), writer(1).write(number), &["other"]).await;
    }
    subject.append(&k, writer(1).write(4), &["one"]).await;
    loop {
        signaled(&mut *watch).await;
        if !subject.store.read(&k, Read::default()).await.unwrap().messages.is_empty() {
            break;
        }
    }
}

async fn dropped_watch_leaves_others(subject: Subject) {
    let k = key("k");
    let first = subject.store.watch(&k).await.unwrap();
    let mut second = subject.store.watch(&k).await.unwrap();
    drop(first);
    subject.append(&k, writer(1).write(1), &["one"]).await;
    signaled(&mut *second).await;
}
