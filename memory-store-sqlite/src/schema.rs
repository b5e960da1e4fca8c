//! The tables, and their creation and migration.

use std::path::Path;

use memory_core::Message;
use memory_core::store::StoreErrorKind;
use memory_sqlite_file::{LeaseTable, SqliteErrorKind, classify};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{JobError, kind_of};

/// Marks a file as ours: `LAmm` ("LLM agents' memory").
pub(crate) const APPLICATION_ID: u32 = 0x4C41_6D6D;

/// The steps from one version of the schema to the next. A step that was ever released never
/// changes. `user_version` counts the steps that a file has taken.
const STEPS: &[Step] = &[
    Step { change: Change::Sql(VERSION_1), tables: &["memory", "message", "receipt", "writer"] },
    Step {
        change: Change::Sql(VERSION_2),
        tables: &["memory", "message", "receipt", "swept", "writer"],
    },
    // The tables do not change; `link` has another format.
    Step {
        change: Change::Rows(relink),
        tables: &["memory", "message", "receipt", "swept", "writer"],
    },
    Step {
        change: Change::Sql(VERSION_4),
        tables: &["archive", "memory", "message", "receipt", "removal", "swept", "writer"],
    },
    Step {
        change: Change::Sql(VERSION_5),
        tables: &[
            "archive", "erasure", "memory", "message", "receipt", "removal", "swept", "writer",
        ],
    },
    Step {
        change: Change::Sql(VERSION_6),
        tables: &[
            "archive", "erasure", "indexed", "memory", "message", "receipt", "removal", "stale",
            "swept", "word", "writer",
        ],
    },
    Step {
        change: Change::Sql(VERSION_7),
        tables: &[
            "archive", "erasure", "indexed", "memory", "message", "origin", "receipt", "removal",
            "stale", "swept", "word", "writer",
        ],
    },
    Step {
        change: Change::Sql(VERSION_8),
        tables: &[
            "archive", "erasure", "indexed", "memory", "message", "metadata", "origin", "receipt",
            "removal", "stale", "swept", "word", "writer",
        ],
    },
];

/// The migration of a file from the previous version to the next.
#[derive(Debug)]
struct Step {
    change: Change,
    /// The tables of a file after this step, apart from the leases.
    tables: &'static [&'static str],
}

#[derive(Debug)]
enum Change {
    Sql(&'static str),
    Rows(fn(&Connection) -> rusqlite::Result<()>),
}

/// Rewrites the links of all messages from their bodies: version 2 had only the calls and results of chat
/// messages, without the names of tools. A body that cannot be read keeps its link.
fn relink(connection: &Connection) -> rusqlite::Result<()> {
    let mut select = connection.prepare("SELECT place, link, body FROM message")?;
    let mut update = connection.prepare("UPDATE message SET link = ?2 WHERE place = ?1")?;
    let mut changed: Vec<(i64, Option<String>)> = Vec::new();
    let mut rows = select.query(())?;
    while let Some(row) = rows.next()? {
        let Some(body) = row.get_ref(2)?.as_str_or_null().ok().flatten() else { continue };
        let Ok(message) = Message::from_stored_json(body) else { continue };
        let link = message.tool_link().encode();
        if row.get_ref(1)?.as_str_or_null().ok().flatten() != link.as_deref() {
            changed.push((row.get(0)?, link));
        }
    }
    for (place, link) in changed {
        update.execute((place, link))?;
    }
    Ok(())
}

/// The number of bits of a place that hold the message's sequence; the higher bits are the memory's id. One
/// integer key instead of a pair makes the table a plain rowid table: a memory's messages are stored
/// together, long texts do not spill out of their page at a quarter of its size, and an append touches one
/// tree.
pub(crate) const SEQUENCE_BITS: u32 = 36;

const VERSION_1: &str = "
CREATE TABLE memory (
    id            INTEGER PRIMARY KEY,
    key           TEXT    NOT NULL UNIQUE,
    generation    INTEGER NOT NULL,
    version       INTEGER NOT NULL,
    last          INTEGER NOT NULL,
    fence         INTEGER NOT NULL,
    flush_fence   INTEGER NOT NULL,
    next_flush_at INTEGER,
    expires_at    INTEGER,
    messages      INTEGER NOT NULL,
    tokens        INTEGER NOT NULL,
    summaries     INTEGER NOT NULL,
    appended      INTEGER NOT NULL,
    summarised    INTEGER NOT NULL,
    evicted       INTEGER NOT NULL,
    cleared       INTEGER NOT NULL,
    classes       TEXT    NOT NULL,
    receipts      INTEGER NOT NULL,
    receipt       BLOB,
    writers       BLOB    NOT NULL
) STRICT;
CREATE TABLE message (
    place        INTEGER PRIMARY KEY,
    id           BLOB    NOT NULL,
    tokens       INTEGER NOT NULL,
    priority     INTEGER,
    content_type TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    link         TEXT,
    closed       INTEGER NOT NULL,
    summary      INTEGER NOT NULL,
    body         TEXT    NOT NULL
) STRICT;
CREATE TABLE writer (
    memory INTEGER NOT NULL,
    writer BLOB    NOT NULL,
    number INTEGER NOT NULL,
    first  INTEGER,
    PRIMARY KEY (memory, writer)
) STRICT, WITHOUT ROWID;
CREATE TABLE receipt (
    memory INTEGER NOT NULL,
    number INTEGER NOT NULL,
    body   TEXT    NOT NULL,
    PRIMARY KEY (memory, number)
) STRICT, WITHOUT ROWID;
";

/// `forgotten` is the newest time of origin of a memory's session writers whose records were pruned, in
/// milliseconds. `swept` has one row: the newest generation of a memory whose row was removed.
const VERSION_2: &str = "
ALTER TABLE memory ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;
CREATE TABLE swept (generation INTEGER NOT NULL) STRICT;
INSERT INTO swept VALUES (0);
";

/// `withdrawn` counts the messages that were taken back. `archive` has the messages of `removal`, whose id is in the
/// higher bits of their places as a memory's id is in `message`. The index answers what a flush asks about all
/// removals of its memory.
const VERSION_4: &str = "
ALTER TABLE memory ADD COLUMN withdrawn INTEGER NOT NULL DEFAULT 0;
CREATE TABLE removal (
    id         INTEGER PRIMARY KEY,
    memory     INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    keep_until INTEGER,
    receipt    BLOB,
    bytes      INTEGER NOT NULL,
    messages   INTEGER NOT NULL,
    body       TEXT    NOT NULL
) STRICT;
CREATE INDEX removal_of_memory ON removal (memory, number, keep_until, receipt, bytes, messages);
CREATE TABLE archive (
    place        INTEGER PRIMARY KEY,
    id           BLOB    NOT NULL,
    tokens       INTEGER NOT NULL,
    priority     INTEGER,
    content_type TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    link         TEXT,
    closed       INTEGER NOT NULL,
    summary      INTEGER NOT NULL,
    body         TEXT    NOT NULL
) STRICT;
";

/// `erasure` has the records of the newest erasures of each memory; a retry is recognized by its writer and write.
const VERSION_5: &str = "
CREATE TABLE erasure (
    memory INTEGER NOT NULL,
    number INTEGER NOT NULL,
    writer BLOB    NOT NULL,
    write  INTEGER NOT NULL,
    body   TEXT    NOT NULL,
    PRIMARY KEY (memory, number)
) STRICT, WITHOUT ROWID;
";

/// The index for searches, as `commands/index.rs` describes it. The tokenizer `ascii` leaves the words of
/// `memory_core::sibling::index_words` as they are: `unicode61` would split them at marks, and `trigram` cannot find
/// words of two characters. A contentless table has no copy of the texts.
const VERSION_6: &str = "
CREATE VIRTUAL TABLE word USING fts5(text, content='', contentless_delete=1, tokenize='ascii');
CREATE TABLE indexed (memory INTEGER PRIMARY KEY, last INTEGER NOT NULL) STRICT;
CREATE TABLE stale (place INTEGER PRIMARY KEY) STRICT;
";

/// `origin` has the id of the copy that made a memory, and the memory that it was forked from, if it was. Of a copy that
/// is not complete, `memory.writers` has the id, and `removal.messages` is negative for a removal that is not.
const VERSION_7: &str = "
CREATE TABLE origin (
    memory INTEGER PRIMARY KEY,
    copy   BLOB    NOT NULL,
    body   TEXT
) STRICT;
";

/// `metadata` has the metadata of each memory that has any, as JSON. Appends neither read nor write it.
const VERSION_8: &str = "
CREATE TABLE metadata (
    memory     INTEGER PRIMARY KEY,
    revision   INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    body       TEXT    NOT NULL
) STRICT;
";

const LEASES: &str = "memory_leases";

/// The kind of a file, as far as its header and its list of tables show.
#[derive(Debug)]
struct Look {
    application_id: u32,
    user_version: u32,
    tables: Vec<String>,
}

fn version_after(steps: &[Step]) -> u32 {
    u32::try_from(steps.len()).unwrap_or(u32::MAX)
}

/// Refuses a path that cannot hold a store, without writing to the existing file. `literal` is the same path
/// in the form in which SQLite does not interpret it.
pub(crate) fn inspect(literal: &Path, path: &Path) -> Result<(), JobError> {
    let shown = path.display();
    let Ok(metadata) = path.metadata() else {
        // A path without a folder part is in the current folder, which exists.
        return match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
                Err(JobError::Refused(StoreErrorKind::Invalid(format!(
                    "the folder {} does not exist; create it first",
                    folder.display()
                ))))
            }
            _ => Ok(()),
        };
    };
    if !metadata.is_file() {
        return Err(JobError::Refused(StoreErrorKind::Invalid(format!(
            "{shown} is not a file; give the path of a file, which is created if it is missing"
        ))));
    }
    if metadata.len() == 0 {
        return Ok(());
    }
    // Uses SQLite instead of reading the file: closing a separately opened file releases all locks that this
    // process holds on it, including those of other connections (POSIX advisory locks).
    let look = |flags| {
        Connection::open_with_flags(literal, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .and_then(|connection| Look::at(&connection))
    };
    let look = match look(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        // A process was killed in the middle of a write, which must be undone before any read.
        Err(error) if classify(&error) == SqliteErrorKind::ReadOnly => {
            look(OpenFlags::SQLITE_OPEN_READ_WRITE)
        }
        look => look,
    };
    match look {
        Ok(look) => Ok(look.verdict(path, STEPS)?),
        // If the log cannot be created beside the file, SQLite reports that the file cannot be opened.
        Err(error) => Err(match kind_of(&error, path) {
            StoreErrorKind::Unavailable(_) if is_read_only(path) => read_only(path),
            _ => error.into(),
        }),
    }
}

fn is_read_only(path: &Path) -> bool {
    [Some(path), path.parent()]
        .into_iter()
        .flatten()
        .any(|path| path.metadata().is_ok_and(|metadata| metadata.permissions().readonly()))
}

/// The error for a read-only file.
pub(crate) fn read_only(path: &Path) -> JobError {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
    kind_of(&rusqlite::Error::SqliteFailure(code, None), path).into()
}

/// Migrates the file to the newest version, in one transaction: of several processes that open a new file at
/// once, one creates the tables and the others find them.
pub(crate) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), JobError> {
    take_steps(connection, path, STEPS)
}

fn take_steps(connection: &mut Connection, path: &Path, steps: &[Step]) -> Result<(), JobError> {
    let look = Look::at(connection)?;
    look.verdict(path, steps)?;
    if look.is_current(steps) {
        // An earlier version may have created it.
        LeaseTable::create(connection)?;
        return Ok(());
    }
    let transaction = Transaction::new(connection, TransactionBehavior::Immediate)?;
    let look = Look::at(&transaction)?;
    look.verdict(path, steps)?;
    for step in steps.iter().skip(look.steps_taken()) {
        match step.change {
            Change::Sql(change) => transaction.execute_batch(change)?,
            Change::Rows(change) => change(&transaction)?,
        }
    }
    LeaseTable::create(&transaction)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", version_after(steps))?;
    transaction.commit()?;
    Ok(())
}

impl Look {
    fn at(connection: &Connection) -> rusqlite::Result<Self> {
        // One statement is one snapshot, so that a file under creation is seen before or after.
        let mut statement = connection.prepare(
            "SELECT a.application_id, v.user_version, s.name
             FROM pragma_application_id a, pragma_user_version v
             LEFT JOIN sqlite_schema s ON s.type IN ('table', 'view') AND s.name NOT GLOB 'sqlite_*'
             ORDER BY s.name",
        )?;
        let mut look = Self { application_id: 0, user_version: 0, tables: Vec::new() };
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            // The header's numbers are 32 bits wide, and SQLite shows them with a sign.
            look.application_id = row.get::<_, i32>(0)?.cast_unsigned();
            look.user_version = row.get::<_, i32>(1)?.cast_unsigned();
            look.tables.extend(row.get::<_, Option<String>>(2)?);
        }
        Ok(look)
    }

    fn has(&self, table: &str) -> bool {
        self.tables.iter().any(|there| there == table)
    }

    fn has_all_of(&self, step: &Step) -> bool {
        step.tables.iter().all(|table| self.has(table))
    }

    fn steps_taken(&self) -> usize {
        usize::try_from(self.user_version).unwrap_or(usize::MAX)
    }

    fn is_current(&self, steps: &[Step]) -> bool {
        self.application_id == APPLICATION_ID
            && self.user_version == version_after(steps)
            && self.has(LEASES)
    }

    /// Whether we may use the file, and write to it.
    fn verdict(&self, path: &Path, steps: &[Step]) -> Result<(), StoreErrorKind> {
        let path = path.display();
        let has_no_other = self.tables.iter().all(|table| table == LEASES);
        match self.application_id {
            APPLICATION_ID => {
                let (found, known) = (self.user_version, version_after(steps));
                if found > known {
                    return Err(StoreErrorKind::Newer { place: path.to_string(), found, known });
                }
                let Some(step) = steps.iter().take(self.steps_taken()).next_back() else {
                    return Err(StoreErrorKind::Corrupt(format!(
                        "{path} has lost the version of its tables; restore a backup"
                    )));
                };
                match step.tables.iter().find(|table| !self.has(table)) {
                    Some(table) => Err(StoreErrorKind::Corrupt(format!(
                        "{path} lacks the table `{table}`; restore a backup"
                    ))),
                    None => Ok(()),
                }
            }
            // A lock backend that was first has created its table and set no mark.
            0 if self.user_version == 0 && has_no_other => Ok(()),
            0 if steps.iter().any(|step| self.has_all_of(step)) => Err(StoreErrorKind::Corrupt(
                format!("{path} has lost its application id; restore a backup"),
            )),
            0 => {
                let sign = if has_no_other {
                    format!("user version {}", self.user_version)
                } else {
                    "it has other tables".to_owned()
                };
                Err(StoreErrorKind::Corrupt(format!(
                    "{path} is a database of another program ({sign}); choose another path"
                )))
            }
            other => Err(StoreErrorKind::Corrupt(format!(
                "{path} is a database of another program (application id {other:#010x}); choose another path"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version with one more migration step.
    const NEWER: [Step; 2] = [
        Step {
            change: Change::Sql(VERSION_1),
            tables: &["memory", "message", "receipt", "writer"],
        },
        Step {
            change: Change::Sql(
                "ALTER TABLE memory ADD COLUMN color TEXT NOT NULL DEFAULT 'red';
                 CREATE TABLE shade (name TEXT) STRICT;",
            ),
            tables: &["memory", "message", "receipt", "shade", "writer"],
        },
    ];

    const OLDER: &[Step] = NEWER.split_at(1).0;

    /// A file of the version after these steps, with a memory in it.
    fn file_after(steps: &[Step]) -> (tempfile::TempDir, std::path::PathBuf, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        let mut file = Connection::open(&path).unwrap();
        take_steps(&mut file, &path, steps).unwrap();
        file.execute_batch(
            "INSERT INTO memory (id, key, generation, version, last, fence, flush_fence, messages,
                 tokens, summaries, appended, summarised, evicted, cleared, classes, receipts, writers)
             VALUES (7, 'k', 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '', 0, x'')",
        )
        .unwrap();
        (folder, path, file)
    }

    fn version(file: &Connection) -> u32 {
        file.query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap()
    }

    #[test]
    fn older_file_is_migrated_and_keeps_its_data() {
        let (_folder, path, mut file) = file_after(OLDER);
        take_steps(&mut file, &path, &NEWER).unwrap();
        let color = "SELECT color FROM memory WHERE id = 7";
        assert_eq!(file.query_row(color, (), |row| row.get::<_, String>(0)).unwrap(), "red");
        assert_eq!(version(&file), 2);
        take_steps(&mut file, &path, &NEWER).expect("nothing is left to do");

        let older = take_steps(&mut file, &path, OLDER).unwrap_err();
        assert!(
            matches!(&older, JobError::Refused(StoreErrorKind::Newer { found: 2, known: 1, .. })),
            "{older:?}"
        );
    }

    #[test]
    fn failed_migration_leaves_the_file_unchanged() {
        const FAILS: Step = Step {
            change: Change::Sql("CREATE TABLE other (x); INSERT INTO nowhere VALUES (1)"),
            tables: &[],
        };
        let [first, second] = NEWER;
        let (_folder, path, mut file) = file_after(OLDER);
        take_steps(&mut file, &path, &[first, second, FAILS]).unwrap_err();
        assert_eq!(version(&file), 1);
        take_steps(&mut file, &path, OLDER).expect("connections with the old schema still work");
        take_steps(&mut file, &path, &NEWER).expect("and so do connections with the new schema");
    }

    #[test]
    fn incomplete_schema_is_reported_as_damaged() {
        for (damage, told) in [
            ("DROP TABLE shade", "lacks the table `shade`"),
            ("PRAGMA user_version = 0", "lost the version"),
        ] {
            let (_folder, path, mut file) = file_after(&NEWER);
            file.execute_batch(damage).unwrap();
            let error = take_steps(&mut file, &path, &NEWER).unwrap_err();
            let JobError::Refused(StoreErrorKind::Corrupt(text)) = &error else {
                panic!("{error:?}")
            };
            assert!(text.contains(told), "{text}");
        }
    }
}
