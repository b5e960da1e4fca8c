//! Listing and breaking the leases of a memory.

use std::time::Duration;

use memory_core::store::Splice;
use memory_lock::{LeaseInfo, LockGuard, LockKey};

use crate::commit::Committed;
use crate::error::MemoryError;
use crate::inner::{ATTEMPTS, Inner};
use crate::instance::MemoryInstance;
use crate::telemetry::operation;
use crate::write::ClaimFence;

/// The lower bound for the maximum hold of a lease that is taken to raise the store's newest token.
const MIN_HOLD: Duration = Duration::from_secs(2);

/// The leases of a memory that are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Leases {
    /// The writers' lease, held during an exclusive turn and by writes that wait in line.
    pub memory: Option<LeaseInfo>,
    /// The flushers' lease, held while a flush runs.
    pub flush: Option<LeaseInfo>,
}

impl MemoryInstance {
    /// The holders of the memory's leases, in any process.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory
    ///     .exclusive(|session| {
    ///         let memory = &memory;
    ///         async move {
    ///             let leases = memory.leases().await?;
    ///             assert_eq!(leases.memory.map(|lease| lease.token), Some(session.fence()));
    ///             Ok::<_, memory_instance::MemoryError>(())
    ///         }
    ///     })
    ///     .await??;
    /// assert_eq!(memory.leases().await?.memory, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Lock`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn leases(&self) -> Result<Leases, MemoryError> {
        let work = async {
            let inner = &self.inner;
            let inspect = async |lease: &LockKey| {
                inner.backend.locks.inspect(lease).await.map_err(|reason| inner.lock_error(reason))
            };
            Ok(Leases {
                memory: inspect(&inner.lease).await?,
                flush: inspect(&inner.flush_lease).await?,
            })
        };
        operation!(&*self.inner, "leases", work).await
    }

    /// Breaks the leases of the memory, whichever process holds them, and returns the broken leases. This is for
    /// operators, when a turn or a flush is stuck. A holder that is alive is fenced off: its later writes are
    /// refused, and its next refresh reports the loss. If leases are kept elsewhere than the messages and another
    /// process takes the lease at the same moment, the old holder is fenced off by the first write of that process.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{ExclusiveError, Message};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// let turn = memory.exclusive(|session| {
    ///     let operator = memory.clone();
    ///     async move {
    ///         operator.break_leases().await?;
    ///         session.append(Message::assistant("refund granted")).await
    ///     }
    /// });
    /// // The turn is over, and its append was refused.
    /// assert!(matches!(turn.await, Err(ExclusiveError::Lost { .. })));
    /// assert!(memory.is_empty().await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The first error, after both leases were tried: [`MemoryError::Lock`] for a lease that could not be broken;
    /// if leases are kept elsewhere than the messages, also [`MemoryError::Lock`] or [`MemoryError::Store`] if a
    /// holder's token could not be outdated. Call it again then: it completes the remaining steps.
    /// # Cancel safety
    /// Dropping the future leaves each lease broken or not. A holder that takes a lease later keeps it.
    pub async fn break_leases(&self) -> Result<Leases, MemoryError> {
        let work = async {
            let inner = &self.inner;
            let locks = &inner.backend.locks;
            let break_one = async |lease: &LockKey| {
                locks.break_lease(lease).await.map_err(|reason| inner.lock_error(reason))
            };
            let memory = break_one(&inner.lease).await;
            let flush = break_one(&inner.flush_lease).await;
            // An attempt without an answer may have broken the lease, and an earlier call may have ended right after
            // breaking it. So the tokens are outdated even if no lease was found.
            let outdated = if inner.backend.is_fused() {
                [Ok(()), Ok(())]
            } else {
                let writers = match memory {
                    Ok(None) => inner.outdate_writers_if_written().await,
                    Ok(Some(_)) | Err(_) => inner.outdate_writers().await,
                };
                [writers, inner.outdate_flushers().await]
            };
            let leases = Leases { memory: memory?, flush: flush? };
            outdated.into_iter().collect::<Result<(), _>>()?;
            Ok(leases)
        };
        operation!(&*self.inner, "break_leases", work).await
    }
}

/// Shows the store a newer token than that of a broken lease, if the store cannot check leases itself. A new
/// holder that has the lease already does this with its first write.
impl Inner {
    async fn outdate_writers_if_written(&self) -> Result<(), MemoryError> {
        // A memory that was never written does not have to be created for this.
        if self.head().await?.version == 0 {
            return Ok(());
        }
        self.outdate_writers().await
    }

    async fn outdate_writers(&self) -> Result<(), MemoryError> {
        if let Some(guard) = self.take_broken(&self.lease).await? {
            let (claim, waits) = (ClaimFence(guard.proof()), self.rules.lock.wait_timeout());
            self.write(&claim, Some(guard.proof()), waits).await?;
            guard.release().await;
        }
        Ok(())
    }

    async fn outdate_flushers(&self) -> Result<(), MemoryError> {
        let Some(guard) = self.take_broken(&self.flush_lease).await? else { return Ok(()) };
        for _ in 0..ATTEMPTS {
            let head = self.head().await?;
            // A flush of a memory that does not exist commits nothing.
            if head.version == 0 {
                return Ok(());
            }
            // This splice only raises the newest token of flushers.
            let mut splice = Splice::new(head.generation);
            splice.flusher = Some(guard.proof());
            match self.commit(None, &splice, self.rules.lock.wait_timeout()).await? {
                Committed::Applied(_) => {
                    guard.release().await;
                    return Ok(());
                }
                Committed::Outdated => {}
            }
        }
        Err(self.contended("break the leases of"))
    }

    /// Takes the lease, unless another holder has it already.
    async fn take_broken(&self, lease: &LockKey) -> Result<Option<LockGuard>, MemoryError> {
        // Bounds the wait of others if the caller keeps this call without polling it.
        let held = self.rules.lock.wait_timeout().saturating_add(self.rules.lock.failure_timeout());
        let options = self.rules.lock.with_max_hold(Some(held.max(MIN_HOLD)));
        let taken = self.backend.locks.try_lock(lease, &options).await;
        taken.map_err(|reason| self.lock_error(reason).into())
    }
}
