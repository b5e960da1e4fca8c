//! A link that fails on demand.
//!
//! A real network never drops bytes of a live connection, and neither does this one: bytes are late, or their
//! connection ends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::resp::{Framer, command, is_answer};

/// The effect of the link on requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: requests and answers pass.
    Forward,
    /// The connection ends instead of a request: the server never sees it.
    CutBeforeRequest,
    /// The request passes, and when the server has answered it the connection ends instead.
    CutAfterRequest,
    /// The request passes, half of its answer too, then the connection ends.
    HalfReply,
    /// Nothing passes, in either direction, until another fault is set; then everything does.
    Hold,
    /// Requests pass this much later.
    Delay(Duration),
}

/// A link to a server whose faults can be set at any time, and which counts what passes.
///
/// A fault acts on requests that reach the link from then on. On a connection that has subscribed to
/// several channels in one request, `CutAfterRequest` and `HalfReply` may pick another answer than
/// that of the request.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    url: String,
    shared: Arc<Shared>,
    listener: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// `host:port`. Without it no connection gets through.
    to: OnceLock<String>,
    plan: watch::Sender<Plan>,
    /// Every link ends when this changes, or when the proxy is dropped.
    cut: watch::Sender<u64>,
    /// Links that were made before this changed pass no more data.
    stuck: AtomicU64,
    requests: Mutex<BTreeMap<String, u64>>,
    request_bytes: AtomicU64,
    largest_answer: AtomicUsize,
    most_under_way: AtomicUsize,
    connections: AtomicU64,
}

#[derive(Clone, Debug)]
struct Plan {
    fault: Fault,
    /// How many requests it still hits; `None` is all of them.
    left: Option<u64>,
    /// Only requests by these names; empty is all.
    only: Vec<String>,
}

/// The handling of an answer.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Pass,
    Half,
    Cut,
}

/// The connection is to end.
#[derive(Debug)]
struct Ended;

impl Proxy {
    /// A link to the server of this URL, which must name one host.
    ///
    /// # Panics
    ///
    /// If no port is free.
    pub async fn in_front_of(url: &str) -> Self {
        let (before, authority, after) = split(url);
        let to =
            if authority.contains(':') { authority.into() } else { format!("{authority}:6379") };
        let mut proxy = Self::to_nowhere().await;
        proxy.lead_to(to);
        proxy.url = format!("{before}127.0.0.1:{}{after}", proxy.port);
        proxy
    }

    /// A link of which only this end exists yet; it is for servers that must know their link's port.
    pub(crate) async fn to_nowhere() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let shared = Arc::new(Shared {
            to: OnceLock::new(),
            plan: watch::Sender::new(Plan::forward()),
            cut: watch::Sender::new(0),
            stuck: AtomicU64::new(0),
            requests: Mutex::default(),
            request_bytes: AtomicU64::new(0),
            largest_answer: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            connections: AtomicU64::new(0),
        });
        let listener = tokio::spawn(listen(listener, Arc::clone(&shared)));
        Self { port, url: format!("redis://127.0.0.1:{port}"), shared, listener }
    }

    /// Sets the other end of the link, `host:port`, permanently.
    pub(crate) fn lead_to(&self, to: String) {
        self.shared.to.get_or_init(|| to);
    }

    /// The server's URL with the address of this link instead.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port of this link.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every request meets this fault, until another is set.
    pub fn set(&self, fault: Fault) {
        self.shared.plan.send_replace(Plan { fault, ..Plan::forward() });
    }

    /// The next request meets this fault, and the later ones none.
    pub fn once(&self, fault: Fault) {
        self.times(1, fault);
    }

    /// The next `count` requests meet this fault, and the later ones none. [`Fault::Hold`] lasts until
    /// another is set.
    pub fn times(&self, count: u64, fault: Fault) {
        self.times_on(count, fault, &[]);
    }

    /// The same for requests with these command names only, so that the requests of a client that
    /// reconnects are not affected.
    pub fn times_on(&self, count: u64, fault: Fault, commands: &[&str]) {
        let only = commands.iter().map(|name| name.to_ascii_uppercase()).collect();
        self.shared.plan.send_replace(Plan { fault, left: Some(count), only });
    }

    /// Ends all connections now.
    pub fn cut_links(&self) {
        self.shared.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Nothing passes any more on the current connections, until they end; later ones work. This simulates a
    /// router that has forgotten them.
    pub fn hold_links(&self) {
        self.shared.stuck.fetch_add(1, Ordering::SeqCst);
    }

    /// How many requests have passed to the server.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests().values().sum()
    }

    /// The same by the commands' names, in capitals. Subcommands are not distinguished.
    #[must_use]
    pub fn request_counts(&self) -> BTreeMap<String, u64> {
        self.shared.requests().clone()
    }

    /// How many bytes these requests had.
    #[must_use]
    pub fn request_bytes(&self) -> u64 {
        self.shared.request_bytes.load(Ordering::SeqCst)
    }

    /// How many bytes the longest answer had.
    #[must_use]
    pub fn largest_answer(&self) -> usize {
        self.shared.largest_answer.load(Ordering::SeqCst)
    }

    /// How many requests of one connection were unanswered at once, at most. With [`Fault::Delay`] these are the requests
    /// that a client sends without waiting for an answer.
    #[must_use]
    pub fn most_under_way(&self) -> usize {
        self.shared.most_under_way.load(Ordering::SeqCst)
    }

    /// Resets the counts of requests, and of the bytes of requests and answers.
    pub fn reset_requests(&self) {
        self.shared.requests().clear();
        self.shared.largest_answer.store(0, Ordering::SeqCst);
        self.shared.most_under_way.store(0, Ordering::SeqCst);
        self.shared.request_bytes.store(0, Ordering::SeqCst);
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Whether the fault that was set is still pending or active.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.shared.plan.borrow().fault != Fault::Forward
    }
}

/// Ends all connections, and no more are accepted.
impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut_links();
    }
}

impl Plan {
    fn forward() -> Self {
        Self { fault: Fault::Forward, left: None, only: Vec::new() }
    }

    /// The fault that this request meets, which is then spent.
    fn strike(&mut self, name: &str) -> Fault {
        let fault = self.fault;
        if !self.only.is_empty() && !self.only.iter().any(|only| only == name) {
            return Fault::Forward;
        }
        if fault != Fault::Hold
            && let Some(left) = &mut self.left
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                *self = Self::forward();
            }
        }
        fault
    }
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault of this request, after all holding is over.
    async fn meet(&self, name: &str) -> Fault {
        let mut plan = self.plan.subscribe();
        loop {
            plan.mark_unchanged();
            let mut fault = Fault::Forward;
            self.plan.send_if_modified(|plan| {
                fault = plan.strike(name);
                plan.fault != fault
            });
            if fault != Fault::Hold || plan.changed().await.is_err() {
                return fault;
            }
        }
    }

    /// Never ends for a link that is held for good; its end ends this.
    async fn stuck_if_made_before(&self, made: u64) {
        if self.stuck.load(Ordering::SeqCst) > made {
            std::future::pending::<()>().await;
        }
    }

    async fn holding_is_over(&self) {
        let mut plan = self.plan.subscribe();
        // It fails only when the sender is dropped, which `self` holds.
        let _ = plan.wait_for(|plan| plan.fault != Fault::Hold).await;
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let cut = shared.cut.subscribe();
        let made = shared.stuck.load(Ordering::SeqCst);
        tokio::spawn(link(client, Arc::clone(&shared), cut, made));
    }
}

/// One connection. Whatever ends it ends both sides, by dropping them.
async fn link(client: TcpStream, shared: Arc<Shared>, mut cut: watch::Receiver<u64>, made: u64) {
    let Some(to) = shared.to.get() else { return };
    let Ok(server) = TcpStream::connect(to).await else { return };
    // The proxy must not delay small requests.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let fates = Mutex::default();
    let (requests_in, requests) = mpsc::channel(1024);
    let (answers_in, answers) = mpsc::channel(1024);
    // Data that one side sent last is delivered although that side has ended.
    tokio::select! {
        _ = cut.changed() => {}
        _ = async {
            tokio::try_join!(
                read(from_client, requests_in),
                pass_requests(requests, to_server, &shared, made, &fates),
            )
        } => {}
        _ = async {
            tokio::try_join!(
                read(from_server, answers_in),
                pass_answers(answers, to_client, &shared, made, &fates),
            )
        } => {}
    }
}

/// The data that was read: a whole value, or a piece of a stream that does not consist of values.
struct Piece {
    bytes: Vec<u8>,
    at: Instant,
    is_whole: bool,
}

async fn read(mut from: OwnedReadHalf, to: mpsc::Sender<Piece>) -> Result<(), Ended> {
    let mut framer = Some(Framer::new());
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let at = Instant::now();
        let mut raw = chunk.get(..length).unwrap_or_default().to_vec();
        if let Some(mut values) = framer.take() {
            values.push(&raw);
            raw.clear();
            loop {
                match values.next() {
                    Ok(Some(bytes)) => {
                        let piece = Piece { bytes, at, is_whole: true };
                        to.send(piece).await.map_err(|_| Ended)?;
                    }
                    Ok(None) => {
                        framer = Some(values);
                        break;
                    }
                    Err(_) => {
                        raw = values.rest();
                        break;
                    }
                }
            }
        }
        if !raw.is_empty() {
            let piece = Piece { bytes: raw, at, is_whole: false };
            to.send(piece).await.map_err(|_| Ended)?;
        }
    }
    Ok(())
}

async fn pass_requests(
    mut requests: mpsc::Receiver<Piece>,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    made: u64,
    fates: &Mutex<VecDeque<Fate>>,
) -> Result<(), Ended> {
    while let Some(Piece { bytes, at, is_whole }) = requests.recv().await {
        shared.stuck_if_made_before(made).await;
        if is_whole {
            let name = command(&bytes);
            let fate = match shared.meet(&name).await {
                Fault::CutBeforeRequest => return Err(Ended),
                Fault::CutAfterRequest => Fate::Cut,
                Fault::HalfReply => Fate::Half,
                Fault::Delay(time) => {
                    sleep_until(at + time).await;
                    Fate::Pass
                }
                Fault::Forward | Fault::Hold => Fate::Pass,
            };
            let unanswered = {
                let mut fates = fates.lock().unwrap_or_else(PoisonError::into_inner);
                fates.push_back(fate);
                fates.len()
            };
            shared.most_under_way.fetch_max(unanswered + requests.len(), Ordering::SeqCst);
            *shared.requests().entry(name).or_default() += 1;
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            shared.request_bytes.fetch_add(length, Ordering::SeqCst);
        } else {
            shared.holding_is_over().await;
        }
        to.write_all(&bytes).await.map_err(|_| Ended)?;
    }
    Ok(())
}

async fn pass_answers(
    mut answers: mpsc::Receiver<Piece>,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    made: u64,
    fates: &Mutex<VecDeque<Fate>>,
) -> Result<(), Ended> {
    while let Some(Piece { bytes, is_whole, .. }) = answers.recv().await {
        let mut fate = Fate::Pass;
        if is_whole && is_answer(&bytes) {
            let next = fates.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            fate = next.unwrap_or(Fate::Pass);
            shared.largest_answer.fetch_max(bytes.len(), Ordering::SeqCst);
        }
        shared.holding_is_over().await;
        shared.stuck_if_made_before(made).await;
        let shown = match fate {
            Fate::Pass => bytes.len(),
            Fate::Half => bytes.len() / 2,
            Fate::Cut => 0,
        };
        to.write_all(bytes.get(..shown).unwrap_or_default()).await.map_err(|_| Ended)?;
        if !matches!(fate, Fate::Pass) {
            // An orderly shutdown, because the last bytes might not arrive otherwise.
            let _ = to.shutdown().await;
            return Err(Ended);
        }
    }
    Ok(())
}

/// Splits a URL into the part before `host:port`, `host:port`, and the part after it.
fn split(url: &str) -> (&str, &str, &str) {
    let scheme = url.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = url.split_at(scheme);
    let (authority, after) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let user = authority.rfind('@').map_or(0, |at| at + 1);
    let (before, _) = url.split_at(scheme.len() + user);
    let (_, authority) = authority.split_at(user);
    (before, authority, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_keeps_everything_but_its_address() {
        assert_eq!(split("redis://127.0.0.1:1"), ("redis://", "127.0.0.1:1", ""));
        assert_eq!(split("redis://me:p@ss@host:1/2?x=y"), ("redis://me:p@ss@", "host:1", "/2?x=y"));
        assert_eq!(split("host"), ("", "host", ""));
    }

    #[test]
    fn fault_affects_only_its_target() {
        let mut plan =
            Plan { fault: Fault::HalfReply, left: Some(2), only: vec!["EVALSHA".to_owned()] };
        let met: Vec<Fault> =
            ["PING", "EVALSHA", "GET", "EVALSHA", "EVALSHA"].map(|name| plan.strike(name)).into();
        assert_eq!(
            met,
            [Fault::Forward, Fault::HalfReply, Fault::Forward, Fault::HalfReply, Fault::Forward]
        );
    }
}
