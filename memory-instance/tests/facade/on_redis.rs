//! Expiring leases, with TTLs of some tenths of a second, and many writers on a real server, in real time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memory_core::{MemoryResource, Message};
use memory_flush::from_fn;
use memory_instance::ExclusiveError;
use memory_lock::LostReason;
use tokio::time::Instant;

use crate::support::{On, checked, hybrid, session_of_endless_turn, texts, with};

const TTL: Duration = Duration::from_millis(400);

fn short(mut resource: MemoryResource) -> MemoryResource {
    resource.lock.ttl = TTL;
    resource.lock.refresh_interval = TTL / 4;
    resource
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_summarizer_blocks_no_append() {
    let asked = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&asked);
    let slow = from_fn("slow", move |_| {
        counting.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(TTL * 3).await;
            Ok("they talked about numbers".to_owned())
        }
    });
    let world = On::Redis.world(with(short(hybrid(1_000))).with_summarizer(slow)).await;
    let memory = world.memory();
    memory.append(Message::system("be kind")).await.unwrap();
    while asked.load(Ordering::SeqCst) == 0 {
        memory.append(Message::user("talk about this and that, at some length")).await.unwrap();
    }
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut late = 0;
    while begun.elapsed() < TTL {
        let sent = Instant::now();
        memory.append(Message::user(format!("late {late}"))).await.unwrap();
        slowest = slowest.max(sent.elapsed());
        late += 1;
    }
    assert!(memory.receipts().await.unwrap().is_empty(), "the flush was still under way");
    assert!(slowest < TTL / 2, "an append waited {slowest:?} for the flush");
    let receipt = loop {
        if let Some(receipt) = memory.receipts().await.unwrap().pop() {
            break receipt;
        }
        // On an overloaded machine the flush may have lost its lease; then start another one.
        memory.flush_in_background().await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(receipt.duration >= TTL * 3, "its lease was refreshed meanwhile");
    assert_eq!(receipt.summary.unwrap().summarizer, "slow");
    let texts = texts(&memory).await;
    let kept = texts.iter().filter(|text| text.starts_with("late ")).count();
    assert_eq!(kept, late, "what came meanwhile survives the flush");
    checked(&memory, &world.manager).await;
}

/// The thread is blocked for longer than the lease, as if the process were stopped by SIGSTOP.
#[tokio::test]
async fn stale_writer_is_fenced_off() {
    let world = On::Redis.world(with(short(MemoryResource::new("m", 1 << 20)))).await;
    let memory = world.memory();
    let (stale, turn) = session_of_endless_turn(&memory).await;
    stale.append(Message::user("in time")).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "nothing of this process may run meanwhile")]
    std::thread::sleep(TTL * 2);

    let lost = turn.await.unwrap().unwrap_err();
    assert!(
        matches!(lost, ExclusiveError::Lost { reason: LostReason::Expired, output: None, .. }),
        "{lost}"
    );
    memory
        .exclusive(|session| async move { session.append(Message::user("newer")).await })
        .await
        .unwrap()
        .unwrap();
    let before = checked(&memory, &world.manager).await;
    assert!(stale.append(Message::user("late")).await.unwrap_err().is_fenced());
    assert!(stale.clear().await.unwrap_err().is_fenced());
    assert_eq!(checked(&memory, &world.manager).await, before, "the data is untouched");
    assert_eq!(texts(&memory).await, ["in time", "newer"]);
}

#[tokio::test]
async fn long_turn_keeps_its_lease() {
    let world = On::Redis.world(with(short(MemoryResource::new("m", 1 << 20)))).await;
    let memory = world.memory();
    let turn = memory.exclusive(|session| async move {
        let fence = session.fence();
        tokio::time::sleep(TTL * 3).await;
        session.append(Message::user("still mine")).await.map(|_| fence)
    });
    let fence = turn.await.unwrap().unwrap();
    assert_eq!(memory.health().await.unwrap().fence, fence);
}

#[tokio::test]
async fn health_reports_the_server() {
    let world = On::Redis.world(with(MemoryResource::new("m", 1_000))).await;
    let server = world.memory().health().await.unwrap().server.unwrap();
    assert_eq!(server.role, "master");
    assert!(server.software.contains("redis ") || server.software.contains("valkey "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_256_writers_of_one_memory_succeed() {
    let world = On::Redis.world(with(MemoryResource::new("m", 1 << 30))).await;
    let writers: Vec<_> = (0..256)
        .map(|writer| {
            let memory = world.memory();
            tokio::spawn(async move {
                for number in 0..20 {
                    memory.append(Message::user(format!("{writer} {number}"))).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let texts = texts(&world.memory()).await;
    assert_eq!(texts.len(), 256 * 20);
    for writer in 0..256 {
        let own = texts.iter().filter_map(|text| text.strip_prefix(&format!("{writer} ")));
        let own: Vec<u32> = own.map(|number| number.parse().unwrap()).collect();
        assert!(own.iter().copied().eq(0..20), "writer {writer}: {own:?}");
    }
    checked(&world.memory(), &world.manager).await;
}
