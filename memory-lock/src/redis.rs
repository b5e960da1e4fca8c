//! Leases in Redis or Valkey, for any number of machines.
//!
//! [`RedisLock`] stores the leases on the server of a [`RedisLink`], which a store on the same server
//! shares. The crate `memory-redis-link` has the connection, its errors and its keys.

mod error;
mod lock;
mod replies;
mod waiters;

#[cfg(feature = "redlock")]
pub(crate) use error::lock_error;
pub use lock::RedisLock;
#[cfg(feature = "redlock")]
pub(crate) use lock::{ACQUIRE, HAND_OVER, millis};
pub use memory_redis_link::{Acknowledge, LinkError, RedisConfig, RedisLink};
#[cfg(feature = "redlock")]
pub(crate) use replies::{AcquireReply, acquired, handed_over};
