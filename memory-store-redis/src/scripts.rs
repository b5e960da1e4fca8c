//! The scripts, put together from their parts once.

use std::sync::LazyLock;

use memory_lock::redis::{LEASE_LUA, Script};

macro_rules! part {
    () => {
        32
    };
}

/// How many messages one script takes care of for a flush: it holds up everybody else meanwhile.
pub(crate) const PART: usize = part!();

/// The functions of all scripts but an append.
const MEMORY: &str = concat!(
    "local PART = ",
    part!(),
    "\n",
    "local key = KEYS[1]\n",
    "local own_time, tokens_alone, confirms = ARGV[1], ARGV[2] == '1', ARGV[3] == '1'\n",
    include_str!("scripts/memory.lua"),
);

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(&[LEASE_LUA, MEMORY, include_str!(concat!("scripts/", $file))])
        });
    };
}

/// What an append seldom needs stands in a block of its own, where it costs the others nothing.
pub(crate) static APPEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[
        include_str!("scripts/append_open.lua"),
        LEASE_LUA,
        include_str!("scripts/memory.lua"),
        include_str!("scripts/append_rare.lua"),
        include_str!("scripts/append.lua"),
    ])
});

script!(SPLICE, "splice.lua");
script!(CLEAR, "clear.lua");
script!(CLAIM, "claim.lua");
script!(READ, "read.lua");
script!(WEIGH, "weigh.lua");
script!(SWEEP, "sweep.lua");
script!(FETCH, "fetch.lua");
script!(RECEIPTS, "receipts.lua");
script!(UNUSED, "unused.lua");
script!(REMOVE, "remove.lua");
