//! The media that an API accepts, and their places.

use crate::dialect::{
    Dialect, MediaKind, MediaPart, MediaSource, Native, Written, derived_media_type,
    document_format,
};
use crate::json::Json;
use crate::profile::{ContentKey, Profile, ProfileName};

/// The place of a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    User,
    Assistant,
    System,
    Result,
}

/// The note that replaces a medium; for a text document, its text.
pub(super) fn note(medium: &MediaPart<'_>) -> String {
    Written::default().media_note(medium)
}

/// Fits a medium to its place; returns `false` if a note must replace it.
pub(super) fn fit(
    medium: &mut MediaPart<'_>,
    profile: &Profile,
    dialect: Dialect,
    place: Place,
) -> bool {
    let native = medium.native.filter(|native| native.dialect == dialect);
    let is_native = native.is_some();
    let may_be_here = match (place, profile.name) {
        (Place::User | Place::Result, _) => true,
        (Place::Assistant, ProfileName::Gemini) => true,
        // Sound that the model produced is sent by its id.
        (Place::Assistant, ProfileName::OpenaiChat) => {
            return is_native
                && profile.content == ContentKey::Optional
                && medium.kind == MediaKind::Audio
                && matches!(medium.source, MediaSource::FileId(id) if !id.is_empty());
        }
        (Place::Assistant | Place::System, _) => false,
    };
    if !may_be_here || !has_content(medium) {
        return false;
    }
    let mut is_odd = is_raw_file(medium);
    if let (MediaKind::Document, MediaSource::Data(data), None) =
        (medium.kind, &medium.source, medium.media_type)
    {
        medium.media_type = derived_media_type(medium.title, data);
        if medium.media_type.is_none() {
            return false;
        }
        is_odd = true;
    }
    let fits = match profile.name {
        ProfileName::OpenaiChat => openai_chat(medium, native),
        ProfileName::StrictTemplate => match (medium.kind, &medium.source) {
            (MediaKind::Image, MediaSource::Data(_)) => true,
            (MediaKind::Image, MediaSource::Url(url)) => is_fetched(url),
            (MediaKind::Audio, MediaSource::Data(_)) => is_wav_or_mp3(medium),
            _ => false,
        },
        ProfileName::Mistral => match (medium.kind, &medium.source) {
            (MediaKind::Document, MediaSource::Url(url)) => {
                // A form that only Mistral has.
                let is_own = medium
                    .native
                    .is_some_and(|native| native.json.get_str("type") == Some("document_url"));
                return is_own && place == Place::User && is_fetched(url);
            }
            (MediaKind::Image, MediaSource::Url(url)) => is_fetched(url),
            (MediaKind::Image | MediaKind::Audio | MediaKind::Document, MediaSource::Data(_)) => {
                true
            }
            (_, MediaSource::FileId(_)) => is_native,
            _ => false,
        },
        ProfileName::OpenaiResponses => match (medium.kind, &medium.source) {
            (MediaKind::Image | MediaKind::Document, MediaSource::Data(_)) => true,
            (MediaKind::Image | MediaKind::Document, MediaSource::Url(url)) => is_fetched(url),
            (MediaKind::Image | MediaKind::Document, MediaSource::FileId(_)) => is_native,
            (MediaKind::Audio, MediaSource::Data(_)) => {
                place == Place::User && is_wav_or_mp3(medium)
            }
            _ => false,
        },
        ProfileName::Anthropic => anthropic(medium, native),
        ProfileName::Gemini => match &medium.source {
            MediaSource::Data(_) => true,
            MediaSource::Url(_) => place != Place::Result || is_native,
            MediaSource::FileId(_) | MediaSource::Native => is_native,
            MediaSource::Text(_) | MediaSource::Parts(_) => false,
        },
        ProfileName::Bedrock => bedrock(medium, native, place),
    };
    if !fits {
        return false;
    }
    // Chat messages are rebuilt, because many forms of one medium are in use.
    let keeps_native = is_native && dialect != Dialect::Chat && !is_odd;
    if !keeps_native {
        medium.native = None;
    }
    true
}

/// Whether a file of OpenAI is base64 in place of a data URL, which the API wants.
fn is_raw_file(medium: &MediaPart<'_>) -> bool {
    let data = medium.native.and_then(|native| native.json.get_str("file_data"));
    data.is_some_and(|data| !data.starts_with("data:"))
}

fn has_content(medium: &MediaPart<'_>) -> bool {
    match &medium.source {
        MediaSource::Data(data) => is_base64(data),
        MediaSource::Url(url) => {
            let is = |scheme: &str| {
                url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            };
            ["https://", "http://", "data:", "s3://", "gs://"].into_iter().any(is)
        }
        MediaSource::FileId(id) => !id.is_empty(),
        MediaSource::Text(text) => !text.trim().is_empty(),
        MediaSource::Parts(parts) => parts.iter().any(|part| !part.is_blank()),
        MediaSource::Native => true,
    }
}

/// Whether the data begin and end like base64. Large data are not read completely for each window.
fn is_base64(data: &str) -> bool {
    const SAMPLE: usize = 256;
    let bytes = data.as_bytes();
    let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=\r\n".contains(byte);
    let start = bytes.get(..SAMPLE.min(bytes.len())).unwrap_or_default();
    let end = bytes.get(bytes.len().saturating_sub(SAMPLE)..).unwrap_or_default();
    !bytes.is_empty() && start.iter().chain(end).all(is_known)
}

fn is_web(url: &str) -> bool {
    ["https://", "http://"].iter().any(|scheme| {
        url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    })
}

fn is_fetched(url: &str) -> bool {
    is_web(url) || url.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:"))
}

fn is_wav_or_mp3(medium: &MediaPart<'_>) -> bool {
    let kind = medium.media_type.unwrap_or("wav");
    matches!(kind.rsplit('/').next(), Some("wav" | "mp3" | "mpeg" | "x-wav" | "wave" | "vnd.wave"))
}

/// `native` is the part's JSON if it was read from the same API.
fn openai_chat(medium: &MediaPart<'_>, native: Option<Native<'_>>) -> bool {
    match (medium.kind, &medium.source) {
        (MediaKind::Image, MediaSource::Url(url)) => is_fetched(url),
        (MediaKind::Image | MediaKind::Document, MediaSource::Data(_)) => true,
        (MediaKind::Audio, MediaSource::Data(_)) => is_wav_or_mp3(medium),
        (MediaKind::Document, MediaSource::FileId(_)) => native.is_some(),
        _ => false,
    }
}

fn anthropic(medium: &MediaPart<'_>, native: Option<Native<'_>>) -> bool {
    let media_type = medium.media_type.unwrap_or_default();
    match (medium.kind, &medium.source) {
        (MediaKind::Image, MediaSource::Data(_)) => matches!(
            media_type,
            "image/jpeg"
                | "image/png"
                | "image/gif"
                | "image/webp"
                | "png"
                | "jpeg"
                | "gif"
                | "webp"
                | ""
        ),
        (MediaKind::Document, MediaSource::Data(_)) => {
            matches!(media_type, "application/pdf" | "pdf" | "")
        }
        (MediaKind::Image | MediaKind::Document, MediaSource::Url(url)) => is_web(url),
        (MediaKind::Image | MediaKind::Document, MediaSource::FileId(_)) => native.is_some(),
        (MediaKind::Document, MediaSource::Text(_)) => true,
        (MediaKind::Document, MediaSource::Parts(_) | MediaSource::Native) => native.is_some(),
        _ => false,
    }
}

fn bedrock(medium: &MediaPart<'_>, native: Option<Native<'_>>, place: Place) -> bool {
    let is_audio_in_result = medium.kind == MediaKind::Audio && place == Place::Result;
    let has_format = match (medium.kind, native) {
        (MediaKind::Image, Some(native)) => {
            let image = native.json.get("image").unwrap_or(native.json);
            matches!(image.get_str("format"), Some("png" | "jpeg" | "gif" | "webp"))
        }
        (MediaKind::Image, _) => {
            let media_type = medium.media_type.unwrap_or("png");
            matches!(media_type.rsplit('/').next(), Some("png" | "jpeg" | "jpg" | "gif" | "webp"))
        }
        (MediaKind::Document, Some(native)) => {
            let format = native.json.get("document").map(|document| document.get_str("format"));
            format
                .is_none_or(|format| format.is_some_and(|it| document_format(Some(it)) == Some(it)))
        }
        (MediaKind::Document, _) => document_format(medium.media_type).is_some(),
        _ => true,
    };
    let has_source = match &medium.source {
        MediaSource::Data(_) => true,
        MediaSource::Url(url) => url.starts_with("s3://"),
        MediaSource::Text(_) => medium.kind == MediaKind::Document,
        MediaSource::Parts(_) | MediaSource::Native => native.is_some(),
        MediaSource::FileId(_) => false,
    };
    has_format && has_source && !is_audio_in_result
}

/// The bytes of base64 in a medium.
pub(super) fn data_len(medium: &MediaPart<'_>) -> usize {
    match &medium.source {
        MediaSource::Data(data) => data.len(),
        _ => medium.native.map_or(0, |native| match native.json {
            Json::Object(_) => 64,
            _ => 0,
        }),
    }
}
