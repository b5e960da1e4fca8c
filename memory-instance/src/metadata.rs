//! Metadata of a memory: named JSON values beside its messages.

use memory_core::lease::LeaseProof;
use memory_core::resource::{Redactions, Redactor};
use memory_core::store::{
    Access, Metadata, MetadataError, MetadataPatch, StoreError, StoreErrorKind, StoreOperation,
    UpdateMetadata,
};

use crate::asking::Answering;
use crate::audit::{AuditOperation, Audited};
use crate::error::MemoryError;
use crate::exclusive::Session;
use crate::inner::Inner;
use crate::instance::MemoryInstance;
use crate::telemetry::operation;
use crate::version::Conditional;
use crate::write::WriteRequest;

const OPERATION: &str = "update the metadata of";

impl MemoryInstance {
    /// The metadata of the memory: named JSON values that describe it as a whole. Without any, the revision is 0.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn metadata(&self) -> Result<Metadata, MemoryError> {
        let work = async { Ok(self.inner.store().metadata(&self.inner.key).await?) };
        operation!(&*self.inner, "metadata", work).await
    }

    /// Sets and removes names of the metadata; other names keep their values. `null` removes a name. At most 64 names of
    /// 128 bytes, and 16 KiB as JSON.
    ///
    /// With an expected revision (0 for a memory without metadata), nothing is changed if another update came
    /// meanwhile: compare-and-set. The conflict has the metadata as it is then. The revision is that of the metadata alone,
    /// so an update is no conflict for [`append_if`](Self::append_if), and a message is none for an update.
    ///
    /// It is a write like an append: it creates a memory that does not exist, renews the TTL, is audited, and waits for the
    /// turns of others. Values are redacted by the privacy policy. Metadata is not in windows and searches. A
    /// [`clear`](Self::clear), a [`purge`](Self::purge) and an [`erase`](Self::erase) keep it, a
    /// [`delete`](Self::delete) and the end of the TTL remove it; backups, copies and forks have it.
    ///
    /// If the answer to a request is lost, the call sends it again, and the store recognizes it: it reports no false
    /// conflict, and the metadata that it returns may then have later updates.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{Conditional, MetadataPatch};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// let set = memory.update_metadata([("customer", "ACME"), ("state", "open")], None).await?;
    /// assert!(set.applied().is_some(), "without an expected revision there is no conflict");
    /// let now = memory.metadata().await?;
    /// let close = MetadataPatch::new().with("state", "closed").with("messages", 7_u64).without("customer");
    /// match memory.update_metadata(close, Some(now.revision)).await? {
    ///     Conditional::Applied(metadata) => {
    ///         assert_eq!(metadata.values.to_string(), r#"{"state":"closed","messages":7}"#);
    ///     }
    ///     Conditional::Conflict(metadata) => println!("at revision {}", metadata.revision),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StoreErrorKind::Metadata`] for a name or a size over the limit, and for a name with a secret, which could take
    /// the place of another name after its redaction; [`MemoryError::ReadOnly`]. Otherwise [`MemoryError`]. After an error with an
    /// unknown effect, read the metadata before trying again with the same revision.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the metadata updated or not.
    pub async fn update_metadata(
        &self,
        patch: impl Into<MetadataPatch>,
        expected: Option<u64>,
    ) -> Result<Conditional<Metadata, Metadata>, MemoryError> {
        let work = async {
            self.writable(OPERATION)?;
            self.inner.update_metadata(patch.into(), expected, None).await
        };
        operation!(&*self.inner, "update_metadata", work).await
    }
}

impl Session {
    /// The metadata, as [`MemoryInstance::metadata`].
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn metadata(&self) -> Result<Metadata, MemoryError> {
        self.memory.metadata().await
    }

    /// Updates the metadata under the lease, as [`MemoryInstance::update_metadata`].
    ///
    /// # Errors
    /// As [`MemoryInstance::update_metadata`]; [`MemoryError::is_fenced`] if the lease is lost.
    ///
    /// # Cancel safety
    /// As [`MemoryInstance::update_metadata`].
    pub async fn update_metadata(
        &self,
        patch: impl Into<MetadataPatch>,
        expected: Option<u64>,
    ) -> Result<Conditional<Metadata, Metadata>, MemoryError> {
        let work = async {
            self.still_on(OPERATION)?;
            let lease = Some(self.scope.proof());
            self.memory.inner.update_metadata(patch.into(), expected, lease).await
        };
        operation!(&*self.memory.inner, "update_metadata", work).await
    }
}

impl WriteRequest for UpdateMetadata {
    type Answer = Metadata;
    const OPERATION: StoreOperation = StoreOperation::UpdateMetadata;

    fn audited(&self) -> Option<Audited> {
        Some(Audited::all(AuditOperation::UpdateMetadata))
    }

    fn send<'a>(&'a self, inner: &'a Inner, lease: Option<LeaseProof>) -> Answering<'a, Metadata> {
        inner.store().update_metadata(&inner.key, Access { lease }, self)
    }
}

impl Inner {
    async fn update_metadata(
        &self,
        patch: MetadataPatch,
        expected: Option<u64>,
        lease: Option<LeaseProof>,
    ) -> Result<Conditional<Metadata, Metadata>, MemoryError> {
        let patch = self.persistable_metadata(patch)?;
        let ttl = self.rules.resource.persistence.ttl;
        let request = |write| UpdateMetadata { write, patch: patch.clone(), expected, ttl };
        match self.write_new(lease, request).await {
            Ok(metadata) => Ok(Conditional::Applied(metadata)),
            Err(error)
                if expected.is_some() && error.store_kind() == Some(&StoreErrorKind::Conflict) =>
            {
                Ok(Conditional::Conflict(self.store().metadata(&self.key).await?))
            }
            Err(error) => Err(error),
        }
    }

    /// The change without secrets.
    fn persistable_metadata(&self, patch: MetadataPatch) -> Result<MetadataPatch, MemoryError> {
        let refused = |error: MetadataError| {
            let error = StoreError::new(StoreOperation::UpdateMetadata, error.into());
            MemoryError::from(error.not_applied().at(&self.key))
        };
        patch.check().map_err(refused)?;
        let Some(redactor) = &self.rules.redactor else { return Ok(patch) };
        let mut redactions = Redactions::default();
        let patch = redacted(redactor, patch, &mut redactions).map_err(refused)?;
        // Replacements may be longer than what they replace.
        patch.check().map_err(refused)?;
        self.record_redactions(0, &redactions);
        Ok(patch)
    }
}

/// The change with redacted values. A name with a secret can only be removed.
fn redacted(
    redactor: &Redactor,
    patch: MetadataPatch,
    redactions: &mut Redactions,
) -> Result<MetadataPatch, MetadataError> {
    let mut values = patch.into_object();
    for (name, value) in values.iter_mut().filter(|(_, value)| !value.is_null()) {
        let mut found = Redactions::default();
        let _ = redactor.redact_string_counting(name.to_owned(), &mut found);
        if !found.is_empty() {
            return Err(MetadataError::SecretName);
        }
        *value = redactor.redact_json_counting(std::mem::take(value), redactions);
    }
    Ok(values.into())
}
