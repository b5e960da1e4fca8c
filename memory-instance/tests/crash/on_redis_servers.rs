//! Kills over a Redis server that syncs its log at every write.

use std::time::Duration;

use fastrand::Rng;
use memory_redis_testkit::{Server, unique_prefix};

use crate::ledger::CrashTally;
use crate::marks::EVERYWHERE;
use crate::parent::{Child, Scene, When, kills, pause, seed, tell};

const ON_DISK: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// The URL of a new memory on the server.
fn url(server: &Server) -> String {
    format!("{}/?prefix={}&fsync=always", server.url(), unique_prefix())
}

/// Kills the server under a child. Every third child survives until the next server and continues.
async fn servers(server: &Server, rows: &mut Vec<(String, CrashTally)>, rng: &mut Rng) {
    let url = url(server);
    let mut scene = Scene::new(&url, rng);
    for round in 0..kills(9) {
        let orders = scene.orders();
        let mut child = Child::start(&orders);
        for _ in 0..scene.rng.u8(1..30) {
            assert!(child.wait_for("ack"), "{:?}", child.heard);
        }
        pause(Duration::from_micros(scene.rng.u64(0..5_000)));
        server.kill();
        let mut heard = Vec::new();
        if round % 3 == 0 {
            server.restart().await;
            child.listen();
            assert!(child.wait_for("ack"), "it did not go on: {:?}", child.heard);
            heard.extend(child.kill());
        } else {
            // Both have ended, so no process resends the batches in flight.
            heard.extend(child.kill());
            server.restart().await;
        }
        scene.examine(&orders, &heard).await;
    }
    rows.push(("the server, at any moment".to_owned(), scene.ledger.tally));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_processes_and_servers_lose_nothing() {
    let seed = seed();
    let (mut rng, mut rows) = (Rng::with_seed(seed), Vec::new());
    let server = Server::start_with(&ON_DISK).await;
    let any = url(&server);
    let mut scene = Scene::new(&any, &mut rng);
    for _ in 0..kills(10) {
        scene.kill(When::AnyMoment).await;
    }
    rows.push(("at any moment".to_owned(), scene.ledger.tally));
    for point in EVERYWHERE {
        let url = url(&server);
        let mut scene = Scene::new(&url, &mut rng);
        for _ in 0..kills(1) {
            scene.kill(When::At(point)).await;
        }
        rows.push((point.to_owned(), scene.ledger.tally));
    }
    servers(&server, &mut rows, &mut rng).await;
    tell("Redis", seed, &rows, 30);
}
