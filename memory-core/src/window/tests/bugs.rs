//! The check detects every planted bug.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::check::{case, check};
use crate::render::bug::{RenderBug, with_bug};

/// The number of histories within which a bug must be detected.
const HISTORIES: u64 = 3_000;

/// Histories that show rare bugs, which are tried first to save time.
const KNOWN: &[u64] = &[134, 144, 155, 166, 324];

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
    let any = case();
    let mut open = BUGS.to_vec();
    for number in KNOWN.iter().copied().chain(1..=HISTORIES) {
        if open.is_empty() {
            break;
        }
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(Config::default(), random);
        let case = any.new_tree(&mut runner).unwrap().current();
        let count = open.len();
        open.retain(|bug| {
            let Err(error) = with_bug(*bug, || check(&case)) else { return true };
            let reason = error.to_string();
            let reason: String =
                reason.lines().next().unwrap_or_default().chars().take(400).collect();
            println!("{bug:?} is found after {number} histories: {reason}");
            false
        });
        if open.len() < count {
            check(&case).unwrap();
        }
    }
    assert!(open.is_empty(), "not found: {open:?}");
}
