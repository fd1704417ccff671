//! Manual pages and shell completions.

use std::path::Path;
use std::process::Command;

use super::{run, stderr, stdout};

/// Commands that the help lists.
fn commands(folder: &Path) -> Vec<String> {
    let help = stdout(&run(&["--help"], &[], folder));
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["man", "man/man1"], &[], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for command in commands(folder.path()) {
        let path = format!("man/man1/alibabacloud-kms-agent-{command}.1");
        let Ok(page) = std::fs::read_to_string(folder.path().join(&path)) else {
            assert_eq!(command, "help", "{path} is missing");
            continue;
        };
        assert!(
            page.contains(".TH") && page.contains("EXAMPLES"),
            "{path}:\n{page}"
        );
    }
    let main =
        std::fs::read_to_string(folder.path().join("man/man1/alibabacloud-kms-agent.1")).unwrap();
    assert!(
        main.contains("alibabacloud\\-kms\\-agent\\-exec(1)"),
        "{main}"
    );
}

#[test]
fn bash_completes_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell], &[], folder.path());
        assert!(stdout(&script).contains("version-stage"), "{shell}");
    }
    let script = run(&["completions", "bash"], &[], folder.path());
    std::fs::write(folder.path().join("script"), &script.stdout).unwrap();
    let complete = |words: &str| {
        let ask = format!(
            "set -e; source ./script; registered=$(complete -p alibabacloud-kms-agent); \
             function=${{registered#*-F }}; function=${{function%% *}}; \
             COMP_WORDS=(alibabacloud-kms-agent {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             $function alibabacloud-kms-agent \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash")
            .args(["--norc", "-c", &ask])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{words}: {}", stderr(&output));
        let mut offered: Vec<String> = stdout(&output)
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        offered.sort();
        offered.dedup();
        offered
    };
    let offered = complete("''");
    for command in commands(folder.path()) {
        assert!(offered.contains(&command), "{command}: {offered:?}");
    }
    std::fs::write(folder.path().join("my config.toml"), "").unwrap();
    std::fs::create_dir(folder.path().join("pages")).unwrap();
    for (words, expected) in [
        ("exe", &["exec"][..]),
        ("get --version-s", &["--version-stage"]),
        ("agent ''", &["my config.toml", "pages", "script"]),
        ("agent my", &["my config.toml"]),
        ("check --offline my", &["my config.toml"]),
        ("get --config my", &["my config.toml"]),
        ("get --config = my", &["my config.toml"]),
        ("exec --config my", &["my config.toml"]),
        ("man ''", &["pages"]),
        ("dev --persist p", &["pages"]),
        ("token my", &["my config.toml"]),
        ("token t --owner roo", &["root"]),
        ("token t --group roo", &["root"]),
        ("get --agent-user roo", &["root"]),
        ("get --field ''", &[]),
        ("completions fi", &["fish"]),
        ("help stat", &["status"]),
        ("exec -e X=a -- basenam", &["basename"]),
        ("exec -e X=a -- cat my", &["my config.toml"]),
        ("exec -e X=a --keep", &["--keep-token"]),
    ] {
        assert_eq!(complete(words), expected, "{words}");
    }
    for option in ["--json", "--field", "--refresh", "--agent-user"] {
        assert!(
            complete("get ''").iter().any(|offered| offered == option),
            "{option}"
        );
    }
}

/// Returns a page as a terminal of 80 columns shows it.
fn shown(page: &Path) -> Option<String> {
    let output = Command::new("groff")
        .args(["-man", "-Tutf8", "-P-c", "-P-b", "-P-u", "-ww", "-rLL=78n"])
        .arg(page)
        .output()
        .ok()?;
    assert_eq!(stderr(&output), "", "{}", page.display());
    Some(stdout(&output))
}

#[test]
fn pages_have_the_sections_that_readers_look_for() {
    let folder = tempfile::tempdir().unwrap();
    run(&["man", "pages"], &[], folder.path());
    let page = |name: &str| {
        let path = folder.path().join("pages").join(name);
        (shown(&path), std::fs::read_to_string(&path).unwrap())
    };
    for (name, sections) in [
        (
            "alibabacloud-kms-agent.1",
            &[
                "NAME",
                "SYNOPSIS",
                "SUBCOMMANDS",
                "FILES",
                "EXIT STATUS",
                "EXAMPLES",
                "SEE ALSO",
            ][..],
        ),
        (
            "alibabacloud-kms-agent-agent.1",
            &[
                "ENVIRONMENT",
                "SIGNALS",
                "FILES",
                "EXIT STATUS",
                "EXAMPLES",
                "SEE ALSO",
            ],
        ),
        (
            "alibabacloud-kms-agent-exec.1",
            &[
                "ENVIRONMENT",
                "FILES",
                "EXIT STATUS",
                "EXAMPLES",
                "SEE ALSO",
            ],
        ),
        (
            "alibabacloud-kms-agent-man.1",
            &["EXIT STATUS", "EXAMPLES", "SEE ALSO"],
        ),
        (
            "alibabacloud-kms-agent-completions.1",
            &["EXIT STATUS", "EXAMPLES", "SEE ALSO"],
        ),
        (
            "alibabacloud-kms-agent.toml.5",
            &["NAME", "KEYS", "EXAMPLES", "FILES", "SEE ALSO"],
        ),
    ] {
        let (terminal, source) = page(name);
        for section in sections {
            assert!(
                source
                    .lines()
                    .any(|line| line.trim_end() == format!(".SH {section}")
                        || line == format!(".SH \"{section}\"")),
                "{name} has no {section}:\n{source}"
            );
        }
        assert!(!source.contains("EXTRA"), "{name}");
        assert!(source.contains("\"Alibaba Cloud KMS agent\""), "{name}");
        if let Some(terminal) = terminal {
            assert!(terminal.contains("NAME"), "{terminal}");
        } else {
            // This needs groff.
            eprintln!("skipped: there is no groff to show {name}");
        }
    }
    let (_, exec) = page("alibabacloud-kms-agent-exec.1");
    assert!(
        exec.contains("exec [OPTIONS] \\-\\-env <VAR=SECRET_ID[#field]> \\-\\- <CMD>..."),
        "{exec}"
    );
    let (_, config) = page("alibabacloud-kms-agent.toml.5");
    for key in [
        "Server.HttpPort",
        "Cache.Persistent.KeyFile",
        "Log.Format",
        "Credentials.Provider",
    ] {
        assert!(config.contains(key), "{key}");
    }
}
