//! Manual pages and shell completions.

use std::path::Path;
use std::process::Command;

use super::{run, stderr, stdout};

/// The commands that help shows.
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
            page.contains(".TH") && page.contains("Example"),
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
             echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash")
            .args(["--norc", "-c", &ask])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let offered = complete("''");
    for command in commands(folder.path()) {
        assert!(
            offered.split_whitespace().any(|word| word == command),
            "{command}: {offered}"
        );
    }
    assert_eq!(complete("exe").trim(), "exec");
    assert_eq!(complete("get --version-s").trim(), "--version-stage");
}
