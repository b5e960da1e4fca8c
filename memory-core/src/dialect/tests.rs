//! Tests over all dialects.

mod arbitrary;
mod cases;
mod detection;
mod losses;
mod native;
mod reading;
mod round_trip;

use super::*;

fn json(text: &str) -> Json {
    Json::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The parts of a message in its detected dialect, one line each.
fn lines(text: &str) -> Vec<String> {
    let message = json(text);
    let dialect = Dialect::detect(&message).unwrap_or_else(|| panic!("no dialect: {text}"));
    dialect.parts(&message).iter().map(line).collect()
}

/// A part in short, without its native JSON.
fn line(part: &Part<'_>) -> String {
    let inner = |parts: &[Part<'_>]| parts.iter().map(line).collect::<Vec<_>>().join(" + ");
    match part {
        Part::Text(part) => match part.kind {
            TextKind::Plain => format!("text {}", part.text),
            kind => format!("{kind:?} {}", part.text),
        },
        Part::Media(part) => {
            let source = match &part.source {
                MediaSource::Data(data) => format!("data {data}"),
                MediaSource::Url(url) => format!("url {url}"),
                MediaSource::FileId(id) => format!("file {id}"),
                MediaSource::Text(text) => format!("inline {text}"),
                MediaSource::Parts(parts) => format!("[{}]", inner(parts)),
                MediaSource::Native => "native".into(),
            };
            let mut line = format!("{:?} {source}", part.kind);
            let extras = [part.media_type, part.detail, part.title, part.context];
            for extra in extras.into_iter().flatten() {
                line.push_str(&format!(" <{extra}>"));
            }
            line
        }
        Part::Reasoning(part) => {
            format!("reasoning {:?} {}", part.text, part.opaque.unwrap_or("unsigned"))
        }
        Part::Call(part) => {
            let server = if part.provider_run { "server " } else { "" };
            let id = part.id.unwrap_or("-");
            format!("{server}call {id} {} {}", part.name, part.arguments.to_text())
        }
        Part::Result(part) => {
            let server = if part.provider_run { "server " } else { "" };
            let error = if part.is_error { " failed" } else { "" };
            let link = part.link.unwrap_or("-");
            let name = part.name.map(|name| format!(" ({name})")).unwrap_or_default();
            format!("{server}result {link}{name}{error}: {}", inner(&part.content))
        }
        Part::Data(json) => format!("data {json}"),
        Part::Other(native) => format!("other {}", native.json),
    }
}

/// The parts of all these messages, one line each.
fn all_lines(dialect: Dialect, messages: &[Json]) -> Vec<String> {
    messages.iter().flat_map(|message| dialect.parts(message)).map(|part| line(&part)).collect()
}
