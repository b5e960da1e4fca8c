//! `memory config`.

use std::path::PathBuf;

use anyhow::bail;
use memory_instance::KeyTemplate;
use memory_instance::config::{ConfigLoader, ProjectConfig, Strictness};
use serde_json::json;

use crate::failure::note;
use crate::out::{Out, count};

/// Check the configuration of a project
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(CheckArgs),
}

/// Report all problems of a project document, a resource, or a folder of resources
///
/// Notes and problems are written to stderr. The exit code is 1 if there is a problem.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory config check project.yaml
  memory config check memories/ --strict")]
struct CheckArgs {
    /// Documents or resources in .yaml, .toml or .json, and folders with one resource in each file; they are read
    /// together, so agents may use the memories of all of them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,

    /// Refuse settings that have no effect, or that are replaced by others
    #[arg(long)]
    strict: bool,
}

pub(crate) fn run(args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let Command::Check(args) = &args.command;
    let mut loader = ConfigLoader::new();
    if args.strict {
        loader = loader.with_strictness(Strictness::Strict);
    }
    for path in &args.paths {
        loader = if path.is_dir() { loader.with_folder(path) } else { loader.with_document(path) };
    }
    let (config, problems) = match loader.load() {
        Ok(config) => {
            let problems = wrong_templates(&config);
            (config, problems)
        }
        Err(errors) => {
            let mut problems: Vec<_> = errors.errors().iter().map(ToString::to_string).collect();
            if errors.omitted() > 0 {
                problems.push(format!("{} more", errors.omitted()));
            }
            (ProjectConfig::default(), problems)
        }
    };
    for problem in &config.notes {
        note(format_args!("note: {problem}"));
    }
    for memory in &config.memories {
        for warning in memory.warnings() {
            note(format_args!("note: memory `{}`: {warning}", memory.id));
        }
    }
    for problem in &problems {
        note(format_args!("problem: {problem}"));
    }
    if !problems.is_empty() {
        bail!("config check: {}; see above", count(problems.len() as u64, "problem", "problems"));
    }
    let (memories, agents) = (config.memories.len(), config.agents.len());
    if out.json() {
        return out
            .compact(&json!({"memories": memories, "agents": agents, "notes": config.notes}));
    }
    out.line(format!(
        "{}, {}",
        count(memories as u64, "memory", "memories"),
        count(agents as u64, "agent", "agents")
    ))
}

/// The templates that cannot be parsed. `memory-config` has no parser of templates.
fn wrong_templates(config: &ProjectConfig) -> Vec<String> {
    let problem = |place: String, text: &str| {
        KeyTemplate::parse(text).err().map(|error| format!("{place}: {error}"))
    };
    let memories = config
        .memories
        .iter()
        .filter_map(|memory| problem(format!("memory `{}`", memory.id), memory.key.as_deref()?));
    let agents = config.agents.iter().flat_map(|agent| {
        agent.memories.iter().filter_map(|reference| {
            let place = format!("agent `{}`, memory `{}`", agent.id, reference.id);
            problem(place, &reference.key)
        })
    });
    memories.chain(agents).collect()
}
