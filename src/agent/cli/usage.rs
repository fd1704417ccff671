//! Invalid command lines, with a suggestion where the intention can be guessed.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Parser};

use super::Cli;
use crate::exit::Failure;
use crate::terminal::shown_lines;

/// Parses the command line. Returns `None` after it has printed the requested help or version.
pub(super) fn parse() -> Result<Option<Cli>, Failure> {
    let mut error = match Cli::try_parse() {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    if !error.use_stderr() {
        // A failure means that stdout is closed, and there is no reader.
        let _ = error.print();
        return Ok(None);
    }
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    // The library suggests words that differ only a little.
    if error.get(ContextKind::SuggestedSubcommand).is_none()
        && let Some(tip) = tip(&error, &arguments)
    {
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    Err(Failure::page(shown_lines(&error.render().to_string())))
}

/// Returns a suggestion for `arguments`, which follow the program's name.
fn tip(error: &clap::Error, arguments: &[String]) -> Option<String> {
    let name = Cli::command().get_name().to_owned();
    match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) => {
            if is_config(word) {
                return Some(format!("did you mean '{name} agent {word}'?"));
            }
            let nearest = nearest(&Cli::command(), word)?;
            Some(format!("a similar subcommand exists: '{nearest}'"))
        }
        (ErrorKind::UnknownArgument, _) => match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(word))
                if arguments.first().is_some_and(|command| command == "exec")
                    && !word.starts_with('-') =>
            {
                let (before, command) = around(arguments, word)?;
                Some(format!(
                    "put -- before the command: '{name} {} -- {}'",
                    before.join(" "),
                    command.join(" ")
                ))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether `word` is a config file, which the official agent accepts without a command before it.
fn is_config(word: &str) -> bool {
    let path = Path::new(word);
    path.extension()
        .is_some_and(|it| it.eq_ignore_ascii_case("toml"))
        || path.is_file()
}

/// Returns the subcommand that `word` differs from by one or two swapped, wrong, missing or surplus letters.
fn nearest(command: &Command, word: &str) -> Option<String> {
    let word = word.to_lowercase();
    command
        .get_subcommands()
        .map(|known| {
            let distance = strsim::damerau_levenshtein(known.get_name(), &word);
            (distance, known.get_name().to_owned())
        })
        .min()
        .filter(|(distance, known)| *distance <= 1.max(known.len() / 3))
        .map(|(_, known)| known)
}

/// Splits `arguments` before `word`.
fn around<'a>(arguments: &'a [String], word: &str) -> Option<(&'a [String], &'a [String])> {
    let at = arguments.iter().position(|argument| argument == word)?;
    arguments.split_at_checked(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tip_for(words: &[&str]) -> Option<String> {
        let arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let error = Cli::try_parse_from(
            std::iter::once("alibabacloud-kms-agent").chain(words.iter().copied()),
        )
        .err()?;
        tip(&error, &arguments)
    }

    #[test]
    fn a_mistake_that_can_be_guessed_has_a_tip() {
        for (words, expected) in [
            (
                &["config.toml"][..],
                "'alibabacloud-kms-agent agent config.toml'",
            ),
            (&["/etc/x/KMS.TOML"], "agent /etc/x/KMS.TOML"),
            (&["dve"], "'dev'"),
            (&["Dev"], "'dev'"),
            (&["gte", "a"], "'get'"),
            (&["purgee", "a"], "'purge'"),
            (&["stauts"], "'status'"),
            (&["exec", "-e", "X=a", "ls"], "exec -e X=a -- ls'"),
            (&["exec", "-e", "X=a", "ls", "-l"], "exec -e X=a -- ls -l'"),
        ] {
            let tip = tip_for(words).unwrap_or_default();
            assert!(tip.contains(expected), "{words:?}: {tip}");
        }
        for words in [
            &["nonsense"][..],
            &["exec", "-e", "X=a", "--nope"],
            &["get"],
        ] {
            assert_eq!(tip_for(words), None, "{words:?}");
        }
    }
}
