//! Flushes with faulty summarizers: `memory bench flush` accounts for every message.
//!
//! Its limit for the 99th percentile is for a release build on an idle machine, so the exit code is not checked.

use serde_json::Value;

use crate::support::Folder;

on_every_store!(flushes_beside_two_processes_lose_nothing);

fn flushes_beside_two_processes_lose_nothing(folder: &Folder) {
    let said = folder.run("bench flush --rounds 1 --seconds 1.2 --json");
    let figures: Value =
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    for count in ["lost", "duplicated", "summarised_twice"] {
        assert_eq!(figures[count], 0, "{count}: {figures}");
    }
    assert_eq!((&figures["processes"], &figures["appenders"]), (&2.into(), &8.into()));
    assert!(figures["summarised"].as_u64() > Some(0), "nothing was flushed: {figures}");
    let outcomes = figures["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), 5, "{figures}");
    for outcome in outcomes {
        assert_eq!(outcome["as_expected"], true, "{outcome}");
    }
}
