//! Histories as JSON lines, for independent checkers. The README describes the format.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bug::Bug;
use crate::history::{
    Answer, Call, Caller, Copied, Edit, Ensured, Expected, History, Hit, Item, Piece, Removed,
    Rewrote, Settings, Totals, Type, Written,
};
use crate::program::Program;
use crate::run::play;

/// The environment variable with the folder for the histories of all programs that run.
pub(crate) const FOLDER: &str = "MEMORY_MODEL_HISTORIES";

/// Runs a program and writes the history of each of its memories to a file in this folder. Returns the files.
///
/// # Errors
/// If the folder or a file cannot be written.
pub fn write_histories(
    folder: &Path,
    program: &Program,
    bug: Option<Bug>,
) -> io::Result<Vec<PathBuf>> {
    save(folder, &play(program, bug).0, program, bug)
}

/// Writes a recorded history.
pub(crate) fn save(
    folder: &Path,
    history: &History,
    program: &Program,
    bug: Option<Bug>,
) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let bug = bug.map_or("none".to_owned(), |bug| format!("{bug:?}"));
    let mut files = Vec::new();
    for key in 0..program.keys() {
        let file = folder.join(format!("{bug}-{:016x}-{key}.jsonl", program.seed));
        fs::write(&file, lines(history, key))?;
        files.push(file);
    }
    Ok(files)
}

/// One line for each call on this memory, except those that certainly had no effect.
fn lines(history: &History, key: usize) -> String {
    let mut text = String::new();
    // For each caller, when the last call of each of its processes returned; `None` if it is pending.
    let mut processes: BTreeMap<Caller, Vec<Option<u64>>> = BTreeMap::new();
    for (caller, operation) in history.with_callers(key) {
        let Some((call, args)) = call(history, &operation.call) else { continue };
        let called = operation.called;
        let processes = processes.entry(caller).or_default();
        let is_free = |end: &Option<u64>| end.is_some_and(|end| end < called);
        let number = processes.iter().position(is_free).unwrap_or(processes.len());
        let end = operation.returned.as_ref().map(|(at, _)| *at);
        match processes.get_mut(number) {
            Some(process) => *process = end,
            None => processes.push(end),
        }
        let process = match number {
            0 => caller.to_string(),
            further => format!("{caller}/{}", further + 1),
        };
        let answer = operation.returned.as_ref().map(|(_, answer)| answer_of(answer));
        let line = json!({
            "process": process, "call": call, "args": args, "answer": answer,
            "called": called, "returned": end,
        });
        text.push_str(&line.to_string());
        text.push('\n');
    }
    text
}

/// The name and the arguments of a call.
fn call(history: &History, call: &Call) -> Option<(&'static str, Value)> {
    let turn_of = |write: &u32| history.turns.get(write);
    Some(match call {
        Call::Append { batch, pieces, expected } => {
            ("append", batch_args(history, *batch, pieces, expected.as_ref()))
        }
        Call::Splice {
            generation,
            summarized,
            evicted,
            withdrawn,
            newest,
            replaced,
            summary,
            receipt,
            expected: _,
            rewrites,
        } => {
            let one =
                |(place, new): &(u64, Written)| json!({"place": place, "cleared": hex(new.id)});
            let replaced: Vec<_> = replaced.iter().map(one).collect();
            let args = json!({
                "generation": generation, "summarized": summarized, "evicted": evicted,
                "withdrawn": withdrawn, "newest": newest, "replaced": replaced,
                "summary": summary.map(|summary| hex(summary.id)), "flush": receipt.map(hex),
                "rewrites": rewrites,
            });
            ("splice", args)
        }
        Call::Ensure { id, piece } => ("ensure", json!({"id": id, "message": piece.tag})),
        Call::Clear(id) => ("clear", json!({"id": id, "turn": turn_of(id)})),
        Call::Purge(id) => ("purge", json!({"id": id})),
        Call::Undo { id, receipt } => ("undo", json!({"id": id, "flush": hex(*receipt)})),
        Call::Replace { id, place, piece } => {
            ("replace", json!({"id": id, "place": place, "message": piece.tag}))
        }
        Call::Edit { id, place, edit } => {
            let edit = match edit {
                Edit::Priority(priority) => json!({"priority": priority}),
                Edit::Type(content_type) => json!({"type": type_name(*content_type)}),
            };
            ("edit", json!({"id": id, "place": place, "edit": edit}))
        }
        Call::Rewrite(summary) => ("rewrite", json!({"summary": hex(*summary)})),
        Call::Settings => ("settings", json!({})),
        Call::Receipts => ("receipts", json!({})),
        Call::ReplaceAll { batch, pieces, expected } => {
            ("replace_all", batch_args(history, *batch, pieces, expected.as_ref()))
        }
        Call::Erase { id, places } => ("erase", json!({"id": id, "places": places})),
        Call::Removals => ("removals", json!({})),
        Call::Archived(removal) => ("archived", json!({"removal": removal})),
        Call::Originals(summary) => ("originals", json!({"summary": hex(*summary)})),
        Call::Copied => ("copied", json!({})),
        Call::Search => ("search", json!({})),
        Call::Read(turn) => ("read", json!({"turn": turn})),
        Call::Before { position, limit } => {
            let position = position.map(
                |position| json!({"generation": position.generation, "place": position.place}),
            );
            ("before", json!({"position": position, "limit": limit}))
        }
        Call::Window(budget, turn) => ("window", json!({"budget": budget, "turn": turn})),
        Call::Count => ("count", json!({})),
        Call::Keep => ("keep", json!({})),
        Call::GoBack => ("go_back", json!({})),
        Call::Expire => ("expire", json!({})),
        Call::Delete { generation, newest } => {
            ("delete", json!({"generation": generation, "newest": newest}))
        }
        Call::EndArchives => ("end_archives", json!({})),
        Call::Rewind(expected) => ("rewind", json!({"expected": version(expected)})),
        Call::Snapshot => ("snapshot", json!({})),
        Call::Begin { copy, state: (generation, version), copied, appended: _ } => {
            let at = match copied {
                Copied::Whole => None,
                Copied::Fork(at) => Some(at),
            };
            let args = json!({
                "copy": hex(*copy), "generation": generation, "version": version, "at": at,
            });
            ("copy", args)
        }
        Call::Fork { copy, generation, at } => {
            ("fork", json!({"copy": hex(*copy), "generation": generation, "at": at}))
        }
        Call::Nothing => return None,
    })
}

/// The arguments of an append, and of replacing all messages.
fn batch_args(
    history: &History,
    batch: u32,
    pieces: &[Piece],
    expected: Option<&Expected>,
) -> Value {
    let messages: Vec<_> = pieces.iter().map(|piece| piece.tag).collect();
    let expected = expected.map(version);
    let turn = history.turns.get(&batch);
    json!({"batch": batch, "messages": messages, "turn": turn, "expected": expected})
}

fn version(expected: &Expected) -> Value {
    let newest = expected.newest.map(|newest| content(&[newest]));
    json!({"generation": expected.generation, "newest": newest})
}

fn answer_of(answer: &Answer) -> Value {
    match answer {
        Answer::Appended { first, duplicate, .. } => {
            json!({"first": first, "duplicate": duplicate})
        }
        Answer::Spliced(_) => json!({"conflict": false}),
        Answer::Conflict => json!({"conflict": true}),
        Answer::Ensured(change, place) => {
            let change = match change {
                Ensured::Unchanged => "unchanged",
                Ensured::Appended => "appended",
                Ensured::Replaced => "replaced",
            };
            json!({"change": change, "place": place})
        }
        Answer::Page(places, generation) => {
            json!({"messages": content(places), "generation": generation})
        }
        Answer::Before(places, page) => {
            let page = page.map(|page| {
                json!({
                    "generation": page.generation, "restarted": page.restarted, "more": page.more,
                })
            });
            json!({"messages": content(places), "page": page})
        }
        Answer::Window(shown, end) => json!({"messages": shown, "end": end}),
        Answer::NoWindow => json!({"messages": null}),
        Answer::Counted(totals) => counted(*totals),
        Answer::Undone => json!({"refused": null}),
        Answer::NotUndone(reason) => json!({"refused": reason}),
        Answer::Version((generation, version)) => {
            json!({"generation": generation, "version": version})
        }
        Answer::Replaced => json!({"found": true}),
        Answer::NotThere => json!({"found": false}),
        Answer::Rewrote(outcome) => match outcome {
            Rewrote::By(id) => json!({"summary": hex(*id)}),
            Rewrote::Removed => json!({"summary": null}),
            Rewrote::NoOriginals => json!({"refused": "no_originals"}),
            Rewrote::NotPresent => json!({"refused": "not_present"}),
        },
        Answer::Settings(places) => {
            let one = |(place, Settings { priority, content_type }): &(u64, Settings)| json!({"place": place, "priority": priority, "type": type_name(*content_type)});
            json!({"settings": places.iter().map(one).collect::<Vec<_>>()})
        }
        Answer::Receipts(receipts) => {
            let one = |(id, summary): &(u128, Option<u128>)| json!({"flush": hex(*id), "summary": summary.map(hex)});
            json!({"receipts": receipts.iter().map(one).collect::<Vec<_>>()})
        }
        Answer::Erased(present, archived) => json!({"present": present, "archived": archived}),
        Answer::Removals(removals) => {
            let one = |removal: &Removed| {
                json!({
                    "removal": removal.number, "cause": removal.cause,
                    "flush": removal.receipt.map(hex), "places": removal.places, "erased": removal.erased,
                })
            };
            json!({"removals": removals.iter().map(one).collect::<Vec<_>>()})
        }
        Answer::Archived(places) => json!({"messages": content(places)}),
        Answer::Found(hits) => {
            let one = |hit: &Hit| json!({"place": hit.place, "archived": hit.archived, "message": hit.tag});
            json!({"found": hits.iter().map(one).collect::<Vec<_>>()})
        }
        Answer::Cleared | Answer::Nothing => json!({}),
    }
}

const fn type_name(content_type: Type) -> &'static str {
    match content_type {
        Type::Conversation => "conversation",
        Type::Facts => "facts",
        Type::Other => "other",
    }
}

fn content(places: &[(u64, Item)]) -> Vec<Value> {
    let one = |(place, item): &(u64, Item)| match item {
        Item::Message(tag) => json!({"place": place, "message": tag}),
        Item::Summary(id) => json!({"place": place, "summary": hex(*id)}),
        Item::Cleared(id) => json!({"place": place, "cleared": hex(*id)}),
    };
    places.iter().map(one).collect()
}

fn counted(totals: Totals) -> Value {
    let Totals { present, tokens, summaries, appended, summarized, evicted, cleared, withdrawn } =
        totals;
    json!({
        "present": present, "tokens": tokens, "summaries": summaries, "appended": appended,
        "summarized": summarized, "evicted": evicted, "cleared": cleared, "withdrawn": withdrawn,
    })
}

/// Ids are text, because many readers of JSON keep only 53 bits of a number.
fn hex(id: u128) -> String {
    format!("{id:032x}")
}
