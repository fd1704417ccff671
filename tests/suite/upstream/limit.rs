//! Limits on answers of servers, in size and time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use kms_agent_emulator::{Action, Fault, FaultKind};

use super::until_told;
use crate::harness::cloud::Cloud;

/// Sends every connection the same answer and closes it.
struct Canned(SocketAddr);

impl Canned {
    fn start(headers: &str, body: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
            body.len()
        )
        .into_bytes();
        answer.extend_from_slice(body);
        // It ends with the test process.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                // The client may have disconnected.
                let _ = stream.write_all(&answer);
            }
        });
        Self(address)
    }
}

/// `{"SecretName":"s","VersionId":"1","SecretData":"v"}`, compressed by gzip.
const ZIPPED: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab, 0x56, 0x0a, 0x4e, 0x4d, 0x2e,
    0x4a, 0x2d, 0xf1, 0x4b, 0xcc, 0x4d, 0x55, 0xb2, 0x52, 0x2a, 0x56, 0xd2, 0x51, 0x0a, 0x4b, 0x2d,
    0x2a, 0xce, 0xcc, 0xcf, 0xf3, 0x4c, 0x01, 0xf2, 0x0d, 0x81, 0x7c, 0x88, 0x02, 0x97, 0xc4, 0x92,
    0x44, 0xa0, 0x40, 0x99, 0x52, 0x2d, 0x00, 0xef, 0xe8, 0x89, 0xb8, 0x33, 0x00, 0x00, 0x00,
];

#[test]
fn a_coded_body_is_neither_asked_for_nor_decoded() {
    let cloud = Cloud::start();
    let plain = Canned::start(
        "",
        br#"{"SecretName":"s","VersionId":"1","SecretData":"v"}"#,
    );
    let agent = cloud.setup_at(&format!("http://{}", plain.0)).start();
    assert_eq!(agent.read("s").json()["SecretData"], "v");

    let coded = Canned::start("Content-Encoding: gzip\r\n", ZIPPED);
    let agent = cloud
        .setup_at(&format!("http://{}", coded.0))
        .and_config("MaxAttempts = 1\n")
        .start();
    let reply = agent.read("s");
    assert_eq!(
        (reply.status, reply.json()["Code"].as_str()),
        (502, Some("InvalidUpstreamAnswer"))
    );
}

#[test]
fn an_answer_may_have_a_mebibyte_and_no_more() {
    let cloud = Cloud::start();
    let envelope = r#"{"SecretName":"s","VersionId":"1","SecretData":""}"#.len();
    for (bytes, status) in [(1024 * 1024, 200), (1024 * 1024 + 1, 502)] {
        let value = "v".repeat(bytes - envelope);
        let body = format!(r#"{{"SecretName":"s","VersionId":"1","SecretData":"{value}"}}"#);
        assert_eq!(body.len(), bytes);
        let server = Canned::start("", body.as_bytes());
        let agent = cloud
            .setup_at(&format!("http://{}", server.0))
            .and_config("MaxAttempts = 1\n")
            .start();
        let reply = agent.read("s");
        assert_eq!(reply.status, status, "{bytes}");
        if status == 200 {
            assert_eq!(reply.body.len(), bytes);
        }
    }
}

#[test]
fn the_metadata_service_may_say_little() {
    let cloud = Cloud::start();
    cloud
        .fault(Fault::new(FaultKind::Oversize).on(Action::Metadata))
        .unwrap();
    let agent = cloud
        .setup()
        .and_config(&format!(
            "[Credentials]\nMetadataEndpoint = \"{}\"\n",
            cloud.base_url()
        ))
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "")
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "")
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "false")
        .start();
    let reply = agent.read("s");
    assert_eq!(reply.json()["Code"], "CredentialsUnavailable");
    until_told(&agent, "too large (more than 65536 bytes)");
}

#[test]
fn a_body_that_trickles_is_given_up() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    cloud
        .fault(Fault::new(FaultKind::SlowBody).after(Duration::from_secs(5)))
        .unwrap();
    let agent = cloud
        .setup()
        .and_config("RequestTimeoutMs = 300\nMaxAttempts = 1\n")
        .start();
    let reply = agent.read("s");
    assert_eq!(
        (reply.status, reply.json()["Code"].as_str()),
        (504, Some("UpstreamTimeout"))
    );
}

#[test]
fn a_redirect_leads_nowhere() {
    let cloud = Cloud::start();
    let elsewhere = Cloud::start();
    for status in [301, 302, 303, 307, 308] {
        let mut fault = Fault::new(FaultKind::Redirect);
        fault.status = Some(status);
        fault
            .headers
            .insert("location".to_owned(), elsewhere.base_url().to_owned());
        cloud.clear_faults();
        cloud.fault(fault).unwrap();
        let agent = cloud.setup().and_config("MaxAttempts = 1\n").start();
        let reply = agent.read("s");
        assert_eq!(reply.json()["Code"], "InvalidUpstreamAnswer", "{status}");
    }
    assert!(elsewhere.calls().is_empty());
    assert_eq!(cloud.calls().len(), 5);
}

#[test]
fn kms_is_left_alone_for_as_long_as_it_asks() {
    for (header, value) in [("x-acs-retry-after", "1200"), ("Retry-After", "1")] {
        let cloud = Cloud::start();
        cloud.put("s", "value");
        let mut fault = Fault::new(FaultKind::Throttle).times(1);
        fault.headers.insert(header.to_owned(), value.to_owned());
        cloud.fault(fault).unwrap();
        let agent = cloud.setup().start();
        assert_eq!(agent.read("s").status, 200);
        let at: Vec<_> = cloud.calls().iter().map(|call| call.at).collect();
        let [first, second] = at.as_slice() else {
            panic!("two calls were expected: {at:?}");
        };
        // This is the minimum; a slow machine takes longer.
        assert!(second.duration_since(*first).unwrap() >= Duration::from_secs(1));
    }
}

#[test]
fn a_pause_that_no_reader_would_wait_for_is_passed_on() {
    for (header, value) in [("x-acs-retry-after", "60000"), ("Retry-After", "60")] {
        let cloud = Cloud::start();
        let mut fault = Fault::new(FaultKind::Throttle);
        fault.headers.insert(header.to_owned(), value.to_owned());
        cloud.fault(fault).unwrap();
        let agent = cloud.setup().start();
        let reply = agent.read("s");
        assert_eq!(reply.json()["Code"], "KmsThrottled");
        let told: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((50..=60).contains(&told), "{told}");
        assert_eq!(cloud.reads(), 1);
    }
}
