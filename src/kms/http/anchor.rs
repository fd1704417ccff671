//! The certificates that an operator trusts besides the machine's.

use std::fmt;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::error::{HttpError, HttpErrorKind};
use crate::host::file;

const MAX_CA_FILE_BYTES: usize = 1024 * 1024;

/// Reads the PEM file.
pub(super) async fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, HttpError> {
    file::read(path.to_owned(), MAX_CA_FILE_BYTES)
        .await
        .map_err(|error| {
            let remedy = error
                .remedy()
                .unwrap_or("name the file that holds the gateway's CA".into());
            complain(path, &format_args!("cannot be read: {error}; {remedy}"))
        })
}

/// The trust anchors in `pem`, each looked at by itself, so that the one that is no use is named.
pub(super) fn parse(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    let mut anchors = Vec::new();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let broken = || {
            complain(
                path,
                &format_args!("its certificate number {} is broken", index + 1),
            )
        };
        let certificate = certificate.map_err(|_| broken())?;
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|_| broken())?;
        anchors.push(certificate);
    }
    if anchors.is_empty() {
        return Err(complain(
            path,
            &"holds no certificate; it must be PEM text, with lines BEGIN CERTIFICATE",
        ));
    }
    Ok(anchors)
}

fn complain(path: &Path, what: &dyn fmt::Display) -> HttpError {
    HttpError::new(
        HttpErrorKind::Setup,
        format!("KMS.CaFile {}: {what}", path.display()),
    )
}
