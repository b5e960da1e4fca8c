//! Call ids, function names and author names in the forms that the API accepts.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::bug::{RenderBug, is_planted};
use super::repair::{RepairKind, Repairs};
use super::turn::{Speaker, Turn, is_call, is_result};
use crate::dialect::{Arguments, CallKind, Part};
use crate::json::{Json, JsonObject};
use crate::profile::{Alphabet, ArgumentForm, NameForm, Profile, ProfileName};

/// New names for the calls, in order, and for the authors of turns; `None` keeps the old name.
#[derive(Debug, Default)]
pub(super) struct Names {
    calls: Vec<CallNames>,
    authors: Vec<Option<String>>,
}

#[derive(Debug, Default)]
struct CallNames {
    id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
}

impl Names {
    /// Chooses names for all turns.
    pub(super) fn choose(turns: &[Turn<'_>], profile: &Profile) -> Self {
        let mut names = Self::default();
        let mut used: HashSet<Cow<'_, str>> = HashSet::new();
        // The ids of all calls, collected when the first new id is needed: existing ids are kept before new ones are
        // assigned.
        let mut taken: Option<HashSet<&str>> = None;
        used.extend(turns.iter().flat_map(|turn| &turn.parts).filter_map(|part| match part {
            Part::Call(call) if call.provider_run => call.id.map(Cow::Borrowed),
            _ => None,
        }));
        for turn in turns {
            for (index, part) in turn.parts.iter().enumerate() {
                let Part::Call(call) = part else { continue };
                if call.provider_run {
                    continue;
                }
                let needs_id = !matches!(
                    (call.kind, profile.name),
                    (CallKind::LegacyFunction, _) | (_, ProfileName::Gemini)
                );
                let id = match call.id {
                    None if !needs_id => None,
                    Some(id)
                        if profile.call_id.accepts(id)
                            && (used.insert(Cow::Borrowed(id))
                                || is_planted(RenderBug::IdRepeated)) =>
                    {
                        None
                    }
                    old => {
                        // A refused id is mapped by its text, a missing or repeated one by its place.
                        let is_refused = old.is_some_and(|id| !profile.call_id.accepts(id));
                        let place = turn.sequence.map_or(0, crate::stored::Sequence::number);
                        let place = Some((place, index)).filter(|_| !is_refused);
                        let taken = taken.get_or_insert_with(|| all_ids(turns));
                        Some(new_id(old, place, profile.call_id, &mut |id| {
                            !taken.contains(id) && used.insert(Cow::Owned(id.to_owned()))
                        }))
                    }
                };
                let is_named = profile.function_name.accepts(call.name)
                    || matches!(call.kind, CallKind::Native(_))
                    || is_planted(RenderBug::NameKept);
                let name = (!is_named).then(|| new_name(call.name, profile.function_name, "tool"));
                let is_wrapped = profile.arguments == ArgumentForm::ObjectOrText
                    && !is_planted(RenderBug::ArgumentsKept);
                let arguments = is_wrapped.then(|| wrapped(call.arguments)).flatten();
                names.calls.push(CallNames { id, name, arguments });
            }
            names.authors.push(match (turn.author, profile.message_name) {
                (Some(author), Some(form)) if has_author(profile) && !form.accepts(author) => {
                    Some(new_name(author, form, "user"))
                }
                _ => None,
            });
        }
        names
    }

    /// Sets the chosen names in calls and results. The results of a turn are in the next one.
    pub(super) fn set<'a>(
        &'a self,
        turns: &mut [Turn<'a>],
        profile: &Profile,
        repairs: &mut Repairs,
    ) {
        let mut calls = self.calls.iter();
        let mut links: Vec<(Option<&'a str>, &'a str)> = Vec::new();
        for (turn, author) in turns.iter_mut().zip(&self.authors) {
            match author {
                Some(author) => {
                    turn.author = Some(author);
                    turn.touch();
                    repairs.add(RepairKind::AuthorName, turn.sequence);
                }
                None if turn.author.is_some()
                    && !has_author(profile)
                    && !is_planted(RenderBug::AuthorKept) =>
                {
                    turn.author = None;
                    turn.touch();
                    repairs.add(RepairKind::AuthorLeftOut, turn.sequence);
                }
                None => {}
            }
            if turn.speaker == Speaker::Tool {
                let mut changed = false;
                let results = turn.parts.iter_mut().filter(|part| is_result(part));
                for (part, (id, name)) in results.zip(&links) {
                    if let Part::Result(result) = part {
                        changed |= result.link != *id;
                        if !is_planted(RenderBug::IdInCallOnly) {
                            result.link = *id;
                        }
                        result.name = Some(*name);
                    }
                }
                if changed {
                    turn.touch();
                }
                continue;
            }
            links.clear();
            let mut changed = false;
            let sequence = turn.sequence;
            for part in turn.parts.iter_mut().filter(|part| is_call(part)) {
                let (Part::Call(call), Some(names)) = (part, calls.next()) else { continue };
                if let Some(id) = &names.id {
                    call.id = Some(id);
                    repairs.add(RepairKind::CallId, sequence);
                    changed = true;
                }
                if let Some(name) = &names.name {
                    call.name = name;
                    repairs.add(RepairKind::FunctionName, sequence);
                    changed = true;
                }
                if let Some(arguments) = &names.arguments {
                    call.arguments = Arguments::Text(arguments);
                    repairs.add(RepairKind::ArgumentsWrapped, sequence);
                    changed = true;
                }
                links.push((call.id, call.name));
            }
            if changed {
                turn.touch();
            }
        }
    }
}

fn all_ids<'t>(turns: &'t [Turn<'_>]) -> HashSet<&'t str> {
    let parts = turns.iter().flat_map(|turn| &turn.parts);
    let ids = parts.filter_map(|part| match part {
        Part::Call(call) => call.id,
        _ => None,
    });
    ids.collect()
}

/// Whether messages have an author name.
const fn has_author(profile: &Profile) -> bool {
    matches!(profile.name, ProfileName::OpenaiChat | ProfileName::StrictTemplate)
        && profile.message_name.is_some()
}

/// Arguments that are no object, wrapped in one; `None` for an object.
fn wrapped(arguments: Arguments<'_>) -> Option<String> {
    let text = match arguments {
        Arguments::Missing | Arguments::Json(Json::Object(_)) => return None,
        Arguments::Text(text) if text.trim().is_empty() => return Some("{}".into()),
        Arguments::Text(text) if matches!(Json::parse(text), Ok(Json::Object(_))) => return None,
        other => other.to_text().into_owned(),
    };
    Some(JsonObject::new().with("_raw", text).to_string())
}

/// A name of allowed characters that resembles the old one.
fn new_name(name: &str, form: NameForm, otherwise: &str) -> String {
    let is_known = |letter: char| {
        form.alphabet == Alphabet::Any
            || NameForm::new(form.alphabet, 1).accepts(letter.encode_utf8(&mut [0; 4]))
    };
    let fill = if form.alphabet == Alphabet::Alphanumeric { 'x' } else { '_' };
    let mut new = String::new();
    for letter in name.trim().chars().take(form.max_length) {
        let letter = if is_known(letter) { letter } else { fill };
        if !(letter == fill && new.ends_with(fill)) {
            new.push(letter);
        }
    }
    let is_empty = new.chars().all(|letter| letter == fill);
    if is_empty {
        // Names without any allowed letter must remain distinct.
        new = format!("{otherwise}{fill}{}", digest(name, 8));
    }
    new.chars().take(form.max_length).collect()
}

/// A deterministic id for the same call that `is_free` accepts.
fn new_id(
    old: Option<&str>,
    place: Option<(u64, usize)>,
    form: NameForm,
    is_free: &mut dyn FnMut(&str) -> bool,
) -> String {
    let old = old.unwrap_or_default();
    let seed = match place {
        Some((place, index)) => format!("{place}/{index}/{old}"),
        None => old.to_owned(),
    };
    for round in 0_u32.. {
        let text = digest(&format!("{seed}/{round}"), 20);
        let id = match form.alphabet {
            Alphabet::Alphanumeric => text,
            Alphabet::Any | Alphabet::Word | Alphabet::Dotted => format!("call_{text}"),
        };
        let id: String = id.chars().take(form.max_length).collect();
        if is_free(&id) {
            return id;
        }
    }
    seed
}

/// A digest of a text in letters and digits, at most 40.
fn digest(text: &str, length: usize) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(text.as_bytes()).iter().take(20) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(length);
    hex
}
