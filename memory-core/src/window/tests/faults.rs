//! The check detects every planted fault.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, TestRunner};

use super::check::{case, check};
use crate::render::fault::{Fault, with_fault};

/// The number of histories within which a fault must be detected.
const HISTORIES: usize = 3_000;

const FAULTS: &[Fault] = &[
    Fault::NoSyntheticResult,
    Fault::RepairNotListed,
    Fault::OrphanKept,
    Fault::SecondResultKept,
    Fault::ResultNotMoved,
    Fault::IdRepeated,
    Fault::IdInCallOnly,
    Fault::NameKept,
    Fault::ArgumentsKept,
    Fault::StartNotInserted,
    Fault::EndNotInserted,
    Fault::BetweenNotInserted,
    Fault::NotMerged,
    Fault::MergedAway,
    Fault::SystemNotMoved,
    Fault::SystemsSwapped,
    Fault::UnsignedReasoningKept,
    Fault::NoPlaceholder,
    Fault::LoneReasoningKept,
    Fault::ItemIdKept,
    Fault::ForeignReasoningKept,
    Fault::AuthorKept,
    Fault::EmptyTextKept,
    Fault::MediaInResultKept,
    Fault::OneImageMore,
    Fault::OldTokens,
    Fault::SystemForgotten,
    Fault::OverBudget,
    Fault::ReserveForgotten,
    Fault::NewestOptional,
    Fault::CriticalOptional,
    Fault::TalkWithHoles,
    Fault::OldRemindersKept,
    Fault::UnitTorn,
    Fault::PinDropsNewest,
    Fault::LeftOutNotCounted,
    Fault::CutInCharacter,
    Fault::CutWithoutMarker,
];

#[test]
fn every_planted_fault_is_found() {
    let mut missed = Vec::new();
    for fault in FAULTS {
        let mut runner = TestRunner::new_with_rng(
            Config::default(),
            proptest::test_runner::TestRng::deterministic_rng(
                proptest::test_runner::RngAlgorithm::ChaCha,
            ),
        );
        let any = case();
        let found = (1..=HISTORIES).find_map(|number| {
            let case = any.new_tree(&mut runner).unwrap().current();
            let error = with_fault(*fault, || check(&case)).err()?;
            check(&case).unwrap();
            Some((number, error.to_string()))
        });
        match found {
            Some((number, error)) => {
                let reason = error.lines().next().unwrap_or_default();
                let reason: String = reason.chars().take(400).collect();
                println!("{fault:?} is found after {number} histories: {reason}");
            }
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
