use std::sync::Arc;

use kms_agent_emulator::{Emulator, Fault, FaultKind, Options, PutSecret};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::client::{Outgoing, Signer, start};

fn secured() -> Emulator {
    Emulator::start(Options {
        tls: true,
        ..Options::default()
    })
    .unwrap()
}

async fn connect(
    emulator: &Emulator,
    ca_pem: &str,
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(emulator.address()).await.unwrap();
    let name = ServerName::try_from(name).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

#[tokio::test]
async fn the_certificate_is_good_for_every_name_of_loopback() {
    let emulator = secured();
    emulator.put_secret(PutSecret::new("a", "v")).unwrap();
    let ca_pem = emulator.ca_pem().unwrap();
    for name in ["127.0.0.1", "::1", "localhost"] {
        let stream = connect(&emulator, ca_pem, name).await.unwrap();
        let request = Signer::new(emulator.access_key())
            .parameter("SecretName", "a")
            .sign(emulator.endpoint());
        let reply = request.send_over(stream, emulator.endpoint()).await;
        assert_eq!(reply.status, Some(200), "{name}");
    }
    assert!(connect(&emulator, ca_pem, "kms.example.com").await.is_err());
    assert!(emulator.base_url().starts_with("https://127.0.0.1:"));
}

#[tokio::test]
async fn the_certificate_is_good_for_the_names_that_were_asked_for() {
    let name = "kms.cn-hangzhou.aliyuncs.com";
    let emulator = Emulator::start(Options {
        tls: true,
        names: vec![name.to_owned()],
        ..Options::default()
    })
    .unwrap();
    let ca_pem = emulator.ca_pem().unwrap();
    for good in [name, "127.0.0.1"] {
        assert!(connect(&emulator, ca_pem, good).await.is_ok(), "{good}");
    }
}

#[tokio::test]
async fn each_run_has_an_authority_of_its_own() {
    let (one, two) = (secured(), secured());
    assert!(
        connect(&one, two.ca_pem().unwrap(), "localhost")
            .await
            .is_err()
    );
    assert_eq!(start().ca_pem(), None);
}

#[tokio::test]
async fn a_cut_is_a_cut_through_tls_too() {
    let emulator = secured();
    emulator.fault(Fault::new(FaultKind::Cut)).unwrap();
    let stream = connect(&emulator, emulator.ca_pem().unwrap(), "localhost")
        .await
        .unwrap();
    let request = Outgoing::new("GET", "/latest/meta-data/region-id");
    assert_eq!(request.send_over(stream, "x").await.status, None);
}
