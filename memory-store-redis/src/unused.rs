//! Unused memories, and their removal.

use memory_core::lease::LeaseProof;
use memory_core::store::{
    Access, Generation, MessageId, Newest, RemoveUnused, RemovedUnused, StoreError, StoreErrorKind,
    StoreOperation, UnusedMemory, UnusedPage, UnusedQuery,
};
use memory_core::{MemoryKey, Sequence};
use memory_redis_link::{LinkError, Reply};
use uuid::Uuid;

use crate::codec;
use crate::commands::{Answer, right};
use crate::error::store_error;
use crate::names::{Found, KEPT_NAMES};
use crate::reads::LOOKED_AT;
use crate::scripts::{REMOVE, UNUSED};
use crate::store::RedisStore;

const OPERATION: StoreOperation = StoreOperation::ListUnused;

impl RedisStore {
    pub(crate) async fn list_unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
        let limit = query.limit.get();
        let Found { mut names, is_cut } = match self.found.take(query) {
            Some(found) => found,
            None => {
                let most = KEPT_NAMES.max(limit);
                self.names(OPERATION, &query.prefix, query.after.as_ref(), most).await?.into()
            }
        };
        let rest = names.split_off(limit.min(names.len()));
        let goes_on = is_cut || !rest.is_empty();
        let next = names.last().filter(|_| goes_on).cloned();
        let mut page = UnusedPage::new(Vec::new(), next);
        for some in names.chunks(LOOKED_AT) {
            let looks = some.iter().map(|key| self.look_at_unused(key, query));
            for found in futures::future::join_all(looks).await {
                match found {
                    Ok(found) => page.memories.extend(found),
                    Err(error) => match error.kind() {
                        StoreErrorKind::Unfinished => {
                            page.memories.extend(self.unused_copy(&error, query).await?);
                        }
                        // A head of another version, or no memory: it must not be removed unseen.
                        StoreErrorKind::Newer { .. } | StoreErrorKind::Corrupt(_) => {
                            tracing::warn!(%error, "passed over a memory");
                        }
                        _ => return Err(error),
                    },
                }
            }
        }
        if let Some(next) = &page.next {
            self.found.keep(&query.prefix, next, Found { names: rest, is_cut });
        }
        Ok(page)
    }

    /// The unfinished copy whose head could not be read, if it is selected.
    async fn unused_copy(
        &self,
        error: &StoreError,
        query: &UnusedQuery,
    ) -> Result<Option<UnusedMemory>, StoreError> {
        let Some(key) = error.key() else { return Ok(None) };
        let listed = self.listed_copy(key).await;
        let listed = listed.map_err(|fault| store_error(OPERATION, Some(key), fault))?;
        let is_selected = |(listed, now): &(UnusedMemory, u64)| {
            query.matches(listed, listed.generation.number(), *now)
        };
        Ok(listed.filter(is_selected).map(|(listed, _)| listed))
    }

    async fn look_at_unused(
        &self,
        key: &MemoryKey,
        query: &UnusedQuery,
    ) -> Result<Option<UnusedMemory>, StoreError> {
        let failed = |fault| store_error(OPERATION, Some(key), fault);
        let flush_lease = self.link().keys().lease(&key.flush_lease_name());
        let call = self.call(&UNUSED, key, &[flush_lease]);
        let answer = self.link().run(&UNUSED, &call).await.map_err(failed)?;
        let Some(mut reply) = Reply::array(answer).map_err(failed)? else { return Ok(None) };
        let mut read = || -> Result<_, LinkError> {
            let (generation, version) = (reply.number()?, reply.number()?);
            let messages = reply.number()?;
            let created: u64 = reply.optional_number()?.unwrap_or_default();
            let expired = reply.number::<u8>()? == 1;
            let now = reply.number()?;
            let (sequence, id) = (Sequence::new(reply.number()?), reply.text()?);
            let id = Uuid::try_parse(&id).ok().map(MessageId::new);
            let newest = id.map(|id| Newest { sequence, id });
            let mut listed = UnusedMemory::new(key.clone(), Generation::new(generation), version);
            (listed.newest, listed.messages, listed.expired) = (newest, messages, expired);
            Ok(query.matches(&listed, created.max(generation), now).then_some(listed))
        };
        read().map_err(failed)
    }

    pub(crate) async fn remove_unused(
        &self,
        key: &MemoryKey,
        remove: RemoveUnused,
    ) -> Result<RemovedUnused, StoreError> {
        const REMOVING: StoreOperation = StoreOperation::Remove;
        let failed = |fault| store_error(REMOVING, Some(key), fault);
        if remove.version == 0 {
            // Only a copy that is not complete has no writes.
            self.remove_copy(key, remove.access, remove.generation).await?;
            return Ok(RemovedUnused::complete(0));
        }
        let flush_lease = self.link().keys().lease(&key.flush_lease_name());
        let mut call = self.call(&REMOVE, key, &[flush_lease]);
        let RemoveUnused { generation, version, newest, access, flusher, .. } = remove;
        let token = right(&mut call, access);
        let token = match flusher {
            Some(flusher @ LeaseProof { token: flushers, .. }) => {
                right(&mut call, Access::with_lease(flusher));
                token.max(flushers)
            }
            None => {
                right(&mut call, Access::OPEN);
                token
            }
        };
        call.arg(generation.number()).arg(version);
        call.arg(codec::optional_id(newest.map(|newest| newest.id)));
        match self.write(REMOVING, key, &REMOVE, &call, token).await? {
            Answer::Applied(mut reply) => {
                Ok(RemovedUnused::complete(reply.number().map_err(failed)?))
            }
            _ => Err(failed(LinkError::odd_answer())),
        }
    }
}
