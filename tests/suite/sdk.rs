//! Clients that are not ours.

use std::process::Command;

use crate::cloud::Cloud;

/// The Python that `tests/run` prepared; without it a test is skipped on a developer's machine and fails in CI.
fn python() -> Option<String> {
    let python = std::env::var("KMS_AGENT_TEST_PYTHON").ok();
    if python.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must prepare Python: use tests/run"
        );
        eprintln!("skipped: KMS_AGENT_TEST_PYTHON is not set; tests/run sets it");
    }
    python
}

#[test]
fn the_official_python_sdk_reads_a_secret_from_the_emulator() {
    let Some(python) = python() else { return };
    let cloud = Cloud::start();
    let (name, value) = ("app/db +~*=@密码", "välue with \"quotes\"");
    cloud.put(name, value);
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/sdk/read_secret.py"
    );
    let output = Command::new(python)
        .args([script, cloud.endpoint(), name])
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", cloud.access_key().id())
        .env(
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
            cloud.access_key().expose_secret(),
        )
        .env("PYTHONIOENCODING", "utf-8")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), value);
}
