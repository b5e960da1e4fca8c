//! `memory config check`.

use crate::support::Folder;

#[test]
fn config_check_reports_notes_and_all_problems() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("memories")).unwrap();
    folder.write(
        "memories/log.yaml",
        "{ resource: memory, id: log, description: A log, max_tokens: 900, key: '{{ .a }}', flushing_strategy: { type: lru, min_messages: 10 } }",
    );
    folder.write("project.yaml", "agents: [{ id: radio, memory: log }, { id: pilot }]");
    let said = folder.run("config check project.yaml memories");
    assert_eq!((said.code, said.out.as_str()), (Some(0), "1 memory, 2 agents\n"), "{said:?}");
    let note = "note: memories/log.yaml: flushing_strategy.type: replaced: `lru` is read as `fifo`: it removed the oldest messages too\n";
    assert_eq!(said.err, note);
    let json = folder.json("config check project.yaml memories --json");
    assert_eq!((&json["agents"], &json["notes"][0]["kind"]), (&2.into(), &"replaced".into()));

    let strict = folder.run("config check memories --strict");
    assert_eq!((strict.code, strict.out.as_str()), (Some(1), ""), "{strict:?}");
    let lines: Vec<_> = strict.err.lines().collect();
    assert!(
        lines[0].starts_with("problem: memories/log.yaml: flushing_strategy.type: `lru`"),
        "{lines:?}"
    );
    assert_eq!(lines[1..], ["error: config check: 1 problem; see above"]);

    folder.write(
        "project.yaml",
        "{ memories: [{ id: m, description: M, max_tokens: 9, key: '{{ .a | frobnicate }}' }], agents: [{ id: a, memory: m, memory_key: '{{ for }}' }] }",
    );
    let templates = folder.run("config check project.yaml");
    assert_eq!(templates.code, Some(1));
    let lines: Vec<_> = templates.err.lines().collect();
    assert!(
        lines[0].starts_with("problem: memory `m`: key template `{{ .a | frobnicate }}`: "),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("problem: agent `a`, memory `m`: key template"), "{lines:?}");
    assert_eq!(folder.run("config check missing.yaml").code, Some(1));
    assert!(!folder.has_store());
}
