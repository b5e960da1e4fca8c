//! Files and folders.

use std::fs;
use std::path::{Path, PathBuf};

use memory_config::{ConfigErrorKind, ConfigLoader, NoteKind, ProjectConfig};
use tempfile::TempDir;

const LOG: &str = "{ resource: memory, id: log, description: A log, max_tokens: 900, key: k }";

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn ids(config: &ProjectConfig) -> Vec<&str> {
    config.memories.iter().map(|memory| memory.id.as_str()).collect()
}

fn only_error(loader: &ConfigLoader) -> (ConfigErrorKind, String) {
    let errors = loader.load().unwrap_err();
    let [error] = errors.errors() else { panic!("{errors}") };
    (error.kind, error.to_string())
}

#[test]
fn folder_is_read_in_order_of_names() {
    let folder = folder(&[
        ("memories/b.yaml", LOG),
        ("memories/a.json", r#"{"id": "first", "description": "A", "max_tokens": 9}"#),
        ("memories/c.toml", "id = \"third\"\ndescription = \"C\"\nmax_tokens = 9"),
        ("memories/d.yml", "\u{feff}{ id: fourth, description: D, max_tokens: 9 }"),
        ("memories/e.yaml", "{ resource: tool, id: hammer, weight: 3 }"),
        ("memories/.hidden.yaml", "broken: ["),
        ("memories/a.yaml~", "broken: ["),
        ("memories/a.yaml.bak", "broken: ["),
        ("memories/notes.txt", "broken: ["),
        ("memories/deeper/x.yaml", "broken: ["),
    ]);
    fs::create_dir(folder.path().join("memories/f.yaml")).unwrap();
    let memories = folder.path().join("memories");
    let config = ConfigLoader::new().with_folder(&memories).load().unwrap();
    assert_eq!(ids(&config), ["first", "log", "third", "fourth"]);
    let [note] = config.notes.as_slice() else { panic!("{:?}", config.notes) };
    assert_eq!(
        (note.kind, &*note.text),
        (NoteKind::Skipped, "describes the resource `tool`, not a memory")
    );
    assert_eq!(Path::new(&note.file), memories.join("e.yaml"));
}

#[test]
fn only_the_default_folder_may_be_empty() {
    let folder = folder(&[("empty/readme.txt", "")]);
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    for name in ["empty", "missing"] {
        let config = ConfigLoader::new().with_default_folder(path(name)).load().unwrap();
        assert_eq!(ids(&config), Vec::<&str>::new());
        let (kind, text) = only_error(&ConfigLoader::new().with_folder(path(name)));
        assert_eq!(kind, ConfigErrorKind::File);
        assert!(text.starts_with(&path(name).display().to_string()), "{text}");
    }
    let (kind, _) = only_error(&ConfigLoader::new().with_default_folder(path("empty/readme.txt")));
    assert_eq!(kind, ConfigErrorKind::File);
}

#[test]
fn documents_and_folders_are_united() {
    let folder = folder(&[
        (
            "harbor.yaml",
            "{ name: h, memories: [{ id: a, description: A, max_tokens: 9 }], agents: [{ id: radio, memory: log }] }",
        ),
        ("more.yaml", "{ place: p, agents: [{ id: pilot, memory: a, memory_key: k }] }"),
        ("memories/log.yaml", LOG),
        ("one.yaml", "{ id: one, description: One, max_tokens: 9 }"),
    ]);
    let path = |name: &str| folder.path().join(name);
    let loader = ConfigLoader::new()
        .with_document(path("harbor.yaml"))
        .with_document(path("more.yaml"))
        .with_document(path("one.yaml"))
        .with_folder(path("memories"));
    let config = loader.load().unwrap();
    assert_eq!(ids(&config), ["a", "one", "log"]);
    assert_eq!(config.agent("radio").unwrap().memories[0].id, "log");
    assert_eq!(config.extra.keys().collect::<Vec<_>>(), ["name", "place"]);

    fs::write(path("memories/again.yaml"), LOG.replace("id: log", "id: LOG")).unwrap();
    let (kind, text) = only_error(&loader);
    assert_eq!(kind, ConfigErrorKind::Duplicate);
    let twin = path("memories/log.yaml").display().to_string();
    let first = path("memories/again.yaml").display().to_string();
    assert!(text.starts_with(&format!("{twin}: id: `log` is there already ({first})")), "{text}");
    fs::remove_file(path("memories/again.yaml")).unwrap();
    fs::write(path("more.yaml"), "memories: [{ id: a, description: A, max_tokens: 9 }]").unwrap();
    let (_, text) = only_error(&loader);
    let (more, harbor) = (path("more.yaml"), path("harbor.yaml"));
    let places = format!(
        "{}: memories[0].id: `a` is there already ({}: memories[0].id)",
        more.display(),
        harbor.display()
    );
    assert!(text.starts_with(&places), "{text}");
}

#[test]
fn unreadable_files_are_named() {
    let folder =
        folder(&[("a.txt", ""), ("syntax.json", "{"), ("long.yaml", &"#".repeat((1 << 20) + 1))]);
    fs::write(folder.path().join("latin.yaml"), b"id: gr\xfcn").unwrap();
    for (name, kind, expected) in [
        ("a.txt", ConfigErrorKind::File, "its format is not known"),
        ("missing.yaml", ConfigErrorKind::File, "read the file: "),
        ("syntax.json", ConfigErrorKind::Syntax, "JSON: EOF while parsing"),
        ("long.yaml", ConfigErrorKind::Syntax, "has more than 1048576 bytes"),
        ("latin.yaml", ConfigErrorKind::Syntax, "is not UTF-8 text (byte 6)"),
    ] {
        let path = folder.path().join(name);
        let (found, text) = only_error(&ConfigLoader::new().with_document(&path));
        assert_eq!(found, kind, "{text}");
        assert!(text.starts_with(&format!("{}: {expected}", path.display())), "{text}");
    }
}
