//! Metadata: its stored form, its read, and its update as a call of the script.

use jiff::Timestamp;
use memory_core::MemoryKey;
use memory_core::json::{Json, JsonObject};
use memory_core::store::{
    Access, Metadata, MetadataError, StoreError, StoreErrorKind, StoreOperation, UpdateMetadata,
};
use memory_redis_link::{LinkError, Reply};
use redis::Value;
use rmp::{decode, encode};

use crate::append::micros;
use crate::codec::{self, text};
use crate::commands::{Answer, named, right};
use crate::error::store_error;
use crate::reads::damaged;
use crate::scripts::UPDATE_METADATA;
use crate::store::RedisStore;

/// The refusal of the script.
pub(crate) fn refusal(limit: &str, found: usize) -> Result<MetadataError, LinkError> {
    match limit {
        "n" => Ok(MetadataError::TooManyNames { names: found }),
        "b" => Ok(MetadataError::TooLarge { bytes: found }),
        _ => Err(LinkError::odd_answer()),
    }
}

/// The form that `scripts/metadata.lua` describes.
pub(crate) fn packed_metadata(metadata: &Metadata) -> Result<Vec<u8>, StoreErrorKind> {
    let Metadata { revision, values, updated_at, .. } = metadata;
    let mut to = Vec::new();
    let pack = |to: &mut Vec<u8>| -> Option<()> {
        let parts = u32::try_from(2 + 2 * values.len()).ok()?;
        encode::write_array_len(to, parts).ok()?;
        encode::write_uint(to, *revision).ok()?;
        let updated_at = updated_at.unwrap_or_default().as_microsecond();
        encode::write_str(to, &updated_at.to_string()).ok()?;
        for (name, value) in values.iter() {
            encode::write_str(to, &quoted(name)).ok()?;
            encode::write_str(to, &value.to_string()).ok()?;
        }
        Some(())
    };
    let problem = || StoreErrorKind::Other("the metadata cannot be encoded".into());
    pack(&mut to).ok_or_else(problem)?;
    Ok(to)
}

/// Decodes that form; `None` for anything else.
pub(crate) fn unpacked_metadata(packed: &[u8]) -> Option<Metadata> {
    let mut rest = packed;
    let parts = decode::read_array_len(&mut rest).ok()?;
    let revision = decode::read_int(&mut rest).ok()?;
    let updated_at = Timestamp::from_microsecond(text(&mut rest)?.parse().ok()?).ok()?;
    let mut values = JsonObject::new();
    for _ in 0..parts.checked_sub(2)? / 2 {
        let Json::String(name) = Json::parse(text(&mut rest)?).ok()? else { return None };
        values.insert(name, Json::parse(text(&mut rest)?).ok()?);
    }
    rest.is_empty().then(|| Metadata::new(revision, values, Some(updated_at)))
}

pub(crate) fn damaged_metadata() -> LinkError {
    LinkError::corrupt(
        "the metadata cannot be read; restore a backup, or delete the memory".to_owned(),
    )
}

fn quoted(name: &str) -> String {
    Json::from(name).to_string()
}

impl RedisStore {
    /// Uses a plain command, as for the head.
    pub(crate) async fn read_metadata(&self, key: &MemoryKey) -> Result<Metadata, StoreError> {
        let failed = |fault| store_error(StoreOperation::Read, Some(key), fault);
        let memory = self.link().keys().memory(key.as_str());
        let found = self.link().send(redis::cmd("HMGET").arg(&memory).arg("h").arg("d")).await;
        let mut reply = found.and_then(Reply::parts).map_err(failed)?;
        let Value::BulkString(packed) = reply.value().map_err(failed)? else {
            return Ok(Metadata::default());
        };
        let head = codec::head(&packed).ok_or_else(|| failed(damaged(&memory, &packed)))?;
        match reply.value().map_err(failed)? {
            Value::BulkString(packed) if !self.has_expired(&head) => {
                unpacked_metadata(&packed).ok_or_else(|| failed(damaged_metadata()))
            }
            _ => Ok(Metadata::default()),
        }
    }

    pub(crate) async fn merge_metadata(
        &self,
        key: &MemoryKey,
        access: Access,
        update: &UpdateMetadata,
    ) -> Result<Metadata, StoreError> {
        const OPERATION: StoreOperation = StoreOperation::UpdateMetadata;
        let failed = |fault| store_error(OPERATION, Some(key), fault);
        let UpdateMetadata { write, patch, expected, ttl } = update;
        patch.check().map_err(|error| {
            StoreError::new(OPERATION, StoreErrorKind::from(error)).not_applied().at(key)
        })?;
        let mut call = self.call(&UPDATE_METADATA, key, &[]);
        let token = right(&mut call, access);
        named(&mut call, *write);
        call.arg(micros(*ttl))
            .arg(expected.map(|revision| revision.to_string()).unwrap_or_default());
        for (name, value) in patch.as_object().iter() {
            call.arg(quoted(name));
            call.arg(if value.is_null() { String::new() } else { value.to_string() });
        }
        match self.write(OPERATION, key, &UPDATE_METADATA, &call, token).await? {
            Answer::Applied(mut reply) | Answer::Duplicate(mut reply) => {
                let packed = reply.bytes().map_err(failed)?;
                if packed.is_empty() {
                    return Ok(Metadata::default());
                }
                unpacked_metadata(&packed).ok_or_else(|| failed(damaged_metadata()))
            }
            Answer::Head(_) => Err(failed(LinkError::odd_answer())),
        }
    }
}
