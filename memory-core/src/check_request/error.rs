//! The problems of a request.

use std::fmt;

use super::rule::RequestRule;
use crate::profile::ProfileName;

/// The most problems that an error stores.
pub(super) const MAX_PROBLEMS: usize = 256;
/// The most problems that the text of an error lists.
const SHOWN: usize = 8;

/// A request that a provider would refuse.
///
/// It never quotes content: texts, names, ids and arguments are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestError {
    /// The API whose rules were checked.
    pub profile: ProfileName,
    /// The broken rules in the order of the request: the first 256.
    pub problems: Vec<RequestProblem>,
    /// The total number of problems.
    pub total: usize,
}

impl RequestError {
    /// Whether this rule is among the [`problems`](Self::problems).
    #[must_use]
    pub fn breaks(&self, rule: RequestRule) -> bool {
        self.problems.iter().any(|problem| problem.rule == rule)
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request for {}: ", self.profile)?;
        for (index, problem) in self.problems.iter().take(SHOWN).enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            problem.fmt(f)?;
        }
        match self.total.saturating_sub(self.problems.len().min(SHOWN)) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for RequestError {}

/// A broken rule and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestProblem {
    /// The rule.
    pub rule: RequestRule,
    /// The place, as a JSON pointer (RFC 6901) such as `/messages/3/tool_calls`; empty for the
    /// whole request.
    /// For a missing field it is where the field would be.
    ///
    /// Unknown keys are part of it only if they are short and have only ASCII letters and
    /// underscores, because keys can hold what users wrote. Otherwise the pointer ends at the
    /// object with the key.
    pub place: String,
}

impl fmt::Display for RequestProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.place.is_empty() { "the request" } else { &self.place };
        write!(f, "{place} {} ({})", self.rule.text(), self.rule)
    }
}
