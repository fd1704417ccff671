//! Tests that documents name exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

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

#[test]
fn every_attack_has_a_proof_that_exists() {
    let mut tests = BTreeSet::new();
    for folder in ["src", "backends", "tests"] {
        gather_tests(&Path::new(ROOT).join(folder), &mut tests);
    }
    let (_, rest) = SECURITY.split_once("| attack |").unwrap();
    let (table, _) = rest.split_once("\n\n").unwrap();
    let rows: Vec<&str> = table.lines().skip(2).collect();
    assert!(rows.len() > 20, "the table is read wrongly");
    for row in rows {
        let proof = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let names: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no proof: {row}");
        for name in names {
            assert!(tests.contains(name), "there is no test {name}");
        }
    }
}
