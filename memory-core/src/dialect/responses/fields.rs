//! The fields of items and of the elements of their content.

use super::super::fields::{
    Field, Position, Table, content, find, media, members, opaque, parts, protocol,
};
use crate::json::Json;

const TYPE: Field = protocol("type");
const ID: Field = protocol("id");
const CALL_ID: Field = protocol("call_id");
const STATUS: Field = protocol("status");
const NAME: Field = protocol("name");
const OUTPUT: Field = parts("output");
const PLAIN_OUTPUT: Field = content("output");
const ACTION: Field = content("action");

const MESSAGE: &[Field] =
    &[TYPE, ID, protocol("role"), parts("content"), STATUS, protocol("phase")];

const ITEMS: Table = &[
    ("message", MESSAGE),
    (
        "function_call",
        &[TYPE, ID, CALL_ID, NAME, content("arguments"), STATUS, protocol("namespace")],
    ),
    ("function_call_output", &[TYPE, ID, CALL_ID, OUTPUT, STATUS]),
    ("custom_tool_call", &[TYPE, ID, CALL_ID, NAME, content("input"), protocol("namespace")]),
    ("custom_tool_call_output", &[TYPE, ID, CALL_ID, OUTPUT]),
    // `status` is refused on it.
    ("reasoning", &[TYPE, ID, content("summary"), content("content"), opaque("encrypted_content")]),
    ("compaction", &[TYPE, ID, opaque("encrypted_content")]),
    ("compaction_trigger", &[TYPE]),
    ("item_reference", &[TYPE, ID]),
    ("file_search_call", &[TYPE, ID, STATUS, content("queries"), content("results")]),
    ("web_search_call", &[TYPE, ID, STATUS, ACTION]),
    (
        "computer_call",
        &[TYPE, ID, CALL_ID, ACTION, content("actions"), content("pending_safety_checks"), STATUS],
    ),
    (
        "computer_call_output",
        &[
            TYPE,
            ID,
            CALL_ID,
            members("output", &[TYPE, media("image_url"), protocol("file_id")]),
            content("acknowledged_safety_checks"),
            STATUS,
        ],
    ),
    ("image_generation_call", &[TYPE, ID, STATUS, media("result")]),
    (
        "code_interpreter_call",
        &[TYPE, ID, STATUS, protocol("container_id"), content("code"), content("outputs")],
    ),
    ("local_shell_call", &[TYPE, ID, CALL_ID, ACTION, STATUS]),
    ("local_shell_call_output", &[TYPE, ID, PLAIN_OUTPUT, STATUS]),
    ("shell_call", &[TYPE, ID, CALL_ID, ACTION, STATUS, content("environment")]),
    (
        "shell_call_output",
        &[TYPE, ID, CALL_ID, PLAIN_OUTPUT, STATUS, protocol("max_output_length")],
    ),
    ("apply_patch_call", &[TYPE, ID, CALL_ID, content("operation"), STATUS]),
    ("apply_patch_call_output", &[TYPE, ID, CALL_ID, PLAIN_OUTPUT, STATUS]),
    ("mcp_list_tools", &[TYPE, ID, protocol("server_label"), content("tools"), content("error")]),
    ("mcp_approval_request", &[TYPE, ID, NAME, content("arguments"), protocol("server_label")]),
    (
        "mcp_approval_response",
        &[TYPE, ID, protocol("approval_request_id"), protocol("approve"), content("reason")],
    ),
    (
        "mcp_call",
        &[
            TYPE,
            ID,
            NAME,
            content("arguments"),
            protocol("server_label"),
            PLAIN_OUTPUT,
            content("error"),
            STATUS,
            protocol("approval_request_id"),
        ],
    ),
    ("tool_search_call", &[TYPE, ID, CALL_ID, content("arguments"), protocol("execution"), STATUS]),
    ("tool_search_output", &[TYPE, ID, CALL_ID, content("tools"), protocol("execution"), STATUS]),
    ("additional_tools", &[TYPE, ID, protocol("role"), content("tools")]),
];

const PARTS: Table = &[
    ("input_text", &[TYPE, content("text")]),
    ("output_text", &[TYPE, content("text"), content("annotations"), content("logprobs")]),
    ("refusal", &[TYPE, content("refusal")]),
    ("input_image", &[TYPE, media("image_url"), protocol("file_id"), protocol("detail")]),
    (
        "input_file",
        &[
            TYPE,
            protocol("file_id"),
            media("file_data"),
            media("file_url"),
            content("filename"),
            protocol("detail"),
        ],
    ),
    ("input_audio", &[TYPE, members("input_audio", &[media("data"), protocol("format")])]),
];

pub(in super::super) fn fields(position: Position<'_>) -> Option<&'static [Field]> {
    match position {
        Position::Message => Some(MESSAGE),
        Position::Item(kind) => find(ITEMS, kind),
        Position::Part(kind) => find(PARTS, kind),
    }
}

/// The fields of this item, by its type.
pub(in super::super) fn item_fields(item: &Json) -> Option<&'static [Field]> {
    find(ITEMS, item.get_str("type").unwrap_or("message"))
}

pub(super) fn is_known_item(kind: &str) -> bool {
    find(ITEMS, kind).is_some()
}
