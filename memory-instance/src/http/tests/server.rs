//! A server that answers as a test says.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Answers one request after another, each on a new connection.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<String>,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, and then nothing.
    Hang(Vec<u8>),
}

impl Answer {
    /// An answer with this status, headers and body.
    pub(super) fn new(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        let text =
            format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
        Self::Bytes(text.into_bytes())
    }
}

impl Server {
    /// Starts a server that gives these answers, and then closes all connections.
    pub(super) async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        let answers: Vec<_> = answers.into_iter().collect();
        tokio::spawn(async move {
            let mut open = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                let (Answer::Bytes(bytes) | Answer::Hang(bytes)) = &answer;
                // The client may have left already.
                let _ = stream.write_all(bytes).await;
                let _ = sender.send(request);
                if matches!(answer, Answer::Hang(_)) {
                    open.push(stream);
                }
            }
            sender.closed().await;
        });
        Self { address, requests }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The next request: its head in small letters, and its body.
    pub(super) async fn request(&mut self) -> (String, serde_json::Value) {
        let request = self.requests.recv().await.unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), serde_json::from_str(body).unwrap())
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "the client left early");
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        if body.len() == length {
            return text.into_owned();
        }
    }
}
