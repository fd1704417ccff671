//! What SECURITY.md claims, where no other test has it, and that its proofs exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kms_agent_test_support::http;

use crate::cloud::Cloud;

const SECURITY: &str = include_str!("../../SECURITY.md");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The names of all functions under `folder` that are tests, or clauses that a macro makes tests of.
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

#[cfg(target_os = "linux")]
#[test]
fn only_loopback_is_listened_on() {
    const LISTENING: &str = "0A";
    let cloud = Cloud::start();
    let agent = cloud.setup().start();
    let port = format!(":{:04X}", agent.port());
    let mut addresses = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // A host without IPv6 has no such table.
        for line in fs::read_to_string(table).unwrap_or_default().lines() {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next().unwrap(), fields.nth(1).unwrap());
            if let Some(address) = local.strip_suffix(&port)
                && state == LISTENING
            {
                addresses.insert(address.to_owned());
            }
        }
    }
    let (v4, v6) = ("0100007F", "00000000000000000000000001000000");
    assert!(addresses.remove(v4), "{addresses:?}");
    addresses.remove(v6);
    assert!(addresses.is_empty(), "{addresses:?}");
}

#[test]
fn health_paths_name_no_secret() {
    let cloud = Cloud::start();
    cloud.put("canary-name", "canary-value");
    let agent = cloud.setup().start();
    for query in [
        "canary-name",
        "canary-missing",
        "canary-name&versionId=canary-id",
    ] {
        agent.read(query);
    }
    for path in ["/ping", "/livez", "/readyz", "/metrics"] {
        let reply = http::get(agent.port(), path, &[]);
        assert_eq!(reply.status, 200, "{path}");
        assert!(!reply.text().contains("canary"), "{path}: {}", reply.text());
    }
}
