use std::io::{self, Write};

use clap::ValueHint;

use crate::exit::Failure;
use crate::platform;
use crate::token::draw;
use crate::token::file::{self, Access};

/// Writes a fresh SSRF token to a file, in place of what is there, and prints the path.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The token is 32 random bytes in lower-case hex, without a line break at the end, so that\n\
    clients can put the file's bytes straight into a header.\n\n\
    Example:\n  \
    alibabacloud-kms-agent token ./kmstoken\n  \
    alibabacloud-kms-agent token file:///var/run/kmstoken --mode 0640 --group app"
)]
pub(super) struct Args {
    /// A path, or a file:// URL
    #[arg(value_hint = ValueHint::FilePath)]
    path: String,
    /// The file's permissions, in octal
    #[arg(long, default_value = "0600", value_parser = parse_mode)]
    mode: u32,
    /// The user the file is given to, by name or number; needs root
    #[arg(long, value_name = "USER", value_parser = parse_user, value_hint = ValueHint::Username)]
    owner: Option<u32>,
    /// The group the file is given to, by name or number
    #[arg(long, value_name = "GROUP", value_parser = parse_group)]
    group: Option<u32>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let path = file::parse_path(&args.path);
    if path.as_os_str().is_empty() || path.is_dir() {
        return Err(Failure::usage(format!("{} names no file", args.path)));
    }
    let fail = |error: &dyn std::fmt::Display| {
        Failure::failed(format!(
            "the token cannot be written to {}: {error}",
            path.display()
        ))
    };
    let token = draw().map_err(|error| fail(&error))?;
    let access = Access {
        mode: args.mode,
        owner: args.owner,
        group: args.group,
    };
    file::replace(path, &token, access).map_err(|error| fail(&error))?;
    // Who has closed stdout does not want to know.
    let _ = writeln!(io::stdout(), "{}", path.display());
    Ok(())
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
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
