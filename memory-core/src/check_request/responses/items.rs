//! Items other than messages. (T openai-python `response_input_item_param.py`)

use crate::check_request::calls::ToolKind;
use crate::check_request::check::{Field, Kind, optional, required};

/// The meaning of an item for the items around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Call(ToolKind),
    Output(ToolKind),
    Reasoning,
    /// The model made it, and nothing answers it.
    Produced,
    Other,
}

/// The fields of an item.
#[derive(Debug)]
pub(super) struct ItemForm {
    pub(super) fields: &'static [Field],
    /// The required prefix of the item's id.
    pub(super) prefix: &'static str,
    pub(super) effect: Effect,
}

const STATUS: Field =
    optional("status", Kind::OneOf(&["in_progress", "completed", "incomplete", "failed"]));
const TYPE: Field = required("type", Kind::Text);
const ID: Field = optional("id", Kind::Text);
const CALL_ID: Field = required("call_id", Kind::Text);

impl ItemForm {
    /// The form of an item with this type; `None` if the type is unknown.
    pub(super) fn of(kind: &str) -> Option<&'static Self> {
        FORMS.iter().find(|(name, _)| *name == kind).map(|(_, form)| form)
    }
}

const fn form(prefix: &'static str, effect: Effect, fields: &'static [Field]) -> ItemForm {
    ItemForm { fields, prefix, effect }
}

static FORMS: &[(&str, ItemForm)] = &[
    (
        "function_call",
        form(
            "fc_",
            Effect::Call(ToolKind::Function),
            &[
                TYPE,
                ID,
                CALL_ID,
                required("name", Kind::Text),
                required("arguments", Kind::Any),
                STATUS,
            ],
        ),
    ),
    (
        "function_call_output",
        form(
            "",
            Effect::Output(ToolKind::Function),
            &[TYPE, ID, CALL_ID, required("output", Kind::TextOrArray), STATUS],
        ),
    ),
    (
        "reasoning",
        // No `status`. (E agent-framework#2203, litellm#13420)
        form(
            "rs_",
            Effect::Reasoning,
            &[
                TYPE,
                ID,
                required("summary", Kind::Array),
                optional("content", Kind::Array),
                optional("encrypted_content", Kind::Text),
            ],
        ),
    ),
    (
        "custom_tool_call",
        form(
            "ctc_",
            Effect::Call(ToolKind::Custom),
            &[
                TYPE,
                ID,
                CALL_ID,
                required("name", Kind::Text),
                required("input", Kind::Text),
                STATUS,
            ],
        ),
    ),
    (
        "custom_tool_call_output",
        form(
            "",
            Effect::Output(ToolKind::Custom),
            &[TYPE, ID, CALL_ID, required("output", Kind::TextOrArray), STATUS],
        ),
    ),
    ("item_reference", form("", Effect::Other, &[TYPE, required("id", Kind::Text)])),
    (
        "compaction",
        form("", Effect::Other, &[TYPE, ID, required("encrypted_content", Kind::Filled)]),
    ),
    ("compaction_trigger", form("", Effect::Other, &[TYPE])),
    (
        "web_search_call",
        form("", Effect::Produced, &[TYPE, ID, optional("action", Kind::Object), STATUS]),
    ),
    (
        "file_search_call",
        form(
            "",
            Effect::Produced,
            &[TYPE, ID, required("queries", Kind::Array), optional("results", Kind::Array), STATUS],
        ),
    ),
    (
        "computer_call",
        form(
            "",
            Effect::Call(ToolKind::Computer),
            &[
                TYPE,
                ID,
                CALL_ID,
                optional("action", Kind::Object),
                optional("actions", Kind::Array),
                optional("pending_safety_checks", Kind::Array),
                STATUS,
            ],
        ),
    ),
    (
        "computer_call_output",
        form(
            "",
            Effect::Output(ToolKind::Computer),
            &[
                TYPE,
                ID,
                CALL_ID,
                required("output", Kind::Object),
                optional("acknowledged_safety_checks", Kind::Array),
                STATUS,
            ],
        ),
    ),
    (
        "image_generation_call",
        form("", Effect::Produced, &[TYPE, ID, required("result", Kind::Any), STATUS]),
    ),
    (
        "code_interpreter_call",
        form(
            "",
            Effect::Produced,
            &[
                TYPE,
                ID,
                required("code", Kind::Any),
                required("container_id", Kind::Text),
                optional("outputs", Kind::Any),
                STATUS,
            ],
        ),
    ),
    (
        "local_shell_call",
        form(
            "",
            Effect::Call(ToolKind::LocalShell),
            &[TYPE, ID, CALL_ID, required("action", Kind::Object), STATUS],
        ),
    ),
    (
        "local_shell_call_output",
        form(
            "",
            Effect::Output(ToolKind::LocalShell),
            &[TYPE, required("id", Kind::Text), required("output", Kind::Text), STATUS],
        ),
    ),
    (
        "shell_call",
        form(
            "",
            Effect::Call(ToolKind::Shell),
            &[
                TYPE,
                ID,
                CALL_ID,
                required("action", Kind::Object),
                optional("environment", Kind::Any),
                STATUS,
            ],
        ),
    ),
    (
        "shell_call_output",
        form(
            "",
            Effect::Output(ToolKind::Shell),
            &[
                TYPE,
                ID,
                CALL_ID,
                required("output", Kind::Array),
                optional("max_output_length", Kind::Any),
                STATUS,
            ],
        ),
    ),
    (
        "apply_patch_call",
        form(
            "",
            Effect::Call(ToolKind::ApplyPatch),
            &[TYPE, ID, CALL_ID, required("operation", Kind::Object), STATUS],
        ),
    ),
    (
        "apply_patch_call_output",
        form(
            "",
            Effect::Output(ToolKind::ApplyPatch),
            &[TYPE, ID, CALL_ID, optional("output", Kind::Text), STATUS],
        ),
    ),
    (
        "mcp_list_tools",
        form(
            "",
            Effect::Produced,
            &[
                TYPE,
                ID,
                required("server_label", Kind::Text),
                required("tools", Kind::Array),
                optional("error", Kind::Any),
            ],
        ),
    ),
    (
        "mcp_approval_request",
        form(
            "",
            Effect::Produced,
            &[
                TYPE,
                ID,
                required("arguments", Kind::Text),
                required("name", Kind::Text),
                required("server_label", Kind::Text),
            ],
        ),
    ),
    (
        "mcp_approval_response",
        form(
            "",
            Effect::Other,
            &[
                TYPE,
                ID,
                required("approval_request_id", Kind::Text),
                required("approve", Kind::Bool),
                optional("reason", Kind::Text),
            ],
        ),
    ),
    (
        "mcp_call",
        form(
            "",
            Effect::Produced,
            &[
                TYPE,
                ID,
                required("arguments", Kind::Text),
                required("name", Kind::Text),
                required("server_label", Kind::Text),
                optional("approval_request_id", Kind::Text),
                optional("error", Kind::Any),
                optional("output", Kind::Text),
                STATUS,
            ],
        ),
    ),
    // Call and output can be the provider's, so they are not paired.
    (
        "tool_search_call",
        form(
            "",
            Effect::Produced,
            &[
                TYPE,
                ID,
                optional("call_id", Kind::Any),
                required("arguments", Kind::Any),
                optional("execution", Kind::Text),
                STATUS,
            ],
        ),
    ),
    (
        "tool_search_output",
        form(
            "",
            Effect::Other,
            &[
                TYPE,
                ID,
                optional("call_id", Kind::Any),
                required("tools", Kind::Array),
                optional("execution", Kind::Text),
                STATUS,
            ],
        ),
    ),
];
