//! The check detects every planted bug.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, TestRunner};

use super::check::{case, check};
use crate::render::bug::{RenderBug, with_bug};

/// The number of histories within which a bug must be detected.
const HISTORIES: usize = 3_000;

const BUGS: &[RenderBug] = &[
    RenderBug::NoSyntheticResult,
    RenderBug::RepairNotListed,
    RenderBug::OrphanKept,
    RenderBug::SecondResultKept,
    RenderBug::ResultNotMoved,
    RenderBug::IdRepeated,
    RenderBug::IdInCallOnly,
    RenderBug::NameKept,
    RenderBug::ArgumentsKept,
    RenderBug::StartNotInserted,
    RenderBug::EndNotInserted,
    RenderBug::BetweenNotInserted,
    RenderBug::NotMerged,
    RenderBug::MergedAway,
    RenderBug::SystemNotMoved,
    RenderBug::SystemsSwapped,
    RenderBug::UnsignedReasoningKept,
    RenderBug::NoPlaceholder,
    RenderBug::LoneReasoningKept,
    RenderBug::ItemIdKept,
    RenderBug::ForeignReasoningKept,
    RenderBug::AuthorKept,
    RenderBug::EmptyTextKept,
    RenderBug::MediaInResultKept,
    RenderBug::OneImageMore,
    RenderBug::OldTokens,
    RenderBug::SystemForgotten,
    RenderBug::OverBudget,
    RenderBug::ReserveForgotten,
    RenderBug::NewestOptional,
    RenderBug::CriticalOptional,
    RenderBug::TalkWithHoles,
    RenderBug::OldRemindersKept,
    RenderBug::UnitTorn,
    RenderBug::PinDropsNewest,
    RenderBug::LeftOutNotCounted,
    RenderBug::CutInCharacter,
    RenderBug::CutWithoutMarker,
];

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in BUGS {
        let mut runner = TestRunner::new_with_rng(
            Config::default(),
            proptest::test_runner::TestRng::deterministic_rng(
                proptest::test_runner::RngAlgorithm::ChaCha,
            ),
        );
        let any = case();
        let found = (1..=HISTORIES).find_map(|number| {
            let case = any.new_tree(&mut runner).unwrap().current();
            let error = with_bug(*bug, || check(&case)).err()?;
            check(&case).unwrap();
            Some((number, error.to_string()))
        });
        match found {
            Some((number, error)) => {
                let reason = error.lines().next().unwrap_or_default();
                let reason: String = reason.chars().take(400).collect();
                println!("{bug:?} is found after {number} histories: {reason}");
            }
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
