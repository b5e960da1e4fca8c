//! Data on stdout: JSON, lines and tables.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::args::Common;
use crate::escape;

/// The reader has closed the output.
#[derive(Debug, thiserror::Error)]
#[error("the output was closed")]
pub(crate) struct Closed;

/// The destination of data.
#[derive(Debug)]
pub(crate) struct Out {
    to: BufWriter<Stdout>,
    json: bool,
    terminal: bool,
}

impl Out {
    pub(crate) fn new(common: &Common) -> Self {
        let to = io::stdout();
        let terminal = to.is_terminal();
        Self { to: BufWriter::new(to), json: common.json, terminal }
    }

    /// Whether the user asked for JSON.
    pub(crate) const fn json(&self) -> bool {
        self.json
    }

    /// Writes text for people, one or more lines. Control characters in it are escaped.
    pub(crate) fn line(&mut self, line: impl Display) -> anyhow::Result<()> {
        written(writeln!(self.to, "{}", escape::lines(&line.to_string())))
    }

    /// Writes a JSON value: indented on a terminal unless `--json` was given, else on one line.
    pub(crate) fn value(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        if self.terminal && !self.json { self.indented(value) } else { self.compact(value) }
    }

    /// Writes a JSON value on several lines.
    pub(crate) fn indented(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(value)?;
        self.json_line(&json)
    }

    /// Writes a JSON value on one line.
    pub(crate) fn compact(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        let json = serde_json::to_string(value)?;
        self.json_line(&json)
    }

    /// On a terminal, escapes the characters that JSON permits and a terminal interprets; the value stays
    /// equal.
    fn json_line(&mut self, json: &str) -> anyhow::Result<()> {
        if self.terminal {
            written(writeln!(self.to, "{}", escape::json(json)))
        } else {
            written(writeln!(self.to, "{json}"))
        }
    }

    /// Hands over what was written so far.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        written(self.to.flush())
    }
}

#[cfg(unix)]
impl Out {
    /// Fails with [`Closed`] once the reader of the output has closed it, such as `head` after its last line.
    /// Without it, a command that waits for new output would wait forever.
    #[expect(clippy::unused_self, reason = "it asks about where this writes to")]
    pub(crate) fn check_reader(&self) -> anyhow::Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stdout = io::stdout();
        // No event is requested, because errors are always reported.
        let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let is_closed = poll(&mut asked, Some(&at_once)).is_ok_and(|ready| ready > 0)
            && asked.iter().any(|asked| asked.revents().contains(PollFlags::ERR));
        if is_closed { Err(Closed.into()) } else { Ok(()) }
    }
}

#[cfg(not(unix))]
impl Out {
    /// The next write shows it.
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "the form that it has on Unix"
    )]
    pub(crate) const fn check_reader(&self) -> anyhow::Result<()> {
        Ok(())
    }
}

fn written(done: io::Result<()>) -> anyhow::Result<()> {
    done.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Closed.into(),
        _ => anyhow::Error::new(error).context("write to the standard output"),
    })
}

/// A table with these headings; a column whose heading begins with `#` is aligned right.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let names: Vec<_> = headings.iter().map(|name| name.trim_start_matches('#')).collect();
    table.set_header(names);
    for (index, name) in headings.iter().enumerate() {
        if let Some(column) = table.column_mut(index)
            && name.starts_with('#')
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A number of things: `1 memory`, `1,200 memories`.
pub(crate) fn count(of: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(of), if of == 1 { one } else { many })
}

/// A number with thousands separators.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_set_in_thousands() {
        for (given, set) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(given), set);
        }
    }
}
