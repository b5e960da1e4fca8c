//! The scripts, each assembled from its parts once.

use std::sync::LazyLock;

use memory_redis_link::{LEASE_LUA, Script};

macro_rules! part {
    () => {
        32
    };
}

/// The number of messages that one script processes for a flush: it blocks all other clients meanwhile.
pub(crate) const PART: usize = part!();

/// The prefix of the name of a session writer.
macro_rules! session {
    () => {
        "local SESSION = '5e551096'\n"
    };
}

/// The functions of scripts that use metadata.
const METADATA: &str = concat!(
    "local MOST_NAMES, MOST_METADATA_BYTES = 64, 16384\n",
    include_str!("scripts/metadata.lua"),
);

/// The functions of all scripts except the append script.
const MEMORY: &str = concat!(
    "local PART = ",
    part!(),
    "\n",
    session!(),
    "local key = KEYS[1]\n",
    "local own_time, tokens_alone, confirms = ARGV[1], ARGV[2] == '1', ARGV[3] == '1'\n",
    include_str!("scripts/memory.lua"),
);

/// The functions of scripts that use the archive.
const ARCHIVE: &str = include_str!("scripts/archive.lua");

/// The parts of a stored message, for scripts that replace some.
const DESCRIBED: &str = include_str!("scripts/described.lua");

/// The functions of the archive, and the number of erasures that are recorded.
const ERASURE: &str = concat!("local ERASURES = 64\n", include_str!("scripts/archive.lua"));

/// The packed head of a copy that is not complete: one number, which is the format.
const UNFINISHED: &str = "local UNFINISHED = '\\145\\204\\255'\n";

/// The state of the key of a copy, for scripts that write one.
const COPY_OPEN: &str = include_str!("scripts/copy_open.lua");

/// The newest message, for scripts that handle unused memories.
const NEWEST: &str = include_str!("scripts/newest.lua");

/// A script that reads or deletes, with more functions than those of [`MEMORY`].
macro_rules! script {
    ($name:ident, $file:literal $(, $more:ident)*) => {
        pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(&[LEASE_LUA, MEMORY, $($more,)* include_str!(concat!("scripts/", $file))])
        });
    };
}

/// The announcement to watchers after a write of another script than the append script.
const PUBLISH: &str = concat!(
    "if watched then\n",
    "local time = now()\n",
    include_str!("scripts/publish.lua"),
    "end\n",
);

/// The code that an append seldom needs is in a separate block, where it costs other appends nothing.
pub(crate) static APPEND: LazyLock<Script> = LazyLock::new(|| {
    append_script(&[
        "local expected\n",
        include_str!("scripts/append_arguments.lua"),
        include_str!("scripts/append_open.lua"),
    ])
});

/// An append with an expected version, which is the last argument.
pub(crate) static APPEND_IF: LazyLock<Script> = LazyLock::new(|| {
    append_script(&[
        "local expected = table.remove(ARGV)\n",
        include_str!("scripts/append_arguments.lua"),
    ])
});

/// An append script that begins with these parts.
fn append_script(begin: &[&str]) -> Script {
    Script::new(&[
        session!(),
        &begin.concat(),
        include_str!("scripts/append_seldom.lua"),
        LEASE_LUA,
        include_str!("scripts/memory.lua"),
        include_str!("scripts/append_rare.lua"),
        include_str!("scripts/append.lua"),
        "if marks then\n",
        "time = time or tonumber(own_time or string.match(settings, '^%d*'))\n",
        "local most = 1\n",
        include_str!("scripts/session.lua"),
        "end\n",
        "if watched then\n",
        "time = time or tonumber(own_time or string.match(settings, '^%d*'))\n",
        include_str!("scripts/publish.lua"),
        "end\nreturn after\n",
    ])
}

pub(crate) static REPLACE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[
        LEASE_LUA,
        MEMORY,
        ERASURE,
        DESCRIBED,
        include_str!("scripts/renamed.lua"),
        include_str!("scripts/replace.lua"),
        "if marks then\n",
        "local call, time, most = redis.call, now(), 1\n",
        "writer = 'w' .. writer\n",
        include_str!("scripts/session.lua"),
        "end\n",
        PUBLISH,
        "return {'A', after, 0}\n",
    ])
});

pub(crate) static RESTORE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[
        LEASE_LUA,
        MEMORY,
        ARCHIVE,
        DESCRIBED,
        include_str!("scripts/restore.lua"),
        "if marks then\n",
        "local call, time, most = redis.call, now(), 1\n",
        "writer = 'w' .. writer\n",
        include_str!("scripts/session.lua"),
        "end\n",
        PUBLISH,
        "return {'A', after, 0}\n",
    ])
});

pub(crate) static UPDATE_METADATA: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[
        LEASE_LUA,
        MEMORY,
        METADATA,
        include_str!("scripts/update_metadata.lua"),
        "if marks then\n",
        "local call, time, most = redis.call, now(), 1\n",
        "writer = 'w' .. writer\n",
        include_str!("scripts/session.lua"),
        "end\n",
        PUBLISH,
        "return {'A', after}\n",
    ])
});

pub(crate) static ERASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[
        LEASE_LUA,
        MEMORY,
        ERASURE,
        include_str!("scripts/erase.lua"),
        "if marks then\n",
        "local call, time, most = redis.call, now(), 1\n",
        "writer = 'w' .. writer\n",
        include_str!("scripts/session.lua"),
        "end\n",
        PUBLISH,
        "return {'A', after, record}\n",
    ])
});

pub(crate) static CLEAR: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[
        LEASE_LUA,
        MEMORY,
        ARCHIVE,
        include_str!("scripts/clear.lua"),
        "if marks then\n",
        "local call, time, most = redis.call, now(), 16\n",
        "writer = 'w' .. writer\n",
        include_str!("scripts/session.lua"),
        "end\n",
        PUBLISH,
        "return {'A', after, left, now(), messages, tokens, index and 1 or 0}\n",
    ])
});

/// A script that writes: its body, and the reply after the announcement to watchers.
macro_rules! write_script {
    ($name:ident, $file:literal, $reply:literal $(, $more:ident)*) => {
        pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            let body = include_str!(concat!("scripts/", $file));
            Script::new(&[LEASE_LUA, MEMORY, $($more,)* body, PUBLISH, $reply])
        });
    };
}
write_script!(SPLICE, "splice.lua", "return {'A', set[#set], more}\n", ARCHIVE, DESCRIBED);
write_script!(
    COPY,
    "copy.lua",
    "return {'A', step == 'finish' and 1 or 0, text_of(state.last), text_of(state.removal)}\n",
    UNFINISHED,
    ARCHIVE,
    COPY_OPEN
);
write_script!(FORK, "fork.lua", "return {'A', 1}\n", UNFINISHED, ARCHIVE, COPY_OPEN);
write_script!(CLAIM, "claim.lua", "return {'A'}\n");
write_script!(REMOVE, "remove.lua", "return {'A', head.messages}\n", NEWEST);

script!(READ, "read.lua");
script!(READ_BEFORE, "read_before.lua");
script!(WEIGH, "weigh.lua");
script!(SWEEP, "sweep.lua", ARCHIVE);
script!(REMOVALS, "removals.lua", ARCHIVE);
script!(ARCHIVED, "archived.lua", ARCHIVE);
script!(ERASABLE, "erasable.lua", ARCHIVE);
script!(ERASURES, "erasures.lua", ERASURE);
script!(FRAME, "frame.lua", ERASURE, NEWEST);
script!(RECEIPTS, "receipts.lua");
script!(UNUSED, "unused.lua", NEWEST, METADATA);
script!(WATCH, "watch.lua");

#[cfg(test)]
mod tests {
    use memory_core::store::{KEPT_ERASURES, KEPT_SESSIONS, Metadata, SESSION_RETENTION, WriterId};

    use super::*;

    /// Processes of several versions share a server. A hash changes only on purpose, with the reason in the
    /// commit.
    #[test]
    fn scripts_keep_their_hashes() {
        let scripts: [(&str, &LazyLock<Script>); 24] = [
            ("append", &APPEND),
            ("append_if", &APPEND_IF),
            ("replace", &REPLACE),
            ("clear", &CLEAR),
            ("splice", &SPLICE),
            ("restore", &RESTORE),
            ("removals", &REMOVALS),
            ("archived", &ARCHIVED),
            ("claim", &CLAIM),
            ("read", &READ),
            ("read_before", &READ_BEFORE),
            ("weigh", &WEIGH),
            ("sweep", &SWEEP),
            ("receipts", &RECEIPTS),
            ("unused", &UNUSED),
            ("remove", &REMOVE),
            ("watch", &WATCH),
            ("update_metadata", &UPDATE_METADATA),
            ("erase", &ERASE),
            ("erasable", &ERASABLE),
            ("erasures", &ERASURES),
            ("copy", &COPY),
            ("fork", &FORK),
            ("frame", &FRAME),
        ];
        let hashes: String =
            scripts.map(|(name, script)| format!("{} {name}\n", script.hash())).concat();
        assert_eq!(hashes, include_str!("scripts/hashes.txt"));
    }

    #[test]
    fn unfinished_copy_has_its_format() {
        let packed = [145, 204, 255];
        assert_eq!(crate::codec::form(&packed), Some(crate::codec::UNFINISHED));
        assert!(UNFINISHED.contains(&packed.map(|byte| format!("\\{byte}")).concat()));
    }

    #[test]
    fn scripts_limit_metadata_as_the_contract() {
        let (names, bytes) = (Metadata::MAX_NAMES, Metadata::MAX_BYTES);
        let limits = format!("local MOST_NAMES, MOST_METADATA_BYTES = {names}, {bytes}\n");
        assert!(METADATA.starts_with(&limits));
    }

    #[test]
    fn scripts_keep_as_many_erasures_as_the_contract() {
        assert!(ERASURE.starts_with(&format!("local ERASURES = {KEPT_ERASURES}\n")));
    }

    #[test]
    fn scripts_know_session_writers_as_the_contract_does() {
        let mark = format!("'{:08x}'", WriterId::session(0, 0).bits() >> 96);
        assert!(session!().contains(&mark), "{mark}");
        let script = include_str!("scripts/session.lua");
        assert!(script.contains(&format!("+ {} > time", SESSION_RETENTION.as_micros())));
        // One full block of them is kept besides the current one.
        assert_eq!(KEPT_SESSIONS, 64);
        assert!(script.contains("following % 64 == 0") && script.contains("- first >= 128 do"));
    }
}
