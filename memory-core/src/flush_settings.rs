//! The settings of a flushing strategy, validated once.

use crate::resource::{ClearToolResults, FlushingStrategy};

/// The threshold at which a flush begins, and its target.
///
/// The gap between the two is a hysteresis that keeps flushes rare.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct FlushSettings {
    /// The share of the budget at which a flush begins. Default: 0.8.
    pub summarize_threshold: f64,
    /// The share of the budget that a flush reduces the memory to. Default: 0.5.
    pub flush_target: f64,
    /// The most tokens of a summary. Default: 500, or a quarter of the target if that is less.
    pub summary_tokens: u64,
    /// The minimum share of the summarizable tokens that one flush summarizes, in percent. Default: 30.
    pub summarize_oldest_percent: u8,
    /// A memory with fewer messages is not flushed while it is within the budget. Default: 10.
    pub min_messages: u64,
    /// Clears old tool results: as the first stage of `hybrid_summary`, or as a strategy. `None` clears nothing.
    /// Default: `None`.
    pub clear_tool_results: Option<ClearToolResults>,
}

/// An invalid setting of a flushing strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {remedy}")]
#[non_exhaustive]
pub struct SettingsError {
    /// The name of the setting.
    pub field: &'static str,
    /// The problem and the remedy.
    pub remedy: String,
}

impl FlushSettings {
    /// The default limit of a summary.
    const DEFAULT_SUMMARY_TOKENS: u64 = 500;

    /// Defaults for a budget of this many tokens.
    #[must_use]
    pub fn for_budget(max_tokens: u64) -> Self {
        let FlushingStrategy {
            summarize_threshold,
            flush_target,
            summarize_oldest_percent,
            min_messages,
            ..
        } = FlushingStrategy::default();
        let mut settings = Self {
            summarize_threshold,
            flush_target,
            summary_tokens: 0,
            summarize_oldest_percent,
            min_messages,
            clear_tool_results: None,
        };
        settings.summary_tokens =
            Self::DEFAULT_SUMMARY_TOKENS.min(settings.target_tokens(max_tokens) / 4);
        settings
    }

    /// Limits a summary to this many tokens.
    #[must_use]
    pub const fn with_summary_tokens(self, summary_tokens: u64) -> Self {
        Self { summary_tokens, ..self }
    }

    /// Clears old tool results.
    #[must_use]
    pub const fn with_clear_tool_results(self, clear: ClearToolResults) -> Self {
        Self { clear_tool_results: Some(clear), ..self }
    }

    /// Validates the settings of a strategy for a budget of this many tokens.
    ///
    /// # Errors
    /// The first setting that is out of range or contradicts another.
    pub fn from_strategy(
        strategy: &FlushingStrategy,
        max_tokens: u64,
    ) -> Result<Self, SettingsError> {
        let refuse = |field, remedy| Err(SettingsError { field, remedy });
        let FlushingStrategy {
            summarize_threshold: threshold,
            flush_target: target,
            summary_tokens,
            summarize_oldest_percent,
            min_messages,
            ..
        } = *strategy;
        if !(threshold > 0.0 && threshold <= 1.0) {
            return refuse(
                "summarize_threshold",
                format!("{threshold} is not a share of the budget; set it over 0 and at most 1"),
            );
        }
        if !(target > 0.0 && target < threshold) {
            return refuse(
                "flush_target",
                format!(
                    "{target} is not under the threshold ({threshold}); set it over 0 and under {threshold}, so that a flush makes room"
                ),
            );
        }
        if !(1..=100).contains(&summarize_oldest_percent) {
            return refuse(
                "summarize_oldest_percent",
                format!("{summarize_oldest_percent} is not a percentage; set it from 1 to 100"),
            );
        }
        let mut settings = Self {
            summarize_threshold: threshold,
            flush_target: target,
            summarize_oldest_percent,
            min_messages,
            clear_tool_results: strategy.clearing()?,
            ..Self::for_budget(max_tokens)
        };
        let room = settings.target_tokens(max_tokens);
        settings.summary_tokens =
            summary_tokens.unwrap_or(Self::DEFAULT_SUMMARY_TOKENS.min(room / 4));
        if summary_tokens.is_some_and(|tokens| tokens == 0 || tokens >= room) {
            return refuse(
                "summary_tokens",
                format!(
                    "{} does not fit the flush target ({room} tokens); set it over 0 and under {room}",
                    settings.summary_tokens
                ),
            );
        }
        Ok(settings)
    }

    /// The tokens at which a flush begins if the budget is `max_tokens`.
    #[must_use]
    pub fn threshold_tokens(&self, max_tokens: u64) -> u64 {
        share_of(max_tokens, self.summarize_threshold)
    }

    /// The tokens that a flush reduces the memory to if the budget is `max_tokens`.
    #[must_use]
    pub fn target_tokens(&self, max_tokens: u64) -> u64 {
        share_of(max_tokens, self.flush_target)
    }
}

/// A share of a number of tokens, rounded down.
pub(crate) fn share_of(tokens: u64, ratio: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "ratios are validated to 0..=1, and budgets are far below 2^53"
    )]
    let share = (tokens as f64 * ratio) as u64;
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(strategy: &FlushingStrategy) -> Result<FlushSettings, &'static str> {
        FlushSettings::from_strategy(strategy, 8_000).map_err(|error| {
            assert!(error.to_string().starts_with(&format!("{}: ", error.field)));
            assert!(error.remedy.contains("; set it "), "{error}");
            error.field
        })
    }

    #[test]
    fn summary_default_is_500_or_quarter_target() {
        let size = |max_tokens| FlushSettings::for_budget(max_tokens).summary_tokens;
        assert_eq!([8_000, 4_000, 3_992, 80].map(size), [500, 500, 499, 10]);
        let default = settings(&FlushingStrategy::default());
        assert_eq!(default, Ok(FlushSettings::for_budget(8_000)));
        let high = FlushingStrategy { flush_target: 0.1, ..FlushingStrategy::default() };
        assert_eq!(settings(&high).unwrap().summary_tokens, 200);
    }

    #[test]
    fn threshold_and_target_round_down() {
        let settings = FlushSettings::for_budget(8_000);
        assert_eq!(
            (settings.threshold_tokens(8_000), settings.target_tokens(8_000)),
            (6_400, 4_000)
        );
        assert_eq!((settings.threshold_tokens(99), settings.target_tokens(99)), (79, 49));
        assert_eq!(share_of(10, 1.0), 10);
    }

    #[test]
    fn settings_are_accepted_up_to_bounds() {
        let usual = FlushingStrategy::default;
        let threshold = |summarize_threshold| {
            settings(&FlushingStrategy { summarize_threshold, ..usual() })
                .map(|it| it.summarize_threshold)
        };
        assert_eq!(threshold(1.0), Ok(1.0));
        for bad in [1.001, 0.0, -0.5, f64::NAN] {
            assert_eq!(threshold(bad), Err("summarize_threshold"), "{bad}");
        }
        let target = |flush_target| {
            settings(&FlushingStrategy { flush_target, ..usual() }).map(|it| it.flush_target)
        };
        assert_eq!(target(0.799), Ok(0.799));
        for bad in [0.8, 0.9, 0.0, -0.5, f64::NAN] {
            assert_eq!(target(bad), Err("flush_target"), "{bad}");
        }
        let percent = |summarize_oldest_percent| {
            settings(&FlushingStrategy { summarize_oldest_percent, ..usual() })
                .map(|it| it.summarize_oldest_percent)
        };
        assert_eq!((percent(1), percent(100)), (Ok(1), Ok(100)));
        for bad in [0, 101] {
            assert_eq!(percent(bad), Err("summarize_oldest_percent"), "{bad}");
        }
        let summary = |tokens| {
            settings(&FlushingStrategy { summary_tokens: Some(tokens), ..usual() })
                .map(|it| it.summary_tokens)
        };
        assert_eq!((summary(1), summary(3_999)), (Ok(1), Ok(3_999)));
        for bad in [0, 4_000] {
            assert_eq!(summary(bad), Err("summary_tokens"), "the target is 4,000");
        }
    }

    #[test]
    fn explicit_settings_are_kept() {
        let strategy = FlushingStrategy {
            kind: None,
            summarize_threshold: 0.9,
            flush_target: 0.6,
            summary_tokens: Some(100),
            summarize_oldest_percent: 40,
            min_messages: 3,
            clear_tool_results: Some(ClearToolResults { keep: 5, min_tokens: 2_000 }),
        };
        let expected = FlushSettings {
            summarize_threshold: 0.9,
            flush_target: 0.6,
            summary_tokens: 100,
            summarize_oldest_percent: 40,
            min_messages: 3,
            clear_tool_results: Some(ClearToolResults { keep: 5, min_tokens: 2_000 }),
        };
        assert_eq!(settings(&strategy), Ok(expected));
    }

    #[test]
    fn clearing_needs_a_strategy_that_clears() {
        let clear = |kind: Option<&str>, clear_tool_results| {
            let kind = kind.map(str::to_owned);
            settings(&FlushingStrategy { kind, clear_tool_results, ..FlushingStrategy::default() })
                .map(|settings| settings.clear_tool_results)
        };
        let own = ClearToolResults { keep: 5, min_tokens: 2_000 };
        assert_eq!(clear(None, None), Ok(None));
        for kind in [None, Some("hybrid_summary"), Some("clear_tool_results"), Some("custom")] {
            assert_eq!(clear(kind, Some(own)), Ok(Some(own)), "{kind:?}");
        }
        let default = ClearToolResults { keep: 3, min_tokens: 0 };
        assert_eq!(clear(Some("clear_tool_results"), None), Ok(Some(default)));
        for kind in ["fifo", "priority"] {
            assert_eq!(clear(Some(kind), Some(own)), Err("clear_tool_results"), "{kind}");
        }
        let none = ClearToolResults { keep: 0, ..own };
        assert_eq!(clear(None, Some(none)), Err("clear_tool_results.keep"));
    }

    #[test]
    fn smallest_budget_has_valid_default_summary() {
        let settings = FlushSettings::from_strategy(&FlushingStrategy::default(), 1).unwrap();
        assert_eq!((settings.summary_tokens, settings.min_messages), (0, 10));
    }
}
