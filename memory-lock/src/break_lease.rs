//! Taking a lease away from its holder.

use std::sync::Arc;
use std::time::Duration;

use crate::answer::HandOver;
use crate::error::{LockError, LockErrorKind, LockOperation};
use crate::finish::Finish;
use crate::give_up::release_in_background;
use crate::key::LockKey;
use crate::shared::Shared;
use crate::{LeaseInfo, OwnerId};

/// The TTL of the lease for the caller that breaks it, in case it is not released.
const BREAK_TTL: Duration = Duration::from_secs(2);
/// The most consecutive holders that are tried.
const ATTEMPTS: u32 = 16;

/// Takes the lease away from its holder. If it is dropped while it looks for the holder, nothing was done.
/// If it is dropped later, only the lease of that holder is broken, in the background: later holders keep
/// theirs.
pub(crate) async fn break_lease(
    shared: &Arc<Shared>,
    key: &LockKey,
) -> Result<Option<LeaseInfo>, LockError> {
    for _ in 0..ATTEMPTS {
        let inspect = shared.client.backend.inspect(key);
        let limit = shared.client.options.answer_timeout();
        let found = shared.client.answer(LockOperation::Inspect, limit, inspect).await;
        let Some(holder) = found.map_err(|error| error.with_key(key))? else { return Ok(None) };
        let taken = take_from(Arc::clone(shared), key.clone(), holder.owner);
        if Finish::new(&shared.client, taken).await? {
            return Ok(Some(holder));
        }
    }
    Err(LockError::new(LockErrorKind::Busy, LockOperation::HandOver)
        .with_key(key)
        .with_detail(
            "its holders change too quickly for it to be stuck; ask `inspect` who holds it",
        )
        .not_applied())
}

/// Passes the lease of `holder` to a new owner, which raises its token, and releases it. False if `holder`
/// no longer has it.
async fn take_from(shared: Arc<Shared>, key: LockKey, holder: OwnerId) -> Result<bool, LockError> {
    let owner = shared.client.random.owner();
    let limit = shared.client.options.answer_timeout();
    let hand_over = shared.client.backend.hand_over(&key, holder, owner, BREAK_TTL);
    match shared.client.answer(LockOperation::HandOver, limit, hand_over).await {
        Ok(HandOver::NotOwner) => Ok(false),
        Ok(HandOver::HandedOver { .. }) => {
            shared.refresher.lose_stolen(holder);
            let release = shared.client.backend.release(&key, owner);
            if shared.client.answer(LockOperation::Release, limit, release).await.is_err() {
                release_in_background(&shared.client, &key, owner, BREAK_TTL);
            }
            Ok(true)
        }
        Err(error) => {
            release_in_background(&shared.client, &key, owner, BREAK_TTL);
            Err(error.with_key(&key))
        }
    }
}
