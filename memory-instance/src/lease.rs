//! Who holds the leases of a memory, and taking them away.

use memory_lock::{LeaseInfo, LockKey};

use crate::error::MemoryError;
use crate::instance::{Inner, MemoryInstance};
use crate::write::Write;

/// The leases of a memory that are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Leases {
    /// That of its writers: held during an exclusive turn, and by writes that wait in line.
    pub memory: Option<LeaseInfo>,
    /// That of its flushers: held while a flush runs.
    pub flush: Option<LeaseInfo>,
}

impl MemoryInstance {
    /// Who holds the leases of the memory, in any process.
    ///
    /// # Errors
    /// [`MemoryError::Lock`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn leases(&self) -> Result<Leases, MemoryError> {
        let inner = &self.inner;
        let inspect = async |lease: &LockKey| {
            inner.backend.locks.inspect(lease).await.map_err(|reason| inner.lock_error(reason))
        };
        Ok(Leases {
            memory: inspect(&inner.lease).await?,
            flush: inspect(&inner.flush_lease).await?,
        })
    }

    /// Takes the leases of the memory away from whoever holds them, in any process, and frees them; returns
    /// whose they were. For operators, when a turn or a flush is stuck: a holder that is alive is fenced off,
    /// what it still writes is refused, and it learns of the loss with its next refresh.
    ///
    /// # Errors
    /// [`MemoryError::Lock`]; [`MemoryError::Store`] if the holder's token could not be outdated where leases
    /// live elsewhere than the store.
    ///
    /// # Cancel safety
    /// Dropped before its end, each lease is broken or not.
    pub async fn break_leases(&self) -> Result<Leases, MemoryError> {
        let inner = &self.inner;
        let locks = &inner.backend.locks;
        let break_one = async |lease: &LockKey| {
            locks.break_lease(lease).await.map_err(|reason| inner.lock_error(reason))
        };
        let memory = break_one(&inner.lease).await?;
        if memory.is_some() && !inner.backend.is_fused() {
            inner.outdate_tokens().await?;
        }
        Ok(Leases { memory, flush: break_one(&inner.flush_lease).await? })
    }
}

impl Inner {
    /// Shows the store a token that is newer than that of a broken lease, where the store cannot look at
    /// leases. Another who has the lease by now does so with its first write.
    async fn outdate_tokens(&self) -> Result<(), MemoryError> {
        let taken = self.backend.locks.try_lock(&self.lease, &self.rules.lock).await;
        if let Some(guard) = taken.map_err(|reason| self.lock_error(reason))? {
            self.write(Write::Claim, Some(guard.proof())).await?;
            guard.release().await;
        }
        Ok(())
    }
}
