//! The metrics of a circuit breaker.

use metrics::{Counter, Gauge, counter, gauge};
use reliakit_circuit::State;

/// The metrics of the breaker in front of a resource's store.
#[derive(Debug)]
pub(crate) struct BreakerMetrics {
    trips: Counter,
    state: Gauge,
}

impl BreakerMetrics {
    /// Those of a closed breaker.
    pub(crate) fn new(project: &str, id: &str) -> Self {
        let trips = counter!(
            "memory_circuit_breaker_trips_total", "project" => project.to_owned(), "memory_id" => id.to_owned()
        );
        let state = gauge!(
            "memory_circuit_breaker_state", "project" => project.to_owned(), "memory_id" => id.to_owned()
        );
        state.set(0.0);
        Self { trips, state }
    }

    /// The state changed.
    pub(crate) fn report(&self, state: State) {
        if state == State::Open {
            self.trips.increment(1);
        }
        self.state.set(match state {
            State::Closed => 0.0,
            State::Open => 1.0,
            State::HalfOpen => 2.0,
        });
    }
}
