//! The erasure of messages. A script reads the state, the changes are computed here, and a second script applies them if
//! the state is the same.

use std::collections::BTreeMap;

use jiff::Timestamp;
use memory_core::sibling::{Erasable, ErasableRemoval, ErasurePlan};
use memory_core::store::{
    Access, Erase, Erased, Erasure, FlushReceipt, Generation, MessageId, Outline, SequenceSet,
    StoreError, StoreErrorKind, StoreOperation, Tally,
};
use memory_core::{MemoryKey, Sequence};
use memory_redis_link::{LinkError, Reply};
use redis::Cmd;
use uuid::Uuid;

use crate::archive::{Layout, after_erasure, layout, pairs, removal};
use crate::codec::{self, described};
use crate::commands::{Answer, MOST_PLACES, decoded, named, right};
use crate::error::store_error;
use crate::reads::{PART_BYTES, text_of};
use crate::scripts::{ERASABLE, ERASE, ERASURES};
use crate::store::RedisStore;

const OPERATION: StoreOperation = StoreOperation::Erase;

/// How often an erasure starts over if the memory was changed meanwhile, or if removed messages must be swept first.
const ATTEMPTS: usize = 32;

/// A memory, as far as an erasure needs it.
struct Found {
    generation: Generation,
    /// The number of receipts ever.
    receipts: u64,
    is_unswept: bool,
    /// The fields of the receipts of `state`.
    fields: Vec<u64>,
    /// The removals of `state`.
    removals: Vec<StoredRemoval>,
    /// The indices of overdue removals with a message to erase.
    overdue: Vec<u64>,
    /// The fields of these messages.
    overdue_fields: Vec<String>,
    state: Erasable,
}

struct StoredRemoval {
    index: u64,
    record: Vec<u8>,
    layout: Layout,
}

impl StoredRemoval {
    /// The field of its message at this place.
    fn field(&self, place: Sequence) -> String {
        match self.layout.taken {
            Some(taken) if taken == place => format!("o{}", self.index),
            _ if self.layout.replaced.contains(place) => format!("o{}.{place}", self.index),
            _ => format!("m{place}"),
        }
    }
}

/// A removal, or a part of it, as the script lists it.
struct Listed {
    stored: StoredRemoval,
    is_kept: bool,
    state: ErasableRemoval,
}

impl RedisStore {
    pub(crate) async fn erase_places(
        &self,
        key: &MemoryKey,
        access: Access,
        erase: &Erase,
    ) -> Result<Erased, StoreError> {
        let refuse = |kind| StoreError::new(OPERATION, kind).not_applied().at(key);
        let failed = |fault| store_error(OPERATION, Some(key), fault);
        erase.check().map_err(refuse)?;
        for _ in 0..ATTEMPTS {
            let Some(mut found) = self.erasable(key, erase).await.map_err(failed)? else {
                continue;
            };
            if found.is_unswept {
                self.sweep(key).await;
                continue;
            }
            let mut outline = Outline::default();
            if found.generation != Generation::NONE {
                outline = self.whole_outline(key).await?;
                if outline.head.generation != found.generation {
                    continue;
                }
            }
            if let Some(place) =
                outline.unreadable.iter().find(|place| erase.places.contains(**place))
            {
                return Err(refuse(StoreErrorKind::Corrupt(format!(
                    "the message at place {place} cannot be read; restore a backup"
                ))));
            }
            found.add_present(&outline, erase);
            let (call, token) = self.erase_call(key, access, erase, &found, &outline)?;
            match self.write(OPERATION, key, &ERASE, &call, token).await {
                Ok(Answer::Applied(reply) | Answer::Duplicate(reply)) => {
                    if !found.overdue.is_empty() {
                        // The other messages of these removals.
                        self.sweep(key).await;
                    }
                    return Self::erased(erase, reply).map_err(failed);
                }
                Ok(Answer::Head(_)) => return Err(failed(LinkError::odd_answer())),
                Err(error) if error.kind() == &StoreErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(refuse(StoreErrorKind::Conflict))
    }

    /// `None` if the memory changed between two parts.
    async fn erasable(&self, key: &MemoryKey, erase: &Erase) -> Result<Option<Found>, LinkError> {
        let places = clamped(&erase.places);
        let mut found: Option<Found> = None;
        let mut listed: Vec<Listed> = Vec::new();
        let mut next = (0_u64, 0_u64);
        loop {
            let mut arguments =
                vec![next.0.to_string(), next.1.to_string(), PART_BYTES.to_string()];
            arguments.extend(pairs(&places).split_ascii_whitespace().map(str::to_owned));
            let mut reply = Reply::parts(self.look(key, &ERASABLE, &arguments).await?)?;
            let generation = Generation::new(reply.number()?);
            let (receipts, last) = (reply.number()?, Sequence::new(reply.number()?));
            let is_unswept = reply.number::<u8>()? == 1;
            next = (reply.number()?, reply.number()?);
            let found = found.get_or_insert_with(|| Found {
                generation,
                receipts,
                is_unswept,
                fields: Vec::new(),
                removals: Vec::new(),
                overdue: Vec::new(),
                overdue_fields: Vec::new(),
                state: Erasable { last, ..Erasable::default() },
            });
            if (generation, receipts) != (found.generation, found.receipts) {
                return Ok(None);
            }
            for _ in 0..reply.number::<usize>()? {
                let field = reply.number()?;
                // A receipt that cannot be read explains nothing; summaries are then listed as they are without it.
                let receipt: Option<FlushReceipt> =
                    text_of(reply.value()?).and_then(|text| serde_json::from_str(&text).ok());
                if let Some(receipt) = receipt {
                    found.fields.push(field);
                    found.state.receipts.push(receipt);
                }
            }
            while !reply.is_empty() {
                let part = Listed::of(&mut reply)?;
                match listed.last_mut().filter(|last| last.stored.index == part.stored.index) {
                    Some(last) => {
                        last.state.found.extend(part.state.found);
                        last.state.summaries.extend(part.state.summaries);
                    }
                    None => listed.push(part),
                }
            }
            if next.0 == 0 {
                break;
            }
        }
        Ok(found.map(|mut found| {
            for Listed { stored, is_kept, state } in listed {
                if is_kept {
                    found.removals.push(stored);
                    found.state.removals.push(state);
                } else if state.removal.places.meets(&places) {
                    let fields = state.found.iter().map(|(meta, _)| stored.field(meta.sequence));
                    found.overdue_fields.extend(fields);
                    found.overdue.push(stored.index);
                }
            }
            found
        }))
    }

    fn erase_call(
        &self,
        key: &MemoryKey,
        access: Access,
        erase: &Erase,
        found: &Found,
        outline: &Outline,
    ) -> Result<(Cmd, memory_core::lease::FencingToken), StoreError> {
        let refuse = |kind| StoreError::new(OPERATION, kind).not_applied().at(key);
        let invalid = |problem: &str| refuse(StoreErrorKind::Invalid(problem.into()));
        let plan = ErasurePlan::new(&erase.places, &found.state);
        let mut call = self.call(&ERASE, key, &[]);
        let token = right(&mut call, access);
        named(&mut call, erase.write);
        call.arg(erase.spread());
        call.arg(codec::snapshot(outline.cursor()));
        call.arg(found.receipts);
        let unassigned = erase.places.iter().find(|place| *place > found.state.last);
        call.arg(
            unassigned.map(|place| place.number().min(MOST_PLACES).to_string()).unwrap_or_default(),
        );
        let summaries = plan.present.iter().filter(|meta| meta.is_summary()).count();
        let present: SequenceSet = plan.present.iter().map(|meta| meta.sequence).collect();
        let mut classes: BTreeMap<String, Tally> = BTreeMap::new();
        for meta in &plan.present {
            classes.entry(meta.class().to_string()).or_default().add(meta.tokens);
        }
        let mut set: Vec<(String, Vec<u8>)> = Vec::new();
        let mut delete: Vec<String> =
            plan.present.iter().map(|meta| format!("m{}", meta.sequence)).collect();
        delete.extend_from_slice(&found.overdue_fields);
        let mut bytes = 0_u64;
        for (index, after) in &plan.removals {
            let (Some(stored), Some(before)) =
                (found.removals.get(*index), found.state.removals.get(*index))
            else {
                continue;
            };
            let record = after_erasure(&stored.record, after)
                .ok_or_else(|| invalid("a removal in the archive cannot be written"))?;
            set.push((format!("a{}", stored.index), record));
            bytes = bytes.saturating_add(before.removal.bytes.saturating_sub(after.bytes));
            delete.extend(before.found.iter().map(|(meta, _)| stored.field(meta.sequence)));
        }
        for (index, receipt) in &plan.receipts {
            let Some(field) = found.fields.get(*index) else { continue };
            let json = serde_json::to_string(receipt)
                .map_err(|_| invalid("a receipt cannot be written"))?;
            set.push((format!("r{field}"), json.into_bytes()));
        }
        let moved = plan.moved;
        let others = plan.present.len() - summaries;
        // The script knows the time and the generation.
        let record =
            Erasure::new(erase.write, &*erase.reason, Timestamp::UNIX_EPOCH, Generation::NONE);
        let record = serde_json::to_string(&plan.record(&erase.places, record))
            .map_err(|_| invalid("the record of the erasure cannot be written"))?;
        call.arg(record).arg(moved.summarized).arg(moved.evicted).arg(moved.cleared);
        call.arg(summaries).arg(others).arg(bytes);
        call.arg(present.ranges().len());
        for (first, last) in present.ranges() {
            call.arg(first.number()).arg(last.number());
        }
        call.arg(classes.len());
        for (class, tally) in &classes {
            call.arg(class).arg(tally.messages).arg(tally.tokens);
        }
        call.arg(set.len());
        for (field, value) in &set {
            call.arg(field).arg(value);
        }
        call.arg(delete.len()).arg(&delete);
        call.arg(found.overdue.len()).arg(&found.overdue);
        Ok((call, token))
    }

    fn erased(erase: &Erase, mut reply: Reply) -> Result<Erased, LinkError> {
        let head = decoded(&reply.bytes()?)?;
        let text = reply.text()?;
        let erasure = match text.parse() {
            // Another write of this writer, or a record that is no longer kept: the text is the time.
            Ok(micros) => {
                let now = Timestamp::from_microsecond(micros);
                let now = now.map_err(|_| LinkError::odd_answer())?;
                Erasure::new(erase.write, &*erase.reason, now, head.generation)
            }
            Err(_) => record(&text).ok_or_else(LinkError::odd_answer)?,
        };
        Ok(Erased::new(erasure, head.counters))
    }

    pub(crate) async fn kept_erasures(&self, key: &MemoryKey) -> Result<Vec<Erasure>, StoreError> {
        let failed = |fault| store_error(StoreOperation::Read, Some(key), fault);
        let answer = self.look(key, &ERASURES, &[]).await.map_err(failed)?;
        let mut reply = Reply::parts(answer).map_err(failed)?;
        let mut erasures = Vec::with_capacity(reply.len());
        while !reply.is_empty() {
            match record(&reply.text().map_err(failed)?) {
                Some(erasure) => erasures.push(erasure),
                None => tracing::warn!(%key, "the record of an erasure cannot be read"),
            }
        }
        Ok(erasures)
    }
}

impl Found {
    fn add_present(&mut self, outline: &Outline, erase: &Erase) {
        for meta in &outline.metas {
            if erase.places.contains(meta.sequence) {
                self.state.present.push(meta.clone());
            }
            if meta.is_summary() {
                self.state.summaries.push((meta.sequence, meta.id));
            }
        }
    }
}

impl Listed {
    fn of(reply: &mut Reply) -> Result<Self, LinkError> {
        let index = reply.number()?;
        let record = reply.bytes()?;
        let is_kept = reply.number::<u8>()? == 1;
        let removal = removal(&record).ok_or_else(LinkError::odd_answer)?;
        let layout = layout(&record).ok_or_else(LinkError::odd_answer)?;
        let mut state = ErasableRemoval { removal, found: Vec::new(), summaries: Vec::new() };
        for _ in 0..reply.number::<usize>()? {
            let place = Sequence::new(reply.number()?);
            let description = reply.text()?;
            let bytes = reply.number()?;
            let (meta, _) = described(place, &description).map_err(|_| LinkError::odd_answer())?;
            state.found.push((meta, bytes));
        }
        for _ in 0..reply.number::<usize>()? {
            let place = Sequence::new(reply.number()?);
            let id = Uuid::try_parse(&reply.text()?).map_err(|_| LinkError::odd_answer())?;
            state.summaries.push((place, MessageId::new(id)));
        }
        Ok(Self { stored: StoredRemoval { index, record, layout }, is_kept, state })
    }
}

/// The places without those that Lua cannot count, which do not exist.
fn clamped(places: &SequenceSet) -> SequenceSet {
    places.iter().filter(|place| place.number() < MOST_PLACES).collect()
}

/// A record as `scripts/erase.lua` describes it.
pub(crate) fn record(text: &str) -> Option<Erasure> {
    let mut parts = text.splitn(5, ' ');
    parts.next()?;
    parts.next()?;
    let erased_at = Timestamp::from_microsecond(parts.next()?.parse().ok()?).ok()?;
    let generation = Generation::new(parts.next()?.parse().ok()?);
    let erasure: Erasure = serde_json::from_str(parts.next()?).ok()?;
    let mut record = erasure;
    (record.erased_at, record.generation) = (erased_at, generation);
    Some(record)
}
