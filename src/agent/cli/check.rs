use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::json;

use crate::config::Config;
use crate::exit::Failure;

/// Reads a config file as `agent` would and reports every problem at once.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is opened but the file itself, and no value in it is ever printed.\n\
    Exits 0 when all is well and 78 when it is not.\n\n\
    Example:\n  \
    alibabacloud-kms-agent check --offline /etc/alibabacloud-kms-agent/config.toml"
)]
pub(super) struct Args {
    /// The config file (TOML)
    config: PathBuf,
    /// Look at the file only; ask nobody
    #[arg(long, required = true)]
    offline: bool,
    /// Print the problems as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let result = Config::load(&args.config);
    let name = args.config.display();
    let report = match (&result, args.json) {
        (Ok(_), false) => format!("{name}: ok"),
        (Ok(_), true) => json!({"ok": true, "problems": []}).to_string(),
        (Err(error), true) => {
            let problems: Vec<_> = error
                .problems()
                .iter()
                .map(|problem| json!({"line": problem.line, "key": problem.key, "message": problem.message}))
                .collect();
            json!({"ok": false, "problems": problems}).to_string()
        }
        (Err(_), false) => String::new(),
    };
    if !report.is_empty() {
        // Who has closed stdout does not want to know.
        let _ = writeln!(io::stdout(), "{report}");
    }
    match result {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::config(error.to_string())),
    }
}
