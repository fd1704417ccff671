//! Tools that build the releases.

const WORKFLOW: &str = include_str!("../../../.github/workflows/ci.yml");
const TOOLS: &str = include_str!("../../../.ci/tool");

/// Returns the number of hexadecimal digits at the start of `text`.
fn hex_digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_hexdigit).count()
}

#[test]
fn what_a_release_is_built_with_is_pinned() {
    let actions: Vec<&str> = WORKFLOW
        .lines()
        .filter_map(|line| line.split_once("uses: ").map(|(_, action)| action))
        .collect();
    assert!(actions.len() > 5, "{actions:?}");
    for action in actions {
        let (_, commit) = action.split_once('@').unwrap();
        assert_eq!(hex_digits(commit), 40, "{action}");
    }

    assert!(TOOLS.contains("--require-hashes"));
    let packages: Vec<&str> = TOOLS
        .lines()
        .filter(|line| line.contains("==") && !line.starts_with('#'))
        .collect();
    assert_eq!(packages.len(), 2, "{packages:?}");
    let hashes: Vec<&str> = TOOLS.split("--hash=sha256:").skip(1).collect();
    assert_eq!(hashes.len(), 4);
    assert!(hashes.iter().all(|hash| hex_digits(hash) == 64));
    // Rust tools are built with the lock file of their release.
    assert!(TOOLS.contains("cargo install --quiet --locked"));
}

#[test]
fn jobs_may_do_no_more_than_they_must() {
    let (head, jobs) = WORKFLOW.split_once("\njobs:\n").unwrap();
    assert!(head.contains("permissions:\n  contents: read\n"));
    let writing: Vec<&str> = jobs
        .lines()
        .map(str::trim)
        .filter(|line| line.ends_with(": write"))
        .collect();
    assert_eq!(
        writing,
        ["id-token: write", "attestations: write", "contents: write"]
    );
    let checkouts = WORKFLOW.matches("uses: actions/checkout@").count();
    assert_eq!(
        WORKFLOW.matches("persist-credentials: false").count(),
        checkouts
    );
}

#[test]
fn the_shipped_agent_makes_no_certificates() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "alibabacloud-kms-agent"])
        .args(["--edges", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let crates = String::from_utf8(output.stdout).unwrap();
    assert!(crates.contains("kms-agent-emulator"), "{crates}");
    assert!(
        !crates.contains("rcgen"),
        "the emulator's TLS is a feature of tests"
    );
}
