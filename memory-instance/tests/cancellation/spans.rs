//! Spans: each operation has one with its fields, and its parts are its children. Nothing in them quotes a message.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::Message;
use memory_instance::{FlushMode, MemoryManager, MemoryResource};
use memory_lock::{Clock, ClockExt as _, LockManager, LockOptions};
use memory_lock_testkit::{Cut, until};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use crate::worlds::{Case, TTL, World};
use crate::{facade, in_memory};

const SECRET: &str = "blood type 0";

/// The spans of this thread, in the order of their beginning.
#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<Captured>>);

#[derive(Debug, Default)]
struct Captured {
    spans: Vec<Span>,
    /// The newest span with this id: ids are used again.
    newest: BTreeMap<u64, usize>,
    events: Vec<BTreeMap<&'static str, String>>,
}

#[derive(Debug, Clone, Default)]
struct Span {
    name: &'static str,
    parent: Option<usize>,
    follows: Option<usize>,
    fields: Fields,
}

#[derive(Debug, Clone, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let earlier = self.0.insert(field.name(), format!("{value:?}"));
        assert_eq!(earlier, None, "{} is recorded twice", field.name());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !attributes.metadata().target().starts_with("memory_instance") {
            return;
        }
        let mut captured = self.0.lock().unwrap();
        let parent = context.span(id).unwrap().parent();
        let parent = parent.and_then(|it| captured.newest.get(&it.id().into_u64()).copied());
        let name = attributes.metadata().name();
        let mut span = Span { name, parent, ..Span::default() };
        attributes.record(&mut span.fields);
        captured.spans.push(span);
        let index = captured.spans.len() - 1;
        captured.newest.insert(id.into_u64(), index);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut captured = self.0.lock().unwrap();
        if let Some(&index) = captured.newest.get(&id.into_u64()) {
            values.record(&mut captured.spans[index].fields);
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, _: Context<'_, S>) {
        let mut captured = self.0.lock().unwrap();
        let cause = captured.newest.get(&follows.into_u64()).copied();
        let index = captured.newest[&id.into_u64()];
        captured.spans[index].follows = cause;
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().unwrap().events.push(fields.0);
    }
}

impl Spans {
    fn capture() -> (Self, DefaultGuard) {
        let spans = Self::default();
        let subscriber = tracing_subscriber::registry().with(spans.clone());
        let guard = tracing::subscriber::set_default(subscriber);
        (spans, guard)
    }

    fn forget(&self) {
        let mut captured = self.0.lock().unwrap();
        captured.spans.iter_mut().for_each(|span| span.name = "");
        captured.events.clear();
    }

    fn names(&self) -> Vec<&'static str> {
        let captured = self.0.lock().unwrap();
        let names = captured.spans.iter().map(|span| span.name);
        names.filter(|name| !name.is_empty()).collect()
    }

    /// The only span with this name, and the names of its children in order.
    fn one(&self, name: &str) -> (Span, Vec<&'static str>) {
        let captured = self.0.lock().unwrap();
        let spans = captured.spans.iter().enumerate().filter(|(_, span)| span.name == name);
        let [(index, span)] = &spans.collect::<Vec<_>>()[..] else {
            panic!("not one `{name}`: {:#?}", captured.spans)
        };
        let children = captured.spans.iter().filter(|span| span.parent == Some(*index));
        ((*span).clone(), children.map(|span| span.name).collect())
    }
}

impl Span {
    /// Asserts these fields, and that it was counted how long it took.
    fn assert(&self, expected: &[(&'static str, &str)]) {
        let mut fields = self.fields.0.clone();
        let took = fields.remove("duration_ms").map(|time| time.parse::<f64>().is_ok());
        assert_eq!(took, Some(true), "{self:#?}");
        let expected = expected.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let named = [("project", "default".to_owned()), ("memory_id", "m".to_owned())];
        assert_eq!(fields, expected.chain(named).collect());
    }
}

fn world() -> World {
    let (store, locks) = in_memory();
    World::new("memory", &store, &LockManager::new(locks), None)
}

/// The span of an operation that consists of another one.
fn span_of(operation: &str) -> Option<&str> {
    let (owner, method) = operation.split_once("::")?;
    Some(match (owner, method) {
        // They wait for events, or need no store.
        ("Watcher" | "BackupReader", _) | ("Session", "lost") => return None,
        (_, "append" | "append_all") if owner != "AgentTurn" => "append_all",
        ("AgentTurn" | "PreparedTurn", _) => "send",
        ("ResolvedMemories", _) => "window",
        (_, "messages") => "page",
        (_, "last") => "page_before",
        (_, "len" | "is_empty" | "token_count") => "counters",
        _ => method,
    })
}

#[tokio::test(start_paused = true)]
async fn every_operation_has_a_span() {
    let (spans, _guard) = Spans::capture();
    let world = world();
    for operation in facade::OPERATIONS {
        let Some(name) = span_of(operation.split(',').next().unwrap()) else { continue };
        let case = Case::new(&world, "m", (*operation).to_owned()).await;
        spans.forget();
        assert!(facade::cut_off(&case, operation, Cut::NEVER).await, "{operation}");
        let names = spans.names();
        assert!(names.contains(&name), "no `{name}` in {operation}: {names:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn spans_have_fields_and_parts() {
    let (spans, _guard) = Spans::capture();
    let world = world();
    let case = Case::new(&world, "m", "spans".to_owned()).await;
    let memory = &case.memory;

    spans.forget();
    let appended = memory.append(Message::user(SECRET)).await.unwrap();
    let tokens = appended.counters.present.tokens.to_string();
    let (span, parts) = spans.one("append_all");
    span.assert(&[
        ("operation", "append_all"),
        ("outcome", "ok"),
        ("messages", "1"),
        ("tokens_used", &tokens),
        ("sequence", "152"),
        ("attempts", "1"),
        ("wait_ms", "0.0"),
    ]);
    // The leases of a memory in the process are not those of its store, so each write takes one.
    assert_eq!((span.parent, &parts[..]), (None, &["wait", "store"][..]));
    assert_eq!(spans.one("store").0.fields.0["request"], "append");
    // The event has the same fields, for programs that collect no spans.
    let mut event = spans.0.lock().unwrap().events.pop().unwrap();
    assert_eq!(event.remove("message").unwrap(), "operation ended");
    assert_eq!(event, span.fields.0);

    spans.forget();
    memory.append_all(Vec::<Message>::new()).await.unwrap_err();
    let failed = [("operation", "append_all"), ("outcome", "error"), ("wait_ms", "0.0")];
    let code = [("code", "invalid_operation")];
    spans.one("append_all").0.assert(&[&failed[..], &code].concat());

    // A turn of another process.
    spans.forget();
    let options = LockOptions::new().with_ttl(TTL);
    let turn = world.others.try_lock(&case.lease(), &options).await.unwrap().unwrap();
    let release = async {
        tokio::time::sleep(Duration::from_millis(40)).await;
        turn.release().await;
    };
    let (appended, ()) = tokio::join!(memory.append(Message::user(SECRET)), release);
    let tokens = appended.unwrap().counters.present.tokens.to_string();
    let (span, parts) = spans.one("append_all");
    let waited = span.fields.0["wait_ms"].clone();
    assert!((40.0..45.0).contains(&waited.parse().unwrap()), "{waited}");
    span.assert(&[
        ("operation", "append_all"),
        ("outcome", "ok"),
        ("messages", "1"),
        ("tokens_used", &tokens),
        ("sequence", "153"),
        ("attempts", "1"),
        ("wait_ms", &waited),
    ]);
    assert_eq!(parts, ["wait", "store"]);
    let turn = world.others.try_lock(&case.lease(), &options).await.unwrap().unwrap();
    spans.forget();
    drop(tokio::time::timeout(Duration::from_millis(9), memory.append(Message::user("a"))).await);
    let fields = spans.one("append_all").0.fields.0;
    assert_eq!(fields["outcome"], "canceled");
    assert!(fields["wait_ms"].parse::<f64>().unwrap() >= 9.0, "{fields:?}");
    turn.release().await;

    spans.forget();
    let window = memory.context(400).await.unwrap();
    let (span, parts) = spans.one("context");
    span.assert(&[
        ("operation", "context"),
        ("outcome", "ok"),
        ("messages", &window.messages.len().to_string()),
        ("tokens_used", &window.tokens.to_string()),
        ("wait_ms", "0.0"),
    ]);
    assert!(parts.contains(&"store") && parts.contains(&"plan"), "{parts:?}");

    spans.forget();
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    let removed = receipt.evicted.len() + receipt.summarized.len();
    let (span, parts) = spans.one("perform_flush");
    let fields = &span.fields.0;
    assert_eq!(fields["flush_id"], receipt.id.to_string());
    assert_eq!(fields["messages"], removed.to_string());
    assert_eq!(fields["tokens_used"], receipt.tokens_after.to_string());
    for part in ["wait", "store", "plan", "summarize"] {
        assert!(parts.contains(&part), "no `{part}`: {parts:?}");
    }

    // A turn: its operations are children of it, and their waits and attempts count for it.
    spans.forget();
    memory.exclusive(|session| async move { session.clear().await }).await.unwrap().unwrap();
    let (turn, parts) = spans.one("exclusive");
    assert_eq!(turn.fields.0["attempts"], "2", "the fence and the clear");
    assert!(parts.contains(&"clear") && parts.contains(&"wait"), "{parts:?}");
    let captured = format!("{:?}", spans.0.lock().unwrap());
    assert!(!captured.contains(SECRET), "{captured}");
}

#[tokio::test(start_paused = true)]
async fn background_flush_follows_from_its_append() {
    let (spans, _guard) = Spans::capture();
    let manager = MemoryManager::builder()
        .with_clock(Clock::tokio())
        .with_resource(MemoryResource::new("m", 1_000))
        .with_flush_mode(FlushMode::Background)
        .open("memory://")
        .await
        .unwrap();
    let memory = manager.memory("m", "k").unwrap();
    let talk = (0..60).map(|number| Message::user(format!("{SECRET}, message {number} of a talk")));
    memory.append_all(talk).await.unwrap();
    until("a flush", async || {
        let receipts = memory.receipts().await.unwrap();
        if receipts.is_empty() { Err("no receipt".to_owned()) } else { Ok(()) }
    })
    .await;
    let captured = format!("{:?}", spans.0.lock().unwrap());
    assert!(!captured.contains(SECRET), "{captured}");
    let flushes: Vec<_> = {
        let captured = spans.0.lock().unwrap();
        captured.spans.iter().filter(|span| span.name == "flush").cloned().collect()
    };
    let flush = flushes.first().unwrap();
    let cause = spans.0.lock().unwrap().spans[flush.follows.unwrap()].name;
    assert_eq!((flush.parent, cause), (None, "append_all"));
    assert_eq!(flush.fields.0["outcome"], "ok");
    assert_eq!(flush.fields.0["operation"], "flush");
}
