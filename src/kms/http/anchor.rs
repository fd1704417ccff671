//! The certificates that an operator trusts besides the machine's.

use std::fmt;
use std::path::PathBuf;

use reqwest::Certificate;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::error::{HttpError, HttpErrorKind};
use crate::file;

const MAX_CA_FILE_BYTES: usize = 1024 * 1024;

/// Reads a PEM file of trust anchors, each looked at by itself, so that the one that is no use is named.
pub(super) async fn read(path: PathBuf) -> Result<Vec<Certificate>, HttpError> {
    let complain = |what: &dyn fmt::Display| {
        HttpError::new(
            HttpErrorKind::Setup,
            format!("KMS.CaFile {}: {what}", path.display()),
        )
    };
    let pem = file::read(path.clone(), MAX_CA_FILE_BYTES)
        .await
        .map_err(|error| complain(&format_args!("cannot be read: {error}")))?;
    let mut anchors = Vec::new();
    for (index, certificate) in CertificateDer::pem_slice_iter(&pem).enumerate() {
        let broken = || {
            complain(&format_args!(
                "its certificate number {} is broken",
                index + 1
            ))
        };
        let certificate = certificate.map_err(|_| broken())?;
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|_| broken())?;
        anchors.push(Certificate::from_der(&certificate).map_err(|_| broken())?);
    }
    if anchors.is_empty() {
        return Err(complain(
            &"holds no certificate; it must be PEM text, with lines BEGIN CERTIFICATE",
        ));
    }
    Ok(anchors)
}
