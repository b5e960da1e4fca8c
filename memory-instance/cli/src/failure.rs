//! One line per failure, and its exit code.

use std::error::Error;
use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use memory_instance::MemoryError;

use crate::escape;
use crate::out::Closed;

/// A mistake in the command line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(String);

/// A mistake in the command line, as an error.
pub(crate) fn usage(problem: impl Into<String>) -> anyhow::Error {
    UsageError(problem.into()).into()
}

/// Prints the failure.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // The reader of the output has closed it, such as `memory export | head`.
    if error.is::<Closed>() {
        return ExitCode::SUCCESS;
    }
    say(&one_line(error.as_ref()));
    // A URL is an argument, or replaces one.
    let is_url = matches!(error.downcast_ref(), Some(MemoryError::Url { .. }));
    if error.is::<UsageError>() || is_url { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Prints the error in the command line, or the requested help.
pub(crate) fn of_clap(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // It fails only if stderr has no reader.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
        }
        _ => say(&clap_line(&error.to_string())),
    }
    ExitCode::from(2)
}

/// A line on stderr that begins with `error:`.
fn say(problem: &str) {
    let _ = writeln!(std::io::stderr().lock(), "error: {}", escape::inline(problem));
}

/// The error in one line, followed by its causes; text that is already included is not repeated.
pub(crate) fn one_line(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let mut causes: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) && !causes.iter().any(|told| told.contains(&more)) {
            causes.push(more);
        }
        cause = error.source();
    }
    if causes.is_empty() {
        return one_line_of(&text);
    }
    one_line_of(&format!("{text} ({})", causes.join(": ")))
}

fn one_line_of(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The message of clap, which has several paragraphs, without the usage that `--help` prints.
fn clap_line(text: &str) -> String {
    let text = text.split("\nUsage:").next().unwrap_or(text);
    let text = text.split("\nFor more information").next().unwrap_or(text);
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let parts: Vec<_> =
        text.split("\n\n").map(one_line_of).filter(|part| !part.is_empty()).collect();
    format!("{}; --help shows how", parts.join("; "))
}

/// Writes a note to stderr.
pub(crate) fn note(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{}", escape::lines(&text.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_is_printed_once_on_one_line() {
        let error = anyhow::anyhow!("disk\n  full").context("write: disk\n  full").context("stop");
        assert_eq!(one_line(error.as_ref()), "stop (write: disk full)");
    }

    #[test]
    fn clap_errors_fit_on_one_line() {
        let text = "error: unexpected argument '--storr' found\n\n  tip: a similar argument exists: '--store'\n\nUsage: memory\n\nFor more information, try '--help'.\n";
        assert_eq!(
            clap_line(text),
            "unexpected argument '--storr' found; tip: a similar argument exists: '--store'; --help shows how"
        );
    }
}
