#![doc = include_str!("../README.md")]

mod history;
mod linear;
mod model;

mod bug;
mod link;
mod program;
mod server;
mod summarizer;

mod agent;
mod checks;
mod cut;
mod healed;
mod run;

pub use bug::Bug;
pub use history::{Answer, Call, Held, History, Item, Piece, Recorded, Tag, Totals, Violation};
pub use linear::{Model, Operation, Verdict, check};
pub use model::SequentialMemory;
pub use program::{Agent, Faults, Kind, Op, Program, SummarizerKind, program, runner};
pub use run::{Outcome, run};
