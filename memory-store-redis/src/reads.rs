//! Each read as a call of its script, and the decoding of its reply.

use std::num::NonZeroUsize;

use memory_core::store::{
    CaughtUp, Cursor, FlushReceipt, Generation, Head, KnownBatch, MessageId, MessageMeta, Outline,
    Page, PageLimit, Read, StoreError, StoreErrorKind, StoreOperation,
};
use memory_core::{MemoryKey, Sequence, StoredMessage};
use memory_redis_link::{LinkError, Reply, Script};
use redis::Value;

use crate::codec;
use crate::error::store_error;
use crate::names::Names;
use crate::parts::Parts;
use crate::scripts::{PART, READ, RECEIPTS};
use crate::store::RedisStore;

const OPERATION: StoreOperation = StoreOperation::Read;

/// The fields to read of each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Messages,
    Descriptions,
}

/// The bytes of messages after which a script ends its part of a read, because a script blocks all other clients.
pub(crate) const PART_BYTES: usize = 64 << 10;

/// The most messages of one part.
pub(crate) const PART_MESSAGES: usize = 512;

/// After this many flushes during one read, the read is made in one part, regardless of its length.
pub(crate) const RESTARTS: u32 = 4;

/// The number of memories that are checked together when keys are listed.
pub(crate) const LOOKED_AT: usize = 64;

const NO_LIMIT: PageLimit = PageLimit { messages: NonZeroUsize::MAX, bytes: u64::MAX };

/// How much one script returns of a read.
#[derive(Debug, Clone, Copy)]
struct Size {
    bytes: usize,
    messages: usize,
}

impl Size {
    const PART: Self = Self { bytes: PART_BYTES, messages: PART_MESSAGES };
    const WHOLE: Self = Self { bytes: usize::MAX, messages: usize::MAX };
}

/// The result of a read.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    what: What,
    limit: PageLimit,
    /// Batches that the reader has already, as long as the read continues from the reader's cursor.
    known: &'a [KnownBatch],
}

impl Wanted<'_> {
    /// Whether a read from the start is one of all messages.
    fn is_unlimited(&self) -> bool {
        self.what == What::Messages && self.limit == NO_LIMIT
    }
}

/// One part of a read, or several put together.
#[derive(Default)]
struct Part {
    generation: Generation,
    restarted: bool,
    last: u64,
    more: bool,
    /// As stored, from the first part.
    head: Option<Vec<u8>>,
    messages: Vec<StoredMessage>,
    /// The bytes of messages in their stored form.
    bytes: u64,
    metas: Vec<MessageMeta>,
    unreadable: Vec<Sequence>,
    /// The known batches that were passed over.
    confirmed: Vec<KnownBatch>,
    /// The last message that was checked.
    reached: Option<(Sequence, Option<MessageId>)>,
}

impl Part {
    /// The number of messages that were read.
    const fn len(&self) -> usize {
        self.messages.len() + self.metas.len()
    }

    /// Adds the next part of the same snapshot.
    fn add(&mut self, next: Self) {
        self.more = next.more;
        self.reached = next.reached.or(self.reached);
        self.messages.extend(next.messages);
        self.bytes = self.bytes.saturating_add(next.bytes);
        self.metas.extend(next.metas);
        self.unreadable.extend(next.unreadable);
        self.confirmed.extend(next.confirmed);
    }
}

impl Part {
    /// The whole memory.
    fn whole(page: Page) -> Self {
        Self {
            generation: page.cursor.generation,
            reached: Some((page.cursor.sequence, page.cursor.id)),
            messages: page.messages,
            unreadable: page.unreadable,
            ..Self::default()
        }
    }

    /// The answer to a reader with this cursor.
    fn caught_up(self, after: Cursor) -> CaughtUp {
        let mut page = Page::new(reached(&self, after));
        page.more = self.more;
        page.messages = self.messages;
        page.unreadable = self.unreadable;
        page.restarted = self.restarted;
        CaughtUp::new(page, self.confirmed)
    }
}

impl RedisStore {
    /// Calls a script that needs no lease.
    pub(crate) async fn look(
        &self,
        key: &MemoryKey,
        script: &Script,
        arguments: &[String],
    ) -> Result<Value, LinkError> {
        let memory = self.link().keys().memory(key.as_str());
        let mut call = script.on([memory.as_str()]);
        self.begin(&mut call);
        call.arg(arguments);
        self.link().run(script, &call).await
    }

    /// Uses a plain command: the server drops a memory when its TTL has run out.
    pub(crate) async fn whole_head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        let failed = |fault| store_error(OPERATION, Some(key), fault);
        let memory = self.link().keys().memory(key.as_str());
        let answer = self.link().send(redis::cmd("HGET").arg(&memory).arg("h")).await;
        match answer.map_err(failed)? {
            Value::Nil => Ok(Head::default()),
            Value::BulkString(packed) => {
                let head = codec::head(&packed).ok_or_else(|| failed(damaged(&memory, &packed)))?;
                Ok(if self.has_expired(&head) { Head::default() } else { head })
            }
            _ => Err(failed(LinkError::odd_answer())),
        }
    }

    /// Checks the TTL against a custom clock. The server has already dropped what expired by its clock.
    pub(crate) fn has_expired(&self, head: &Head) -> bool {
        let now = self.now().and_then(|now| i64::try_from(now).ok());
        now.zip(head.expires_at).is_some_and(|(now, end)| end.as_microsecond() <= now)
    }

    pub(crate) async fn read_page(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        let limit = read.limit.unwrap_or(NO_LIMIT);
        let after = read.after.unwrap_or_default();
        let wanted = Wanted { what: What::Messages, limit, known: &[] };
        Ok(self.snapshot(key, after, wanted).await?.caught_up(after).page)
    }

    pub(crate) async fn changes_after(
        &self,
        key: &MemoryKey,
        after: Cursor,
        known: &[KnownBatch],
    ) -> Result<CaughtUp, StoreError> {
        // Nothing can be confirmed to a reader without a snapshot.
        if after == Cursor::default() || known.is_empty() {
            let read = Read { after: Some(after), limit: None };
            return Ok(self.read_page(key, read).await?.into());
        }
        let wanted = Wanted { what: What::Messages, limit: NO_LIMIT, known };
        Ok(self.snapshot(key, after, wanted).await?.caught_up(after))
    }

    pub(crate) async fn whole_outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        let short = self.short_outline(key).await;
        if let Some(outline) = short.map_err(|fault| store_error(OPERATION, Some(key), fault))? {
            return Ok(outline);
        }
        let wanted = Wanted { what: What::Descriptions, limit: NO_LIMIT, known: &[] };
        let all = self.snapshot(key, Cursor::default(), wanted).await?;
        let Some(packed) = all.head else { return Ok(Outline::default()) };
        let memory = || self.link().keys().memory(key.as_str());
        let head = codec::head(&packed).ok_or_else(|| damaged(&memory(), &packed));
        let head = head.map_err(|fault| store_error(OPERATION, Some(key), fault))?;
        Ok(Outline::new(head, all.metas, all.unreadable))
    }

    /// Reads all of one generation up to one place, in as many parts as needed.
    async fn snapshot(
        &self,
        key: &MemoryKey,
        mut after: Cursor,
        mut wanted: Wanted<'_>,
    ) -> Result<Part, StoreError> {
        let failed = |fault| store_error(OPERATION, Some(key), fault);
        let mut restarts = 0;
        let mut restarted = false;
        // Otherwise scripts read it: it changed during each attempt, or is damaged.
        let mut is_pipelined = wanted.is_unlimited();
        loop {
            if is_pipelined && after == Cursor::default() {
                is_pipelined = false;
                if let Some(page) = self.whole_page(key).await.map_err(failed)? {
                    return Ok(Part { restarted, ..Part::whole(page) });
                }
            }
            let size = if restarts < RESTARTS { Size::PART } else { Size::WHOLE };
            let all = self.parts(key, after, size, wanted).await.map_err(failed)?;
            if let Some(all) = all {
                return Ok(Part { restarted: restarted || all.restarted, ..all });
            }
            // A flush happened since the reader's cursor or between two parts: the read restarts, as its reader would
            // have to anyway.
            restarted |= after != Cursor::default();
            after = Cursor::default();
            wanted.known = &[];
            restarts += 1;
            // After that no flush can interfere, because there is one part.
            if restarts > 2 * RESTARTS {
                let reason = "it changed during each of many attempts to read it, or a message in it is damaged; \
                              read it again, and restore a backup if that does not help";
                return Err(StoreError::new(OPERATION, StoreErrorKind::Corrupt(reason.into()))
                    .not_applied()
                    .at(key));
            }
        }
    }

    /// Reads in parts of this size; `None` if the memory changed between two parts, or since the cursor of a reader of
    /// all messages, of which there is more than one part.
    async fn parts(
        &self,
        key: &MemoryKey,
        after: Cursor,
        size: Size,
        mut wanted: Wanted<'_>,
    ) -> Result<Option<Part>, LinkError> {
        // Descriptions of long messages, whose texts a script reads too, leave time to others.
        let mut pauses = Parts::of(PART);
        let mut part = async |after, up_to, read: (usize, u64), wanted: Wanted<'_>| {
            let messages = size.messages.min(wanted.limit.messages.get() - read.0);
            let left = wanted.limit.bytes.saturating_sub(read.1);
            let bytes = size.bytes.min(usize::try_from(left).unwrap_or(usize::MAX));
            let mut size = Size { bytes, messages };
            if wanted.what == What::Messages || size.messages == usize::MAX {
                return self.part(key, (after, up_to), size, wanted).await;
            }
            size.messages = size.messages.min(pauses.size());
            pauses.timed(self.part(key, (after, up_to), size, wanted)).await
        };
        let mut all = part(after, None, (0, 0), wanted).await?;
        if all.restarted && all.more && wanted.is_unlimited() {
            return Ok(None);
        }
        if all.generation != after.generation || all.restarted {
            // A batch may have a gap in another generation than that in which it was sent.
            wanted.known = &[];
        }
        while all.more && !wanted.limit.is_reached(all.len(), all.bytes) {
            let read = (all.len(), all.bytes);
            let next = part(reached(&all, after), Some(all.last), read, wanted).await?;
            if next.restarted {
                return Ok(None);
            }
            all.add(next);
        }
        Ok(Some(all))
    }

    async fn part(
        &self,
        key: &MemoryKey,
        (after, up_to): (Cursor, Option<u64>),
        size: Size,
        Wanted { what, known, .. }: Wanted<'_>,
    ) -> Result<Part, LinkError> {
        let mut arguments = vec![
            after.generation.number().to_string(),
            after.sequence.number().to_string(),
            up_to.map(|place| place.to_string()).unwrap_or_default(),
            size.messages.to_string(),
            u8::from(what == What::Descriptions).to_string(),
            codec::optional_id(after.id),
            size.bytes.to_string(),
        ];
        let known: Vec<_> = KnownBatch::after(known, after).collect();
        for KnownBatch { first, last, id } in &known {
            let id = codec::optional_id(Some(*id));
            arguments.extend([first.to_string(), last.to_string(), id]);
        }
        let mut reply = Reply::parts(self.look(key, &READ, &arguments).await?)?;
        let mut part = Part {
            generation: Generation::new(reply.number()?),
            restarted: reply.number::<u8>()? == 1,
            last: reply.number()?,
            more: reply.number::<u8>()? == 1,
            head: Some(reply.bytes()?).filter(|packed| !packed.is_empty()),
            ..Part::default()
        };
        for number in reply.text()?.split_ascii_whitespace() {
            let batch = number.parse().ok().and_then(|number: usize| known.get(number));
            part.confirmed.push(*batch.ok_or_else(LinkError::odd_answer)?);
        }
        while !reply.is_empty() {
            let (place, text) = (Sequence::new(reply.number()?), text_of(reply.value()?));
            let length = text.as_ref().map_or(0, String::len);
            part.bytes = part.bytes.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
            part.reached = Some((place, text.as_deref().and_then(codec::id)));
            let read =
                text.ok_or_else(|| "it is not UTF-8".to_owned()).and_then(|text| match what {
                    What::Messages => {
                        codec::stored(place, &text).map(|message| part.messages.push(message))
                    }
                    What::Descriptions => {
                        codec::described(place, &text).map(|(meta, _)| part.metas.push(meta))
                    }
                });
            if let Err(reason) = read {
                log_unreadable(key, place, &reason);
                part.unreadable.push(place);
            }
        }
        let passed = part.confirmed.last().map(|batch| (batch.last, Some(batch.id)));
        part.reached = part.reached.max(passed);
        Ok(part)
    }

    pub(crate) async fn kept_receipts(
        &self,
        key: &MemoryKey,
    ) -> Result<Vec<FlushReceipt>, StoreError> {
        let failed = |fault| store_error(OPERATION, Some(key), fault);
        let answer = self.look(key, &RECEIPTS, &[]).await.map_err(failed)?;
        let mut reply = Reply::parts(answer).map_err(failed)?;
        let mut receipts = Vec::with_capacity(reply.len());
        while !reply.is_empty() {
            let text = reply.bytes().map_err(failed)?;
            match serde_json::from_slice(&text) {
                Ok(receipt) => receipts.push(receipt),
                // An old record, which affects no operation.
                Err(error) => tracing::warn!(%key, %error, "a receipt cannot be read"),
            }
        }
        Ok(receipts)
    }

    /// The keys of memories that begin with this prefix, after a key: the first of all, up to the requested
    /// number.
    pub(crate) async fn names(
        &self,
        operation: StoreOperation,
        prefix: &str,
        after: Option<&MemoryKey>,
        most: usize,
    ) -> Result<Names, StoreError> {
        let keyspace = self.link().keys();
        let mut names = Names::new(most);
        let each = |key: String| {
            let Some(name) = keyspace.memory_name(&key).filter(|name| name.starts_with(prefix))
            else {
                return;
            };
            match name.parse::<MemoryKey>() {
                Ok(key) if after.is_none_or(|after| key > *after) => names.add(key),
                Ok(_) => {}
                // The key belongs to another program; the others can still be listed.
                Err(error) => tracing::warn!(%error, "a key on the server cannot be read"),
            }
        };
        let scanned = self.link().scan_memories(each).await;
        scanned.map_err(|fault| store_error(operation, None, fault))?;
        Ok(names)
    }

    pub(crate) async fn list_keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        let names =
            self.names(StoreOperation::ListKeys, "", after, usize::MAX).await?.into_ascending();
        let mut keys = Vec::new();
        for some in names.chunks(LOOKED_AT) {
            let heads = some.iter().map(|key| self.whole_head(key));
            for (key, head) in some.iter().zip(futures::future::join_all(heads).await) {
                match head {
                    Ok(head) if head.counters.present.messages > 0 => keys.push(key.clone()),
                    Ok(_) => {}
                    // The memory exists. A read of its content returns the error that asks for an upgrade.
                    Err(error) if matches!(error.kind(), StoreErrorKind::Newer { .. }) => {
                        keys.push(key.clone());
                    }
                    Err(error) if error.kind() == &StoreErrorKind::Unfinished => {}
                    Err(error) if matches!(error.kind(), StoreErrorKind::Corrupt(_)) => {
                        tracing::warn!(%error, "a key on the server holds no memory");
                    }
                    Err(error) => return Err(error),
                }
                if keys.len() == limit.get() {
                    return Ok(keys);
                }
            }
        }
        Ok(keys)
    }
}

/// The error for a head that could not be decoded.
pub(crate) fn damaged(memory: &str, packed: &[u8]) -> LinkError {
    match codec::form(packed) {
        Some(found) if found > codec::FORM => LinkError::newer(found),
        Some(found) if found < codec::OLDEST_FORM => LinkError::corrupt(format!(
            "{memory} holds a memory in the form of an earlier version; delete the key"
        )),
        _ => LinkError::corrupt(format!("{memory} does not hold a memory of ours")),
    }
}

/// How far a reader has progressed with this part.
fn reached(part: &Part, after: Cursor) -> Cursor {
    match part.reached {
        Some((sequence, id)) => Cursor { generation: part.generation, sequence, id },
        None if part.restarted || part.generation != after.generation => part.generation.into(),
        None => after,
    }
}

pub(crate) fn log_unreadable(key: &MemoryKey, place: Sequence, reason: &str) {
    tracing::error!(%key, %place, reason, "a message cannot be read; evict it or clear the memory");
}

pub(crate) fn text_of(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    }
}
