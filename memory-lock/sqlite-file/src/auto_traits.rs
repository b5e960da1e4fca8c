//! Checks at compile time that programs with several threads can share what a file's users share, and can move the
//! rest to another thread.

use crate::{
    FileIdentity, LeaseObserver, LeaseState, LeaseTable, NoThread, OpenOptions, PausedRuntime,
    SqliteError, SystemClock, WorkerThreads,
};

const fn shared<T: Send + Sync + 'static>() {}

const _: () = {
    shared::<FileIdentity>();
    shared::<LeaseObserver>();
    shared::<LeaseState>();
    shared::<LeaseTable>();
    shared::<NoThread<()>>();
    shared::<OpenOptions>();
    shared::<PausedRuntime>();
    shared::<SqliteError>();
    shared::<SystemClock>();
    shared::<WorkerThreads>();
};
