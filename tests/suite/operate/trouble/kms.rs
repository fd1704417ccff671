//! Rows about KMS and credentials.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use kms_agent_emulator::{Action, Fault, FaultKind, SecretState};
use kms_agent_test_support::http::Connection;
use kms_agent_test_support::{Setup, TOKEN, TestAgent};

use super::row;
use crate::harness::cloud::{BINARY, Cloud};
use crate::harness::namespace::may_mount;
use crate::harness::network::{Authority, Front, Narrow, Proxy};

/// Config with short time limits, few attempts and short lifetimes.
const HASTY: &str = "ConnectTimeoutMs = 1000\nRequestTimeoutMs = 1000\nMaxAttempts = 1\n\
                     [Cache]\nTtlSeconds = 1\nRefreshAhead = false\n";

fn cloud() -> Cloud {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    cloud
}

fn hasty(cloud: &Cloud) -> Setup {
    cloud.setup().and_config(HASTY)
}

/// Starts an agent and reads a secret, which fails.
fn fails(setup: Setup, status: u16) -> TestAgent {
    let agent = setup.start();
    let reply = agent.read("s");
    assert_eq!(reply.status, status, "{}\n{}", reply.text(), agent.stderr());
    agent
}

/// Returns an address on which no program listens.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

#[test]
fn no_credentials() {
    let setup = Setup::new(BINARY).and_config("[KMS]\nRegion = \"cn-hangzhou\"\n");
    row("no credentials").is_seen_on(&fails(setup.clone(), 503));

    // The metadata service is the last resort, and does not exist.
    let elsewhere = setup
        .and_config(&format!(
            "[Credentials]\nMetadataEndpoint = \"http://{}\"\n",
            nowhere()
        ))
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "false");
    row("no credentials").is_seen_on(&fails(elsewhere, 503));
}

#[test]
fn an_access_key_in_quotation_marks() {
    let cloud = cloud();
    let quoted = format!("\"{}\"", cloud.access_key().id());
    let setup = hasty(&cloud).env("ALIBABA_CLOUD_ACCESS_KEY_ID", quoted);
    row("the access key stands in quotation marks").is_seen_on(&fails(setup, 503));
}

#[test]
fn a_box_in_between_that_takes_one_packet_only() {
    let cloud = cloud();
    let authority = Authority::new();
    let front = Front::start(cloud.address(), authority.certify("127.0.0.1"));
    let narrow = Narrow::start(front.address());
    let setup = cloud.setup_at(&format!("https://{}", narrow.address()));
    row("the TLS handshake is cut").is_seen_on(&fails(setup.and_config(HASTY), 503));
}

#[test]
fn an_access_key_that_kms_does_not_accept() {
    let cloud = cloud();
    let key = cloud.access_key();
    let unknown = hasty(&cloud).env("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAInobody");
    row("there is no such access key").is_seen_on(&fails(unknown, 503));

    let wrong = hasty(&cloud).env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "wrong");
    row("the access key's secret is wrong").is_seen_on(&fails(wrong, 503));

    assert!(cloud.set_access_key_enabled(key.id(), false));
    row("the access key is disabled").is_seen_on(&fails(hasty(&cloud), 503));
}

#[test]
fn temporary_credentials_that_are_not_renewed() {
    let cloud = cloud();
    cloud.set_session_lifetime(Some(Duration::from_mins(1)));
    let agent = Setup::new(BINARY)
        .and_config(&format!(
            "[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\n",
            cloud.base_url()
        ))
        .env(
            "ALIBABA_CLOUD_CREDENTIALS_URI",
            format!("{}/credentials", cloud.base_url()),
        )
        .start();
    assert_eq!(agent.read("s").status, 200);
    // A refusal causes a renewal at once; otherwise the agent would wait.
    cloud
        .fault(Fault::status(500, "InternalError").on(Action::CredentialsUri))
        .unwrap();
    cloud
        .fault(Fault::status(400, "InvalidSecurityToken.Expired").on(Action::GetSecretValue))
        .unwrap();
    agent.read("s&refreshNow=true");
    row("temporary credentials are not renewed").is_seen_on(&agent);
}

#[test]
fn what_kms_refuses() {
    for (symptom, state) in [
        ("no permission", Some(SecretState::Denied)),
        (
            "the secret's key is disabled",
            Some(SecretState::KeyDisabled),
        ),
        ("no such secret", None),
    ] {
        let cloud = cloud();
        match state {
            Some(state) => cloud.set_secret_state("s", state),
            None => assert!(cloud.delete_secret("s")),
        }
        let agent = cloud.setup().start();
        assert!(agent.read("s").status >= 400);
        row(symptom).is_seen_on(&agent);
    }
}

#[test]
fn a_region_that_nobody_tells() {
    let cloud = cloud();
    let key = cloud.access_key();
    let setup = Setup::new(BINARY)
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", key.id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", key.expose_secret());
    row("the region is not known").is_seen_on(&fails(setup, 503));
}

#[test]
fn a_name_that_nobody_resolves() {
    if !may_mount() {
        return;
    }
    let cloud = cloud();
    let key = cloud.access_key();
    // Nothing listens at the address of its only name server.
    let setup = Setup::new(BINARY)
        .and_config(&format!("[KMS]\nRegion = \"cn-hangzhou\"\n{HASTY}"))
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", key.id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", key.expose_secret())
        .by("echo nameserver 127.99.99.99 >resolv.conf; exec unshare --map-root-user --mount bash -euc \
             'mount --bind resolv.conf \"$(realpath /etc/resolv.conf)\"; exec \"$@\"' bash \"$@\"");
    row("the name of KMS cannot be resolved").is_seen_on(&fails(setup, 503));
}

#[test]
fn an_endpoint_that_does_not_answer() {
    let cloud = cloud();
    let setup = cloud.setup_at(&format!("http://{}", nowhere()));
    let refused = fails(setup.and_config(HASTY), 503);
    row("nobody listens at the endpoint").is_seen_on(&refused);

    cloud.fault(Fault::new(FaultKind::Hang)).unwrap();
    let late = fails(hasty(&cloud), 504);
    row("KMS does not answer in time").is_seen_on(&late);
}

#[test]
fn a_certificate_that_is_not_trusted() {
    let cloud = cloud();
    let authority = Authority::new();
    let front = Front::start(cloud.address(), authority.certify("127.0.0.1"));
    let by_tls = || cloud.setup_at(&format!("https://{}", front.address()));
    row("the certificate is of an unknown CA").is_seen_on(&fails(by_tls().and_config(HASTY), 503));

    let junk = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(junk.path(), "junk").unwrap();
    let setup = by_tls().and_config(&format!("CaFile = \"{}\"\n", junk.path().display()));
    row("the CA file is no use").is_seen_on(&fails(setup, 503));
}

#[test]
fn a_proxy_that_does_not_let_through() {
    let cloud = cloud();
    let proxy = Proxy::start(&[]);
    let setup = cloud
        .setup_at("https://kms.cn-hangzhou.aliyuncs.com")
        .and_config(HASTY)
        .env("HTTPS_PROXY", proxy.url());
    row("the proxy does not let through").is_seen_on(&fails(setup.clone(), 503));

    let setup = setup.env("NO_PROXY", "*aliyuncs.com");
    row("an entry of `NO_PROXY` has no effect").is_seen_on(&fails(setup, 503));
}

#[test]
fn a_kms_that_fails() {
    for (symptom, fault, status) in [
        (
            "something else answers",
            Fault::new(FaultKind::Garbage),
            502,
        ),
        (
            "KMS itself fails",
            Fault::status(503, "ServiceUnavailableTemporary"),
            503,
        ),
        ("KMS throttles", Fault::new(FaultKind::Throttle), 503),
    ] {
        let cloud = cloud();
        cloud.fault(fault).unwrap();
        row(symptom).is_seen_on(&fails(hasty(&cloud), status));
    }
}

#[test]
fn a_ceiling_that_is_reached() {
    let cloud = cloud();
    let agent = cloud
        .setup()
        .and_config("MaxRequestsPerSecond = 1\n")
        .start();
    // Far more requests than the agent can send while a reader waits; no client stays for the answer.
    let _readers: Vec<_> = (0..30)
        .map(|number| {
            let mut connection = Connection::open(agent.port()).unwrap();
            let request = format!(
                "GET /v1/missing-{number} HTTP/1.1\r\nHost: localhost:{}\r\nX-KMS-Token: {TOKEN}\r\n\r\n",
                agent.port()
            );
            connection.send(request.as_bytes()).unwrap();
            connection
        })
        .collect();
    row("the agent's own ceiling is reached").is_seen_on(&agent);
}

#[test]
fn a_clock_that_is_wrong() {
    let cloud = cloud();
    cloud.set_clock_offset(3600);
    let agent = hasty(&cloud).start();
    assert_eq!(agent.read("s").status, 200);
    row("the machine's clock is wrong").is_seen_on(&agent);
}

#[test]
fn copies_that_have_expired() {
    let cloud = cloud();
    let agent = hasty(&cloud).start();
    assert_eq!(agent.read("s").status, 200);
    cloud.fault(Fault::new(FaultKind::Cut)).unwrap();
    // The cached entry lasts for a second.
    let is_stale = || {
        let reply = agent.read("s");
        reply.header("cache-status").unwrap().contains("ttl=-")
    };
    while !is_stale() {
        thread::sleep(Duration::from_millis(50));
    }
    row("readers get old values").is_seen_on(&agent);
}

#[test]
fn a_prefetch_that_cannot_be_had() {
    let cloud = cloud();
    let agent = cloud
        .setup()
        .and_config("[Cache]\nPrefetch = [\"missing\"]\n")
        .start();
    row("a prefetched secret is missing").is_seen_on(&agent);
}
