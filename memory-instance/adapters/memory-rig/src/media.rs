//! Media of rig's messages: images, audio, video and documents.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rig_core::message::{
    AudioMediaType, DocumentMediaType, ImageMediaType, MimeType, VideoMediaType,
};
use rig_core::serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::write::{object, with_provider_options};

/// How rig names the form of a source.
const RAW: &str = "raw";
const FILE_ID: &str = "fileId";
const UNKNOWN: &str = "unknown";
const STRING: &str = "string";

/// A medium as a part. `rest` is the block of rig without its type.
pub(crate) fn write(kind: &str, mut rest: Map<String, Value>) -> Map<String, Value> {
    let (source, value) = take_source(&mut rest);
    let media_type = mime(kind, rest.get("media_type"));
    if kind == "document" && source == STRING {
        // The model reads it, so it is counted, searched and redacted as a text.
        rest.insert("type".into(), kind.into());
        return with_provider_options(object(json!({"type": "text", "text": value})), rest);
    }
    let data = match source.as_str() {
        FILE_ID => json!({ FILE_ID: value }),
        UNKNOWN => json!({}),
        _ => value,
    };
    if kind == "image" {
        let mut block = object(json!({"type": "image", "image": data}));
        if let Some(media_type) = media_type {
            block.insert("mediaType".into(), media_type.into());
        }
        return with_provider_options(block, rest);
    }
    let media_type = media_type.unwrap_or(match kind {
        "audio" => "audio/*",
        "video" => "video/*",
        _ => "application/octet-stream",
    });
    rest.insert("type".into(), kind.into());
    with_provider_options(
        object(json!({"type": "file", "data": data, "mediaType": media_type})),
        rest,
    )
}

/// An image in the output of a tool.
pub(crate) fn write_output(mut rest: Map<String, Value>) -> Map<String, Value> {
    let (source, value) = take_source(&mut rest);
    let block = match source.as_str() {
        "url" => json!({"type": "image-url", "url": value}),
        FILE_ID => json!({"type": "image-file-id", FILE_ID: value}),
        UNKNOWN => {
            rest.insert("type".into(), "image".into());
            json!({"type": "custom", "kind": "rig.image"})
        }
        _ => {
            let media_type = mime("image", rest.get("media_type")).unwrap_or("image/*");
            json!({"type": "image-data", "data": value, "mediaType": media_type})
        }
    };
    with_provider_options(object(block), rest)
}

/// The block of rig for a part of type `image` or `file`.
pub(crate) fn read(part: &Value, mut rest: Map<String, Value>) -> Option<Value> {
    let data = part.get("image").or_else(|| part.get("data"))?;
    put_source(&mut rest, data.get(FILE_ID).unwrap_or(data))?;
    rest.entry("type").or_insert_with(|| "image".into());
    Some(rest.into())
}

/// The content of rig for an image in the output of a tool.
pub(crate) fn read_output(block: &Value, mut rest: Map<String, Value>) -> Option<Value> {
    let data = ["data", "url", FILE_ID].into_iter().find_map(|key| block.get(key))?;
    put_source(&mut rest, data)?;
    rest.insert("type".into(), "image".into());
    Some(rest.into())
}

/// Takes the content out of a block of rig, whose `data` then names only the form of the source. Bytes become base64.
fn take_source(rest: &mut Map<String, Value>) -> (String, Value) {
    let mut data = object(rest.remove("data").unwrap_or_default());
    let source = match data.get("type") {
        Some(Value::String(source)) => source.clone(),
        _ => UNKNOWN.to_owned(),
    };
    let mut value = data.remove("value").unwrap_or_default();
    if source == RAW {
        value = BASE64_STANDARD.encode(bytes(&value)).into();
    }
    rest.insert("data".into(), data.into());
    (source, value)
}

/// Puts the content back; `None` if it was changed into something else.
fn put_source(rest: &mut Map<String, Value>, value: &Value) -> Option<()> {
    let data = rest.get_mut("data")?.as_object_mut()?;
    match data.get("type")?.as_str()? {
        UNKNOWN => {}
        RAW => {
            let bytes = BASE64_STANDARD.decode(value.as_str()?).ok()?;
            data.insert("value".into(), bytes.into());
        }
        _ => {
            data.insert("value".into(), value.as_str()?.into());
        }
    }
    Some(())
}

fn bytes(value: &Value) -> Vec<u8> {
    let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
    value.as_array().into_iter().flatten().filter_map(byte).collect()
}

/// The media type by its standard name, from the name that rig stores.
fn mime(kind: &str, name: Option<&Value>) -> Option<&'static str> {
    fn read<T: DeserializeOwned + MimeType>(name: &Value) -> Option<&'static str> {
        T::deserialize(name).ok().map(|media_type| media_type.to_mime_type())
    }
    let name = name?;
    match kind {
        "image" => read::<ImageMediaType>(name),
        "audio" => read::<AudioMediaType>(name),
        "video" => read::<VideoMediaType>(name),
        _ => read::<DocumentMediaType>(name),
    }
}
