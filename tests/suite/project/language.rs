//! The language rules of CONTRIBUTING.md that a program can check.

use std::path::Path;
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Words and phrases with a plainer replacement.
const FORBIDDEN: [&str; 8] = [
    "anew",
    "at hand",
    "lest",
    "of then",
    "told of",
    "trying on",
    "whoever",
    "whom",
];

/// Openings of a doc comment, which begins with a noun or a third-person verb instead.
const OPENINGS: [&str; 5] = ["What", "Whatever", "Where", "Who", "Whose"];

/// Returns the paths of the project's text files in English, except this one.
fn files() -> Vec<String> {
    let output = Command::new("git")
        .args(["-C", ROOT, "ls-files"])
        .output()
        .unwrap();
    assert!(output.status.success(), "git ls-files: {}", output.status);
    let is_english = |path: &str| !path.contains("zh-CN") && !path.ends_with("language.rs");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|path| is_english(path))
        .map(str::to_owned)
        .collect()
}

/// Whether rules hold for the file `path` with this text: code, documents, configuration and scripts.
fn is_prose(path: &str, text: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|it| it.to_str());
    let known = [
        "md", "py", "rs", "service", "sh", "socket", "toml", "yaml", "yml",
    ];
    match extension {
        Some(extension) => known.contains(&extension),
        None => text.starts_with("#!"),
    }
}

/// Returns the words of a line in lower case with a space around each; a name is as many words as it is made of.
fn words(line: &str) -> String {
    let words = line
        .split(|it: char| !it.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    words.fold(" ".to_owned(), |words, word| {
        words + &word.to_ascii_lowercase() + " "
    })
}

fn doc_comment(line: &str) -> Option<&str> {
    let line = line.trim_start();
    line.strip_prefix("///").or(line.strip_prefix("//!"))
}

/// Returns what breaks a rule, line by line.
fn violations(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_continued = false;
    for (line, number) in text.lines().zip(1..) {
        let words = words(line);
        for phrase in FORBIDDEN {
            if words.contains(&format!(" {phrase} ")) {
                found.push(format!("{path}:{number}: `{phrase}`"));
            }
        }
        let comment = doc_comment(line);
        if let Some(comment) = comment
            && !is_continued
        {
            let first = comment.split_whitespace().next().unwrap_or_default();
            if OPENINGS.contains(&first) {
                found.push(format!(
                    "{path}:{number}: a doc comment begins with `{first}`"
                ));
            }
        }
        is_continued = comment.is_some();
    }
    found
}

#[test]
fn texts_use_plain_words_and_doc_comments_begin_with_a_noun_or_a_verb() {
    let mut found = Vec::new();
    let mut count = 0;
    for path in files() {
        // A file that was deleted and not yet staged, or a file that is not text.
        let Ok(text) = std::fs::read_to_string(Path::new(ROOT).join(&path)) else {
            continue;
        };
        if !is_prose(&path, &text) {
            continue;
        }
        count += 1;
        found.extend(violations(&path, &text));
    }
    assert!(count > 300, "only {count} files are read");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_rule_is_noticed() {
    let text =
        "/// Where it is.\n/// What follows.\nfn told_of() {} // Lest, At hand.\n//! Whose\n";
    let found = violations("a.rs", text);
    let expected = [
        "a.rs:1: a doc comment begins with `Where`",
        "a.rs:3: `at hand`",
        "a.rs:3: `lest`",
        "a.rs:3: `told of`",
        "a.rs:4: a doc comment begins with `Whose`",
    ];
    assert_eq!(found, expected);
}
