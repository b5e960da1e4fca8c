//! The operations of programs.

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

/// Chosen by position among the existing ones when the program runs.
pub(super) type Picks = Vec<u8>;

#[derive(Debug, Clone)]
pub(super) enum Op {
    Append {
        key: u8,
        batch: Batch,
        by: Right,
    },
    ReplaceAll {
        key: u8,
        batch: Batch,
        archive: Option<Keep>,
        by: Right,
    },
    Replace {
        key: u8,
        pick: u8,
        other: u8,
        writer: u8,
        number: u8,
        message: (u8, u8),
        by: Right,
    },
    Splice {
        key: u8,
        summarized: Picks,
        evicted: Picks,
        closed: Picks,
        /// The size of each new message.
        replaced: Vec<(u8, u8)>,
        how: How,
    },
    Clear {
        key: u8,
        writer: u8,
        number: u8,
        archive: Option<Keep>,
        by: Right,
    },
    Restore {
        key: u8,
        receipt: u8,
        writer: u8,
        number: u8,
        by: Right,
    },
    /// Erases present messages, and whatever is or was at other places.
    Erase {
        key: u8,
        picks: Picks,
        places: Picks,
        writer: u8,
        number: u8,
        by: Right,
    },
    Removals {
        key: u8,
        before: Option<u8>,
        limit: u8,
    },
    Archived {
        key: u8,
        pick: u8,
        after: u8,
        limit: u8,
    },
    Search {
        key: u8,
        words: u8,
        /// Present messages, archived ones or both.
        scope: u8,
        before: Option<u8>,
    },
    Claim {
        key: u8,
        by: Right,
    },
    Read {
        key: u8,
        after: u8,
        stale: bool,
        limit: u8,
    },
    Fetch {
        key: u8,
        picks: Picks,
        stale: bool,
    },
    Acquire {
        key: u8,
        owner: u8,
        flush: bool,
    },
    Release {
        key: u8,
        flush: bool,
    },
    Wait {
        minutes: u8,
    },
    Reopen,
}

#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) writer: u8,
    pub(super) number: u8,
    pub(super) messages: Vec<(u8, u8)>,
    pub(super) ttl: Option<u8>,
    /// Expects no version, an earlier one or the current one.
    pub(super) version: u8,
}

#[derive(Debug, Clone)]
pub(super) struct How {
    pub(super) summary: bool,
    pub(super) stale: bool,
    pub(super) unknown_place: bool,
    pub(super) removed_twice: bool,
    pub(super) receipt: Option<u8>,
    /// The number of newest messages that are taken back.
    pub(super) withdrawn: u8,
    pub(super) next_flush_at: Option<u8>,
    pub(super) archive: Option<Keep>,
    pub(super) by: Right,
    pub(super) flusher: Right,
}

/// The retention of removed messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    /// `None` for no end.
    pub(super) minutes: Option<u8>,
    /// Hundreds of bytes.
    pub(super) size: u8,
}

/// The lease of a write.
#[derive(Debug, Clone, Copy)]
pub(super) enum Right {
    None,
    /// The current lease, if there is one.
    Held,
    /// Any current or earlier lease, of this or another memory.
    Earlier(u8),
}

#[derive(Debug)]
pub(super) struct Programs;

impl ReferenceStateMachine for Programs {
    type State = ();
    type Transition = Op;

    fn init_state() -> BoxedStrategy<()> {
        Just(()).boxed()
    }

    fn transitions((): &()) -> BoxedStrategy<Op> {
        let key = || 0..3_u8;
        let picks = || prop::collection::vec(any::<u8>(), 0..4);
        let replaced = || {
            prop_oneof![
                2 => Just(Vec::new()),
                1 => prop::collection::vec((any::<u8>(), 0..40_u8), 0..4),
            ]
        };
        prop_oneof![
            8 => (key(), batch(), right())
                .prop_map(|(key, batch, by)| Op::Append { key, batch, by }),
            1 => (key(), batch(), keep(), right())
                .prop_map(|(key, batch, archive, by)| Op::ReplaceAll { key, batch, archive, by }),
            3 => (key(), any::<u8>(), prop_oneof![6 => Just(0), 1 => 0..4_u8], writer(), 1..9_u8,
                  (any::<u8>(), 0..6_u8), right())
                .prop_map(|(key, pick, other, writer, number, message, by)| Op::Replace {
                    key, pick, other, writer, number, message, by,
                }),
            4 => (key(), picks(), picks(), picks(), replaced(), how())
                .prop_map(|(key, summarized, evicted, closed, replaced, how)| Op::Splice {
                    key, summarized, evicted, closed, replaced, how,
                }),
            1 => (key(), writer(), 1..9_u8, keep(), right())
                .prop_map(|(key, writer, number, archive, by)| Op::Clear {
                    key, writer, number, archive, by,
                }),
            3 => (key(), 0..7_u8, writer(), 1..9_u8, right())
                .prop_map(|(key, receipt, writer, number, by)| Op::Restore {
                    key, receipt, writer, number, by,
                }),
            2 => (key(), picks(), picks(), writer(), 1..9_u8, right())
                .prop_map(|(key, picks, places, writer, number, by)| Op::Erase {
                    key, picks, places, writer, number, by,
                }),
            1 => (key(), prop::option::of(any::<u8>()), 1..4_u8)
                .prop_map(|(key, before, limit)| Op::Removals { key, before, limit }),
            1 => (key(), any::<u8>(), any::<u8>(), 1..4_u8)
                .prop_map(|(key, pick, after, limit)| Op::Archived { key, pick, after, limit }),
            4 => (key(), any::<u8>(), 0..6_u8, prop::option::weighted(0.2, any::<u8>()))
                .prop_map(|(key, words, scope, before)| Op::Search { key, words, scope, before }),
            1 => (key(), right()).prop_map(|(key, by)| Op::Claim { key, by }),
            3 => (key(), any::<u8>(), prop::bool::weighted(0.2), 0..5_u8)
                .prop_map(|(key, after, stale, limit)| Op::Read { key, after, stale, limit }),
            2 => (key(), picks(), prop::bool::weighted(0.2))
                .prop_map(|(key, picks, stale)| Op::Fetch { key, picks, stale }),
            2 => (key(), 0..3_u8, prop::bool::weighted(0.3))
                .prop_map(|(key, owner, flush)| Op::Acquire { key, owner, flush }),
            2 => (key(), prop::bool::weighted(0.3))
                .prop_map(|(key, flush)| Op::Release { key, flush }),
            2 => (1..20_u8).prop_map(|minutes| Op::Wait { minutes }),
            1 => Just(Op::Reopen),
        ]
        .boxed()
    }

    fn apply((): (), _: &Op) {}
}

/// More writers than a memory's row keeps.
fn writer() -> impl Strategy<Value = u8> {
    prop_oneof![0..3_u8, 0..40_u8]
}

fn batch() -> impl Strategy<Value = Batch> {
    let messages = prop::collection::vec((any::<u8>(), 0..6_u8), 0..5);
    (writer(), 1..9_u8, messages, prop::option::weighted(0.3, 1..30_u8), 0..9_u8).prop_map(
        |(writer, number, messages, ttl, version)| Batch { writer, number, messages, ttl, version },
    )
}

fn right() -> impl Strategy<Value = Right> {
    prop_oneof![
        3 => Just(Right::None),
        6 => Just(Right::Held),
        1 => any::<u8>().prop_map(Right::Earlier),
    ]
}

fn keep() -> impl Strategy<Value = Option<Keep>> {
    let minutes = prop_oneof![1 => Just(None), 1 => (1..9_u8).prop_map(Some), 2 => Just(Some(200))];
    let size = prop_oneof![4 => Just(200), 1 => 0..9_u8];
    prop::option::weighted(0.8, (minutes, size).prop_map(|(minutes, size)| Keep { minutes, size }))
}

fn how() -> impl Strategy<Value = How> {
    (
        prop::bool::weighted(0.7),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::option::of(0..6_u8),
        prop_oneof![4 => Just(0), 1 => 0..4_u8],
        prop::option::of(any::<u8>()),
        keep(),
        right(),
        right(),
    )
        .prop_map(
            |(
                summary,
                stale,
                unknown_place,
                removed_twice,
                receipt,
                withdrawn,
                next_flush_at,
                archive,
                by,
                flusher,
            )| {
                How {
                    summary,
                    stale,
                    unknown_place,
                    removed_twice,
                    receipt,
                    withdrawn,
                    next_flush_at,
                    archive,
                    by,
                    flusher,
                }
            },
        )
}
