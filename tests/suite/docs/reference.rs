//! Tests and files that documents name exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const SECURITY: &str = include_str!("../../../SECURITY.md");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Collects the names of all test functions under `folder`, and of the clauses that a macro turns into tests.
fn gather_tests(folder: &Path, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather_tests(&path, tests);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let is_clause = path
                .components()
                .any(|part| part.as_os_str() == "conformance");
            let mut is_test = is_clause;
            for line in fs::read_to_string(&path).unwrap().lines() {
                let line = line.trim_start();
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                if let Some((_, rest)) = line.split_once("fn ")
                    && !line.starts_with("//")
                {
                    let name = rest.split(['(', '<']).next().unwrap_or_default();
                    if is_test {
                        tests.insert(name.to_owned());
                    }
                    is_test = is_clause;
                }
            }
        }
    }
}

fn all_tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for folder in ["src", "backends", "tests"] {
        gather_tests(&Path::new(ROOT).join(folder), &mut tests);
    }
    tests
}

/// Returns the project's documents: their paths, relative to the root, and their texts.
fn documents() -> Vec<(String, String)> {
    let output = Command::new("git")
        .args(["-C", ROOT, "ls-files", "*.md"])
        .output()
        .unwrap();
    assert!(output.status.success(), "git ls-files: {}", output.status);
    let paths = String::from_utf8(output.stdout).unwrap();
    let documents: Vec<_> = paths
        .lines()
        .filter_map(|path| {
            let text = fs::read_to_string(Path::new(ROOT).join(path)).ok()?;
            Some((path.to_owned(), text))
        })
        .collect();
    assert!(documents.len() > 20, "{} documents", documents.len());
    documents
}

/// Returns the inline code of a document.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn every_attack_has_a_proof() {
    let (_, rest) = SECURITY.split_once("| attack |").unwrap();
    let (table, _) = rest.split_once("\n\n").unwrap();
    let rows: Vec<&str> = table.lines().skip(2).collect();
    assert!(rows.len() > 20, "the table is read wrongly");
    let tests = all_tests();
    for row in rows {
        let proof = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let names: Vec<&str> = code_spans(proof).collect();
        assert!(!names.is_empty(), "no proof: {row}");
        for name in names {
            assert!(tests.contains(name), "there is no test {name}");
        }
    }
}

#[test]
fn every_test_that_a_document_names_exists() {
    let tests = all_tests();
    let is_test_name = |span: &&str| {
        let is_snake_case = span
            .chars()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_');
        is_snake_case && span.matches('_').count() > 2 && !span.starts_with("kms_agent_")
    };
    for (path, text) in documents() {
        for name in code_spans(&text).filter(is_test_name) {
            assert!(tests.contains(name), "{path}: there is no test {name}");
        }
    }
}

#[test]
fn every_file_that_a_document_names_exists() {
    const ROOMS: [&str; 8] = [
        ".ci/",
        ".github/",
        "backends/",
        "config/",
        "deploy/",
        "docs/",
        "src/",
        "tests/",
    ];
    let is_path = |span: &&str| {
        ROOMS.iter().any(|room| span.starts_with(room)) && !span.contains([' ', '*', '<', '…', '{'])
    };
    for (document, text) in documents() {
        for path in code_spans(&text).filter(is_path) {
            let exists = Path::new(ROOT).join(path).exists();
            assert!(exists, "{document}: there is no {path}");
        }
    }
}
