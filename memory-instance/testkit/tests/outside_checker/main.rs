//! An independent checker judges recorded histories: the linearizability tester of `stateright`, which reads only the
//! written JSON lines.

mod log;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use memory_testkit::{Agent, Bug, Faults, Kind, Op, Program, SummarizerKind, run, write_histories};
use serde_json::Value;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester};

use crate::log::{Content, Counts, Log, Newest, Reply, Request, Splice};

/// The number of programs within which the outside checker rejects a history with each of the bugs.
const LIMIT: u64 = 1_000;

/// The tester has no budget, and tries every order of concurrent calls.
const MOST_CONCURRENT: usize = 5;

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

fn content_of(message: &Value) -> (u64, Content) {
    let place = message["place"].as_u64().unwrap();
    let content = match &message["summary"] {
        Value::String(id) => Content::Summary(id.clone()),
        _ => Content::Message(message["message"].as_u64().unwrap()),
    };
    (place, content)
}

/// The newest message of a version, which is in a list.
fn newest_of(expected: &Value) -> Newest {
    expected["newest"].as_array().and_then(|newest| newest.first()).map(content_of)
}

fn request_of(line: &Value) -> Request {
    let (args, answer) = (&line["args"], &line["answer"]);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match line["call"].as_str().unwrap() {
        "append" => {
            let expected = &args["expected"];
            Request::Append {
                batch: args["batch"].as_u64().unwrap(),
                messages: numbers(&args["messages"]),
                expected: (!expected.is_null()).then(|| newest_of(expected)),
            }
        }
        "clear" => Request::Clear(args["id"].as_u64().unwrap()),
        "splice" => Request::Splice(Splice {
            generation: args["generation"].as_u64().unwrap(),
            summarized: numbers(&args["summarized"]),
            evicted: numbers(&args["evicted"]),
            withdrawn: numbers(&args["withdrawn"]),
            newest: args["newest"].as_u64(),
            summary: text(&args["summary"]),
            flush: text(&args["flush"]),
        }),
        "read" => Request::Read(None, usize::MAX),
        "before" => {
            let continues = answer["page"]["restarted"] != true;
            let place = args["position"]["place"].as_u64().filter(|_| continues);
            Request::Read(place, usize::try_from(args["limit"].as_u64().unwrap()).unwrap())
        }
        "rewind" => Request::Rewind(newest_of(&args["expected"])),
        "window" => Request::Window,
        "count" => Request::Count,
        other => panic!("a program of this test has no {other}"),
    }
}

/// The answer of a line, unless the call is pending.
fn reply_of(line: &Value, request: &Request) -> Option<Reply> {
    let answer = Some(&line["answer"]).filter(|answer| !answer.is_null())?;
    let messages = || answer["messages"].as_array().unwrap().iter();
    Some(match request {
        _ if answer["conflict"] == true => Reply::Conflict,
        Request::Append { .. } => Reply::At(answer["first"].as_u64().unwrap()),
        Request::Clear(_) => Reply::Cleared,
        // There was nothing to take back.
        Request::Rewind(_) => Reply::Spliced,
        Request::Splice(_) => Reply::Spliced,
        Request::Read(..) => {
            let generation = answer["generation"].as_u64();
            let generation = generation.or_else(|| answer["page"]["generation"].as_u64());
            Reply::Content(messages().map(content_of).collect(), generation)
        }
        Request::Window if answer["messages"].is_null() => Reply::NoWindow,
        Request::Window => Reply::Window(messages().map(Value::as_u64).collect()),
        Request::Count => {
            let count = |name: &str| answer[name].as_u64().unwrap();
            Reply::Counted(Counts {
                present: count("present"),
                summaries: count("summaries"),
                appended: count("appended"),
                summarized: count("summarized"),
                evicted: count("evicted"),
                cleared: count("cleared"),
                withdrawn: count("withdrawn"),
            })
        }
    })
}

fn lines_of(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The verdict of the tester on a file. `None` if the history has too many concurrent calls for it.
fn is_linearizable(file: &Path) -> Option<bool> {
    let lines = lines_of(file);
    let processes: BTreeSet<_> = lines.iter().map(|line| line["process"].as_str()).collect();
    let mut events = BTreeMap::new();
    for line in &lines {
        let name = line["process"].as_str();
        let process = processes.iter().position(|process| *process == name).unwrap();
        let request = request_of(line);
        if let Some(reply) = reply_of(line, &request) {
            events.insert(line["returned"].as_u64().unwrap(), (process, Err(reply)));
        }
        events.insert(line["called"].as_u64().unwrap(), (process, Ok(request)));
    }
    let mut tester = LinearizabilityTester::new(Log::default());
    let mut running = 0;
    for (process, event) in events.into_values() {
        let recorded = match event {
            Ok(request) => {
                running += 1;
                tester.on_invoke(process, request)
            }
            Err(reply) => {
                running -= 1;
                tester.on_return(process, reply)
            }
        };
        assert!(recorded.is_ok(), "{}: {recorded:?}", file.display());
        if running > MOST_CONCURRENT {
            return None;
        }
    }
    Some(tester.is_consistent())
}

/// A small program without faults: two or three agents on one memory.
fn program(number: u64) -> Program {
    let mut random = fastrand::Rng::with_seed(number);
    let op = |random: &mut fastrand::Rng| match random.u8(0..24) {
        0..6 => Op::Append(vec![Kind::Talk; random.usize(1..3)]),
        6 | 7 => Op::AppendIf(vec![Kind::Talk; random.usize(1..3)]),
        8 => Op::Clear,
        9 => Op::Flush,
        10 => Op::Rewind(random.usize(1..3)),
        11 | 12 => Op::Last(random.usize(1..4)),
        13 | 14 => Op::Before(random.usize(1..3)),
        15 => Op::Messages,
        16..19 => Op::Context(random.u16(60..900)),
        19 | 20 => Op::Count,
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

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")),
        Err(_) => default,
    }
}

#[test]
fn outside_checker_accepts_histories() {
    let first = setting("MEMORY_MODEL_FIRST_OUTSIDE", 0);
    let count = setting("MEMORY_MODEL_OUTSIDE", 500);
    eprintln!("seeds {first}..");
    let folder = tempfile::tempdir().unwrap();
    let mut judged = 0;
    for number in first..first + count {
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
    let bugs = [
        Bug::StaleRead,
        Bug::AppendLost,
        Bug::DeltaSkipped,
        Bug::ClearUnnoticed,
        // Windows.
        Bug::WindowUnasked,
        Bug::WindowWithoutNewest,
        Bug::WindowLacksBetween,
        Bug::WindowOfLostState,
        // Counts.
        Bug::CountersApart,
        Bug::WithdrawnCountedAsEvicted,
        // Conflicts.
        Bug::VersionIgnored,
        Bug::ConflictApplied,
        Bug::ConflictWithoutReason,
        Bug::WithdrawalIgnoresNewer,
        Bug::RewindConflictApplied,
        Bug::RewindConflictWithoutReason,
    ];
    for bug in bugs {
        let is_rejected = |number: &u64| judge(folder.path(), *number, Some(bug)) == Some(false);
        let number = (0..LIMIT).find(is_rejected);
        let number = number.unwrap_or_else(|| panic!("{bug:?} was not found"));
        eprintln!("{bug:?}: program {number}");
        // The checks of the models agree.
        assert!(!run(&program(number), Some(bug)).violations.is_empty(), "{bug:?} in {number}");
    }
}

#[test]
fn processes_are_the_agents() {
    let talk = || Op::Append(vec![Kind::Talk]);
    let dropped = Op::Cancel(1, Box::new(talk()));
    let agents = [vec![Op::Count, Op::Count], vec![dropped, Op::Read, Op::Read]];
    let agents = agents.into_iter().map(|ops| Agent { process: 0, key: 0, ops });
    let program = Program { agents: agents.collect(), ..program(0) };
    let folder = tempfile::tempdir().unwrap();
    let files = write_histories(folder.path(), &program, None).unwrap();
    let lines = lines_of(&files[0]);
    let calls = |process: &str| -> Vec<_> {
        let of_process = lines.iter().filter(|line| line["process"] == process);
        of_process.map(|line| line["call"].as_str().unwrap()).collect()
    };
    assert_eq!(calls("agent/0"), ["count", "count"]);
    assert_eq!(calls("agent/1"), ["append"], "a pending call is the last one");
    assert_eq!(calls("agent/1/2"), ["read", "read"]);
    assert_eq!(calls("recovery/0").first(), Some(&"append"));
}
