//! Rows about failures at startup.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use kms_agent_test_support::{Setup, TOKEN};

use super::row;
use crate::harness::cloud::{BINARY, Cloud};

/// Sets up an agent with the token in a file, which a test may damage.
fn with_token_at(path: &std::path::Path) -> Setup {
    Setup::new(BINARY).env("KMS_TOKEN", format!("file://{}", path.display()))
}

#[test]
fn a_config_that_is_wrong_or_missing() {
    let setup = Setup::new(BINARY);
    row("a key of the config file is wrong")
        .is_the_end_of(setup.clone().config("[Server]\nHttpPrt = 2025\n"));
    row("the config file is not there").is_the_end_of(setup.by("rm config.toml; exec \"$@\""));
}

#[test]
fn a_token_that_is_not_named_or_named_wrongly() {
    row("no token is named").is_the_end_of(Setup::new(BINARY).by("unset KMS_TOKEN; exec \"$@\""));
    row("the token is a path without `file://`")
        .is_the_end_of(Setup::new(BINARY).env("KMS_TOKEN", "/var/run/kmstoken"));
}

#[test]
fn a_token_file_that_is_no_use() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("kmstoken");
    row("the token file's folder is missing")
        .is_the_end_of(with_token_at(&folder.path().join("missing/kmstoken")));

    fs::write(&token, "").unwrap();
    row("the token file is empty").is_the_end_of(with_token_at(&token));

    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, Permissions::from_mode(0o0)).unwrap();
    let mut setup = with_token_at(&token);
    if rustix::process::geteuid().is_root() {
        // Without these capabilities permissions apply to root, too.
        setup = setup.by("exec setpriv --bounding-set -dac_override,-dac_read_search \"$@\"");
    }
    row("the token file is of another user").is_the_end_of(setup);
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    row("the port is taken")
        .is_the_end_of(Setup::new(BINARY).config(format!("[Server]\nHttpPort = {port}\n")));
}

#[test]
fn a_store_that_is_in_use_or_whose_key_is_open_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = Cloud::start();
    let setup = super::cache::persistent(&cloud, folder.path());
    let agent = setup.clone().start();
    row("another agent has the store").is_the_end_of(setup.clone());
    agent.stop();

    let key = folder.path().join("keys/store.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    row("others may read the store's key").is_the_end_of(setup);
}
