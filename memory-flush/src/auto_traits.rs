//! Checks at compile time that programs with several threads can share the public types.

use crate::{FlushInput, FlushPlan, FlushStrategy, SummarizeError, Summarizer, SummaryRequest};

const fn shared<T: ?Sized + Send + Sync>() {}

const _: () = {
    shared::<dyn FlushStrategy>();
    shared::<dyn Summarizer>();
    shared::<FlushInput<'_>>();
    shared::<FlushPlan>();
    shared::<SummaryRequest>();
    shared::<SummarizeError>();
};
