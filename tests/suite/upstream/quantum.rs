//! The switch for post-quantum key exchange.

use tokio_rustls::rustls::NamedGroup;

use super::{by_tls, until_told};
use crate::harness::cloud::Cloud;
use crate::harness::network::{Authority, Front, Narrow};

#[test]
fn without_post_quantum_only_classical_groups_are_offered() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let authority = Authority::new();
    let front = Front::start(cloud.address(), authority.certify("127.0.0.1"));
    let agent = by_tls(&cloud, front.address(), &authority.root_file())
        .and_config("PostQuantum = false\n")
        .start();
    assert_eq!(agent.read("s").status, 200);
    let seen = front.handshakes();
    assert_eq!(seen[0].first_group, NamedGroup::X25519);
    assert_eq!(seen[0].group, NamedGroup::X25519);
    assert!(!seen[0].asked_again, "its share was not in the first hello");
}

#[test]
fn without_post_quantum_certificates_are_checked_as_before() {
    let cloud = Cloud::start();
    let authority = Authority::new();
    for (chain, why) in [
        (authority.certify("kms.example.com"), "for another name"),
        (authority.certify_until("127.0.0.1", 2020), "has expired"),
        (Authority::new().certify("127.0.0.1"), "no trusted CA"),
    ] {
        let front = Front::start(cloud.address(), chain);
        let agent = by_tls(&cloud, front.address(), &authority.root_file())
            .and_config("PostQuantum = false\n")
            .start();
        assert_eq!(agent.read("s").status, 503);
        until_told(&agent, why);
    }
    assert!(cloud.calls().is_empty());
}

#[test]
fn a_box_that_takes_one_packet_only_lets_a_classical_handshake_through() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let authority = Authority::new();
    let front = Front::start(cloud.address(), authority.certify("127.0.0.1"));
    let narrow = Narrow::start(front.address());
    let setup = by_tls(&cloud, narrow.address(), &authority.root_file());
    let agent = setup.clone().start();
    assert_eq!(agent.read("s").status, 503);
    until_told(&agent, "the TLS handshake was cut");

    let agent = setup.and_config("PostQuantum = false\n").start();
    assert_eq!(agent.read("s").status, 200, "{}", agent.stderr());
}
