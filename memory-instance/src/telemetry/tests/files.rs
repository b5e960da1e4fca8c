//! The dashboard and the alerting rules use only metrics, labels and values that a run emits.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Recorded, emit_all, run};
use crate::telemetry::recorded::Series;

fn text(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("observability");
    fs::read_to_string(folder.join(file)).unwrap()
}

/// An expression, and the texts in which its labels are filled in: legends or annotations.
#[derive(Debug)]
struct Query {
    expr: String,
    texts: Vec<String>,
}

fn string(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn dashboard() -> Vec<Query> {
    let dashboard: Value = serde_json::from_str(&text("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let legend = |target: &Value| string(&target["legendFormat"]).replace("{{", "{{$labels.");
    let panels =
        targets.map(|target| Query { expr: string(&target["expr"]), texts: vec![legend(target)] });
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    // `label_values(metric, label)` is checked like `max by (label) (metric)`.
    let variables = variables.filter_map(|variable| {
        let query = variable["query"]["query"].as_str()?.strip_prefix("label_values(")?;
        let (metric, label) = query.strip_suffix(')')?.rsplit_once(", ")?;
        Some(Query { expr: format!("max by ({label}) ({metric})"), texts: Vec::new() })
    });
    panels.chain(variables).collect()
}

fn alerts() -> Vec<Query> {
    let alerts: Value = serde_saphyr::from_str(&text("alerts.yaml")).unwrap();
    let groups = alerts["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    let annotations = |rule: &Value| {
        let names = ["summary", "description", "action"];
        names.map(|name| string(&rule["annotations"][name])).to_vec()
    };
    rules.map(|rule| Query { expr: string(&rule["expr"]), texts: annotations(rule) }).collect()
}

/// Names and numbers, strings with their quotation marks, and single other characters.
fn tokens(expr: &str) -> Vec<&str> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut tokens = Vec::new();
    let mut rest = expr.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' => rest[1..].find('"').unwrap() + 2,
            _ if is_word(first) => rest.find(|letter| !is_word(letter)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        tokens.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    tokens
}

/// The tokens inside the parentheses or braces that begin here, and the index after them.
fn inside<'a, 'e>(tokens: &'a [&'e str], begin: usize) -> (&'a [&'e str], usize) {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(begin) {
        match *token {
            "(" | "{" => depth += 1,
            ")" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&tokens[begin + 1..at], at + 1);
        }
    }
    panic!("no end in {tokens:?}");
}

fn is_metric(token: &str) -> bool {
    token.starts_with("memory_") && token != "memory_id"
}

fn metrics<'e>(tokens: &[&'e str]) -> Vec<&'e str> {
    tokens.iter().copied().filter(|token| is_metric(token)).collect()
}

/// The labels of metrics that an expression uses, with the value if one is named.
fn uses<'e>(tokens: &[&'e str]) -> Vec<(&'e str, &'e str, Option<&'e str>)> {
    let mut uses = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1).copied();
        let mut of_all = |labels: &[&'e str], metrics: Vec<&'e str>| {
            for label in labels.iter().filter(|label| **label != ",") {
                uses.extend(metrics.iter().map(|metric| (*metric, *label, None)));
            }
        };
        if *token == "by" {
            let (labels, end) = inside(tokens, at + 1);
            of_all(labels, metrics(inside(tokens, end).0));
        } else if *token == "on" {
            of_all(inside(tokens, at + 1).0, metrics(tokens));
        } else if is_metric(token) && next == Some("{") {
            for matcher in inside(tokens, at + 1).0.split(|token| *token == ",") {
                let values = matcher.last().unwrap().trim_matches('"');
                uses.extend(values.split('|').map(|value| {
                    (*token, matcher[0], Some(value).filter(|value| !value.starts_with('$')))
                }));
            }
        }
    }
    uses
}

/// The labels of the result: those of `by`, else those of the metric.
fn labels_of_result(tokens: &[&str], series: &Series) -> BTreeSet<String> {
    let by = tokens.iter().position(|token| *token == "by");
    match (by, metrics(tokens).first()) {
        (Some(by), _) => inside(tokens, by + 1).0.iter().map(ToString::to_string).collect(),
        (None, Some(metric)) => series[base(metric)].keys().cloned().collect(),
        (None, None) => BTreeSet::from(["instance".to_owned(), "job".to_owned()]),
    }
}

/// The name without the suffix of a part of a histogram.
fn base(metric: &str) -> &str {
    let strip = |suffix| metric.strip_suffix(suffix).filter(|name| name.ends_with("_seconds"));
    ["_bucket", "_sum", "_count"].into_iter().find_map(strip).unwrap_or(metric)
}

/// The first fault of a query.
fn fault(query: &Query, recorded: &Recorded) -> Option<String> {
    let series = recorded.series();
    let values = |label: &str| {
        let of_label = series.values().filter_map(|labels| labels.get(label)).flatten();
        of_label.cloned().collect::<BTreeSet<_>>()
    };
    let tokens = tokens(&query.expr);
    let described = recorded.described();
    for metric in metrics(&tokens) {
        if !described.contains_key(base(metric)) || !series.contains_key(base(metric)) {
            return Some(format!("{metric} does not exist"));
        }
    }
    for (metric, label, value) in uses(&tokens) {
        let is_part = label == "le" && metric.ends_with("_bucket");
        if !is_part && !series[base(metric)].contains_key(label) {
            return Some(format!("{metric} has no label {label}"));
        }
        if value.is_some_and(|value| !values(label).contains(value)) {
            return Some(format!("{label} of {metric} has not the value {value:?}"));
        }
    }
    let known = labels_of_result(&tokens, &series);
    let filled = query.texts.iter().flat_map(|text| text.split("$labels.").skip(1));
    let label =
        |rest: &str| rest.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect();
    let missing = filled.map(label).find(|label: &String| !known.contains(label));
    missing.map(|label| format!("the result has no label {label}"))
}

#[test]
fn files_use_only_what_is_emitted() {
    run(async |recorded| {
        emit_all().await;
        let (dashboard, alerts) = (dashboard(), alerts());
        assert!(dashboard.len() > 15 && alerts.len() > 15, "{dashboard:?} {alerts:?}");
        for query in dashboard.iter().chain(&alerts) {
            assert_eq!(fault(query, recorded), None, "in {}", query.expr);
        }
    });
}

#[test]
fn faults_of_queries_are_found() {
    run(async |recorded| {
        emit_all().await;
        for (expr, text, expected) in [
            ("sum by (memory_id) (memory_used)", "", "memory_used does not exist"),
            ("memory_tokens_used{memory=\"m\"}", "", "memory_tokens_used has no label memory"),
            ("sum by (le) (memory_tokens_used)", "", "memory_tokens_used has no label le"),
            (
                "max by (project) (memory_tokens_used) and on (type) max(memory_flush_total)",
                "",
                "memory_tokens_used has no label type",
            ),
            (
                "memory_budget_memories{project=~\"$project\", state!~\"near|full\"}",
                "",
                "state of memory_budget_memories has not the value Some(\"full\")",
            ),
            (
                "sum by (project) (memory_tokens_used)",
                "of {{ $labels.project }}, {{ $labels.memory_id }}",
                "the result has no label memory_id",
            ),
        ] {
            let query = Query { expr: expr.into(), texts: vec![text.into()] };
            assert_eq!(fault(&query, recorded).as_deref(), Some(expected));
        }
    });
}
