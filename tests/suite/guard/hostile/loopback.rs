//! The loopback addresses, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::process::Command;

use kms_agent_test_support::TOKEN;
use kms_agent_test_support::http::Connection;

use super::{Served, agent, fill, outcome, with_lines};
use crate::harness::cloud::{BINARY, Cloud};

/// Returns whether the host has `[::1]`; prints a message if not.
fn has_ipv6() -> bool {
    let result = TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
    if let Err(error) = &result {
        eprintln!("skipped: this host has no [::1] ({error})");
    }
    result.is_ok()
}

#[test]
fn both_loopback_addresses_answer_on_one_port() {
    if !has_ipv6() {
        return;
    }
    let (_cloud, agent) = agent();
    for host in ["localhost:PORT", "[::1]:PORT", "127.0.0.1:PORT"] {
        let mut connection = Connection::open_at((Ipv6Addr::LOCALHOST, agent.port())).unwrap();
        let request = with_lines("").replace("localhost:PORT", host);
        connection.send(&fill(request, agent.port())).unwrap();
        assert_eq!(outcome(&connection.reply().unwrap()), Served, "{host}");
    }
}

#[test]
fn a_port_that_is_taken_on_either_address_fails_the_start() {
    let mut addresses = vec![("127.0.0.1", TcpListener::bind("127.0.0.1:0"))];
    if has_ipv6() {
        addresses.push(("[::1]", TcpListener::bind("[::1]:0")));
    }
    for (address, holder) in addresses {
        let port = holder.as_ref().unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.toml");
        std::fs::write(
            &config,
            format!("[Server]\nHttpPort = {port}\n[Log]\nLogPath = \"\"\n"),
        )
        .unwrap();
        let output = Command::new(BINARY)
            .arg("agent")
            .arg(&config)
            .env_clear()
            .env("KMS_TOKEN", TOKEN)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&format!("port {port} on {address}")),
            "{said}"
        );
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
        // A host without IPv6 does not have the second table.
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
