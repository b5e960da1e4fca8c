//! Translates a parser's errors into terms of the resource format: no Rust types, no parser API, and with the remedy.

/// The problem of a field, from the text of a `serde` error.
pub(super) fn explain(problem: &str) -> String {
    unknown_name(problem)
        .or_else(|| missing(problem))
        .or_else(|| wrong_kind(problem))
        .unwrap_or_else(|| problem.to_owned())
}

/// The known name that was probably meant.
///
/// Up to two edits (inserted, deleted, replaced or swapped characters), one in a name of up to four characters. This
/// covers typing errors and avoids suggesting unrelated names.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = if name.chars().count() > 4 { 2 } else { 1 };
    // `maxTokens` and `max-tokens` are treated as the same name.
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    let wanted = plain(name);
    known
        .into_iter()
        .map(|known| (strsim::osa_distance(&wanted, &plain(known)), known))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// `unknown field` and `unknown variant`: suggests a similar known name.
fn unknown_name(problem: &str) -> Option<String> {
    let kind = ["unknown field `", "unknown variant `"]
        .into_iter()
        .find(|kind| problem.starts_with(kind))?;
    let (name, known) = problem.strip_prefix(kind)?.rsplit_once("`, expected ")?;
    // Every second piece is between backquotes.
    let meant = nearest(name, known.split('`').skip(1).step_by(2))?;
    Some(format!("{kind}{name}`; did you mean `{meant}`?"))
}

fn missing(problem: &str) -> Option<String> {
    let field = problem.strip_prefix("missing field `")?.strip_suffix('`')?;
    Some(match field {
        "id" => "missing field `id`; name the resource, such as support".to_owned(),
        field => format!("missing field `{field}`; add it"),
    })
}

/// `invalid type` and `invalid value`.
fn wrong_kind(problem: &str) -> Option<String> {
    let rest = ["invalid type: ", "invalid value: "]
        .into_iter()
        .find_map(|kind| problem.strip_prefix(kind))?;
    let (given, expected) = rest.rsplit_once(", expected ")?;
    let scalar =
        given.split_once('`').map(|(kind, value)| (kind.trim(), value.trim_end_matches('`')));
    let quoted = given.strip_prefix("string ").map(|text| text.trim_matches('"'));
    Some(match (expected, scalar, quoted) {
        ("a string", Some(("boolean", value)), _) => format!(
            "{value} is a boolean and not text; put the text in quotes (YAML reads no, off, yes and on without quotes as booleans)"
        ),
        ("a string", Some((_, value)), _) => {
            format!("{value} is a number and not text; put it in quotes: \"{value}\"")
        }
        (number, _, Some(text)) if is_number(number) && text.parse::<f64>().is_ok() => {
            format!("\"{text}\" is text and not a number; write {text} without quotes")
        }
        ("u8", Some((_, value)), _) => format!("{value} is not a whole number from 0 to 255"),
        ("u64" | "u32" | "usize", Some((_, value)), _) => {
            format!("{value} is not a whole number in range; write one, 0 or more")
        }
        (expected, ..) => {
            format!("is {}, but {} is expected", plain_given(given), plain_expected(expected))
        }
    })
}

fn is_number(expected: &str) -> bool {
    matches!(expected, "u64" | "u32" | "u8" | "usize" | "f64")
}

fn plain_given(given: &str) -> String {
    match given {
        "null" => "empty".to_owned(),
        "sequence" => "a list".to_owned(),
        "map" => "a mapping of fields".to_owned(),
        other => match other.strip_prefix("string ") {
            Some(text) => format!("the text {text}"),
            None => other.to_owned(),
        },
    }
}

fn plain_expected(expected: &str) -> String {
    match expected {
        "a string" => "text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping of fields".to_owned(),
        "f64" => "a number".to_owned(),
        number if is_number(number) => "a whole number, 0 or more,".to_owned(),
        "struct MemoryResource" => {
            "one resource, a mapping with at least `id` and `max_tokens`,".to_owned()
        }
        other if other.starts_with("struct ") => "a mapping of fields".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_names_within_two_edits() {
        let known = ["max_tokens", "key", "id", "limits"];
        for (name, meant) in [
            ("max_token", Some("max_tokens")),
            ("maxTokens", Some("max_tokens")),
            ("max-tokens", Some("max_tokens")),
            ("mxa_tokesn", Some("max_tokens")),
            ("kye", Some("key")),
            ("limit", Some("limits")),
            ("budget", None),
            ("kexx", None),
        ] {
            assert_eq!(nearest(name, known), meant, "{name}");
        }
    }

    #[test]
    fn explains_in_the_words_of_users() {
        for (problem, explained) in [
            (
                "unknown field `ttll`, expected one of `ttl`, `wait_timeout`",
                "unknown field `ttll`; did you mean `ttl`?",
            ),
            (
                "unknown field `x`, expected `ttl` or `wait_timeout`",
                "unknown field `x`, expected `ttl` or `wait_timeout`",
            ),
            (
                "unknown variant `token-based`, expected `token_based`",
                "unknown variant `token-based`; did you mean `token_based`?",
            ),
            ("missing field `id`", "missing field `id`; name the resource, such as support"),
            (
                "invalid type: boolean `false`, expected a string",
                "false is a boolean and not text; put the text in quotes (YAML reads no, off, yes and on without quotes as booleans)",
            ),
            (
                "invalid type: integer `7`, expected a string",
                "7 is a number and not text; put it in quotes: \"7\"",
            ),
            (
                "invalid type: string \"50\", expected u64",
                "\"50\" is text and not a number; write 50 without quotes",
            ),
            (
                "invalid type: string \"8k\", expected u64",
                "is the text \"8k\", but a whole number, 0 or more, is expected",
            ),
            (
                "invalid value: integer `-5`, expected u64",
                "-5 is not a whole number in range; write one, 0 or more",
            ),
            (
                "invalid type: null, expected struct MemoryResource",
                "is empty, but one resource, a mapping with at least `id` and `max_tokens`, is expected",
            ),
            ("something else", "something else"),
        ] {
            assert_eq!(explain(problem), explained);
        }
    }
}
