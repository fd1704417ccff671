//! Failures on this machine, found before any request is sent.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kms_agent_test_support::TOKEN;

use super::{Check, UNPRIVILEGED};
use crate::harness::cloud::Cloud;

#[test]
fn a_port_that_somebody_else_holds() {
    let cloud = Cloud::start();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let mut check = Check::new(&cloud);
    check.config = check
        .config
        .replace("HttpPort = 0", &format!("HttpPort = {port}"));
    // It accepts connections and never answers.
    check.fails(
        78,
        "port",
        &[
            "held by another process",
            &port.to_string(),
            "Server.HttpPort",
        ],
    );
}

#[test]
fn a_port_that_an_agent_holds_is_no_failure() {
    let cloud = Cloud::start();
    let agent = cloud.setup().start();
    let mut check = Check::new(&cloud);
    check.config = check
        .config
        .replace("HttpPort = 0", &format!("HttpPort = {}", agent.port()));
    let said = check.passes();
    assert!(said.line("port").contains("an agent runs on"), "{said:?}");
}

#[test]
fn a_token_file_that_is_missing_is_only_a_failure_where_the_agent_cannot_make_it() {
    let cloud = Cloud::start();
    let check = Check::new(&cloud);
    let path = check.path("kmstoken");
    let check = check.env("KMS_TOKEN", format!("file://{}", path.display()));
    assert!(check.passes().line("token").contains("will make it"));
    assert!(!path.exists());
    let missing = check.path("no/such/kmstoken");
    check
        .env("KMS_TOKEN", format!("file://{}", missing.display()))
        .fails(78, "token", &["Make the folder", "no/such"]);
}

#[test]
fn a_token_that_cannot_be_used() {
    let cloud = Cloud::start();
    for (variable, words) in [
        ("", ["KMS_TOKEN", "empty"]),
        ("/run/kmstoken", ["KMS_TOKEN=file://", "like a path"]),
        ("file:///etc/ssl", ["/etc/ssl", "not a folder"]),
        ("file:///dev/zero", ["/dev/zero", "not a regular file"]),
    ] {
        Check::new(&cloud)
            .env("KMS_TOKEN", variable)
            .fails(78, "token", &words);
    }
    let check = Check::new(&cloud);
    let path = check.path("kmstoken");
    fs::write(&path, "short").unwrap();
    let mut check = check.env("KMS_TOKEN", format!("file://{}", path.display()));
    check.fails(78, "token", &["alibabacloud-kms-agent token"]);
    fs::write(&path, TOKEN).unwrap();
    check.passes();
    if rustix::process::geteuid().is_root() {
        check.wrapper = UNPRIVILEGED;
        check.passes();
    }
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    check.fails(78, "token", &["Permission denied"]);
}

#[test]
fn a_store_or_key_that_the_agent_would_not_use() {
    let cloud = Cloud::start();
    let persistent = "[Cache]\nCacheType = \"Persistent\"\n";
    let check = Check::new(&cloud).config(persistent);
    let said = check.passes();
    assert!(said.line("cache").contains("will be created"), "{said:?}");
    assert!(!check.path("cache").exists() && !check.path("keys").exists());

    let agent = cloud
        .setup()
        .and_config("[Cache]\nCacheType = \"Persistent\"\n")
        .start();
    let (store, key) = (
        agent.folder().join("cache/kms-agent.redb"),
        agent.folder().join("keys/kms-agent.key"),
    );
    let check = Check::new(&cloud).config(&format!(
        "{persistent}[Cache.Persistent]\nPath = \"{}\"\nKeyFile = \"{}\"\n",
        store.display(),
        key.display()
    ));
    // The agent has the store open meanwhile.
    assert!(check.passes().line("cache").contains("its key are there"));

    let set_mode = |path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    set_mode(&key, 0o644);
    check.fails(78, "cache", &["accessible to others", "chmod 600"]);
    set_mode(&key, 0o600);
    set_mode(&store, 0o604);
    check.fails(78, "cache", &["accessible to others", "chmod 600"]);
    set_mode(&store, 0o600);
    let kept = fs::read(&key).unwrap();
    fs::write(&key, "short").unwrap();
    check.fails(78, "cache", &["5 bytes", "Cache.Persistent.KeyFile"]);
    fs::remove_file(&key).unwrap();
    check.fails(78, "cache", &["put it back", "does not exist"]);
    fs::write(&key, kept).unwrap();
    set_mode(&key, 0o600);
    check.passes();
}

#[test]
fn a_store_that_the_agent_would_be_without() {
    let cloud = Cloud::start();
    let folder = tempfile::tempdir().unwrap();
    let (store, key) = (folder.path().join("c/store"), folder.path().join("k/key"));
    let persistent = |key: &Path| {
        format!(
            "[Cache]\nCacheType = \"Persistent\"\n[Cache.Persistent]\nPath = \"{}\"\nKeyFile = \"{}\"\n",
            store.display(),
            key.display()
        )
    };
    let check = || Check::new(&cloud).config(&persistent(&key));
    cloud.setup().and_config(&persistent(&key)).start().stop();
    let whole = fs::read(&store).unwrap();
    check().passes();
    fs::write(&key, [7; 32]).unwrap();
    check().fails(
        78,
        "cache",
        &["sealed under another key", "put that key back"],
    );
    fs::write(&store, "garbage").unwrap();
    check().fails(78, "cache", &["is damaged", "quarantine it"]);
    assert_eq!(fs::read(&store).unwrap(), b"garbage");
    fs::write(&store, &whole).unwrap();
    Check::new(&cloud).config(&persistent(&store)).fails(
        78,
        "cache",
        &["are one file", "Cache.Persistent.KeyFile"],
    );
    assert!(fs::read(&store).unwrap() == whole, "the store changed");
}

#[test]
fn a_bad_config_file_ends_it_before_anybody_is_asked() {
    let cloud = Cloud::start();
    let said = Check::new(&cloud).config("Regoin = \"x\"\n").run();
    assert_eq!(said.code, Some(78));
    assert_eq!(said.stdout, "");
    assert!(said.stderr.contains("did you mean Region?"), "{said:?}");
    assert!(cloud.calls().is_empty());
    let said = Check::new(&cloud)
        .argument("--offline")
        .secret("app/db")
        .run();
    assert_eq!(said.code, Some(2));
}
