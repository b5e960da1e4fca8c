//! Scripts and their calls.

use std::fmt;

use redis::{Cmd, RedisWrite, ToRedisArgs, ToSingleRedisArg};

use crate::lease_value;

/// An argument in its displayed form, written without an intermediate string.
#[derive(Debug, Clone, Copy)]
pub struct Shown<T>(pub T);

impl<T: fmt::Display> ToRedisArgs for Shown<T> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(&self.0);
    }
}

impl<T: fmt::Display> ToSingleRedisArg for Shown<T> {}

/// A script that the server runs in one atomic step.
#[derive(Debug)]
pub struct Script {
    text: String,
    hash: String,
}

impl Script {
    /// The script with these parts, in their order and without lines of comments, which thus do not count for the
    /// hash. In them `$KEPT` and `$KEPT_BYTE` represent the first
    /// byte of a lease that is reserved for the next in line, as a text and as a number (see
    /// [`LEASE_LUA`](crate::LEASE_LUA)).
    #[must_use]
    pub fn new(parts: &[&str]) -> Self {
        let parts = parts.concat();
        let is_code = |line: &&str| !line.trim_start().starts_with("--");
        let code: String = parts.split_inclusive('\n').filter(is_code).collect();
        let text = lease_value::fill_in(&code);
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }

    /// The SHA-1 of its text, by which a server identifies it.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// A call of the script, by its hash, on keys of one slot. Its arguments follow.
    #[must_use]
    pub fn on(
        &self,
        keys: impl IntoIterator<Item: ToSingleRedisArg, IntoIter: ExactSizeIterator>,
    ) -> Cmd {
        let keys = keys.into_iter();
        // Reserves space for a message, so that a call does not grow in steps.
        let mut call = Cmd::with_capacity(keys.len() + 20, 1_024);
        call.arg("EVALSHA").arg(&self.hash).arg(keys.len());
        for key in keys {
            call.arg(key);
        }
        call
    }

    /// The same call with the script's text. A server that does not know the hash needs it.
    pub(crate) fn in_full(&self, call: &Cmd) -> Cmd {
        let mut full = redis::cmd("EVAL");
        full.arg(&self.text);
        for argument in call.args_iter().skip(2) {
            if let redis::Arg::Simple(bytes) = argument {
                full.arg(bytes);
            }
        }
        full
    }
}
