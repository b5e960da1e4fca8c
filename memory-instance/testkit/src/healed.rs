//! The second phase: once the faults have ended, everything works again.

use std::sync::Arc;
use std::time::Duration;

use memory_core::{Message, message_tokens};
use tokio::time::Instant;

use crate::agent::{Tags, answer};
use crate::bug::Bug;
use crate::history::{Answer, Call, Piece, Recorder, Totals, item_of};
use crate::program::Kind;
use crate::run::{BUDGET, Bytes, Process};
use crate::violation::Check;

/// After the faults: a new process appends, flushes and reads, at once and without an error.
pub(crate) async fn verify_healed(
    key: usize,
    process: &Arc<Process>,
    recorder: &Arc<Recorder>,
    tags: &Arc<Tags>,
) {
    let memory = process.memory(key);
    let broken = |check, what: String| {
        recorder.history().broken(check, format!("memory {key}: {what}"));
    };
    let failed = |what: String| broken(Check::NotHealed, what);
    let tag = tags.message();
    let message = Message::user(format!("#{tag} healed"));
    let tokens = message_tokens(&Bytes, &message);
    let pieces = vec![Piece { tag, tokens, kind: Kind::Talk }];
    let op = recorder.call(key, Call::Append { batch: tags.call(), pieces });
    let began = Instant::now();
    match memory.append(message).await {
        Ok(appended) => recorder.answer(op, answer(&appended)),
        Err(error) => failed(format!("an append failed after all faults had ended: {error}")),
    }
    // The lease of a process that died runs out after two seconds, and requests that were late
    // may still take it.
    if began.elapsed() > Duration::from_secs(9) {
        broken(
            Check::HealedLate,
            format!("an append took {:?} after all faults had ended", began.elapsed()),
        );
    }
    let mut done = memory.perform_flush().await;
    if done.is_err() {
        // Flushes that were under way may have held the line up.
        done = memory.perform_flush().await;
    }
    if let Ok(Some(receipt)) = &mut done
        && process.link.bug() == Some(Bug::ShortfallHidden)
    {
        receipt.shortfall = None;
    }
    match done {
        Err(error) => failed(format!("a flush failed after all faults had ended: {error}")),
        Ok(Some(receipt)) if receipt.tokens_after > BUDGET / 2 && receipt.shortfall.is_none() => {
            let what = format!("a flush left {} tokens and did not say why", receipt.tokens_after);
            broken(Check::ShortfallHidden, what);
        }
        Ok(_) => {}
    }
    let op = recorder.call(key, Call::Read(None));
    let page = memory.page(None, None).await;
    match page {
        Ok(page) => {
            let places = page.messages.iter().map(item_of).collect();
            recorder.answer(op, Answer::Page(places, Some(page.cursor.generation.number())));
        }
        Err(error) => failed(format!("a read failed after all faults had ended: {error}")),
    }
    let op = recorder.call(key, Call::Count);
    match memory.counters().await {
        Ok(counters) => recorder.answer(op, Answer::Counted(Totals::from(&counters))),
        Err(error) => failed(format!("a count failed after all faults had ended: {error}")),
    }
}
