//! The direction of dependencies, as ARCHITECTURE.md draws it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Crates of the project that each crate may use in production code.
const ALLOWED: &[(&str, &[&str])] = &[
    ("kms-agent-core", &[]),
    ("kms-agent-cache", &["kms-agent-core"]),
    ("kms-agent-trust", &[]),
    ("kms-agent-kms", &["kms-agent-core", "kms-agent-trust"]),
    ("kms-agent-server", &["kms-agent-cache", "kms-agent-core"]),
    (
        "kms-agent-files",
        &["kms-agent-cache", "kms-agent-core", "kms-agent-trust"],
    ),
    ("kms-agent-emulator", &[]),
    ("kms-agent-backend-files", &["kms-agent-core"]),
    ("kms-agent-backend-memory", &["kms-agent-core"]),
    (
        "kms-agent-backend-redb",
        &["kms-agent-core", "kms-agent-sealed", "kms-agent-trust"],
    ),
    (
        "kms-agent-backend-redis",
        &["kms-agent-core", "kms-agent-sealed"],
    ),
    ("kms-agent-sealed", &["kms-agent-core", "kms-agent-trust"]),
    (
        "kms-agent-conformance",
        &[
            "kms-agent-cache",
            "kms-agent-core",
            "kms-agent-test-support",
        ],
    ),
    ("kms-agent-test-support", &["kms-agent-core"]),
    ("kms-agent-bench", &[]),
    (
        "alibabacloud-kms-agent",
        &[
            "kms-agent-cache",
            "kms-agent-core",
            "kms-agent-kms",
            "kms-agent-server",
            "kms-agent-emulator",
            "kms-agent-files",
            "kms-agent-trust",
            "kms-agent-backend-memory",
            "kms-agent-backend-redb",
            "kms-agent-backend-redis",
            "kms-agent-sealed",
        ],
    ),
];

/// Libraries with the crates that may use them.
const HOMES: &[(&str, &[&str])] = &[
    ("reqwest", &["kms-agent-kms"]),
    ("rustls", &["kms-agent-kms"]),
    ("axum", &["kms-agent-server", "kms-agent-bench"]),
    ("minijinja", &["kms-agent-files"]),
    ("moka", &["kms-agent-backend-memory"]),
    ("redb", &["kms-agent-backend-redb"]),
    ("redis", &["kms-agent-backend-redis"]),
    ("aes-gcm", &["kms-agent-sealed"]),
    ("clap", &["alibabacloud-kms-agent", "kms-agent-emulator"]),
    ("toml", &["alibabacloud-kms-agent"]),
    ("tracing-subscriber", &["alibabacloud-kms-agent"]),
];

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let normal = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].is_null());
            (
                text(&package["name"]),
                normal.map(|dependency| text(&dependency["name"])).collect(),
            )
        })
        .collect()
}

#[test]
fn crates_depend_inward_only() {
    let found = dependencies();
    let ours: BTreeSet<&String> = found.keys().collect();
    for (name, dependencies) in &found {
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| {
                panic!("{name} has no place in the table; draw it into ARCHITECTURE.md and here")
            });
        for dependency in dependencies
            .iter()
            .filter(|dependency| ours.contains(dependency))
        {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} must not use {dependency}"
            );
        }
    }
}

#[test]
fn libraries_stay_in_their_homes() {
    for (name, dependencies) in dependencies() {
        for (library, homes) in HOMES {
            assert!(
                !dependencies.contains(*library) || homes.contains(&name.as_str()),
                "{name} must not use {library}; its home is {}",
                homes.join(", ")
            );
        }
    }
}
