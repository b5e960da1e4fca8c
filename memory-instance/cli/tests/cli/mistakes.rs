//! Bad input: one line that names the place and the remedy, and the exit code.

use crate::support::{Folder, Said};

/// The command line, the exit code and the error; `|` separates arguments.
const MISTAKES: &[(&str, i32, &str)] = &[
    // Files.
    (
        "import|json.jsonl",
        1,
        "json.jsonl:3: invalid JSON at column 9: the line ends within a value, as after a crash of its writer; complete it or remove it; nothing was appended",
    ),
    (
        "import|many.jsonl|--key|k",
        1,
        "many.jsonl:1: invalid JSON at column 2; write one complete JSON object a line (and 1 more bad line); nothing was appended",
    ),
    (
        "import|array.jsonl|--key|k",
        1,
        "array.jsonl:2: element 1: the message must be a JSON object; nothing was appended",
    ),
    (
        "import|norole.jsonl",
        1,
        "norole.jsonl:1: `role` is missing: add who speaks, such as \"user\"; nothing was appended",
    ),
    (
        "import|content.jsonl|--key|k",
        1,
        "content.jsonl:1: `content` must be a string, null or an array of parts; nothing was appended",
    ),
    (
        "import|nokey.jsonl",
        1,
        "nokey.jsonl:1: key template `{{ line.conversation_id }}`: Field `conversation_id` is not defined. Available fields: content, role; the variables there are: line.content, line.role, project.id, record.number; give a --key with fields that every line has, or a fixed one; nothing was appended",
    ),
    (
        "import|large.jsonl|--resource|small.yaml|--key|k",
        1,
        "large.jsonl:2: the message has 304 tokens, more than the whole budget of resource `s` (200); shorten it, or raise max_tokens; nothing was appended",
    ),
    (
        "import|missing.jsonl",
        1,
        "open missing.jsonl: No such file or directory (os error 2); check the path",
    ),
    (
        "import|.|--key|k",
        1,
        "read .: Is a directory (os error 21); give it a whole JSONL file, plain or gzipped",
    ),
    (
        "import|cut.gz|--key|k",
        1,
        "read cut.gz: unexpected end of file; give it a whole JSONL file, plain or gzipped",
    ),
    // Keys.
    (
        "health|--key|nobody",
        1,
        "no memory has the key `nobody` (project `default`, resource `default`); `memory keys` lists them",
    ),
    (
        "context|--key|nobody",
        1,
        "no memory has the key `nobody` (project `default`, resource `default`); `memory keys` lists them",
    ),
    (
        "export|--key|k|--project|other",
        1,
        "no memory has the key `k` (project `other`, resource `default`); `memory keys` lists them",
    ),
    (
        "flush",
        2,
        "which memory is meant? give its key, such as --key airline-00-0; `memory keys` lists them",
    ),
    (
        "tail|--key|{{ user.id }}|--var|session.id=1",
        1,
        "key template `{{ user.id }}`: Variable `user` is not defined. Available variables: project, session; the variables there are: project.id, session.id; add others with --var name=value",
    ),
    (
        "tail|--key|{{ user.id",
        1,
        "key template `{{ user.id`: Unexpected end of input; write variables as {{ workflow.id }}",
    ),
    ("tail|--key| ", 1, "key template ` ` gives an empty key: fill in its variables"),
    ("keys|--project|", 0, ""),
    (
        "health|--key|k|--project|",
        1,
        "the project of a memory key is empty: give it at least one character",
    ),
    (
        "context|--key|k|--budget|1",
        1,
        "context of default:default:k: the critical messages alone take 5 tokens, over the budget of 1: raise the budget to 5 or more, or give some of them a lower priority",
    ),
    // Resources.
    (
        "keys|--resource|missing.yaml",
        1,
        "read the resource missing.yaml: No such file or directory (os error 2); check the path",
    ),
    (
        "keys|--resource|x.ini",
        2,
        "--resource x.ini: its format is not known; name it .yaml, .yml, .toml or .json",
    ),
    (
        "keys|--resource|ratio.json",
        1,
        "ratio.json: resource `r`: max_context_ratio: is set beside max_tokens; keep one of the two",
    ),
    (
        "keys|--resource|noid.yaml",
        1,
        "noid.yaml: the resource: missing field `id`; name the resource, such as support",
    ),
    (
        "keys|--resource|no.yaml",
        1,
        "no.yaml: the resource: id: false is a boolean and not text; put the text in quotes (YAML reads no, off, yes and on without quotes as booleans)",
    ),
    (
        "keys|--resource|ttl.yaml",
        1,
        "ttl.yaml: resource `r`: lock.ttl: 30 has no unit; write 30s for seconds, or another unit as in 10m, 24h or 7d",
    ),
    (
        "keys|--resource|twice.yaml",
        1,
        "twice.yaml: a resource in YAML: line 2 column 1: the key `id` is there twice; leave one of them",
    ),
    (
        "keys|--resource|two.yaml",
        1,
        "two.yaml: a resource in YAML: line 4 column 1: there are several documents; write one resource to a file, without `---` in between",
    ),
    ("keys|--resource|twice.toml", 1, "twice.toml: a resource in TOML: line 3: duplicate key"),
    (
        "keys|--resource|brace.yaml",
        1,
        "brace.yaml: resource `r`: key: has a brace that is not closed; write variables as {{ session.id }}",
    ),
    (
        "keys|--resource|template.yaml",
        1,
        "key template `{{ a b }}`: Found identifier but expected }}.; write variables as {{ workflow.id }}",
    ),
    (
        "keys|--resource|utf16.yaml",
        1,
        "utf16.yaml: is UTF-16 text; convert it, such as with `iconv -f UTF-16 -t UTF-8`",
    ),
    (
        "import|utf16.jsonl|--key|k",
        1,
        "utf16.jsonl:1: the file is UTF-16 text; convert it, such as with `iconv -f UTF-16 -t UTF-8`; nothing was appended",
    ),
    // Stores.
    (
        "keys|--store|sqlite::memory:",
        2,
        "store URL `sqlite::memory:`: asks for SQLite's in-memory database, which connections cannot share; write memory:// for memories of this process",
    ),
    (
        "keys|--store|sqlite://:memory:",
        2,
        "store URL `sqlite://:memory:`: asks for SQLite's in-memory database, which connections cannot share; write memory:// for memories of this process",
    ),
    (
        "keys|--store|sqlite:memory.db",
        2,
        "store URL `sqlite:memory.db`: has no `//` behind `sqlite:`; write sqlite://memory.db",
    ),
    (
        "keys|--store|memory.db",
        2,
        "store URL `memory.db`: has no scheme; write memory://, sqlite://PATH or redis://HOST, such as sqlite://memory.db",
    ),
    (
        "keys|--store|mysql://host/db",
        2,
        "store URL `mysql://host/db`: has an unknown scheme; write memory://, sqlite://PATH or redis://HOST",
    ),
    (
        "keys|--store|redis://me:secret@127.0.0.1:1",
        1,
        "open: the store did not answer: 127.0.0.1:1 cannot be connected to; check the address, that it runs, and whether it expects TLS (Connection refused (os error 111))",
    ),
    (
        "keys|--store|sqlite://",
        2,
        "store URL `sqlite://`: names no file; write a path, such as sqlite://memory.db",
    ),
    (
        "keys|--store|sqlite://memory.db?sync=1",
        2,
        "store URL `sqlite://memory.db?sync=1`: has the unknown setting `sync=1`; there are synchronous=full, synchronous=normal, links=refuse and links=allow",
    ),
    (
        "keys|--store|sqlite://typo.db?synchronous=off",
        2,
        "store URL `sqlite://typo.db?synchronous=off`: has the unknown setting `synchronous=off`; there are synchronous=full, synchronous=normal, links=refuse and links=allow",
    ),
    (
        "demo|--store|mysql://host/db",
        2,
        "store URL `mysql://host/db`: has an unknown scheme; write memory://, sqlite://PATH or redis://HOST",
    ),
    (
        "keys|--store|sqlite://typo.db",
        1,
        "store sqlite://typo.db: there is no such file; check the path, or make it with `memory import`",
    ),
    (
        "import|good.jsonl|--key|k|--store|sqlite://no/such/folder.db",
        1,
        "open: invalid request: the folder no/such does not exist; create it first",
    ),
    (
        "keys|--store|sqlite://good.jsonl",
        1,
        "open: damaged or foreign data: good.jsonl is not a SQLite database or is damaged; check the path or restore a backup (file is not a database: Error code 26: file is not a database)",
    ),
    // The command line.
    ("clear|--key|k", 2, "clear removes all messages of the memory; add --yes to do that"),
    (
        "lease|break|--key|k",
        2,
        "break takes the leases away from their holders, whose turn or flush then fails; add --yes to do that",
    ),
    (
        "import",
        2,
        "the following required arguments were not provided: <FILE>...; --help shows how",
    ),
    (
        "import|good.jsonl|--agents|0",
        2,
        "invalid value '0' for '--agents <N>': number would be zero for non-zero type; --help shows how",
    ),
    (
        "import|good.jsonl|good.jsonl|--source|s",
        2,
        "--source names one file, and there are several; import them one by one, each with its own name",
    ),
    ("import|-|-", 2, "- is given more than once among the files; stdin can be read once"),
    (
        "import|good.jsonl|--var|x",
        2,
        "invalid value 'x' for '--var <NAME=VALUE>': write it as name=value, such as workflow.input.case=4711; --help shows how",
    ),
    (
        "keys|--storr|x",
        2,
        "unexpected argument '--storr' found; tip: a similar argument exists: '--store'; --help shows how",
    ),
    ("frobnicate", 2, "unrecognized subcommand 'frobnicate'; --help shows how"),
];

#[test]
fn each_mistake_prints_one_line_with_remedy() {
    let folder = Folder::new();
    let good = "{\"role\":\"user\",\"content\":\"hi\",\"conversation_id\":\"k\"}\n";
    folder.write("good.jsonl", good);
    folder.write("json.jsonl", format!("{good}\n{{\"role\":\n{good}"));
    folder.write("many.jsonl", format!("nonsense\n{good}[]\n7\n"));
    folder.write("array.jsonl", "[\n1]");
    folder.write("norole.jsonl", r#"{"content":"a","conversation_id":"k"}"#);
    folder.write("content.jsonl", r#"{"role":"user","content":5}"#);
    folder.write("nokey.jsonl", r#"{"role":"user","content":"a"}"#);
    folder.write(
        "large.jsonl",
        format!("{good}{{\"role\":\"user\",\"content\":\"{}\"}}", "hi ".repeat(299)),
    );
    folder.write("cut.gz", [0x1f, 0x8b, 8, 0, 0, 0]);
    folder.write("noid.yaml", "max_tokens: 5\n");
    folder.write("no.yaml", "id: no\nmax_tokens: 5\n");
    folder.write("ttl.yaml", "id: r\nmax_tokens: 50\nlock:\n  ttl: 30\n");
    folder.write("twice.yaml", "id: r\nid: s\nmax_tokens: 50\n");
    folder.write("two.yaml", "id: r\nmax_tokens: 50\n---\nid: s\nmax_tokens: 5\n");
    folder.write("twice.toml", "id = \"r\"\nmax_tokens = 5\nmax_tokens = 6\n");
    folder.write("brace.yaml", "id: r\nmax_tokens: 50\nkey: '{{ user.id'\n");
    folder.write("template.yaml", "id: r\nmax_tokens: 50\nkey: '{{ a b }}'\n");
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    folder.write("utf16.yaml", utf16("\u{feff}id: r\n"));
    folder.write("utf16.jsonl", utf16("\u{feff}{\"role\":\"user\"}"));
    folder.write("small.yaml", "id: s\nmax_tokens: 200\n");
    folder.write(
        "ratio.json",
        r#"{"id":"r","max_tokens":5,"max_context_ratio":0.5,"model":"gpt-4o"}"#,
    );
    folder.write("system.jsonl", r#"{"role":"system","content":"hi"}"#);
    folder.ok("import system.jsonl --key k");

    let mut wrong = String::new();
    for (line, code, text) in MISTAKES {
        let said = folder.run_words(line.split('|'));
        let expected = if text.is_empty() { String::new() } else { format!("error: {text}\n") };
        if (said.code, said.err.as_str()) != (Some(*code), expected.as_str()) {
            wrong.push_str(&format!("{line}\n  expected {code} {expected}  said     {said:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(folder.ok("export --all").lines().count(), 1, "a mistake appended something");
    assert!(!folder.path("typo.db").exists(), "a mistake made a file");
}

#[test]
fn unknown_resource_field_lists_the_known_ones() {
    let folder = Folder::new();
    folder.write("r.yaml", "id: r\nmax_tokens: 5\nmax_tokenz: 3\n");
    let said = folder.run("import x --resource r.yaml");
    assert_eq!(said.code, Some(1));
    assert!(
        said.err
            == "error: r.yaml: resource `r`: max_tokenz: unknown field `max_tokenz`; did you mean `max_tokens`?\n",
        "{said:?}"
    );
    assert_eq!(said.err.lines().count(), 1);
}

#[test]
fn unknown_tokenizer_lists_the_known_ones() {
    let folder = Folder::new();
    let known = "write o200k_base, cl100k_base or estimate";
    let said = folder.run("import x --tokenizer gpt");
    assert!(said.code == Some(2) && said.err.contains(known), "{said:?}");
    let mut command = folder.command(["import", "x"]);
    let said = Said::from(command.env("MEMORY_TOKENIZER", "gpt").output().unwrap());
    assert!(said.code == Some(2) && said.err.contains(known), "{said:?}");
    for line in [
        "import x --tokenizer estimate --resource r.yaml",
        "--tokenizer estimate import x --resource r.yaml",
    ] {
        let said = folder.run(line);
        assert!(said.code == Some(2) && said.err.contains("cannot be used with"), "{said:?}");
    }
}

#[test]
fn misspelled_content_type_is_a_warning() {
    let folder = Folder::new();
    folder.write(
        "r.yaml",
        "id: r\nmax_tokens: 50\npriority_blocks: [{priority: 0, content_types: [recent_contxt]}]\n",
    );
    let said = folder.run("keys --resource r.yaml --store memory://");
    let warning = "warning: r.yaml: priority_blocks[0].content_types: `recent_contxt` is not a built-in content type; did you mean `recent_context`?\n";
    assert_eq!((said.code, said.err.as_str()), (Some(0), warning));
}

/// The root user may write everywhere, so a file takes the folder's place.
#[test]
fn unusable_folder_is_named() {
    let folder = Folder::new();
    folder.write("good.jsonl", r#"{"role":"user"}"#);
    let said = folder.run("import good.jsonl --key k --store sqlite://good.jsonl/memory.db");
    assert_eq!(said.code, Some(1));
    assert_eq!(said.err.lines().count(), 1);
    assert!(
        said.err.contains("good.jsonl/memory.db") || said.err.contains("folder good.jsonl"),
        "{said:?}"
    );
}
