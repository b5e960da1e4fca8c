//! Trims a list of Anthropic messages to a budget of tokens, without any store.
//!
//! `cargo run -p memory-core --example trim_anthropic`

use std::error::Error;
use std::process::ExitCode;

use memory_core::plan::{NewestUnit, Trimmed};
use memory_core::{EstimateCounter, Message, Profile, WindowOptions, trim_messages};
use serde_json::json;

const MODEL: &str = "claude-sonnet-4-5";

fn main() -> ExitCode {
    match run() {
        Ok(trimmed) => print(&trimmed),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run() -> Result<Trimmed, Box<dyn Error>> {
    let budget = 600;
    let options = WindowOptions::new(budget)
        .with_profile(Profile::for_model(Some(MODEL)))
        .with_system("You are a travel agent.")
        .with_tools(100) // for the definitions of tools
        .with_newest(NewestUnit::Truncate); // if one result is longer than the budget
    Ok(trim_messages(history()?, &EstimateCounter, options)?)
}

fn print(trimmed: &Trimmed) {
    println!(r#"{{"model":"{MODEL}","max_tokens":1000,"tools":[..]}} and"#);
    println!("{}", trimmed.request);
    for repair in &trimmed.repairs {
        println!("repair: {repair}");
    }
    let left_out = trimmed.left_out.total().messages;
    println!("{} tokens, {left_out} messages left out", trimmed.tokens);
}

/// A question, followed by a long run of tool calls.
fn history() -> Result<Vec<Message>, Box<dyn Error>> {
    let mut messages = vec![Message::from_value(json!({
        "role": "user",
        "content": [{"type": "text", "text": "Which day of March is the cheapest to Oslo?"}],
    }))?];
    for day in 1..=31 {
        let id = format!("toolu_{day}");
        messages.push(Message::from_value(json!({"role": "assistant", "content": [
            {"type": "text", "text": "I look at the next day."},
            {"type": "tool_use", "id": id, "name": "flights", "input": {"day": day}},
        ]}))?);
        messages.push(Message::from_value(json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": id, "content": "three flights"},
        ]}))?);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use memory_core::{Profile, check_request};

    #[test]
    fn request_fits_and_is_valid() {
        let trimmed = super::run().unwrap();
        assert!(trimmed.tokens <= 500, "{}", trimmed.tokens);
        let profile = Profile::for_model(Some(super::MODEL));
        check_request(&trimmed.request.to_string(), &profile).unwrap();
        assert!(trimmed.messages[0].text().contains("March"), "the task is kept");
        assert!(trimmed.left_out.budget.messages > 20);
    }
}
