//! The value of a lease's key on the server. No other module knows its form.
//!
//! `owner token granted` is a lease. `~` and an owner is a released lease that is reserved for that owner,
//! the next in line. The scripts of the lock and of a store get both from here.

/// Lua functions about leases, for scripts that check them in the same atomic step: `lease_of(key)` returns
/// the owner, token and grant time of the live lease at `key`, or nothing; `now_micros()` returns the
/// server's time. A foreign value is an error that begins with `CORRUPT`.
pub const LEASE_LUA: &str = include_str!("scripts/lease.lua");

/// A Lua function for scripts that grant leases: `write_lease(key, owner, token, granted, ...)` writes the
/// value that `lease_of` reads, with these options of `SET`.
pub const WRITE_LEASE_LUA: &str = include_str!("scripts/write_lease.lua");

/// The first byte of a lease that is reserved for the next in line.
const KEPT: char = '~';

/// Replaces the names of [`KEPT`] in a script by its value.
pub(crate) fn fill_in(script: &str) -> String {
    // The longer name is replaced first, because it contains the shorter one.
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
