//! The value of a lease's key on the server: the only place that knows its form.
//!
//! `owner token granted` is a lease; `~` and an owner is one that was released and is kept for that owner, the next in
//! line. The scripts of the lock and of a store get both from here.

/// Lua functions about leases, for scripts that check them in their own atomic step:
/// `lease_of(key)` returns the owner, token and grant time of the live lease at `key`, or nothing;
/// `now_micros()` the server's time. A foreign value is an error that begins with `CORRUPT`.
pub const LEASE_LUA: &str = include_str!("scripts/lease.lua");

/// The first byte of a lease that is kept for the next in line.
const KEPT: char = '~';

/// Puts [`KEPT`] in place of its names in a script.
pub(crate) fn fill_in(script: &str) -> String {
    // The longer name first.
    let byte = u32::from(KEPT).to_string();
    script.replace("$KEPT_BYTE", &byte).replace("$KEPT", &format!("'{KEPT}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in() {
        assert_eq!(fill_in("a == $KEPT or b == $KEPT_BYTE"), "a == '~' or b == 126");
        assert!(fill_in(LEASE_LUA).contains("string.sub(value, 1, 1) == '~'"));
    }
}
