//! The callers of recorded operations.

use std::fmt;

tokio::task_local! {
    static CALLER: Caller;
}

/// The task that calls an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Caller {
    /// An agent.
    Agent(usize),
    /// A task of a process that no agent waits for, such as a flush in the background.
    Process(u64),
    /// The test of a process after the faults.
    Recovery(u64),
    /// The server itself, which saves its state or returns to it.
    Server,
}

impl Caller {
    /// Runs a task. The operations that this future calls are recorded as its own.
    pub(crate) async fn run<T>(self, task: impl Future<Output = T>) -> T {
        CALLER.scope(self, task).await
    }

    /// The task that is running now; `None` for a task that another one has spawned.
    pub(crate) fn now() -> Option<Self> {
        CALLER.try_with(|caller| *caller).ok()
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(number) => write!(f, "agent/{number}"),
            Self::Process(number) => write!(f, "process/{number}"),
            Self::Recovery(number) => write!(f, "recovery/{number}"),
            Self::Server => f.write_str("server"),
        }
    }
}
