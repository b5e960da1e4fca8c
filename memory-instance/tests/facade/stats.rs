//! Statistics.

use memory_core::{ContentType, Entry, MemoryResource, Message, Priority};
use memory_instance::{FlushMode, GroupBy, MessageStats};

use crate::support::{On, with};

on_every_backend![stats_count_all_pages, absent_memory_has_zeros, flush_restarts_the_count];

fn groups(stats: &MessageStats) -> Vec<(Option<&str>, u64)> {
    stats.groups.iter().map(|group| (group.name.as_deref(), group.messages)).collect()
}

async fn stats_count_all_pages(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let memory = world.memory();
    let talk = |number: u64| {
        let message = Message::user("hello").with_field("speaker", number % 3);
        if number.is_multiple_of(2) { message } else { Message::assistant("hi") }
    };
    // Several pages, by number and by bytes.
    memory.append_all((0..2_400).map(talk)).await.unwrap();
    memory.append(Message::user("x".repeat(600 << 10))).await.unwrap();
    let fact = Entry::from(Message::system("s")).with_priority(Priority::IMPORTANT);
    memory.append(fact.with_content_type(ContentType::ImportantFacts)).await.unwrap();
    let reader = memory.read_only();
    let stats = async |by| reader.stats(Some(by)).await.unwrap();
    let by_role = stats(GroupBy::Role).await;
    let roles = [(Some("assistant"), 1_200), (Some("system"), 1), (Some("user"), 1_201)];
    assert_eq!(groups(&by_role), roles);
    assert_eq!(by_role.tokens, memory.token_count().await.unwrap());
    let by_speaker = stats(GroupBy::Extra("speaker".into())).await;
    let speakers = [(None, 1_202), (Some("0"), 400), (Some("1"), 400), (Some("2"), 400)];
    assert_eq!(groups(&by_speaker), speakers);
    let by_type = stats(GroupBy::ContentType).await;
    assert_eq!(groups(&by_type), [(Some("conversation"), 2_401), (Some("important_facts"), 1)]);
    assert_eq!(groups(&stats(GroupBy::Priority).await), [(None, 2_401), (Some("1"), 1)]);
    assert_eq!(groups(&stats(GroupBy::Resource).await), [(Some("m"), 2_402)]);
}

async fn absent_memory_has_zeros(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1_000))).await;
    for by in [None, Some(GroupBy::Role), Some(GroupBy::Resource)] {
        let stats = world.memory().stats(by).await.unwrap();
        assert_eq!((stats.messages, stats.tokens, stats.groups.len()), (0, 0, 0));
        assert!(stats.average_tokens.abs() < f64::EPSILON);
    }
}

/// Messages are removed and appended while others count; each count is one of a state that there was.
async fn flush_restarts_the_count(on: On) {
    let builder = with(MemoryResource::new("m", 1 << 20)).with_flush_mode(FlushMode::Manual);
    let world = on.world(builder).await;
    let memory = world.memory();
    let long = || Message::user("x".repeat(300 << 10));
    memory.append_all((0..4).map(|_| long())).await.unwrap();
    let changes = async {
        for _ in 0..4 {
            memory.replace_all((0..4).map(|_| long()), None).await.unwrap().applied().unwrap();
            tokio::task::yield_now().await;
        }
    };
    let counts = async {
        for _ in 0..4 {
            // Contended, if the memory changed within each of the reads.
            if let Ok(stats) = memory.stats(Some(GroupBy::Role)).await {
                assert_eq!(groups(&stats), [(Some("user"), 4)]);
            }
        }
    };
    tokio::join!(changes, counts);
}
