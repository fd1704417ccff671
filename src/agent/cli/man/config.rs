//! Manual page of the config file.

use std::io;

use clap_mangen::roff::{Roff, bold, roman};

use super::page::{list, see_also, title_line};
use crate::config::Config;

/// Every key with its default and a remark.
const SAMPLE: &str = include_str!("../../../../config/kms-agent.toml");

const RELOAD: &str = "The agent reads the file again on SIGHUP. alibabacloud-kms-agent check reports every problem in it.";

/// Returns the page, which belongs to section 5.
pub(super) fn page(program: &str) -> io::Result<Vec<u8>> {
    let title = format!("{program}.toml");
    let mut page = title_line(&title, "5").into_bytes();
    let mut roff = Roff::new();
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{title} - config file of {program}"))]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([
        bold(program),
        roman(" agent /etc/alibabacloud-kms-agent/config.toml"),
    ]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "A TOML file. All keys may be left out. Unknown keys and tables, wrong types and values out of range are errors. \
         Relative paths start at the working directory of the agent.",
    )]);
    roff.control("PP", []);
    roff.text([roman(RELOAD)]);
    roff.control("SH", ["KEYS"]);
    for key in Config::keys() {
        roff.control("TP", []);
        roff.text([bold(key.key)]);
        roff.text([roman(format!("{}. Default: {}", key.allowed, key.default))]);
    }
    roff.control("SH", ["EXAMPLES"]);
    roff.text([roman("Every key with its default:")]);
    roff.control("PP", []);
    roff.control("EX", []);
    for line in SAMPLE.lines() {
        roff.text([roman(line)]);
    }
    roff.control("EE", []);
    roff.to_writer(&mut page)?;
    list(
        "FILES",
        &[(
            "/etc/alibabacloud-kms-agent/config.toml",
            "The file of an installed service.",
        )],
        &mut page,
    )?;
    see_also(
        &[
            &format!("{program}(1)"),
            &format!("{program}-agent(1)"),
            &format!("{program}-check(1)"),
        ],
        &mut page,
    )?;
    Ok(page)
}
