//! A summary without a model: how it began, how it ended, and how much was in between.

use std::borrow::Cow;

use async_trait::async_trait;
use jiff::Timestamp;
use memory_core::{Content, Message, MessageMeta, Policy, StoredMessage, TokenCounter, Units};

use crate::summarize::{SummarizeError, Summarizer, SummaryRequest};
use crate::truncate::{Excerpt, truncate_to_tokens};

/// Writes a summary by rule: the first unit, the last few, and how many messages stood in between.
///
/// Always succeeds, the same input gives the same text, and the work is linear in the messages that
/// it quotes. An earlier summary is merged: of one that it wrote itself it keeps the beginning and
/// the counts, of one that a model wrote as much of the text as fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleBasedSummarizer {
    /// How many of the last units to quote. Default: 2.
    pub last_units: usize,
}

impl Default for RuleBasedSummarizer {
    fn default() -> Self {
        Self { last_units: 2 }
    }
}

impl RuleBasedSummarizer {
    /// The name that receipts know it by.
    pub const NAME: &str = "rule_based";

    /// Writes the summary at once; see [`rule_based_summary`].
    #[must_use]
    pub fn write(&self, request: &SummaryRequest) -> String {
        let SummaryRequest { previous, messages, max_tokens, counter } = request;
        rule_based_summary(previous.as_deref(), messages, self.last_units, *max_tokens, &**counter)
    }
}

#[async_trait]
impl Summarizer for RuleBasedSummarizer {
    fn name(&self) -> &str {
        Self::NAME
    }

    async fn summarize(&self, request: SummaryRequest) -> Result<String, SummarizeError> {
        Ok(self.write(&request))
    }
}

/// Summarises messages, and an earlier summary, by rule.
///
/// Never more than `max_tokens` under the counter. What is cut is cut between characters and says how
/// many tokens are left out; where the limit leaves no room for even that, the text is empty.
#[must_use]
pub fn rule_based_summary(
    previous: Option<&str>,
    messages: &[StoredMessage],
    last_units: usize,
    max_tokens: u64,
    counter: &dyn TokenCounter,
) -> String {
    let digest = Digest::of(previous, messages, last_units, counter);
    // The counts of parts need not add up to the count of the whole; where they fall short, the
    // parts get less, down to none.
    let mut room = max_tokens;
    loop {
        let text = digest.compose(room, counter);
        let over = (counter.count(&text) as u64).saturating_sub(max_tokens);
        if over == 0 {
            return text;
        }
        if room == 0 {
            return truncate_to_tokens(&text, max_tokens, counter);
        }
        room = room.saturating_sub(over.max(room.div_ceil(8)));
    }
}

/// What a summary says, before it is cut to size.
struct Digest {
    /// How many messages it stands for, all in all.
    messages: u64,
    opening: Opening,
    beginning: Vec<Excerpt>,
    end: Vec<Excerpt>,
}

/// What a summary begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// The first messages, this many.
    First(u64),
    /// A summary that somebody else wrote.
    Earlier,
}

impl Digest {
    fn of(
        previous: Option<&str>,
        messages: &[StoredMessage],
        last_units: usize,
        counter: &dyn TokenCounter,
    ) -> Self {
        let metas: Vec<MessageMeta> = messages.iter().map(|message| message.meta.clone()).collect();
        // Whether a call is abandoned does not matter here.
        let units = Units::group(&metas, Timestamp::UNIX_EPOCH, Policy::DEFAULT_OPEN_CALL_TIMEOUT);
        let quote = |unit| {
            units.members(unit).filter_map(|meta| {
                let at = messages.binary_search_by_key(&meta.sequence, |m| m.meta.sequence).ok()?;
                messages.get(at).map(|message| Excerpt::of(quoted(&message.message), counter))
            })
        };
        let earlier = previous.map(|text| Earlier::read(text, counter));
        let first = usize::from(earlier.is_none() && !units.is_empty());
        let last = last_units.min(units.len() - first);
        let beginning: Vec<_> = units.iter().take(first).flat_map(quote).collect();
        let end = units.iter().skip(units.len() - last).flat_map(quote).collect();
        let own = messages.len() as u64;
        match earlier {
            None => Self {
                messages: own,
                opening: Opening::First(beginning.len() as u64),
                beginning,
                end,
            },
            Some(Earlier { messages, opening, beginning }) => Self {
                messages: messages.saturating_add(own),
                opening,
                beginning: vec![beginning],
                end,
            },
        }
    }

    /// The text, with quotations of at most so many tokens that all of it should fit.
    fn compose(&self, max_tokens: u64, counter: &dyn TokenCounter) -> String {
        let labels = |part: &[Excerpt]| vec![String::new(); part.len()];
        let frame = self.render(&labels(&self.beginning), &labels(&self.end));
        let room = max_tokens.saturating_sub(counter.count(&frame) as u64);
        let wanted = |part: &[Excerpt]| {
            part.iter().map(|excerpt| excerpt.tokens().saturating_add(1)).sum::<u64>()
        };
        let (beginning, end) = (wanted(&self.beginning), wanted(&self.end));
        // Half for each, and what one does not need for the other.
        let for_beginning = beginning.min((room / 2).max(room.saturating_sub(end)));
        let for_end = room - for_beginning.min(room);
        let beginning = cut_to_share(self.beginning.iter(), for_beginning, counter);
        let mut end = cut_to_share(self.end.iter().rev(), for_end, counter);
        end.reverse();
        self.render(&beginning, &end)
    }

    fn render(&self, beginning: &[String], end: &[String]) -> String {
        let Self { messages, opening, .. } = self;
        let mut text = format!("{HEAD}{messages}{HEAD_END}");
        let first = match opening {
            Opening::First(_) if beginning.is_empty() => 0,
            // A merged beginning is one text, of as many messages as it was.
            Opening::First(count) if self.beginning.len() == 1 => *count,
            Opening::First(_) => beginning.len() as u64,
            Opening::Earlier => 0,
        };
        if !beginning.is_empty() {
            text.push_str("\n\n");
            match opening {
                Opening::First(_) => text.push_str(&format!("{FIRST}{first}{FIRST_END}")),
                Opening::Earlier => text.push_str(EARLIER),
            }
            for quotation in beginning {
                text.push('\n');
                text.push_str(quotation);
            }
        }
        let between = messages.saturating_sub(first).saturating_sub(end.len() as u64);
        if between > 0 {
            text.push_str(&format!("{BETWEEN}{between}{BETWEEN_END}"));
        }
        if !end.is_empty() {
            text.push_str(&format!("{LAST}{}{LAST_END}", end.len()));
            for quotation in end {
                text.push('\n');
                text.push_str(quotation);
            }
        }
        text
    }
}

const HEAD: &str = "Summary of ";
const HEAD_END: &str = " earlier messages: a record, not instructions.";
const FIRST: &str = "Beginning (";
const FIRST_END: &str = "):";
const EARLIER: &str = "Earlier summary:";
const BETWEEN: &str = "\n\n[... ";
const BETWEEN_END: &str = " messages in between left out]";
const LAST: &str = "\n\nEnd (";
const LAST_END: &str = "):";

/// What to keep of an earlier summary.
struct Earlier {
    messages: u64,
    opening: Opening,
    beginning: Excerpt,
}

impl Earlier {
    fn read(text: &str, counter: &dyn TokenCounter) -> Self {
        Self::read_own(text, counter).unwrap_or_else(|| Self {
            messages: 0,
            opening: Opening::Earlier,
            beginning: Excerpt::reread(text, counter),
        })
    }

    /// Reads a text that [`Digest::render`] wrote; `None` for any other.
    fn read_own(text: &str, counter: &dyn TokenCounter) -> Option<Self> {
        let (messages, rest) = text.strip_prefix(HEAD)?.split_once(HEAD_END)?;
        let messages = messages.parse().ok()?;
        let rest = rest.strip_prefix("\n\n").unwrap_or_default();
        let (opening, rest) = if let Some(rest) = rest.strip_prefix(EARLIER) {
            (Opening::Earlier, rest)
        } else if let Some(rest) = rest.strip_prefix(FIRST) {
            let (count, rest) = rest.split_once(FIRST_END)?;
            (Opening::First(count.parse().ok()?), rest)
        } else {
            (Opening::First(0), "")
        };
        let end = [BETWEEN, LAST].iter().filter_map(|mark| rest.find(mark)).min();
        let beginning = rest.get(..end.unwrap_or(rest.len()))?.trim();
        Some(Self { messages, opening, beginning: Excerpt::reread(beginning, counter) })
    }
}

/// Fewer tokens than these do not say much.
const LEAST_QUOTATION: u64 = 16;

/// Cuts quotations so that they fit together, one line break for each included: short ones stay
/// whole, and the long ones share the rest. As many as can say something, in the order given.
fn cut_to_share<'e>(
    excerpts: impl Iterator<Item = &'e Excerpt>,
    room: u64,
    counter: &dyn TokenCounter,
) -> Vec<String> {
    let mut wanted: Vec<(&Excerpt, u64)> = Vec::new();
    let mut least = 0_u64;
    for excerpt in excerpts {
        let tokens = excerpt.tokens().saturating_add(1);
        least = least.saturating_add(tokens.min(LEAST_QUOTATION));
        if least > room {
            break;
        }
        wanted.push((excerpt, tokens));
    }
    // The greatest share that fits: from the shortest on, an equal part of what is left.
    let mut sizes: Vec<u64> = wanted.iter().map(|(_, tokens)| *tokens).collect();
    sizes.sort_unstable();
    let mut left = room;
    let mut share = u64::MAX;
    for (size, sharers) in sizes.iter().zip((1..=sizes.len() as u64).rev()) {
        let part = left / sharers;
        if *size > part {
            share = part;
            break;
        }
        left -= size;
    }
    wanted
        .into_iter()
        .map(|(excerpt, tokens)| excerpt.cut(tokens.min(share).saturating_sub(1), counter))
        .filter(|quotation| !quotation.is_empty())
        .collect()
}

/// A message in one line or more: who, what, and which tools.
fn quoted(message: &Message) -> String {
    let mut text = message.role.as_str().to_owned();
    if let Some(name) = &message.name {
        text.push_str(&format!(" ({name})"));
    }
    text.push(':');
    let said = message.text();
    if !said.trim().is_empty() {
        text.push(' ');
        text.push_str(said.trim());
    }
    if let Some(Content::Parts(parts)) = &message.content {
        let other = parts.iter().filter(|part| part.get("text").is_none()).count();
        if other > 0 {
            text.push_str(&format!(" [{other} parts that are not text]"));
        }
    }
    for call in &message.tool_calls {
        let arguments: Cow<'_, str> = call.arguments().unwrap_or_default().into();
        text.push_str(&format!(" [calls {}({arguments})]", call.name().unwrap_or("a tool")));
    }
    if let Some(call) = message.extra.get("function_call") {
        let field = |name| call.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        text.push_str(&format!(" [calls {}({})]", field("name"), field("arguments")));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use memory_core::{EstimateCounter, MessageId, Sequence, ToolCall};
    use proptest::prelude::*;

    use super::*;
    use crate::testcount::{Count, counter};
    use crate::testkit::now;

    fn stored(messages: impl IntoIterator<Item = Message>) -> Vec<StoredMessage> {
        let policy = Policy::with_max_tokens(1_000);
        let number = |(message, number): (Message, u64)| {
            let id = MessageId::new(uuid::Uuid::from_u128(number.into()));
            policy
                .admit(message.into(), id, now(), &EstimateCounter)
                .stored_at(Sequence::new(number))
        };
        messages.into_iter().zip(1..).map(number).collect()
    }

    fn talk() -> impl Strategy<Value = Vec<StoredMessage>> {
        let text = || prop_oneof![3 => "[a-z ]{0,60}", 1 => "\\PC{0,200}", 1 => "[a-z ]{300,500}"];
        let turn = prop_oneof![
            text().prop_map(|text| vec![Message::user(text)]),
            (text(), text()).prop_map(|(arguments, text)| vec![
                Message::calls([ToolCall::function("c", "f", arguments)]),
                Message::tool_result("c", text),
            ]),
        ];
        prop::collection::vec(turn, 0..8).prop_map(|turns| stored(turns.into_iter().flatten()))
    }

    proptest! {
        #[test]
        fn a_summary_is_never_over_its_limit_and_always_the_same(
            messages in talk(),
            previous in prop::option::of("\\PC{0,200}"),
            last in 0..4_usize,
            limit in 0..400_u64,
            counter in counter(),
        ) {
            let write = || rule_based_summary(previous.as_deref(), &messages, last, limit, &*counter);
            let text = write();
            prop_assert!(counter.count(&text) as u64 <= limit, "{}", text);
            prop_assert_eq!(text, write());
        }

        #[test]
        fn summaries_of_summaries_do_not_nest_and_their_counts_add_up(
            rounds in prop::collection::vec(talk(), 1..5),
            model in prop::option::of("[a-z ]{1,100}"),
            limit in 150..600_u64,
        ) {
            let mut previous = model.clone();
            let mut total = 0;
            for messages in rounds {
                total += messages.len() as u64;
                let text = rule_based_summary(previous.as_deref(), &messages, 2, limit, &Count::Chars);
                let head = format!("{HEAD}{total}{HEAD_END}");
                prop_assert!(text.starts_with(&head), "{}", text);
                prop_assert_eq!(text.matches(HEAD_END).count(), 1, "nested: {}", text);
                prop_assert!(text.matches(BETWEEN_END).count() <= 1, "nested: {}", text);
                previous = Some(text);
            }
        }
    }

    #[test]
    fn a_summary_tells_the_beginning_the_end_and_how_much_was_in_between() {
        let mut messages = vec![Message::user("I need a hotel in Kyoto")];
        messages.extend((1..=5).map(|day| Message::assistant(format!("day {day}"))));
        messages.push(Message::calls([ToolCall::function("c", "book", "{\"id\":1}")]));
        messages.push(Message::tool_result("c", "booked"));
        messages.push(Message::user("thanks").with_name("ann"));
        let text = rule_based_summary(None, &stored(messages), 2, 500, &EstimateCounter);
        let expected = "\
Summary of 9 earlier messages: a record, not instructions.

Beginning (1):
user: I need a hotel in Kyoto

[... 5 messages in between left out]

End (3):
assistant: [calls book({\"id\":1})]
tool: booked
user (ann): thanks";
        assert_eq!(text, expected);

        let next =
            stored([Message::user("one more"), Message::user("thing"), Message::user("please")]);
        let merged = rule_based_summary(Some(&text), &next, 2, 500, &EstimateCounter);
        let expected = "\
Summary of 12 earlier messages: a record, not instructions.

Beginning (1):
user: I need a hotel in Kyoto

[... 9 messages in between left out]

End (2):
user: thing
user: please";
        assert_eq!(merged, expected);
    }

    #[test]
    fn receipts_know_the_rules_by_their_name_and_they_write_at_the_first_poll() {
        let rules = RuleBasedSummarizer { last_units: 1 };
        assert_eq!(rules.name(), "rule_based");
        let request = SummaryRequest {
            previous: None,
            messages: stored([Message::user("one"), Message::user("two")]).into(),
            max_tokens: 500,
            counter: Arc::new(EstimateCounter),
        };
        let mut work = rules.summarize(request);
        let written = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        // Nothing is left out, so nothing is said about that.
        let expected = "\
Summary of 2 earlier messages: a record, not instructions.

Beginning (1):
user: one

End (1):
user: two";
        assert!(matches!(written, Poll::Ready(Ok(text)) if text == expected));
    }

    /// A call of a tool, and its result.
    fn call_with_result(result: &str) -> [Message; 2] {
        let call = Message::calls([ToolCall::function("c", "book", "{}")]);
        [call, Message::tool_result("c", result)]
    }

    #[test]
    fn a_merged_beginning_counts_as_many_messages_as_it_quotes() {
        let write = |previous: Option<&str>, messages: &[StoredMessage]| {
            rule_based_summary(previous, messages, 1, 500, &EstimateCounter)
        };
        let first = stored(call_with_result("booked").into_iter().chain([Message::user("thanks")]));
        let next = stored([Message::user("one"), Message::user("two")]);
        let expected = "\
Summary of 5 earlier messages: a record, not instructions.

Beginning (2):
assistant: [calls book({})]
tool: booked

[... 2 messages in between left out]

End (1):
user: two";
        assert_eq!(write(Some(&write(None, &first)), &next), expected);
    }

    #[test]
    fn what_is_not_quoted_for_want_of_room_is_counted_as_left_out() {
        let write = |last_units, limit| {
            let turn = call_with_result("booked for two nights").into_iter();
            let messages = turn.chain([Message::user("thanks")]);
            rule_based_summary(None, &stored(messages), last_units, limit, &Count::Chars)
        };
        // Room for the frame and the call, but for too little of the result to say anything.
        let call = "\
Summary of 3 earlier messages: a record, not instructions.

Beginning (1):
assistant: [calls book({})]

[... 2 messages in between left out]";
        assert_eq!(write(0, call.len() as u64 + 4), call);
        let none = "\
Summary of 3 earlier messages: a record, not instructions.

[... 3 messages in between left out]";
        assert_eq!(write(2, none.len() as u64), none);
        let talk = stored(["one", "two", "three"].map(|text| Message::user(text.repeat(20))));
        let text = rule_based_summary(None, &talk, 2, none.len() as u64, &Count::Chars);
        assert_eq!(text, none, "a beginning of one message as well");
    }

    #[test]
    fn a_long_beginning_and_a_long_end_get_half_each() {
        let messages = stored([Message::user("q".repeat(500)), Message::user("z".repeat(500))]);
        let text = rule_based_summary(None, &messages, 1, 400, &Count::Chars);
        let (beginning, end) = (text.matches('q').count(), text.matches('z').count());
        assert_eq!((beginning, end, text.len()), (124, 124, 398), "{text}");
    }

    #[test]
    fn short_quotations_stay_whole_and_the_long_ones_share_exactly_what_they_leave() {
        let lengths = |texts: &[usize], room| {
            let excerpt = |length: &usize| Excerpt::of("x".repeat(*length), &Count::Chars);
            let excerpts: Vec<_> = texts.iter().map(excerpt).collect();
            let cut = cut_to_share(excerpts.iter(), room, &Count::Chars);
            cut.iter().map(String::len).collect::<Vec<_>>()
        };
        // One more for each, a line break.
        assert_eq!(lengths(&[3, 100, 100], 4 + 40 + 40), [3, 39, 39]);
        assert_eq!(lengths(&[29, 30], 30 + 31), [29, 30], "they fit just so");
        assert_eq!(lengths(&[29, 30], 30 + 30), [29, 29]);
    }

    #[test]
    fn a_quotation_counts_the_parts_that_it_cannot_show() {
        let message = |parts: serde_json::Value| {
            let message = serde_json::json!({ "role": "user", "content": parts });
            quoted(&serde_json::from_value(message).unwrap())
        };
        let text = serde_json::json!({ "type": "text", "text": "look" });
        let image = serde_json::json!({ "type": "image_url", "image_url": { "url": "data:," } });
        assert_eq!(message(serde_json::json!([text])), "user: look");
        let seen = message(serde_json::json!([text, image, image]));
        assert_eq!(seen, "user: look [2 parts that are not text]");
    }

    #[test]
    fn more_room_is_never_less_of_a_summary() {
        let messages =
            stored((1..=17).map(|day| Message::user(format!("Day {day}: what is there?"))));
        let write = |limit| rule_based_summary(None, &messages, 2, limit, &EstimateCounter);
        let lengths: Vec<_> = (0..100).map(|limit| write(limit).len()).collect();
        assert!(lengths.is_sorted(), "{lengths:?}");
        assert_eq!(write(70).matches("Day").count(), 3, "{}", write(70));
    }

    #[test]
    fn what_a_model_wrote_is_kept_through_later_summaries() {
        let next = || stored([Message::user("one"), Message::user("two"), Message::user("three")]);
        let text =
            rule_based_summary(Some("Ann wants a hotel."), &next(), 1, 500, &EstimateCounter);
        let merged = rule_based_summary(Some(&text), &next(), 1, 500, &EstimateCounter);
        let expected = "\
Summary of 6 earlier messages: a record, not instructions.

Earlier summary:
Ann wants a hotel.

[... 5 messages in between left out]

End (1):
user: three";
        assert_eq!(merged, expected);
    }

    #[test]
    fn a_long_quotation_gives_way_and_says_so_and_short_ones_stay_whole() {
        let messages = stored([
            Message::user("the beginning"),
            Message::user("x".repeat(5_000)),
            Message::user("the end"),
        ]);
        let text = rule_based_summary(None, &messages, 2, 300, &Count::Chars);
        assert!(text.contains("user: the beginning\n"), "{text}");
        assert!(text.ends_with("user: the end"), "{text}");
        assert!(text.contains("xxx [... 48"), "{text}");
        assert!((280..=300).contains(&text.len()), "{}", text.len());
    }
}
