//! TLS without a post-quantum key exchange.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, NamedGroup};
use rustls_platform_verifier::Verifier;

/// The configuration that the HTTP library makes by itself, less the post-quantum groups, with which the first
/// message of a handshake takes more than one packet. The error says why there is none.
pub(super) fn classical(anchors: Vec<CertificateDer<'static>>) -> Result<ClientConfig, String> {
    let mut provider = aws_lc_rs::default_provider();
    provider
        .kx_groups
        .retain(|group| is_classical(group.name()));
    let provider = Arc::new(provider);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier(anchors, provider)?))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn is_classical(group: NamedGroup) -> bool {
    matches!(
        group,
        NamedGroup::X25519 | NamedGroup::secp256r1 | NamedGroup::secp384r1
    )
}

#[cfg(any(unix, windows))]
fn verifier(
    anchors: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Verifier, String> {
    let verifier = if anchors.is_empty() {
        Verifier::new(provider)
    } else {
        Verifier::new_with_extra_roots(anchors, provider)
    };
    verifier.map_err(|error| error.to_string())
}
