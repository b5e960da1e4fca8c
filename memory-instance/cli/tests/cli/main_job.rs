//! The main job on real input: import, export, and windows under pressure.

use memory_core::conformance::assert_counters;
use memory_core::json::Json;
use memory_core::plan::NewestUnit;
use memory_core::tokens::{Vocabulary, message_tokens};
use memory_core::{
    MemoryResource, Message, Profile, TiktokenCounter, TokenCounter, WindowOptions, check_request,
};
use serde_json::Value;

use crate::data::{Conversations, by_conversation, conversations};
use crate::support::{Folder, Said, counts, lines};

on_every_store!(
    export_returns_what_import_took_once,
    under_pressure_windows_fit_and_the_books_balance;
    // The jobs of one process are left out, because several processes do the same.
    on_servers: four_importers_of_one_file_append_once,
    four_processes_keep_windows_and_counters_correct,
);

/// Half a real conversation, with summaries.
const PRESSURE: &str = "\
id: support
model: gpt-4o
max_tokens: 2000
key: '{{ line.conversation_id }}'
flushing_strategy: { type: hybrid_summary }
";

fn import(folder: &Folder, data: &Conversations, more: &str) -> Value {
    let line = format!("import {} --agents 8 --json {more}", data.file.display());
    folder.json(&line)
}

fn export_returns_what_import_took_once(folder: &Folder) {
    let data = conversations(folder);
    let key = ["--key", "{{ line.conversation_id }}"];
    let file = data.file.to_str().unwrap();

    let words = ["import", file, "--agents", "8", key[0], key[1]];
    let first = folder.run_words(words);
    assert_eq!((first.code, first.err.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&first.out).unwrap();
    assert_eq!(counts(&report), [data.messages(), data.messages(), 0, 0]);
    assert_eq!(report["keys"], data.by_id.len());
    assert!(report["seconds"].as_f64().unwrap() > 0.0);

    let again = import(folder, &data, "");
    assert_eq!(counts(&again), [data.messages(), 0, data.messages(), 0]);

    let exported = by_conversation(lines(&folder.ok("export --all")));
    assert!(exported == data.by_id, "what came out is not what went in");
    let (id, messages) = data.by_id.first_key_value().unwrap();
    assert_eq!(&lines(&folder.ok(&format!("export --key {id}"))), messages);
}

fn four_importers_of_one_file_append_once(folder: &Folder) {
    let data = conversations(folder);
    let file = data.file.to_str().unwrap();
    let start = || folder.command(["import", file, "--agents", "4", "--json"]).spawn().unwrap();
    let children = [start(), start(), start(), start()];
    let (mut appended, mut skipped) = (0, 0);
    for child in children {
        let said = Said::from(child.wait_with_output().unwrap());
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
        let report = serde_json::from_str(&said.out).unwrap();
        let [read, new, old, failed] = counts(&report);
        assert_eq!((read, failed), (data.messages(), 0));
        appended += new;
        skipped += old;
    }
    assert_eq!((appended, skipped), (data.messages(), 3 * data.messages()));
    let exported = by_conversation(lines(&folder.ok("export --all")));
    assert!(exported == data.by_id, "what came out is not what went in");
}

fn under_pressure_windows_fit_and_the_books_balance(folder: &Folder) {
    folder.write("support.yaml", PRESSURE);
    let data = conversations(folder);
    let report = import(folder, &data, "--resource support.yaml");
    assert_eq!(counts(&report), [data.messages(), data.messages(), 0, 0]);
    check_windows_and_books(folder, &data);

    let id = data.by_id.first_key_value().unwrap().0;
    let one = format!("--resource support.yaml --key {id}");
    let window = folder.json(&format!("context --budget 1500 --newest truncate {one} --json"));
    let request = Json::from(window["request"].clone());
    assert!(window["tokens"].as_u64().unwrap() <= 1_500);
    check_window(request.as_array().unwrap(), &data.by_id[id]);
    let health = folder.json(&format!("health {one} --json"));
    assert_eq!(health["lifetime"]["appended"], data.by_id[id].len() as u64);
    let all = folder.json("health --all --resource support.yaml --json");
    assert_eq!(all.as_array().unwrap().len(), data.by_id.len());
}

fn four_processes_keep_windows_and_counters_correct(folder: &Folder) {
    folder.write("support.yaml", PRESSURE);
    let data = conversations(folder);
    let file = data.file.to_str().unwrap();
    let args = ["import", file, "--agents", "4", "--json", "--resource", "support.yaml"];
    let children = [(); 4].map(|()| folder.command(args).spawn().unwrap());
    let mut appended = 0;
    for child in children {
        let said = Said::from(child.wait_with_output().unwrap());
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
        appended += counts(&serde_json::from_str(&said.out).unwrap())[1];
    }
    assert_eq!(appended, data.messages());
    check_windows_and_books(folder, &data);
}

/// P1, P5, P9 and P10 for every memory, through the library.
fn check_windows_and_books(folder: &Folder, data: &Conversations) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let manager = folder.open(MemoryResource::from_yaml(PRESSURE).unwrap()).await;
        let mut summarized = 0;
        for (id, input) in &data.by_id {
            let memory = manager.memory("support", id).unwrap();
            // The system prompt leaves little for the newest unit.
            let options = WindowOptions::new(1_500).with_newest(NewestUnit::Truncate);
            let window = memory.window(&options).await.unwrap();
            check_window(window.request().messages(), input);
            let recount = with_counter(|counter| window.request().count_tokens(counter));
            assert_eq!(recount, window.tokens);
            assert!(recount <= 1_500, "{recount} tokens in a window of 1500");

            let outline = manager.store().outline(memory.key()).await.unwrap();
            assert_counters(&outline);
            let recount: u64 =
                memory.messages().await.unwrap().iter().map(|m| tokens(&m.message)).sum();
            let health = memory.health().await.unwrap();
            assert_eq!(health.tokens, recount, "{id}");
            let life = health.lifetime;
            assert_eq!(life.appended, input.len() as u64, "{id}");
            let accounted =
                life.present + life.summarized + life.evicted + life.cleared + life.withdrawn;
            assert_eq!(life.appended, accounted, "{id}");
            assert_eq!(life.present + life.summaries, health.messages, "{id}");
            summarized += life.summarized;
        }
        assert!(summarized > data.messages() / 4, "{summarized} summarized: this was no pressure");
    });
}

/// Checks the request of a window.
fn check_window(messages: &[Json], input: &[Value]) {
    let request = Json::from(messages.to_vec()).to_string();
    check_request(&request, &Profile::openai_chat()).unwrap();
    assert_eq!(input[0]["role"], "system");
    assert_eq!(messages[0].get_str("content"), input[0]["content"].as_str(), "the system prompt");
}

fn tokens(message: &Message) -> u64 {
    with_counter(|counter| message_tokens(counter, message).into())
}

fn with_counter(count: impl FnOnce(&dyn TokenCounter) -> u64) -> u64 {
    count(&TiktokenCounter::new(Vocabulary::O200kBase))
}
