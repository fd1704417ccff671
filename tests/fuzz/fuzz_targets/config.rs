//! The config loader: no text makes it panic, every problem has its line, and no message repeats a value.

#![no_main]

/// Files of the loader, because a binary crate cannot be linked.
#[path = "../../../src/agent"]
mod agent {
    pub(crate) mod backends;
    #[expect(dead_code, unused_imports, reason = "what is parsed is not run")]
    pub(crate) mod config;
}
use agent::{backends, config};

#[path = "../../../src/agent/exit.rs"]
#[expect(dead_code, reason = "what is parsed is not run")]
mod exit;

/// Replaces the agent's own module: no file is read here.
mod platform {
    use std::fs::{Metadata, OpenOptions};

    pub(crate) fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
        options
    }

    pub(crate) fn identity(_file: &Metadata) -> (u64, u64) {
        (0, 0)
    }
}

use config::Config;
use kms_agent_core::config::{Overrides, variable_name};
use libfuzzer_sys::fuzz_target;

/// Stands for a secret in the wrong place.
const CANARY: &str = "hunter2";

/// A key of every type.
const KEYS: [(&str, &str); 8] = [
    ("Server", "HttpPort"),
    ("Server", "SSRFHeaders"),
    ("Server", "PathPrefix"),
    ("KMS", "Endpoint"),
    ("Cache", "CacheType"),
    ("Cache", "RefreshAhead"),
    ("Cache", "Prefetch"),
    ("Log", "LogLevel"),
];

fuzz_target!(|text: &str| {
    let problems = problems(text);
    // What is missing at the end is missed after the last line break.
    let lines = text.split('\n').count();
    for problem in problems.lines().map(str::trim_start) {
        let Some(rest) = problem.strip_prefix("config.toml:") else {
            assert!(problem.starts_with("config.toml has "), "{problem}");
            continue;
        };
        // A problem of the file as a whole has no line.
        let line = rest.split_once(':').and_then(|(line, _)| line.parse().ok());
        assert!(
            line.is_none_or(|line| (1..=lines).contains(&line)),
            "{problem}"
        );
    }

    // As a value, cut in two by the canary. A name in it would rightly be told: it is a key.
    if text.contains(['\n', '\r', '{', '#']) {
        return;
    }
    for (at, (table, key)) in KEYS.into_iter().enumerate() {
        let (before, after) = text.split_at(text.floor_char_boundary(at * text.len() / KEYS.len()));
        let said = self::problems(&format!("[{table}]\n{key} = {before}{CANARY}{after}\n"));
        assert!(!said.contains(CANARY), "{said}");

        // As the value of a variable, and as a part of the name of one.
        let name = variable_name(&format!("{table}.{key}"));
        let value = format!("{before}{CANARY}{after}");
        for name in [name, format!("KMS_AGENT_{text}")] {
            let variables = [(name.into(), value.clone().into())];
            let said = match Config::parse_with("", "config.toml", &Overrides::collect(variables)) {
                Ok(config) => config.warnings.join("\n"),
                Err(error) => error.to_string(),
            };
            assert!(!said.contains(CANARY) || text.contains(CANARY), "{said}");
        }
    }
});

/// Returns the problems that the loader finds in `text`.
fn problems(text: &str) -> String {
    match Config::parse(text, "config.toml") {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}
