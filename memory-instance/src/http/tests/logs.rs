//! Everything that is logged, at every level, by `tracing` and by `log`.

use std::fmt::{Debug, Write as _};
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Metadata, Subscriber};

/// The lines of this process: the logger of `log` is global.
static LINES: Mutex<String> = Mutex::new(String::new());

/// Captures until it is dropped.
#[must_use]
pub(super) struct Logs {
    _guard: DefaultGuard,
}

impl Logs {
    pub(super) fn capture() -> Self {
        if log::set_logger(&Capture).is_ok() {
            log::set_max_level(log::LevelFilter::Trace);
        }
        Self { _guard: tracing::subscriber::set_default(Capture) }
    }

    pub(super) fn text(&self) -> String {
        LINES.lock().unwrap().clone()
    }
}

struct Capture;

struct Fields(String);

impl Fields {
    fn keep(self) {
        *LINES.lock().unwrap() += &(self.0 + "\n");
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        Fields(format!("{} {}", record.target(), record.args())).keep();
    }

    fn flush(&self) {}
}

impl Subscriber for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields(span.metadata().name().into());
        span.record(&mut fields);
        fields.keep();
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut fields = Fields(String::new());
        values.record(&mut fields);
        fields.keep();
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(event.metadata().target().into());
        event.record(&mut fields);
        fields.keep();
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
