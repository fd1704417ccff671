//! Environment variables with the agent's prefix that set no key.

use super::report::{KeySpec, Report};
use super::variable::{PREFIX, variable_name};

impl Report {
    /// One warning for each variable that looks as if it were meant to set a key and does not. `others` are variables
    /// with the prefix that mean something else.
    pub fn variable_warnings(&self, others: &[&str]) -> Vec<String> {
        let keys: Vec<(String, &KeySpec)> = self
            .keys
            .iter()
            .map(|spec| (variable_name(&spec.key), spec))
            .collect();
        self.overrides
            .names()
            .filter(|name| !others.contains(name))
            .filter_map(|name| match keys.iter().find(|(known, _)| known == name) {
                Some((_, spec)) if spec.is_scalar => None,
                Some((_, spec)) => Some(format!(
                    "the environment variable {name} has no effect: {} is a list, which only the config file can set",
                    spec.key
                )),
                None => Some(unknown(name, &keys)),
            })
            .collect()
    }
}

fn unknown(name: &str, keys: &[(String, &KeySpec)]) -> String {
    let nearest = keys
        .iter()
        .filter(|(_, spec)| spec.is_scalar)
        .map(|(known, _)| (strsim::damerau_levenshtein(known, name), known))
        .min()
        // Of what follows the prefix, which all names have in common, more than half must be right.
        .filter(|(distance, known)| *distance <= (known.len() - PREFIX.len()) / 2);
    let name = name.escape_debug();
    match nearest {
        Some((_, known)) => {
            format!("the environment variable {name} sets no key; did you mean {known}?")
        }
        None => format!("the environment variable {name} sets no key of the config"),
    }
}
