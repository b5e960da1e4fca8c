//! The levels at which a write counts.

/// The level that a write must have reached before it counts as acknowledged.
///
/// A server that cannot give the level refuses it when the link is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Acknowledge {
    /// The server's memory. A failover to a replica may lose the last writes because replication is
    /// asynchronous. Default.
    #[default]
    Memory,
    /// The memory of this many replicas too (`WAIT`); where fewer confirm in time, the write is an
    /// error with an unknown effect.
    Replicas(u32),
    /// The server's disk: by `appendfsync always`, else by `WAITAOF` (Redis 7.2).
    Disk,
}
