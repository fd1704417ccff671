//! Manual page of section 1: the sections of the library, and sections that it does not have.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

/// Headings of the help text behind the options, and of the sections that they become.
const HEADINGS: [(&str, &str); 5] = [
    ("Example:", "EXAMPLES"),
    ("Try it without a cloud account:", "EXAMPLES"),
    ("Environment:", "ENVIRONMENT"),
    ("Signals:", "SIGNALS"),
    ("Exit codes:", "EXIT STATUS"),
];

/// Commands that send requests with the token to a running agent.
const CLIENTS: [&str; 5] = ["get", "exec", "watch", "status", "purge"];

const STATUS: [(&str, &str); 4] = [
    ("0", "Done."),
    ("1", "Failed; another try may succeed."),
    ("2", "Wrong usage."),
    (
        "78",
        "Bad configuration: of the config file, the token or the cache.",
    ),
];

const CLIENT_ENVIRONMENT: [(&str, &str); 4] = [
    (
        "KMS_TOKEN",
        "The agent's token, or file:// and the path of its file. Server.SSRFEnvVariables names the variables.",
    ),
    (
        "KMS_TOKEN_FILE",
        "Path of the token file, where none of those is set. Default: /var/run/kmstoken.",
    ),
    (
        "KMS_AGENT_SOCKET",
        "Path of the agent's Unix socket, in place of the port; see --socket.",
    ),
    (
        "KMS_AGENT_USER",
        "The user that the agent runs as; see --agent-user.",
    ),
];

const FILES: [(&str, &str); 3] = [
    (
        "/etc/alibabacloud-kms-agent/config.toml",
        "Config file of an installed service.",
    ),
    (
        "/run/kmstoken",
        "Token file of an installed service; /var/run/kmstoken is the same.",
    ),
    (
        "/var/lib/alibabacloud-kms-agent/",
        "Logs, and the persistent cache with its key.",
    ),
];

/// Returns the page of one command.
pub(super) fn of_command(program: &str, command: &Command) -> io::Result<Vec<u8>> {
    let name = command.get_name();
    let mut page = beginning(program, &format!("{program}-{name}"), command)?;
    let notes = Notes::of(command);
    notes.write("", None, &mut page)?;
    Man::new(command.clone()).render_options_section(&mut page)?;
    let is_client = CLIENTS.contains(&name);
    if is_client {
        list("ENVIRONMENT", &CLIENT_ENVIRONMENT, &mut page)?;
    } else {
        notes.write("ENVIRONMENT", Some("ENVIRONMENT"), &mut page)?;
    }
    notes.write("SIGNALS", Some("SIGNALS"), &mut page)?;
    if is_client || ["agent", "check", "token"].contains(&name) {
        list("FILES", &FILES, &mut page)?;
    }
    if notes.has("EXIT STATUS") {
        notes.write("EXIT STATUS", Some("EXIT STATUS"), &mut page)?;
    } else {
        list("EXIT STATUS", &STATUS, &mut page)?;
    }
    notes.write("EXAMPLES", Some("EXAMPLES"), &mut page)?;
    see_also(
        &[&format!("{program}(1)"), &format!("{program}.toml(5)")],
        &mut page,
    )?;
    Ok(page)
}

/// Returns the page of the program.
pub(super) fn of_program(program: &str, command: &Command) -> io::Result<Vec<u8>> {
    let mut page = beginning(program, program, command)?;
    let man = Man::new(command.clone());
    man.render_options_section(&mut page)?;
    man.render_subcommands_section(&mut page)?;
    list("FILES", &FILES, &mut page)?;
    list("EXIT STATUS", &STATUS, &mut page)?;
    Notes::of(command).write("EXAMPLES", Some("EXAMPLES"), &mut page)?;
    let mut others: Vec<String> = command
        .get_subcommands()
        .map(|subcommand| format!("{program}-{}(1)", subcommand.get_name()))
        .collect();
    others.push(format!("{program}.toml(5)"));
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    see_also(&others, &mut page)?;
    Ok(page)
}

/// Writes title, name, synopsis and the first lines of the description.
fn beginning(program: &str, title: &str, command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    page.extend(title_line(title, "1").into_bytes());
    man.render_name_section(&mut page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    let usage = command.clone().render_usage().to_string();
    for (index, line) in usage.trim_start_matches("Usage:").lines().enumerate() {
        if index > 0 {
            roff.control("br", []);
        }
        let line = line.trim();
        match line.strip_prefix(program) {
            Some(rest) => roff.text([bold(program), roman(rest)]),
            None => roff.text([roman(line)]),
        };
    }
    roff.to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    Ok(page)
}

/// Writes the line of headers and footers. The library omits an empty date, and the rest would move up.
pub(super) fn title_line(title: &str, section: &str) -> String {
    format!(
        ".TH \"{title}\" \"{section}\" \"\" \"alibabacloud-kms-agent {}\" \"Alibaba Cloud KMS agent\"\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// Writes names with their meaning.
pub(super) fn list(heading: &str, items: &[(&str, &str)], page: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (name, meaning) in items {
        roff.control("TP", []);
        roff.text([bold(*name)]);
        roff.text([roman(*meaning)]);
    }
    roff.to_writer(page)
}

/// Writes references to the other pages.
pub(super) fn see_also(pages: &[&str], page: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for (index, name) in pages.iter().enumerate() {
        if index > 0 {
            line.push(roman(", "));
        }
        line.push(italic(*name));
    }
    roff.text(line);
    roff.to_writer(page)
}

/// Help text behind the options, in sections.
struct Notes {
    /// Section of each line, empty before the first heading, and the line.
    lines: Vec<(&'static str, String)>,
}

impl Notes {
    fn of(command: &Command) -> Self {
        let text = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let mut section = "";
        let mut lines = Vec::new();
        for line in text.lines() {
            let heading = HEADINGS
                .iter()
                .find(|(heading, _)| line.starts_with(heading));
            let mut line = line;
            if let Some((heading, name)) = heading {
                section = name;
                line = line.strip_prefix(heading).unwrap_or(line).trim_start();
            }
            lines.push((section, line.to_owned()));
        }
        Self { lines }
    }

    fn has(&self, section: &str) -> bool {
        self.lines.iter().any(|(name, _)| *name == section)
    }

    /// Writes the lines of `section`, below a heading if there is one.
    fn write(&self, section: &str, heading: Option<&str>, page: &mut Vec<u8>) -> io::Result<()> {
        if !self.has(section) {
            return Ok(());
        }
        let mut roff = Roff::new();
        match heading {
            Some(heading) => roff.control("SH", [heading]),
            None => roff.control("PP", []),
        };
        let lines = self.lines.iter().filter(|(name, _)| *name == section);
        let mut is_example = false;
        for (_, line) in lines {
            if line.starts_with("  ") != is_example {
                roff.control(if is_example { "EE" } else { "EX" }, []);
                is_example = !is_example;
            }
            if line.is_empty() {
                roff.control("PP", []);
            } else {
                roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
        }
        if is_example {
            roff.control("EE", []);
        }
        roff.to_writer(page)
    }
}
