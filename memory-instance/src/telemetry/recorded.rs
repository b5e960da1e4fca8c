//! A recorder of metrics for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// Records everything, with labels in the order of the metric.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    values: Mutex<BTreeMap<String, Arc<Value>>>,
    described: Mutex<BTreeMap<String, Option<Unit>>>,
}

/// Metrics, their labels, and the values of these.
pub(crate) type Series = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

#[derive(Debug, Default)]
struct Value(AtomicU64);

impl Value {
    fn add(&self, more: f64) {
        let add = |bits| Some((f64::from_bits(bits) + more).to_bits());
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add).unwrap();
    }
}

impl CounterFn for Value {
    fn increment(&self, value: u64) {
        self.add(f64::from(u32::try_from(value).unwrap()));
    }

    fn absolute(&self, _: u64) {}
}

impl GaugeFn for Value {
    fn increment(&self, value: f64) {
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.add(-value);
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::SeqCst);
    }
}

impl HistogramFn for Value {
    fn record(&self, _: f64) {
        self.add(1.0);
    }
}

impl Recorded {
    fn of(&self, key: &Key) -> Arc<Value> {
        let labels = key.labels().map(|label| format!("{}={}", label.key(), label.value()));
        let name = format!("{}{{{}}}", key.name(), labels.collect::<Vec<_>>().join(","));
        Arc::clone(self.values.lock().unwrap().entry(name).or_default())
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>) {
        self.described.lock().unwrap().insert(name.as_str().to_owned(), unit);
    }

    /// The value of a metric of the resource `m` in the project `acme`; 0 if it was never emitted.
    pub(crate) fn value(&self, name: &str, label: &str) -> f64 {
        let comma = if label.is_empty() { "" } else { "," };
        self.exactly(&format!("{name}{{project=acme,memory_id=m{comma}{label}}}"))
    }

    /// The value of a metric with these labels; 0 if it was never emitted.
    pub(crate) fn exactly(&self, name: &str) -> f64 {
        let values = self.values.lock().unwrap();
        values.get(name).map_or(0.0, |value| f64::from_bits(value.0.load(Ordering::SeqCst)))
    }

    /// The names with a help text, and their units.
    pub(crate) fn described(&self) -> BTreeMap<String, Option<Unit>> {
        self.described.lock().unwrap().clone()
    }

    /// The metrics that were emitted, with the values of each of their labels.
    pub(crate) fn series(&self) -> Series {
        let mut series = Series::new();
        for key in self.values.lock().unwrap().keys() {
            let (name, labels) = key.trim_end_matches('}').split_once('{').unwrap();
            let of_name = series.entry(name.to_owned()).or_default();
            for label in labels.split(',') {
                let (label, value) = label.split_once('=').unwrap();
                of_name.entry(label.to_owned()).or_default().insert(value.to_owned());
            }
        }
        series
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(&name, unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.of(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.of(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.of(key))
    }
}
