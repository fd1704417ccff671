//! Sample files for users to copy. `tests/deploy` runs those of `deploy/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::cloud::BINARY;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the TOML files under `folder`.
fn configs(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(configs(&path));
        } else if path.extension().is_some_and(|it| it == "toml") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_sample_config_is_valid() {
    for (folder, at_least) in [("config", 8), ("deploy", 5)] {
        let samples = configs(&root().join(folder));
        assert!(samples.len() >= at_least, "{samples:?}");
        for sample in samples {
            let output = Command::new(BINARY)
                .args(["check", "--offline"])
                .arg(&sample)
                .env_clear()
                .output()
                .unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{stderr}");
        }
    }
}

#[test]
fn compose_and_ack_build_the_same_images() {
    let deploy = root().join("deploy");
    for image in ["agent", "app"] {
        let for_compose = deploy.join(format!("docker-compose/Dockerfile.{image}"));
        for for_ack in [
            format!("ack/{image}/Dockerfile"),
            format!("ack/Dockerfile.{image}"),
        ] {
            assert_eq!(
                fs::read_to_string(deploy.join(for_ack)).unwrap(),
                fs::read_to_string(&for_compose).unwrap()
            );
        }
    }
}
