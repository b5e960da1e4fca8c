//! An independent checker judges recorded histories: the linearizability tester of `stateright`, which reads only the
//! written JSON lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use memory_testkit::{Agent, Bug, Faults, Kind, Op, Program, SummarizerKind, run, write_histories};
use serde_json::Value;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

/// The number of programs within which the outside checker rejects a history with each of the bugs.
const LIMIT: u64 = 200;

/// The tester has no budget, and tries every order of concurrent calls.
const MOST_PROCESSES: u64 = 5;

/// The memory as a log with places.
#[derive(Debug, Clone, Default)]
struct Log {
    /// The message or summary at each place.
    content: BTreeMap<u64, String>,
    last: u64,
    batches: BTreeMap<u64, u64>,
    clears: BTreeSet<u64>,
    flush: Option<String>,
}

#[derive(Debug, Clone)]
enum Request {
    Append {
        batch: u64,
        messages: Vec<String>,
    },
    Clear(u64),
    /// At most this number of the newest messages, before a place.
    Read(Option<u64>, usize),
    Splice {
        summarized: Vec<u64>,
        evicted: Vec<u64>,
        summary: Option<String>,
        flush: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq)]
enum Reply {
    At(u64),
    Cleared,
    Content(Vec<(u64, String)>),
    Spliced,
    Impossible,
}

impl SequentialSpec for Log {
    type Op = Request;
    type Ret = Reply;

    fn invoke(&mut self, request: &Request) -> Reply {
        match request {
            Request::Append { batch, messages } => {
                if let Some(first) = self.batches.get(batch) {
                    return Reply::At(*first);
                }
                let first = self.last + 1;
                self.batches.insert(*batch, first);
                for message in messages {
                    self.last += 1;
                    self.content.insert(self.last, message.clone());
                }
                Reply::At(first)
            }
            Request::Clear(id) => {
                if self.clears.insert(*id) {
                    self.content.clear();
                    self.flush = None;
                }
                Reply::Cleared
            }
            Request::Read(before, limit) => {
                let older = self.content.range(..before.unwrap_or(u64::MAX)).rev().take(*limit);
                let mut content: Vec<_> =
                    older.map(|(place, text)| (*place, text.clone())).collect();
                content.reverse();
                Reply::Content(content)
            }
            Request::Splice { summarized, evicted, summary, flush } => {
                if flush.is_some() && *flush == self.flush {
                    return Reply::Spliced;
                }
                let mut removed = summarized.iter().chain(evicted);
                if removed.any(|place| !self.content.contains_key(place)) {
                    return Reply::Impossible;
                }
                self.content
                    .retain(|place, _| !summarized.contains(place) && !evicted.contains(place));
                if let (Some(summary), Some(place)) = (summary, summarized.first()) {
                    self.content.insert(*place, summary.clone());
                }
                self.flush = flush.clone().or(self.flush.take());
                Reply::Spliced
            }
        }
    }
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

/// The call of a line, and its answer unless it is pending. `None` for calls that the log does not have; none of them
/// has an effect.
fn call_of(line: &Value) -> Option<(Request, Option<Reply>)> {
    let (args, answer) = (&line["args"], &line["answer"]);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let content = |answer: &Value| {
        let one = |message: &Value| {
            let shown = text(&message["summary"]).unwrap_or_else(|| message["message"].to_string());
            (message["place"].as_u64().unwrap(), shown)
        };
        Reply::Content(answer["messages"].as_array().unwrap().iter().map(one).collect())
    };
    let (request, reply): (_, fn(&Value) -> Reply) = match line["call"].as_str().unwrap() {
        "append" if answer["conflict"] == true => return None,
        "append" => {
            let messages = args["messages"].as_array().unwrap().iter().map(Value::to_string);
            let batch = args["batch"].as_u64().unwrap();
            let request = Request::Append { batch, messages: messages.collect() };
            (request, |answer| Reply::At(answer["first"].as_u64().unwrap()))
        }
        "clear" => (Request::Clear(args["id"].as_u64().unwrap()), |_| Reply::Cleared),
        "splice" if answer["conflict"] == true => return None,
        "splice" => {
            let request = Request::Splice {
                summarized: numbers(&args["summarized"]),
                evicted: [numbers(&args["evicted"]), numbers(&args["withdrawn"])].concat(),
                summary: text(&args["summary"]),
                flush: text(&args["flush"]),
            };
            (request, |_| Reply::Spliced)
        }
        "read" => (Request::Read(None, usize::MAX), |_| Reply::Impossible),
        "before" => {
            let continues = answer["page"]["restarted"] != true;
            let place = args["position"]["place"].as_u64().filter(|_| continues);
            let limit = usize::try_from(args["limit"].as_u64().unwrap()).unwrap();
            (Request::Read(place, limit), |_| Reply::Impossible)
        }
        "window" | "count" => return None,
        other => panic!("a program of this test has no {other}"),
    };
    let is_read = matches!(request, Request::Read(..));
    let reply = (!answer.is_null()).then(|| if is_read { content(answer) } else { reply(answer) });
    Some((request, reply))
}

/// The verdict of the tester on a file. `None` if the history has too many concurrent calls for it.
fn is_linearizable(file: &Path) -> Option<bool> {
    let lines = fs::read_to_string(file).unwrap();
    let mut events = BTreeMap::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let process = line["process"].as_u64().unwrap();
        if process >= MOST_PROCESSES {
            return None;
        }
        let Some((request, reply)) = call_of(&line) else { continue };
        events.insert(line["called"].as_u64().unwrap(), (process, Ok(request)));
        if let Some(reply) = reply {
            events.insert(line["returned"].as_u64().unwrap(), (process, Err(reply)));
        }
    }
    let mut tester = LinearizabilityTester::new(Log::default());
    for (process, event) in events.into_values() {
        let recorded = match event {
            Ok(request) => tester.on_invoke(process, request),
            Err(reply) => tester.on_return(process, reply),
        };
        assert!(recorded.is_ok(), "{}: {recorded:?}", file.display());
    }
    Some(tester.is_consistent())
}

/// A small program without faults: two or three agents on one memory.
fn program(number: u64) -> Program {
    let mut random = fastrand::Rng::with_seed(number);
    let op = |random: &mut fastrand::Rng| match random.u8(0..16) {
        0..6 => Op::Append(vec![Kind::Talk; random.usize(1..3)]),
        6 => Op::Clear,
        7 => Op::Flush,
        8 | 9 => Op::Last(random.usize(1..4)),
        10 | 11 => Op::Before(random.usize(1..3)),
        12 => Op::Messages,
        _ => Op::Read,
    };
    let agents = (0..random.u8(2..4)).map(|process| {
        let ops = (0..random.u8(2..5)).map(|_| op(&mut random)).collect();
        Agent { process: process % 2, key: 0, ops }
    });
    let agents = agents.collect();
    Program {
        seed: number,
        shared_domain: random.bool(),
        faults: Faults { percent: 0, latency: random.u8(1..8) },
        summarizer: SummarizerKind::Quick,
        inline_flush: false,
        past: None,
        agents,
    }
}

/// The verdict on the memory that the agents use.
fn judge(folder: &Path, number: u64, bug: Option<Bug>) -> Option<bool> {
    let files = write_histories(folder, &program(number), bug).unwrap();
    is_linearizable(&files[0])
}

#[test]
fn outside_checker_accepts_histories() {
    let count = match std::env::var("MEMORY_MODEL_OUTSIDE") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 500,
    };
    let folder = tempfile::tempdir().unwrap();
    let mut judged = 0;
    for number in 0..count {
        let verdict = judge(folder.path(), number, None);
        assert_ne!(verdict, Some(false), "program {number}: {:?}", program(number));
        judged += u64::from(verdict.is_some());
    }
    eprintln!("{judged} of {count} histories were judged");
    assert!(judged > count / 2, "too many concurrent calls in all but {judged} of {count}");
}

#[test]
fn outside_checker_finds_planted_bugs() {
    let folder = tempfile::tempdir().unwrap();
    let bugs = [Bug::StaleRead, Bug::AppendLost, Bug::DeltaSkipped, Bug::ClearUnnoticed];
    for bug in bugs {
        let is_rejected = |number: &u64| judge(folder.path(), *number, Some(bug)) == Some(false);
        let number = (0..LIMIT).find(is_rejected);
        let number = number.unwrap_or_else(|| panic!("{bug:?} was not found"));
        eprintln!("{bug:?}: program {number}");
        // The checks of the models agree.
        assert!(!run(&program(number), Some(bug)).violations.is_empty(), "{bug:?} in {number}");
    }
}
