//! The server that most tests use, by URL or started for them.

use memory_redis_testkit::{any_server, unique_prefix};

#[tokio::test]
async fn each_test_gets_a_server_and_prefix() {
    let server = any_server().await;
    let client = redis::Client::open(server.url()).expect("a URL that the client understands");
    let mut link = client.get_multiplexed_async_connection().await.expect("the server answers");
    let (mine, other) = (unique_prefix(), unique_prefix());
    assert_ne!(mine, other);
    let key = format!("{mine}:key");
    let set = redis::cmd("SET").arg(&key).arg(1).arg("PX").arg(60_000).to_owned();
    set.query_async::<()>(&mut link).await.expect("it takes our key");
    let found: Option<u8> =
        redis::cmd("GET").arg(&key).query_async(&mut link).await.expect("it gives it back");
    assert_eq!(found, Some(1));
    let none: Option<u8> = redis::cmd("GET")
        .arg(format!("{other}:key"))
        .query_async(&mut link)
        .await
        .expect("it answers");
    assert_eq!(none, None);
}
