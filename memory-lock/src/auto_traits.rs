//! Checks at compile time that programs with several threads can use the public types and spawn the futures.

use std::time::Duration;

use crate::{
    InProcessLock, LeaseScope, LockError, LockGuard, LockKey, LockManager, LockOptions,
    ManagerOptions, WithLockError,
};

const fn shared<T: Send + Sync + 'static>() {}
const fn spawned<T: Send>(_: &T) {}

const _: () = {
    shared::<LockManager>();
    shared::<LockGuard>();
    shared::<LeaseScope>();
    shared::<LockKey>();
    shared::<LockOptions>();
    shared::<ManagerOptions>();
    shared::<LockError>();
    shared::<WithLockError<()>>();
    shared::<InProcessLock>();
    #[cfg(feature = "sqlite")]
    shared::<crate::SqliteLock>();
    #[cfg(feature = "redis")]
    shared::<crate::RedisLock>();
    #[cfg(feature = "redlock")]
    shared::<crate::RedlockLock>();
};

/// The body is compiled and never run.
const _: fn(&LockManager, LockGuard, &LockKey, &LockOptions) = |locks, guard, key, options| {
    spawned(&locks.lock(key, options));
    spawned(&locks.try_lock(key, options));
    spawned(&locks.with_lock_refresh(key, options, |lease| async move { lease.ensure_held() }));
    spawned(&locks.inspect(key));
    spawned(&locks.break_lease(key));
    spawned(&locks.shutdown(Duration::ZERO));
    spawned(&locks.until_released(Duration::ZERO));
    spawned(&guard.lost());
    spawned(&guard.release());
};
