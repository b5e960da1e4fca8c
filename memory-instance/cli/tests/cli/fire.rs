//! Flushes with faulty summarizers: `memory bench flush` accounts for every message. Appends beside readers:
//! `memory bench readers` has all figures. Watchers: `memory bench watch` sees each append.
//!
//! Their limits for the 99th percentile are for a release build on an idle machine, so the exit code is not checked.

use serde_json::Value;

use crate::support::Folder;

on_every_store!(
    flushes_beside_two_processes_lose_nothing,
    readers_in_another_process_are_measured,
    watchers_see_every_append,
);

fn flushes_beside_two_processes_lose_nothing(folder: &Folder) {
    let said = folder.run("bench flush --rounds 1 --seconds 0.3 --json");
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

fn readers_in_another_process_are_measured(folder: &Folder) {
    let said = folder.run("bench readers --rounds 1 --seconds 0.3 --messages 600 --json");
    let figures: Value =
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!((&figures["messages"], &figures["readers"]), (&600.into(), &4.into()));
    assert_eq!(said.code, Some(if figures["holds"] == true { 0 } else { 1 }), "{said:?}");
    for rows in [&figures["rounds"][0], &figures["layouts"]] {
        let rows = rows.as_array().unwrap();
        let layouts: Vec<_> = rows.iter().map(|row| row["layout"].as_str().unwrap()).collect();
        assert_eq!(layouts, ["bare", "cold", "no_views", "warm"]);
        for row in rows {
            for figure in ["appends", "p50_us", "p99_us", "max_us", "p99_ratio", "reads_per_second"]
            {
                assert!(row[figure].as_f64() > Some(0.0), "{figure}: {row}");
            }
        }
    }
    // Without --store it measures a file in a temporary folder.
    let left = folder.run("keys --json --project bench");
    assert!(left.out == "[]\n" || left.err.contains("there is no such file"), "{left:?}");
}

fn watchers_see_every_append(folder: &Folder) {
    let said = folder.run("bench watch --rounds 1 --seconds 0.3 --json");
    let figures: Value =
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!(said.code, Some(if figures["holds"] == true { 0 } else { 1 }), "{said:?}");
    let rows = figures["writers"].as_array().unwrap();
    let writers: Vec<_> = rows.iter().map(|row| row["writer"].as_str().unwrap()).collect();
    assert_eq!(writers, ["same_process", "other_process"]);
    for row in rows {
        assert!(row["appends"].as_u64() > Some(0), "{row}");
        assert!(row["p50_us"].as_f64() > Some(0.0), "{row}");
    }
}
