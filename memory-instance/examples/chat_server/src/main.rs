//! A chat server: one memory for each chat, any number of requests and servers at once, and a shutdown that loses
//! nothing. The model is a function here; put the HTTP request in its place.
//!
//! `cargo run -p chat-server-example`, then in another terminal:
//!
//! ```sh
//! curl localhost:3000/chats/7 --json '{"text": "Can I fly to Oslo?"}'
//! curl localhost:3000/chats/7
//! curl localhost:3000/chats/7/health
//! ```
//!
//! Ctrl-C or SIGTERM ends it. After a restart it continues the earlier chats.

#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use memory_instance::{
    ExclusiveError, MemoryError, MemoryHealth, MemoryManager, MemoryResource, Message, Session,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    match start("sqlite://chat_server.db", "127.0.0.1:3000").await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn start(store: &str, address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    run(store, listener, stop_requested()).await
}

/// Serves until `stop` completes. Then requests under way are answered, and flushes under way are committed.
async fn run(
    store: &str,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let mut resource = MemoryResource::new("chat", 8_000); // a flush keeps each chat below this
    // A request waits for another one on the same chat as long as that one may take.
    resource.lock = resource.lock.with_max_turn(Duration::from_secs(30));
    let manager = MemoryManager::builder().with_resource(resource).open(store).await?;
    for warning in manager.warnings() {
        eprintln!("warning: {warning}");
    }

    let app = app(manager.clone());
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;

    // Less than the time that the service manager grants before it kills: docker 10 s, Kubernetes 30 s.
    let report = manager.shutdown(Duration::from_secs(8)).await;
    if !report.is_complete() {
        eprintln!("abandoned: {}", serde_json::to_string(&report)?);
    }
    println!("stopped");
    Ok(())
}

fn app(manager: MemoryManager) -> Router {
    Router::new()
        .route("/chats/{id}", post(say).get(list))
        .route("/chats/{id}/health", get(health))
        .with_state(manager)
}

#[derive(Debug, Deserialize)]
struct Question {
    text: String,
}

#[derive(Debug, Serialize)]
struct Answer {
    text: String,
    /// Of the request that the model got.
    tokens: u64,
}

/// Stores the question, asks the model, stores the answer.
async fn say(
    State(manager): State<MemoryManager>,
    Path(id): Path<String>,
    Json(question): Json<Question>,
) -> std::result::Result<Json<Answer>, ApiError> {
    let memory = manager.memory("chat", &id)?;
    memory.ensure_system("agent", "You are a travel agent.").await?; // stored once
    // A turn, so that question and answer are neighbors although several requests come for one chat. If the client
    // disconnects, the turn ends at its next await point and its lease is released.
    let turn = |session| take_turn(session, question.text);
    let answer = memory.exclusive(turn).await.map_err(|error| ApiError::from_turn(&error))??;
    Ok(Json(answer))
}

async fn take_turn(session: Session, text: String) -> std::result::Result<Answer, MemoryError> {
    session.append(Message::user(text)).await?;
    let window = session.context(4_000).await?; // never more tokens than this
    let answer = model(&json!({"model": "gpt-4o", "messages": window.request()}));
    session.append(Message::assistant(answer.clone())).await?;
    Ok(Answer { text: answer, tokens: window.tokens })
}

async fn list(
    State(manager): State<MemoryManager>,
    Path(id): Path<String>,
) -> std::result::Result<Json<Vec<Value>>, ApiError> {
    let messages = manager.memory("chat", &id)?.messages().await?;
    let line = |message: &Message| json!({"role": message.role().as_str(), "text": message.text()});
    Ok(Json(messages.iter().map(|stored| line(&stored.message)).collect()))
}

async fn health(
    State(manager): State<MemoryManager>,
    Path(id): Path<String>,
) -> std::result::Result<Json<MemoryHealth>, ApiError> {
    Ok(Json(manager.memory("chat", &id)?.health().await?))
}

/// An error as a response. `Display` of the errors never quotes a message.
#[derive(Debug)]
struct ApiError {
    text: String,
    is_retryable: bool,
}

impl From<MemoryError> for ApiError {
    fn from(error: MemoryError) -> Self {
        Self { text: error.to_string(), is_retryable: error.is_retryable() }
    }
}

impl ApiError {
    fn from_turn<T>(error: &ExclusiveError<T>) -> Self {
        Self { text: error.to_string(), is_retryable: error.is_retryable() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = if self.is_retryable {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        };
        (status, Json(json!({"error": self.text}))).into_response()
    }
}

/// Counts the questions, in place of a model.
fn model(body: &Value) -> String {
    let messages = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let questions = messages.iter().filter(|message| message["role"] == "user").count();
    format!("You asked {questions} times. There are two flights to Oslo.")
}

/// Completes at Ctrl-C, or at the SIGTERM of a service manager or container runtime.
async fn stop_requested() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            },
            Err(_) => _ = tokio::signal::ctrl_c().await,
        }
    }
    #[cfg(not(unix))]
    {
        _ = tokio::signal::ctrl_c().await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    /// The status and the body of a response.
    async fn request(server: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(server).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.split_whitespace().nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Runs the server for the time of some requests, and shuts it down.
    #[expect(clippy::future_not_send, reason = "it runs in the task of the test")]
    async fn serve<T>(store: &str, requests: impl AsyncFnOnce(SocketAddr) -> T) -> T {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { _ = stopped.await };
        let requests = async {
            let done = requests(server).await;
            stop.send(()).unwrap();
            done
        };
        let (served, done) = tokio::join!(run(store, listener, stopped), requests);
        served.unwrap();
        done
    }

    #[tokio::test]
    async fn chats_go_on_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = format!("sqlite://{}", folder.path().join("chat.db").display());
        for run in 1..=2 {
            serve(&store, async |server| {
                let question = r#"{"text": "Can I fly to Oslo?"}"#;
                let (a, b) = tokio::join!(
                    request(server, "POST", "/chats/7", question),
                    request(server, "POST", "/chats/7", question),
                );
                assert_eq!((a.0, b.0), (200, 200), "{a:?} {b:?}");
                let (status, chat) = request(server, "GET", "/chats/7", "").await;
                let chat: Vec<Value> = serde_json::from_str(&chat).unwrap();
                let roles: Vec<_> =
                    chat.iter().map(|line| line["role"].as_str().unwrap()).collect();
                let turns = ["user", "assistant"].repeat(2 * run);
                assert_eq!((status, roles), (200, [&["system"][..], &turns].concat()));
                let last = chat.last().unwrap()["text"].as_str().unwrap();
                assert!(last.starts_with(&format!("You asked {} times", 2 * run)), "{last}");
                let (status, health) = request(server, "GET", "/chats/7/health", "").await;
                assert!(status == 200 && health.contains(r#""status":"healthy""#), "{health}");
            })
            .await;
        }
    }

    #[tokio::test]
    async fn errors_are_responses() {
        serve("memory://", async |server| {
            let (status, body) = request(server, "POST", "/chats/7", "{}").await;
            assert_eq!(status, 422, "{body}");
            let long = json!({"text": "A long story. ".repeat(10_000)}).to_string();
            let (status, body) = request(server, "POST", "/chats/7", &long).await;
            assert!(status == 422 && body.contains("more than the whole budget"), "{body}");
        })
        .await;
    }
}
