//! The life of a container.

use memory_redis_container_tests::RedisContainer;

#[tokio::test]
async fn container_pauses_stops_and_restarts_on_its_port() {
    let server = RedisContainer::start_with(&["--appendonly", "yes"]).await;
    let url = server.url();
    let pong: String = server.command(&["PING"]).await.expect("it has started");
    assert_eq!(pong, "PONG");
    server.command::<()>(&["SET", "key", "1"]).await.expect("it is writable");

    server.pause().await;
    let silence = server.command::<String>(&["PING"]).await.expect_err("it is paused");
    assert!(silence.is_timeout(), "{silence}");
    server.unpause().await;
    server.command::<String>(&["PING"]).await.expect("it continues");

    server.stop().await;
    server.command::<String>(&["PING"]).await.expect_err("it is stopped");
    server.start_again().await;
    assert_eq!(server.url(), url);
    let kept: Option<u8> = server.command(&["GET", "key"]).await.expect("it is back");
    assert_eq!(kept, Some(1));
}
