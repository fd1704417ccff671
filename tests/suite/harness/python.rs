//! Python with the official SDK and other real clients.

/// Folder of the Python programs.
pub(crate) const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/sdk");

/// Returns the Python that `tests/run` prepared. Without it a test is skipped, and fails in CI.
pub(crate) fn python() -> Option<String> {
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
