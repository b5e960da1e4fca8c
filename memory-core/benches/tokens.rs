//! Counting the tokens of texts. The estimate must reach 200 MB/s on English.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memory_core::{EstimateCounter, TokenCounter};

const ENGLISH: &str = "The ferry to the island leaves at nine in the morning, and on Sundays it does \
    not run at all. Please bring your booking and an identity card, because the crew checks both before you board. \
    If the weather is bad, we will send you a message the evening before and refund the fare within 5 days.\n\n";
const RUSSIAN: &str = "Смешайте муку с яйцами и щепоткой соли, дайте тесту отдохнуть полчаса, а затем \
    раскатайте его как можно тоньше. ";
const CHINESE: &str = "把面粉和鸡蛋、一小撮盐混合,面团静置半小时,然后尽量擀薄。医生说结果星期四出来,所以我们只能等待。";
const JSON: &str =
    r#"{"order":{"id":"ord_91x","lines":[{"sku":"TEA-200","qty":2,"price":7.45}],"paid":true}}"#;

fn estimate(c: &mut Criterion) {
    let mut group = c.benchmark_group("estimate");
    for (name, text) in
        [("English", ENGLISH), ("Russian", RUSSIAN), ("Chinese", CHINESE), ("JSON", JSON)]
    {
        let text = text.repeat(1 + 256 * 1024 / text.len());
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |b| b.iter(|| EstimateCounter.count(black_box(&text))));
    }
    group.finish();
}

criterion_group!(benches, estimate);
criterion_main!(benches);
