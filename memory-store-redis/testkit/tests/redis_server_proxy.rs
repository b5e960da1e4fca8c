//! Each mode of the proxy, seen on the wire.

use std::time::Duration;

use memory_redis_testkit::{Fault, Proxy, Server};
use redis::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const INCR: &[u8] = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n";
const ECHO: &[u8] = b"*2\r\n$4\r\nECHO\r\n$6\r\nabcdef\r\n";

async fn pair() -> (Server, Proxy) {
    let server = Server::start().await;
    let proxy = Proxy::in_front_of(server.url()).await;
    (server, proxy)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("the proxy listens")
}

async fn send(link: &mut TcpStream, bytes: &[u8]) {
    link.write_all(bytes).await.expect("the link stands");
}

/// Reads exactly this many bytes.
async fn receive(link: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    link.read_exact(&mut bytes).await.expect("so much comes");
    String::from_utf8(bytes).expect("text")
}

/// Reads everything until the link ends.
async fn remainder(link: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = timeout(Duration::from_secs(10), link.read_to_end(&mut bytes)).await.expect("it ends");
    String::from_utf8(bytes).expect("text")
}

async fn counter(server: &Server) -> Option<u64> {
    server.query(&["GET", "n"]).await
}

#[tokio::test]
async fn requests_are_counted_one_by_one() {
    let (server, proxy) = pair().await;
    let mut link = connect(&proxy).await;
    let both = [INCR, ECHO].concat();
    // In two parts that split a request.
    let (first, second) = both.split_at(30);
    send(&mut link, first).await;
    assert_eq!(receive(&mut link, 4).await, ":1\r\n");
    assert_eq!(proxy.requests(), 1);
    send(&mut link, second).await;
    assert_eq!(receive(&mut link, 12).await, "$6\r\nabcdef\r\n");
    let expected = [("ECHO".to_owned(), 1), ("INCR".to_owned(), 1)];
    assert_eq!((proxy.request_counts(), proxy.connections()), (expected.into(), 1));
    assert_eq!(proxy.request_bytes(), (INCR.len() + ECHO.len()) as u64);
    proxy.reset_requests();
    assert_eq!((proxy.requests(), proxy.request_bytes()), (0, 0));
    assert_eq!(counter(&server).await, Some(1));
}

#[tokio::test]
async fn client_works_through_the_proxy_url() {
    let server = Server::start_with(&["--requirepass", "secret"]).await;
    let proxy = Proxy::in_front_of(&format!("{}/1", server.url())).await;
    let client = redis::Client::open(proxy.url()).expect("a URL");
    let mut link = client.get_multiplexed_async_connection().await.expect("it connects");
    let big = "x".repeat(1_000_000);
    redis::cmd("SET").arg("key").arg(&big).query_async::<()>(&mut link).await.expect("it writes");
    let found: String =
        redis::cmd("GET").arg("key").query_async(&mut link).await.expect("it reads");
    assert!(found == big);
    assert_eq!(proxy.request_counts().get("SELECT"), Some(&1));
}

#[tokio::test]
async fn cut_before_a_request_never_reaches_the_server() {
    let (server, proxy) = pair().await;
    let mut link = connect(&proxy).await;
    proxy.once(Fault::CutBeforeRequest);
    send(&mut link, INCR).await;
    assert_eq!(remainder(&mut link).await, "");
    assert_eq!((counter(&server).await, proxy.requests()), (None, 0));
    // The fault affects one request only.
    let mut link = connect(&proxy).await;
    send(&mut link, INCR).await;
    assert_eq!(receive(&mut link, 4).await, ":1\r\n");
}

#[tokio::test]
async fn cut_after_a_request_drops_only_its_answer() {
    let (server, proxy) = pair().await;
    let mut link = connect(&proxy).await;
    proxy.times_on(1, Fault::CutAfterRequest, &["incr"]);
    send(&mut link, &[ECHO, INCR, ECHO].concat()).await;
    assert_eq!(remainder(&mut link).await, "$6\r\nabcdef\r\n");
    // The server has acted by the time of the cut.
    assert_eq!(counter(&server).await, Some(1));
    assert!(!proxy.is_armed());
}

#[tokio::test]
async fn half_an_answer_arrives_then_the_end() {
    let (_server, proxy) = pair().await;
    let mut link = connect(&proxy).await;
    proxy.once(Fault::HalfReply);
    send(&mut link, ECHO).await;
    assert_eq!(remainder(&mut link).await, "$6\r\nab");
}

#[tokio::test]
async fn held_data_arrives_late_and_whole() {
    let (server, proxy) = pair().await;
    let mut link = connect(&proxy).await;
    proxy.set(Fault::Hold);
    send(&mut link, &[INCR, ECHO].concat()).await;
    let mut byte = [0];
    let silence = timeout(Duration::from_millis(100), link.read(&mut byte)).await;
    assert!(silence.is_err());
    assert_eq!(counter(&server).await, None);
    proxy.set(Fault::Forward);
    assert_eq!(receive(&mut link, 16).await, ":1\r\n$6\r\nabcdef\r\n");
}

#[tokio::test]
async fn answers_are_held_too() {
    let (server, proxy) = pair().await;
    let mut link = connect(&proxy).await;
    server.pause();
    send(&mut link, INCR).await;
    while proxy.requests() == 0 {
        tokio::task::yield_now().await;
    }
    proxy.set(Fault::Hold);
    server.resume();
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(100), link.read(&mut byte)).await.is_err());
    assert_eq!(counter(&server).await, Some(1));
    proxy.set(Fault::Forward);
    assert_eq!(receive(&mut link, 4).await, ":1\r\n");
}

#[tokio::test]
async fn held_data_is_lost_when_connection_is_cut() {
    let (server, proxy) = pair().await;
    let mut link = connect(&proxy).await;
    proxy.set(Fault::Hold);
    send(&mut link, INCR).await;
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(50), link.read(&mut byte)).await.is_err());
    proxy.cut_links();
    assert_eq!(remainder(&mut link).await, "");
    proxy.set(Fault::Forward);
    assert_eq!(counter(&server).await, None);
}

#[tokio::test]
async fn held_connections_do_not_affect_new_ones() {
    let (server, proxy) = pair().await;
    let mut old = connect(&proxy).await;
    send(&mut old, ECHO).await;
    receive(&mut old, 12).await;
    proxy.hold_links();
    send(&mut old, INCR).await;
    let mut new = connect(&proxy).await;
    send(&mut new, ECHO).await;
    assert_eq!(receive(&mut new, 12).await, "$6\r\nabcdef\r\n");
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(50), old.read(&mut byte)).await.is_err());
    proxy.cut_links();
    assert_eq!(remainder(&mut old).await, "");
    assert_eq!(counter(&server).await, None);
}

#[tokio::test]
async fn pipelined_requests_share_one_delay() {
    let (_server, proxy) = pair().await;
    let mut link = connect(&proxy).await;
    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let start = Instant::now();
    send(&mut link, &ECHO.repeat(20)).await;
    receive(&mut link, 20 * 12).await;
    let time = start.elapsed();
    assert!(time >= Duration::from_millis(100) && time < Duration::from_millis(1_000), "{time:?}");
}

#[tokio::test]
async fn messages_of_a_subscription_are_no_answers() {
    let (server, proxy) = pair().await;
    let mut link = connect(&proxy).await;
    send(&mut link, b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n").await;
    receive(&mut link, "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n".len()).await;
    let message = "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n";
    proxy.once(Fault::CutAfterRequest);
    assert_eq!(server.command(&["PUBLISH", "c", "x"]).await, Value::Int(1));
    assert_eq!(receive(&mut link, message.len()).await, message);
    send(&mut link, b"*1\r\n$4\r\nPING\r\n").await;
    assert_eq!(remainder(&mut link).await, "");
}

#[tokio::test]
async fn proxy_of_a_stopped_server_does_not_answer() {
    let (server, proxy) = pair().await;
    server.kill();
    let mut link = connect(&proxy).await;
    assert_eq!(remainder(&mut link).await, "");
    server.restart().await;
    let mut link = connect(&proxy).await;
    send(&mut link, INCR).await;
    assert_eq!(receive(&mut link, 4).await, ":1\r\n");
}
