//! Failures between this machine and KMS.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::{ALONE, Check};
use crate::harness::cloud::{BINARY, Cloud};
use crate::harness::network::{Authority, Front, Narrow, Proxy};

const PUBLIC: &str = "kms.cn-hangzhou.aliyuncs.com";
const INNER: &str = "kms-vpc.cn-hangzhou.aliyuncs.com";

/// A check that connects to `front` over TLS.
fn by(cloud: &Cloud, front: &Front) -> Check {
    Check::of(cloud, &format!("https://{}", front.address()))
}

#[test]
fn clocks_that_differ() {
    for (seconds, side) in [
        (3600, "60 min behind that of KMS"),
        (-8 * 3600, "8 h ahead of that of KMS"),
    ] {
        let cloud = Cloud::start();
        cloud.set_clock_offset(seconds);
        // A second may pass between the two.
        let said = Check::new(&cloud).run();
        let line = said.line("clock");
        let near = side.replace("60 min", "59 min").replace("8 h", "7 h");
        assert!(
            line.starts_with("FAILED") && (line.contains(side) || line.contains(&near)),
            "{said:?}"
        );
        assert!(line.contains("NTP"), "{line}");
        // The agent corrects the skew by itself.
        assert!(said.line("kms").starts_with("ok"), "{said:?}");
        assert_eq!(said.code, Some(1));
    }
}

#[test]
fn a_name_that_nobody_knows() {
    let cloud = Cloud::start();
    let mut check = Check::of(&cloud, "gateway.example");
    check.wrapper = ALONE;
    let said = check.fails(1, "dns", &["gateway.example", "KMS.Endpoint"]);
    for step in ["endpoint", "clock", "kms"] {
        assert!(said.line(step).starts_with("skipped"), "{said:?}");
    }
    let mut check = Check::of(&cloud, PUBLIC);
    check.wrapper = ALONE;
    check.fails(1, "dns", &[PUBLIC, &format!("KMS.Endpoint = \"{INNER}\"")]);
}

#[test]
fn nobody_who_listens() {
    let cloud = Cloud::start();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    Check::of(&cloud, &format!("https://{address}")).fails(
        1,
        "endpoint",
        &["no connection", "Connection refused", "KMS.Endpoint"],
    );
}

#[test]
fn a_gateway_with_a_ca_of_its_own() {
    let cloud = Cloud::start();
    let authority = Authority::new();
    let front = Front::start(cloud.address(), authority.certify("127.0.0.1"));
    by(&cloud, &front).fails(1, "endpoint", &["no trusted CA", "KMS.CaFile"]);
    by(&cloud, &front)
        .ca_file(&Authority::new().root_file())
        .fails(
            1,
            "endpoint",
            &["no trusted CA", "KMS.CaFile does not hold the CA"],
        );
    for anchor in [authority.root_file(), authority.intermediate_file()] {
        let said = by(&cloud, &front).ca_file(&anchor).passes();
        assert!(said.line("endpoint").contains("answers over TLS"));
    }
}

#[test]
fn a_ca_file_that_is_no_use() {
    let cloud = Cloud::start();
    let authority = Authority::new();
    let front = Front::start(cloud.address(), authority.certify("127.0.0.1"));
    let check = by(&cloud, &front);
    let path = check.path("ca.pem");
    let check = check.ca_file(&path);
    check.fails(1, "endpoint", &["KMS.CaFile", "ca.pem", "cannot be read"]);
    std::fs::write(&path, "junk").unwrap();
    check.fails(1, "endpoint", &["KMS.CaFile", "ca.pem", "PEM text"]);
    let good = std::fs::read_to_string(authority.root_file()).unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&path, format!("{good}{broken}")).unwrap();
    check.fails(1, "endpoint", &["KMS.CaFile", "ca.pem", "number 2"]);
    std::fs::write(&path, good).unwrap();
    check.passes();
}

#[test]
fn a_machine_without_ca_certificates() {
    let cloud = Cloud::start();
    let authority = Authority::new();
    let front = Front::start(cloud.address(), authority.certify("127.0.0.1"));
    let check = by(&cloud, &front)
        .env("SSL_CERT_FILE", "/no/such/bundle.pem")
        .env("SSL_CERT_DIR", "/no/such/folder");
    check.fails(1, "endpoint", &["CA certificates", "KMS.CaFile"]);
    check.ca_file(&authority.root_file()).passes();
}

#[test]
fn a_certificate_that_is_not_the_endpoints_or_not_of_today() {
    let cloud = Cloud::start();
    let authority = Authority::new();
    let ca = authority.root_file();
    let other = Front::start(cloud.address(), authority.certify("kms.example.com"));
    by(&cloud, &other).ca_file(&ca).fails(
        1,
        "endpoint",
        &["another name (it is for kms.example.com)", "KMS.Endpoint"],
    );
    let expired = Front::start(cloud.address(), authority.certify_until("127.0.0.1", 2020));
    by(&cloud, &expired).ca_file(&ca).fails(
        1,
        "endpoint",
        &["has expired", "2020-01-01", "clock", "renewed"],
    );
}

#[test]
fn a_certificate_without_a_name_or_of_a_ca() {
    let cloud = Cloud::start();
    let authority = Authority::new();
    let ca = authority.root_file();
    let nameless = Front::start(cloud.address(), authority.certify_nobody());
    by(&cloud, &nameless).ca_file(&ca).fails(
        1,
        "endpoint",
        &["another name (it has no subjectAltName"],
    );
    let own = Front::start(cloud.address(), authority.show_itself());
    by(&cloud, &own).ca_file(&ca).fails(
        1,
        "endpoint",
        &["of no use (Ca used as end entity)", "made for servers"],
    );
}

#[test]
fn a_server_that_does_not_speak_tls() {
    let cloud = Cloud::start();
    Check::of(&cloud, &format!("https://{}", cloud.endpoint())).fails(
        1,
        "endpoint",
        &["does not speak TLS", "port in KMS.Endpoint"],
    );
}

#[test]
fn something_in_between_that_is_not_kms() {
    let cloud = Cloud::start();
    cloud
        .fault(kms_agent_emulator::Fault::new(
            kms_agent_emulator::FaultKind::Garbage,
        ))
        .unwrap();
    Check::new(&cloud).fails(1, "kms", &["not from KMS", "KMS.Endpoint"]);
}

/// A proxy that allows only the gateway inside the VPC, and a check that must use it.
fn through_proxy(cloud: &Cloud, hosts: &[&str]) -> (Check, Proxy, (Authority, Vec<Front>)) {
    let authority = Authority::new();
    let fronts: Vec<Front> = hosts
        .iter()
        .map(|host| Front::start(cloud.address(), authority.certify(host)))
        .collect();
    let hosts: Vec<String> = hosts.iter().map(|host| format!("{host}:443")).collect();
    let routes: Vec<_> = hosts
        .iter()
        .zip(&fronts)
        .map(|(host, front)| (host.as_str(), front.address()))
        .collect();
    let proxy = Proxy::start(&routes);
    let mut check = Check::of(cloud, "")
        .ca_file(&authority.root_file())
        .config("Region = \"cn-hangzhou\"\n")
        .env("HTTPS_PROXY", proxy.url());
    check.config = check.config.replace("Endpoint = \"\"\n", "");
    (check, proxy, (authority, fronts))
}

#[test]
fn the_region_that_the_store_was_last_used_with() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let (mut check, _proxy, _behind) = through_proxy(&cloud, &[PUBLIC]);
    let place = check.folder.path().display();
    let cache = format!(
        "[Cache]\nCacheType = \"Persistent\"\n\
         [Cache.Persistent]\nPath = \"{place}/cache/store\"\nKeyFile = \"{place}/keys/key\"\n"
    );
    let told = format!("{}{cache}", check.config);
    check.config = told.replace("Region = \"cn-hangzhou\"\n", "");
    check.fails(1, "region", &["KMS.Region"]);
    let setup = kms_agent_test_support::Setup::new(BINARY).config(told);
    let setup = check
        .environment
        .iter()
        .fold(setup, |setup, (name, value)| setup.env(name, value));
    let agent = setup.start();
    assert_eq!(agent.read("s").status, 200, "{}", agent.stderr());
    // The store is inspected while the agent has it open, after the first write.
    let region = "region       cn-hangzhou, as the store was last used";
    let began = Instant::now();
    while !check.run().stdout.contains(region) {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "it is never reported"
        );
    }
    agent.stop();
    let store = || std::fs::read(check.path("cache/store")).unwrap();
    let before = store();
    assert!(check.passes().stdout.contains(region));
    assert!(store() == before, "the store was changed");
}

#[test]
fn a_proxy_that_leads_to_kms_is_named_without_its_password() {
    let cloud = Cloud::start();
    let (check, proxy, _behind) = through_proxy(&cloud, &[PUBLIC]);
    let said = check.passes();
    assert!(said.line("dns").contains("left to the proxy 127.0.0.1:"));
    assert!(said.line("endpoint").contains("by way of the proxy"));
    assert!(!said.stdout.contains(Proxy::PASSWORD));
    assert!(
        proxy
            .requests()
            .iter()
            .all(|line| line.starts_with(&format!("CONNECT {PUBLIC}:443 "))),
        "{:?}",
        proxy.requests()
    );
}

#[test]
fn a_proxy_that_refuses() {
    let cloud = Cloud::start();
    let (check, _proxy, _behind) = through_proxy(&cloud, &[]);
    let said = check.fails(1, "endpoint", &["tunnel", "HTTPS_PROXY", "NO_PROXY"]);
    assert!(!said.stdout.contains(Proxy::PASSWORD));
    let check = check.env("HTTPS_PROXY", "http://127.0.0.1:1");
    check.fails(
        1,
        "endpoint",
        &[
            "by way of the proxy 127.0.0.1:1 (",
            "Connection refused",
            "HTTPS_PROXY",
        ],
    );
    for (url, why) in [
        ("::::", "is not the URL of a proxy"),
        ("socks5://127.0.0.1:1", "names a SOCKS proxy"),
    ] {
        let check = Check::of(&cloud, &format!("https://{PUBLIC}")).env("HTTPS_PROXY", url);
        let said = check.fails(1, "endpoint", &["HTTPS_PROXY", why, "http://host:port"]);
        assert!(said.line("dns").starts_with("skipped"), "{said:?}");
    }
}

#[test]
fn the_gateway_inside_the_vpc_is_proposed_where_it_answers_and_the_public_one_does_not() {
    let cloud = Cloud::start();
    let (check, _proxy, _behind) = through_proxy(&cloud, &[INNER]);
    let remedy = format!("set KMS.Endpoint = \"{INNER}\", which answers here");
    check.fails(1, "endpoint", &[PUBLIC, &remedy]);
    check.config(&format!("Endpoint = \"{INNER}\"\n")).passes();
}

#[test]
fn a_box_that_takes_one_packet_only() {
    let cloud = Cloud::start();
    let authority = Authority::new();
    let front = Front::start(cloud.address(), authority.certify("127.0.0.1"));
    let narrow = Narrow::start(front.address());
    let check = || {
        let check = Check::of(&cloud, &format!("https://{}", narrow.address()));
        check.ca_file(&authority.root_file())
    };
    check().fails(
        1,
        "endpoint",
        &["the TLS handshake was cut", "KMS.PostQuantum = false"],
    );
    check().config("PostQuantum = false\n").passes();
}
