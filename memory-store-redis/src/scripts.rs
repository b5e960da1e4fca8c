//! The scripts, put together from their parts once.

use std::sync::LazyLock;

use memory_lock::redis::{LEASE_LUA, Script};

macro_rules! script {
    ($name:ident, $($file:literal),+) => {
        pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(&[LEASE_LUA, $(include_str!(concat!("scripts/", $file))),+])
        });
    };
}

script!(APPEND, "memory.lua", "append.lua");
script!(SPLICE, "memory.lua", "splice.lua");
script!(CLEAR, "memory.lua", "clear.lua");
script!(CLAIM, "memory.lua", "claim.lua");
script!(HEAD, "memory.lua", "whole.lua", "head.lua");
script!(READ, "memory.lua", "read.lua");
script!(OUTLINE, "memory.lua", "whole.lua", "outline.lua");
script!(FETCH, "memory.lua", "fetch.lua");
script!(RECEIPTS, "memory.lua", "receipts.lua");
