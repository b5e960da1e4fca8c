//! A case of the suite.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use super::{StoreFixture, Subject, report};
use crate::Clock;

/// The future of a case.
pub type CaseFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One case: a required property and its test.
#[derive(Clone, Copy)]
pub struct Case {
    /// The required property, as a sentence.
    pub name: &'static str,
    pub(super) run: fn(Subject) -> CaseFuture,
    pub(super) needs: Needs,
}

/// The capability of a store that a case needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    Rollback,
    Archive,
    Erasure,
    ErasureAndArchive,
    Copies,
    Forks,
    Metadata,
    MetadataAndCopies,
    MetadataAndForks,
    ReplaceAll,
    ReplaceAllAndArchive,
}

impl Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Case {
    /// Runs the case on a fresh store; panics if it fails.
    pub async fn run(self, fixture: &dyn StoreFixture) {
        let clock = Clock::manual();
        let skip = |lack| {
            report(format_args!("not run, because {fixture:?} has no {lack}: {}", self.name));
        };
        let rollback = match self.needs {
            Needs::Archive if !fixture.keeps_archive() => return skip("archive"),
            Needs::Erasure | Needs::ErasureAndArchive if !fixture.erases() => {
                return skip("erasure");
            }
            Needs::ErasureAndArchive if !fixture.keeps_archive() => return skip("archive"),
            Needs::Metadata | Needs::MetadataAndCopies | Needs::MetadataAndForks
                if !fixture.keeps_metadata() =>
            {
                return skip("metadata");
            }
            Needs::Copies | Needs::MetadataAndCopies if !fixture.copies() => return skip("copies"),
            Needs::Forks | Needs::MetadataAndForks
                if !fixture.copies() || !fixture.forks_in_one_step() =>
            {
                return skip("forks in one step");
            }
            Needs::ReplaceAll | Needs::ReplaceAllAndArchive if !fixture.replaces_all() => {
                return skip("replacement of all messages");
            }
            Needs::ReplaceAllAndArchive if !fixture.keeps_archive() => return skip("archive"),
            Needs::Nothing
            | Needs::Archive
            | Needs::Erasure
            | Needs::ErasureAndArchive
            | Needs::Copies
            | Needs::Forks
            | Needs::Metadata
            | Needs::MetadataAndCopies
            | Needs::MetadataAndForks
            | Needs::ReplaceAll
            | Needs::ReplaceAllAndArchive => None,
            Needs::Rollback => match fixture.fresh_with_rollback(clock.clone()).await {
                Some(both) => Some(both),
                None => return skip("rollback"),
            },
        };
        let (store, rollback) = match rollback {
            Some((store, rollback)) => (store, Some(rollback)),
            None => (fixture.fresh(clock.clone()).await, None),
        };
        (self.run)(Subject { store, clock, rollback }).await;
    }
}

/// Turns async functions into cases.
macro_rules! cases_of {
    ($($case:ident),* $(,)?) => { cases_of!(needs: Nothing, $($case),*) };
    (needs: $needs:ident, $($case:ident),* $(,)?) => {
        &[$($crate::conformance::case::Case {
            name: stringify!($case),
            run: |subject| Box::pin($case(subject)),
            needs: $crate::conformance::case::Needs::$needs,
        }),*]
    };
}
pub(super) use cases_of;
