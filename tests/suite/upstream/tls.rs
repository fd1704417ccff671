//! TLS: servers that the agent accepts, and those that it rejects.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use kms_agent_emulator::Options;
use kms_agent_test_support::TestAgent;
use tokio_rustls::rustls::NamedGroup;

use super::{by_tls, until_told};
use crate::harness::cloud::Cloud;
use crate::harness::network::{Authority, Front};

/// Expects a read to fail with `why` in the log.
fn read_in_vain(agent: &TestAgent, why: &str) {
    let reply = agent.read("s");
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(reply.json()["Code"], "KmsUnavailable");
    until_told(agent, why);
}

#[test]
fn an_intermediate_is_a_trust_anchor_like_any_other() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let authority = Authority::new();
    for anchor in [authority.intermediate_file(), authority.root_file()] {
        let front = Front::start(cloud.address(), authority.certify("127.0.0.1"));
        let agent = by_tls(&cloud, front.address(), &anchor).start();
        let reply = agent.read("s");
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

#[test]
fn a_server_without_a_trusted_certificate_gets_no_request() {
    let cloud = Cloud::start();
    let authority = Authority::new();
    let ca = authority.root_file();
    for (chain, why) in [
        (authority.certify("kms.example.com"), "for another name"),
        (authority.certify_until("127.0.0.1", 2020), "has expired"),
        (Authority::new().certify("127.0.0.1"), "no trusted CA"),
    ] {
        let front = Front::start(cloud.address(), chain);
        let agent = by_tls(&cloud, front.address(), &ca).start();
        read_in_vain(&agent, why);
        assert!(cloud.calls().is_empty());
    }
}

/// `CaFile` applies to the endpoint of KMS only.
#[test]
fn the_ca_file_does_not_vouch_for_sts() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let authority = Authority::new();
    let ca = authority.root_file();
    let front = Front::start(cloud.address(), authority.certify("127.0.0.1"));
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "the-projected-token").unwrap();
    let account = cloud.account_id();
    let setup = by_tls(&cloud, front.address(), &ca)
        .and_config(&format!(
            "[Credentials]\nStsEndpoint = \"https://{}\"\n",
            front.address()
        ))
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "")
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "")
        .env(
            "ALIBABA_CLOUD_ROLE_ARN",
            format!("acs:ram::{account}:role/app"),
        )
        .env(
            "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
            format!("acs:ram::{account}:oidc-provider/ack"),
        )
        .env("ALIBABA_CLOUD_OIDC_TOKEN_FILE", token.display().to_string());
    let agent = setup.clone().start();
    let reply = agent.read("s");
    assert_eq!(reply.json()["Code"], "CredentialsUnavailable");
    until_told(&agent, "no trusted CA");
    assert!(cloud.calls().is_empty());

    let agent = setup.env("SSL_CERT_FILE", ca.display().to_string()).start();
    assert_eq!(agent.read("s").status, 200);
}

/// Answer of a server that supports only TLS 1.1.
const OLD_HELLO: &[u8] = &[
    0x16, 0x03, 0x02, 0x00, 0x2a, // a handshake record of 42 bytes
    0x02, 0x00, 0x00, 0x26, // a ServerHello of 38 bytes
    0x03, 0x02, // TLS 1.1
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, // its random bytes
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,   //
    0x00, // no session
    0xc0, 0x14, // ECDHE_RSA_WITH_AES_256_CBC_SHA
    0x00, // no compression
];

#[test]
fn tls_1_1_is_refused() {
    let cloud = Cloud::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).unwrap();
        let mut rest = vec![0; usize::from(u16::from_be_bytes([hello[3], hello[4]]))];
        stream.read_exact(&mut rest).unwrap();
        stream.write_all(OLD_HELLO).unwrap();
        let mut alert = Vec::new();
        stream.read_to_end(&mut alert).unwrap();
        alert
    });
    let authority = Authority::new();
    let agent = by_tls(&cloud, address, &authority.root_file()).start();
    read_in_vain(&agent, "no TLS 1.2 or newer");
    let alert = server.join().unwrap();
    assert_eq!(alert[0], 0x15, "an alert and no key exchange: {alert:?}");
}

#[test]
fn keys_are_exchanged_in_a_way_that_outlasts_quantum_computers() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let authority = Authority::new();
    let front = Front::start(cloud.address(), authority.certify("127.0.0.1"));
    let agent = by_tls(&cloud, front.address(), &authority.root_file()).start();
    assert_eq!(agent.read("s").status, 200);
    let seen = front.handshakes();
    assert_eq!(seen[0].first_group, NamedGroup::X25519MLKEM768);
    assert_eq!(seen[0].group, NamedGroup::X25519MLKEM768);
    assert!(!seen[0].asked_again, "its share was not in the first hello");
}

#[test]
fn a_ca_file_that_is_no_use_is_told_at_start_and_mended_without_a_restart() {
    let cloud = Cloud::with(Options {
        tls: true,
        ..Options::default()
    });
    cloud.put("s", "value");
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let good = cloud.ca_pem().unwrap();
    for (content, why) in [
        (None, "cannot be read"),
        (Some("junk".to_owned()), "PEM text"),
        (
            Some(format!(
                "{good}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
            )),
            "certificate number 2 is broken",
        ),
    ] {
        if let Some(content) = content {
            std::fs::write(&ca, content).unwrap();
        }
        let agent = by_tls(&cloud, cloud.address(), &ca).start();
        // No reader has come yet.
        until_told(&agent, &format!("KMS.CaFile {}: ", ca.display()));
        let log = agent.stderr();
        assert!(log.contains("ERROR") && log.contains(why), "{log}");
        read_in_vain(&agent, why);
        std::fs::write(&ca, good).unwrap();
        let began = Instant::now();
        while agent.read("s&refreshNow=true").status != 200 {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "it is not read again: {}",
                agent.stderr()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_ca_file_that_is_replaced_counts_without_a_restart() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let (old, new) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let put = |authority: &Authority| {
        let beside = folder.path().join("new");
        std::fs::copy(authority.root_file(), &beside).unwrap();
        std::fs::rename(&beside, &ca).unwrap();
    };
    put(&old);
    let front = Front::start(cloud.address(), new.certify("127.0.0.1"));
    let agent = by_tls(&cloud, front.address(), &ca).start();
    read_in_vain(&agent, "no trusted CA");
    put(&new);
    let read = || agent.read("s&refreshNow=true").status;
    let began = Instant::now();
    while read() != 200 {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "it is not read again: {}",
            agent.stderr()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    until_told(&agent, "KMS.CaFile reloaded");
    // An invalid file changes nothing.
    std::fs::write(&ca, "junk").unwrap();
    until_told(
        &agent,
        "KMS.CaFile could not be reloaded; the previous CAs stay in use",
    );
    assert_eq!(read(), 200);
}

#[test]
fn a_machine_without_ca_certificates_is_told_what_to_do_and_plain_http_still_works() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let bare = |setup: kms_agent_test_support::Setup| {
        setup
            .env("SSL_CERT_FILE", "/no/such/bundle.pem")
            .env("SSL_CERT_DIR", "/no/such/folder")
    };
    let authority = Authority::new();
    let front = Front::start(cloud.address(), authority.certify("127.0.0.1"));
    let url = format!("https://{}", front.address());
    let agent = bare(cloud.setup_at(&url)).start();
    read_in_vain(&agent, "CA certificates");
    until_told(&agent, "KMS.CaFile");
    let ca = authority.root_file();
    let agent = bare(by_tls(&cloud, front.address(), &ca)).start();
    assert_eq!(agent.read("s").status, 200);

    // A plain HTTP endpoint, and the metadata service with region and role.
    let agent = bare(cloud.setup())
        .and_config(&format!(
            "[Credentials]\nMetadataEndpoint = \"{}\"\n",
            cloud.base_url()
        ))
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "")
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "")
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "false")
        .start();
    let reply = agent.read("s");
    assert_eq!(reply.status, 200, "{}", reply.text());
}
