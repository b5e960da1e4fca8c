//! Taking a lease away from whoever holds it.

use std::sync::Arc;
use std::time::Duration;

use crate::LeaseInfo;
use crate::answer::HandOver;
use crate::error::{LockError, LockErrorKind, LockOperation};
use crate::give_up::release_in_background;
use crate::key::LockKey;
use crate::shared::Shared;

/// How long the lease lasts for the one who breaks it, should it not be released.
const BREAK_TTL: Duration = Duration::from_secs(2);
/// How many holders in a row are tried.
const ATTEMPTS: u32 = 16;

/// Passes the lease to a new owner, which raises its token, and releases it.
pub(crate) async fn break_lease(
    shared: Arc<Shared>,
    key: LockKey,
) -> Result<Option<LeaseInfo>, LockError> {
    let owner = shared.random.owner();
    let limit = shared.options.answer_timeout();
    for _ in 0..ATTEMPTS {
        let inspect = shared.backend.inspect(&key);
        let found = shared.answer(LockOperation::Inspect, limit, inspect).await;
        let Some(holder) = found.map_err(|error| error.with_key(&key))? else { return Ok(None) };
        let hand_over = shared.backend.hand_over(&key, holder.owner, owner, BREAK_TTL);
        match shared.answer(LockOperation::HandOver, limit, hand_over).await {
            Ok(HandOver::NotOwner) => {}
            Ok(HandOver::HandedOver { .. }) => {
                shared.refresher.lose_stolen(holder.owner);
                let release = shared.backend.release(&key, owner);
                if shared.answer(LockOperation::Release, limit, release).await.is_err() {
                    release_in_background(&shared, &key, owner, BREAK_TTL);
                }
                return Ok(Some(holder));
            }
            Err(error) => {
                release_in_background(&shared, &key, owner, BREAK_TTL);
                return Err(error.with_key(&key));
            }
        }
    }
    Err(LockError::new(LockErrorKind::Busy, LockOperation::HandOver)
        .with_key(&key)
        .with_detail(
            "its holders change too quickly for it to be stuck; ask `inspect` who holds it",
        )
        .not_applied())
}
