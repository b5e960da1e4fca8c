//! The arguments of the script of the bare append. The bench of criterion on Redis runs the same script.

use redis::{Script, ScriptInvocation};

/// The script, once.
pub(crate) fn script() -> Script {
    Script::new(include_str!("append.lua"))
}

/// The class of plain talk.
const CLASS: &str = "-/conversation";

/// As long as the description that our store keeps of a message: length, flags, tokens, id, time, length of the
/// class, and class.
const DESCRIPTION: &str =
    "73 0 100 019ab5e3c4d57f10a2b3c4d5e6f70819 1764050000000000 14 -/conversation";

/// A call that pushes this text and counts it.
pub(crate) fn call<'a>(
    script: &'a Script,
    [list, counters]: &[String; 2],
    text: &str,
    tokens: u32,
) -> ScriptInvocation<'a> {
    let mut call = script.prepare_invoke();
    call.key(list).key(counters).arg([DESCRIPTION, text].concat()).arg(tokens).arg(CLASS);
    call
}
