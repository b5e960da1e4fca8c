//! Test models: slow, broken, and one that reports its input.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use memory_flush::{SummarizeError, Summarizer, SummaryRequest, from_fn};

use super::SUMMARY_TAKES;
use super::load::id_in;

/// The texts that summarizers received, by their places; and the places at which they saw two different
/// texts.
#[derive(Debug, Clone, Default)]
pub(super) struct Given(Arc<Mutex<Texts>>);

#[derive(Debug, Default)]
struct Texts {
    at: HashMap<u64, String>,
    changed: u64,
}

impl Given {
    fn take_down(&self, request: &SummaryRequest) {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for message in request.messages.iter() {
            let id = id_in(&message.message.text());
            let before = texts.at.insert(message.meta.sequence.number(), id.clone());
            texts.changed += u64::from(before.is_some_and(|before| before != id));
        }
    }

    /// The owner of the message at this place, if it was ever assigned.
    pub(super) fn at(&self, place: u64) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).at.get(&place).cloned()
    }

    /// Places at which two texts were seen.
    pub(super) fn changed(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).changed
    }

    /// Waits without using the processor, like a remote model.
    pub(super) fn slow(&self) -> Arc<dyn Summarizer> {
        let given = self.clone();
        from_fn("slow model", move |request| {
            given.take_down(&request);
            async move {
                tokio::time::sleep(SUMMARY_TAKES).await;
                Ok(summary(&request))
            }
        })
    }

    pub(super) fn that(&self, does: Does) -> Arc<dyn Summarizer> {
        let given = self.clone();
        from_fn("broken model", move |request| {
            given.take_down(&request);
            async move {
                tokio::time::sleep(SUMMARY_TAKES / 5).await;
                match does {
                    Does::Fail => Err(SummarizeError::new("the model answered with status 529")),
                    Does::Hang => std::future::pending().await,
                    Does::SayNothing => Ok(" \n".to_owned()),
                    Does::SayTooMuch => Ok("and so on ".repeat(10_000)),
                }
            }
        })
    }
}

/// The behavior of a broken model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Fail,
    Hang,
    SayNothing,
    SayTooMuch,
}

pub(super) fn summary(request: &SummaryRequest) -> String {
    let earlier = if request.previous.is_some() { " and what was summed up before" } else { "" };
    format!("In short: {} messages{earlier}.", request.messages.len())
}
