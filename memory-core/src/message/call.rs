//! Tool calls as constructor arguments.

/// One tool call, an argument of [`Message::calls`](crate::Message::calls).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolCall {
    /// The id that the result refers to.
    pub id: String,
    /// The name of the function.
    pub name: String,
    /// JSON text, as the model wrote it.
    pub arguments: String,
}

impl ToolCall {
    /// A call of a function; `arguments` is JSON text, as the model wrote it.
    #[must_use]
    pub fn function(
        id: impl Into<String>,
        name: impl Into<String>,
        arguments: impl Into<String>,
    ) -> Self {
        Self { id: id.into(), name: name.into(), arguments: arguments.into() }
    }
}
