#![doc = include_str!("../README.md")]
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

mod grants;
mod history;
mod linear;
mod model;
mod rollback;
mod violation;

mod bug;
mod link;
mod program;
mod server;
mod summarizer;

mod agent;
mod checks;
mod cut;
mod explain;
mod healed;
mod json;
mod past;
mod run;
mod seen;

pub use bug::Bug;
pub use explain::{Explained, explain};
pub use history::{
    Answer, Backward, Call, Copied, Edit, Ensured, Expected, Held, History, Hit, Item, Piece,
    Position, Recorded, Removed, Rewrote, Settings, Tag, Totals, Type, Written,
};
pub use json::write_histories;
pub use linear::{Explanation, Model, Operation, check};
pub use model::{SequentialMemory, WindowRules};
pub use program::{
    Agent, Family, Faults, Keep, Kind, Look, Op, Past, Program, SummarizerKind, Turn, TurnStep,
    expiries, past, program, prompts, rollbacks, runner,
};
pub use run::{Outcome, run};
pub use violation::{Check, Violation};
