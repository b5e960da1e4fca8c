//! Backups and copies of whole memories.

use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use memory_core::lease::FencingToken;
use memory_core::resource::ArchiveSettings;
use memory_core::store::StoreErrorKind;
use memory_core::{ContentType, Entry, MemoryResource, Message, Priority, Sequence};
use memory_instance::backup::{BackupError, BackupReader, CopyReceipt, RestoredTtl};
use memory_instance::{FlushMode, ManagerBuilder, MemoryHealth, MemoryInstance};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, ReadBuf};

use crate::support::{On, World, checked, texts, with};

on_every_backend![
    restored_memory_equals_the_original,
    restored_flush_is_undone_like_the_original,
    interrupted_restore_is_completed,
    damaged_backup_is_refused_with_its_place,
    restore_does_not_replace_a_memory,
    memory_is_copied_to_another_store,
    memory_is_copied_to_another_of_its_kind,
    unfinished_memory_can_be_deleted,
    messages_appended_meanwhile_are_left_out;
    paused_clock: ended_ttl_is_not_restored_by_default,
];

fn archiving() -> ManagerBuilder {
    let mut resource = MemoryResource::new("m", 400);
    resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    with(resource).with_flush_mode(FlushMode::Manual)
}

/// A memory with a summary, an archive, an erasure and messages of several classes.
async fn rich(world: &World) -> MemoryInstance {
    let memory = world.memory();
    for number in 0..40 {
        let text = format!("message {number} of a conversation that goes on");
        memory.append(Message::user(text)).await.unwrap();
    }
    memory.perform_flush().await.unwrap().unwrap();
    let fact = Entry::from(Message::user("the customer is in Oslo"))
        .with_priority(Priority::IMPORTANT)
        .with_content_type(ContentType::ImportantFacts);
    memory.append(fact).await.unwrap();
    memory.erase([Sequence::new(40)], "request 4711").await.unwrap();
    memory
}

async fn backed_up(memory: &MemoryInstance) -> Vec<u8> {
    let mut file = Vec::new();
    let receipt = memory.backup(&mut file).await.unwrap();
    assert_eq!(receipt.counters, memory.counters().await.unwrap());
    file
}

async fn restore(
    memory: &MemoryInstance,
    file: impl AsyncRead + Unpin + Send,
) -> Result<CopyReceipt, BackupError> {
    let backup = BackupReader::open(file).await?;
    memory.restore_backup(backup, RestoredTtl::Kept).await
}

async fn assert_equal(one: &MemoryInstance, other: &MemoryInstance, world: &World) {
    assert_eq!(one.messages().await.unwrap(), other.messages().await.unwrap());
    let (first, second) =
        (checked(one, &world.manager).await, checked(other, &world.manager).await);
    assert_eq!(first.metas, second.metas);
    assert_eq!(one.erasures().await.unwrap(), other.erasures().await.unwrap());
    assert_eq!(one.receipts().await.unwrap(), other.receipts().await.unwrap());
    let all = Sequence::ZERO..=Sequence::new(1_000);
    let (first, second) = (one.archived(all.clone()).await, other.archived(all).await);
    assert_eq!(first.unwrap(), second.unwrap());
    let comparable = |mut health: MemoryHealth| {
        health.key = one.key().clone();
        (health.store_latency_us, health.fence) = (0, FencingToken::ZERO);
        health
    };
    let (first, second) = (one.health().await.unwrap(), other.health().await.unwrap());
    assert_eq!(comparable(first), comparable(second));
}

async fn restored_memory_equals_the_original(on: On) {
    let world = on.world(archiving()).await;
    let memory = rich(&world).await;
    let file = backed_up(&memory).await;
    let restored = world.manager.memory("m", "restored").unwrap();
    let receipt = restore(&restored, file.as_slice()).await.unwrap();
    assert_eq!((receipt.key, receipt.archived), (restored.key().clone(), 29));
    assert_equal(&memory, &restored, &world).await;
    // Again, as after a lost answer.
    assert!(restore(&restored, file.as_slice()).await.unwrap().completed_before);
    for memory in [&memory, &restored] {
        memory.append(Message::user("and on")).await.unwrap();
    }
    assert_eq!(texts(&memory).await, texts(&restored).await);
}

async fn restored_flush_is_undone_like_the_original(on: On) {
    let world = on.world(archiving()).await;
    let memory = world.memory();
    for number in 0..40 {
        memory.append(Message::user(format!("message {number} of a conversation"))).await.unwrap();
    }
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    let restored = world.manager.memory("m", "restored").unwrap();
    restore(&restored, backed_up(&memory).await.as_slice()).await.unwrap();
    for memory in [&memory, &restored] {
        memory.undo_flush(receipt.id).await.unwrap();
        assert_eq!(memory.len().await.unwrap(), 40);
    }
    assert_equal(&memory, &restored, &world).await;
}

/// An input that fails after some bytes.
struct Failing<'a>(&'a [u8]);

impl AsyncRead for Failing<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let (now, later) = self.0.split_at(self.0.len().min(buffer.remaining()).min(100));
        buffer.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

/// The bytes at which the parts of a backup end.
fn ends_of_parts(file: &[u8]) -> Vec<usize> {
    let (mut at, mut ends) = (0, Vec::new());
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"{\"part\"") || line.starts_with(b"{\"end\"") {
            ends.push(at);
        }
        at += line.len();
    }
    ends
}

async fn interrupted_restore_is_completed(on: On) {
    let world = on.world(archiving()).await;
    let memory = rich(&world).await;
    let file = backed_up(&memory).await;
    let restored = world.manager.memory("m", "restored").unwrap();
    let ends = ends_of_parts(&file);
    assert!(ends.len() >= 4, "{ends:?}");
    for end in &ends[1..] {
        let stopped = restore(&restored, Failing(&file[..*end])).await.unwrap_err();
        assert!(matches!(stopped, BackupError::Read(_)), "{stopped}");
        let refused = restored.append(Message::user("early")).await.unwrap_err();
        assert_eq!(refused.store_kind(), Some(&StoreErrorKind::Unfinished));
        let refused = restored.messages().await.unwrap_err();
        assert_eq!(refused.store_kind(), Some(&StoreErrorKind::Unfinished));
    }
    restore(&restored, file.as_slice()).await.unwrap();
    assert_equal(&memory, &restored, &world).await;
}

async fn damaged_backup_is_refused_with_its_place(on: On) {
    let world = on.world(archiving()).await;
    let memory = rich(&world).await;
    let file = backed_up(&memory).await;
    let restored = world.manager.memory("m", "restored").unwrap();
    let refuse = async |damaged: &[u8]| {
        let refused = restore(&restored, damaged).await.unwrap_err();
        assert!(restored.messages().await.is_err() || texts(&restored).await.is_empty());
        refused
    };
    let ends = ends_of_parts(&file);
    // Cut off anywhere.
    for end in ends.iter().copied().chain([file.len() - 1, file.len() / 2, ends[1] + 200]) {
        let refused = refuse(&file[..end]).await;
        let BackupError::Damaged { byte, .. } = refused else { panic!("{refused}") };
        assert!(byte <= end as u64, "{refused}");
    }
    // Bytes that changed, in the mark of a part, in a part, and in the end.
    for at in [ends[1] + 12, ends[1] + 60, ends[2] - 100, ends[2] + 300, file.len() - 20] {
        let mut damaged = file.clone();
        damaged[at] ^= 1;
        let refused = refuse(&damaged).await;
        let BackupError::Damaged { line, byte, .. } = refused else { panic!("{at}: {refused}") };
        // The digest of a part is before it.
        assert!(line > 1 && byte < at as u64 + 100, "{at}: {refused}");
    }
    // A part that is missing, and one that comes twice.
    let missing = [&file[..ends[1]], &file[ends[2]..]].concat();
    let doubled = [&file[..ends[2]], &file[ends[1]..]].concat();
    let more = [&file[..], b"{}\n"].concat();
    for damaged in [missing, doubled, more] {
        let refused = refuse(&damaged).await;
        assert!(matches!(refused, BackupError::Damaged { .. }), "{refused}");
    }
    restore(&restored, file.as_slice()).await.unwrap();
    assert_equal(&memory, &restored, &world).await;
}

async fn restore_does_not_replace_a_memory(on: On) {
    let world = on.world(archiving()).await;
    let file = backed_up(&rich(&world).await).await;
    let other = world.manager.memory("m", "other").unwrap();
    other.append(Message::user("there")).await.unwrap();
    let refused = restore(&other, file.as_slice()).await.unwrap_err();
    assert_eq!(refused.store_kind(), Some(&StoreErrorKind::Exists));
    assert_eq!(texts(&other).await, ["there"]);
    let reader = other.read_only();
    let refused = restore(&reader, file.as_slice()).await.unwrap_err();
    assert!(refused.to_string().contains("restore"), "{refused}");
}

async fn memory_is_copied_to_another_store(on: On) {
    copied_to(on, On::Sqlite).await;
}

async fn memory_is_copied_to_another_of_its_kind(on: On) {
    copied_to(on, on).await;
}

async fn copied_to(on: On, to: On) {
    let (world, elsewhere) = (on.world(archiving()).await, to.world(archiving()).await);
    let memory = rich(&world).await;
    let copy = elsewhere.memory();
    let receipt = memory.copy_to(&copy).await.unwrap();
    assert_eq!((receipt.archived, receipt.completed_before), (29, false));
    assert!(memory.copy_to(&copy).await.unwrap().completed_before);
    assert_eq!(memory.messages().await.unwrap(), copy.messages().await.unwrap());
    let back = world.manager.memory("m", "back").unwrap();
    copy.copy_to(&back).await.unwrap();
    assert_equal(&memory, &back, &world).await;
    memory.append(Message::user("newer")).await.unwrap();
    let refused = memory.copy_to(&copy).await.unwrap_err();
    assert_eq!(refused.store_kind(), Some(&StoreErrorKind::Exists));
    let nothing = world.manager.memory("m", "nothing").unwrap();
    let refused = nothing.copy_to(&copy).await.unwrap_err();
    assert!(matches!(refused, BackupError::NoMemory(_)));
}

async fn unfinished_memory_can_be_deleted(on: On) {
    let world = on.world(archiving()).await;
    let file = backed_up(&rich(&world).await).await;
    let restored = world.manager.memory("m", "restored").unwrap();
    let end = ends_of_parts(&file)[2];
    restore(&restored, Failing(&file[..end])).await.unwrap_err();
    restored.delete().await.unwrap();
    restored.append(Message::user("new")).await.unwrap();
    assert_eq!(texts(&restored).await, ["new"]);
}

/// Appends when something is written to it.
struct Appending(MemoryInstance, Vec<u8>, Vec<tokio::task::JoinHandle<()>>);

impl tokio::io::AsyncWrite for Appending {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let memory = self.0.clone();
        self.2.push(tokio::spawn(async move {
            memory.append(Message::user("meanwhile")).await.unwrap();
        }));
        self.1.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn messages_appended_meanwhile_are_left_out(on: On) {
    let world = on.world(archiving()).await;
    let memory = rich(&world).await;
    let before = memory.messages().await.unwrap();
    let mut to = Appending(memory.clone(), Vec::new(), Vec::new());
    memory.backup(&mut to).await.unwrap();
    for task in to.2 {
        task.await.unwrap();
    }
    assert!(memory.messages().await.unwrap().len() > before.len());
    let restored = world.manager.memory("m", "restored").unwrap();
    restore(&restored, to.1.as_slice()).await.unwrap();
    assert_eq!(restored.messages().await.unwrap(), before);
    checked(&restored, &world.manager).await;
}

async fn ended_ttl_is_not_restored_by_default(on: On) {
    let mut resource = MemoryResource::new("m", 400);
    resource.persistence.ttl = Some(Duration::from_millis(if on == On::Memory { 50 } else { 60 }));
    let world = on.world(with(resource)).await;
    let memory = world.memory();
    memory.append(Message::user("short-lived")).await.unwrap();
    let mut file = Vec::new();
    memory.backup(&mut file).await.unwrap();
    // Until it has ended by the store's clock too.
    while memory.len().await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let restored = world.manager.memory("m", "restored").unwrap();
    let refused = restore(&restored, file.as_slice()).await.unwrap_err();
    assert!(matches!(refused, BackupError::Expired(_)), "{refused}");
    let backup = BackupReader::open(file.as_slice()).await.unwrap();
    restored.restore_backup(backup, RestoredTtl::Dropped).await.unwrap();
    assert_eq!(texts(&restored).await, ["short-lived"]);
    assert_eq!(restored.health().await.unwrap().expires_at, None);
}

#[tokio::test]
async fn other_inputs_are_refused() {
    let open = async |text: &str| BackupReader::open(text.as_bytes()).await.unwrap_err();
    for text in ["", "\n", "hello\n", "{}\n", "{\"role\":\"user\",\"content\":\"hi\"}\n", "{"] {
        assert!(matches!(open(text).await, BackupError::NotABackup(_)), "{text}");
    }
    let newer = open("{\"memory_backup\":7,\"more\":[]}\n").await;
    assert!(matches!(newer, BackupError::Newer { found: 7 }));
    assert_eq!(
        newer.to_string(),
        "the backup was written by a newer version (format 7, this one knows 2); upgrade this program"
    );
    let header = r#"{"memory_backup":1,"key":"p:m:k","created_at":"2026-11-29T00:00:00Z"}"#;
    let part = r#"{"part":{"bytes":9999999999,"sha256":""}}"#;
    let endless = open(&format!("{header}\n{part}\n")).await.to_string();
    assert!(endless.contains("longer than any part"), "{endless}");
    let long = "x".repeat(1 << 20);
    assert!(matches!(open(&long).await, BackupError::NotABackup(_)));
}

#[tokio::test]
async fn memory_with_wrong_counters_is_not_backed_up() {
    for wrong in [
        "appended = appended + 1",
        "tokens = tokens + 1",
        "messages = messages + 1, appended = appended + 1",
    ] {
        let world = On::Sqlite.world(archiving()).await;
        let memory = rich(&world).await;
        let file = world.folder.as_ref().unwrap().path().join("memory.db");
        let connection = rusqlite::Connection::open(file).unwrap();
        connection.execute(&format!("UPDATE memory SET {wrong}"), ()).unwrap();
        let copy = world.manager.memory("m", "copy").unwrap();
        let refused = [memory.backup(Vec::new()).await, memory.copy_to(&copy).await];
        for refused in refused.map(Result::unwrap_err) {
            assert!(matches!(refused, BackupError::Drifted(_)), "{wrong}: {refused}");
            assert!(refused.to_string().contains("do not account for every message"), "{refused}");
        }
    }
}

/// The lines of a backup in parts again, with the digests of these lines: a digest does not prove who wrote it.
fn sealed(header: &str, parts: &[Vec<Value>]) -> Vec<u8> {
    let sha256 = |bytes: &[u8]| {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let mut file = format!("{header}\n");
    for part in parts {
        let lines: String = part.iter().map(|line| format!("{line}\n")).collect();
        let mark = json!({"part": {"bytes": lines.len(), "sha256": sha256(lines.as_bytes())}});
        file += &format!("{mark}\n{lines}");
    }
    let count = |kind: &str| parts.iter().flatten().filter(|line| line.get(kind).is_some()).count();
    let (messages, removals, archived) = (count("message"), count("removal"), count("archived"));
    let end = json!({"end": {"parts": parts.len(), "messages": messages, "removals": removals,
        "archived": archived, "sha256": sha256(file.as_bytes())}});
    (file + &format!("{end}\n")).into_bytes()
}

/// A number or list somewhere in a line.
fn mutate(value: &mut Value, random: &mut fastrand::Rng) {
    match value {
        Value::Number(number) => {
            let number = number.as_u64().unwrap_or_default();
            let others =
                [number + 1, number.saturating_sub(1), 0, u64::MAX, 1 << 36, number * 2 + 1];
            *value = others[random.usize(..others.len())].into();
        }
        Value::Array(list) if !list.is_empty() => {
            let at = random.usize(..list.len());
            match random.u8(..4) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                _ => mutate(&mut list[at], random),
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            let name = fields.keys().nth(random.usize(..fields.len())).unwrap().clone();
            match random.u8(..8) {
                0 => drop(fields.remove(&name)),
                _ => mutate(&mut fields[&name], random),
            }
        }
        other => *other = [Value::Null, json!(7), json!("seven")][random.usize(..3)].clone(),
    }
}

#[tokio::test(start_paused = true)]
async fn hostile_backup_restores_no_wrong_memory() {
    let world = On::Memory.world(archiving()).await;
    let memory = rich(&world).await;
    let file = backed_up(&memory).await;
    let text = String::from_utf8(file.clone()).unwrap();
    let mut lines = text.lines();
    let header = lines.next().unwrap().to_owned();
    let mut parts: Vec<Vec<Value>> = Vec::new();
    for line in lines {
        let line: Value = serde_json::from_str(line).unwrap();
        match parts.last_mut() {
            _ if line.get("part").is_some() => parts.push(Vec::new()),
            Some(part) if line.get("end").is_none() => part.push(line),
            _ => {}
        }
    }
    assert_eq!(parts.len(), 3);
    let mut random = fastrand::Rng::with_seed(4711);
    let mut restored = 0;
    for round in 0..600 {
        let hostile = if round % 3 == 0 {
            let mut bytes = file.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes
        } else {
            let mut parts = parts.clone();
            let (from, to) = (random.usize(..parts.len()), random.usize(..parts.len()));
            let at = random.usize(..parts[from].len());
            match random.u8(..8) {
                0 => drop(parts[from].remove(at)),
                1 => {
                    let other = random.usize(..parts[from].len());
                    parts[from].swap(at, other);
                }
                2 => {
                    let line = parts[from][at].clone();
                    let at = random.usize(..=parts[to].len());
                    parts[to].insert(at, line);
                }
                3 => {
                    let mut moved = parts.remove(from);
                    parts[from.saturating_sub(1)].append(&mut moved);
                }
                _ => mutate(&mut parts[from][at], &mut random),
            }
            sealed(&header, &parts)
        };
        let copy = world.manager.memory("m", &format!("copy-{round}")).unwrap();
        if restore(&copy, hostile.as_slice()).await.is_err() {
            assert!(copy.messages().await.is_err() || texts(&copy).await.is_empty(), "{round}");
            continue;
        }
        restored += 1;
        checked(&copy, &world.manager).await;
        let places: Vec<_> =
            copy.messages().await.unwrap().iter().map(|one| one.meta.sequence).collect();
        assert!(places.is_sorted_by(|one, next| one < next), "{round}: {places:?}");
        for removal in copy.removals(None, NonZeroUsize::MAX).await.unwrap() {
            let found = world.manager.store().archived(
                copy.key(),
                removal.number,
                Sequence::ZERO,
                NonZeroUsize::MAX.into(),
            );
            let found: Vec<_> = found.await.unwrap().iter().map(|one| one.meta.sequence).collect();
            assert_eq!(found, removal.places.iter().collect::<Vec<_>>(), "{round}");
        }
        backed_up(&copy).await;
    }
    // Some mutations are valid, such as another time.
    assert!((10..300).contains(&restored), "{restored}");
    let same = world.manager.memory("m", "same").unwrap();
    restore(&same, sealed(&header, &parts).as_slice()).await.unwrap();
    assert_equal(&memory, &same, &world).await;
}
