use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use clap::ValueHint;

use crate::exit::Failure;
use crate::platform;
use crate::token::draw;
use crate::token::file::{self, Access, WRITABLE_FOR_OTHERS};

/// Writes a new SSRF token to a file, which replaces an existing one, and prints the path.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The token is 32 random bytes in lower-case hex, without a line break at the end, so that\n\
    clients can put the file's bytes straight into a header.\n\n\
    Example:\n  \
    alibabacloud-kms-agent token ./kmstoken\n  \
    alibabacloud-kms-agent token file:///var/run/kmstoken --mode 0640 --group app"
)]
pub(super) struct TokenArgs {
    /// A path, or a file:// URL
    #[arg(value_hint = ValueHint::FilePath)]
    path: String,
    /// The file's permissions, in octal; default: those of the file that is replaced, else 0600
    #[arg(long, value_parser = parse_mode)]
    mode: Option<u32>,
    /// The user the file is given to, by name or number; needs root; default: the owner of the file that is replaced
    #[arg(long, value_name = "USER", value_parser = parse_user, value_hint = ValueHint::Username)]
    owner: Option<u32>,
    /// The group the file is given to, by name or number; default: that of the file that is replaced
    #[arg(long, value_name = "GROUP", value_parser = parse_group)]
    group: Option<u32>,
}

pub(super) fn run(args: &TokenArgs) -> Result<(), Failure> {
    let path = parse_path(&args.path).map_err(Failure::usage)?;
    let token = draw().map_err(|error| cannot_be_written(path, &error))?;
    let access = Access {
        mode: args.mode,
        owner: args.owner,
        group: args.group,
    };
    let notes = file::replace(path, &token, access).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            let folder = kms_agent_trust::folder_of(path).display();
            cannot_be_written(
                path,
                &format_args!("there is no folder {folder}. Make the folder {folder} first"),
            )
        }
        _ => cannot_be_written(path, &error),
    })?;
    for note in notes {
        let _ = writeln!(io::stderr(), "warning: {note}");
    }
    // A failure means that stdout is closed, and there is no reader.
    let _ = writeln!(io::stdout(), "{}", path.display());
    Ok(())
}

fn cannot_be_written(path: &Path, error: &dyn fmt::Display) -> Failure {
    Failure::failed(format!(
        "the token cannot be written to {}: {error}",
        path.display()
    ))
}

/// Returns the path in `text`: plain, or after `file://`.
fn parse_path(text: &str) -> Result<&Path, String> {
    let path = match text.strip_prefix("file://") {
        Some(path) => platform::path_of_url(path),
        None if text.starts_with("file:") => {
            return Err(format!(
                "{text} is not a file URL; write file:///path/to/kmstoken"
            ));
        }
        None if is_url(text) => {
            return Err(format!(
                "{text} is not a file: a token is written to a path or a file:// URL, such as ./kmstoken or \
                 file:///path/to/kmstoken"
            ));
        }
        None => Path::new(text),
    };
    if path.as_os_str().is_empty() {
        Err("no file is named; name the file to write, such as ./kmstoken".to_owned())
    } else if path.is_dir() || text.ends_with('/') {
        Err(format!(
            "{} is a folder; name a file in it, such as {}",
            path.display(),
            path.join("kmstoken").display()
        ))
    } else {
        Ok(path)
    }
}

/// Whether `text` begins with a scheme and two slashes.
fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|at| at.is_ascii_alphanumeric() || "+-.".contains(at))
    })
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & WRITABLE_FOR_OTHERS != 0 => Err(
            "others could write the file, and so choose the token; take 0640, or 0600".to_owned(),
        ),
        Ok(mode) if mode & !0o777 == 0 && mode & 0o400 != 0 => Ok(mode),
        _ => {
            Err("an octal mode that lets at least the owner read, such as 0600 or 0640".to_owned())
        }
    }
}

pub(super) fn parse_user(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .or_else(|| platform::user(text))
        .ok_or_else(|| "no such user".to_owned())
}

fn parse_group(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .or_else(|| platform::group(text))
        .ok_or_else(|| "no such group".to_owned())
}
