//! Foreign errors stop here.

use std::error::Error;
use std::io;

use kms_agent_core::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

use super::error::{HttpError, HttpErrorKind, TlsFault};

/// What the library's error is to us.
pub(super) fn classify(error: reqwest::Error) -> HttpError {
    let error = error.without_url();
    if let Some(error) = causes(&error).find_map(tls_error) {
        return HttpError::new(HttpErrorKind::Tls(fault(error)), tls_detail(error));
    }
    let kind = if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if causes(&error).any(is_garbled) {
        HttpErrorKind::Garbled
    } else if error.is_request() || error.is_body() || error.is_decode() {
        HttpErrorKind::Cut
    } else {
        HttpErrorKind::Other
    };
    let root = causes(&error).last().map(ToString::to_string);
    HttpError::new(kind, root.unwrap_or_default())
}

/// The texts of an error and its causes, without repetitions.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let line = cause.to_string();
        if text.ends_with(&line) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&line);
    }
    text
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// An I/O error's `source` leaves out the error that it wraps, so that one is looked at by itself.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    error.downcast_ref().or_else(|| {
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)?;
        tls_error(wrapped)
    })
}

/// In a few words: the library tells seconds of Unix time, and however many names a certificate has.
fn tls_detail(error: &rustls::Error) -> String {
    let date = |time: &UnixTime| {
        let millis = i64::try_from(time.as_secs()).map(|seconds| seconds.saturating_mul(1000));
        let date = millis.ok().map(Timestamp::from_millis);
        date.and_then(Timestamp::to_rfc3339).unwrap_or_default()
    };
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::NotValidForNameContext { presented, .. } => {
                let shown: Vec<&str> = presented.iter().take(3).map(String::as_str).collect();
                format!("it is for {}", shown.join(", "))
            }
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("it ended at {}", date(not_after))
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                format!("it begins at {}", date(not_before))
            }
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

fn fault(error: &rustls::Error) -> TlsFault {
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            // The latter of a CA that has the same name as one who is trusted.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::Untrusted,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsFault::OtherName
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                TlsFault::Expired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsFault::NotYetValid
            }
            _ => TlsFault::Other,
        },
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::AlertReceived(
            AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity,
        ) => TlsFault::NothingInCommon,
        rustls::Error::InvalidMessage(_) => TlsFault::NotSpoken,
        _ => TlsFault::Other,
    }
}

fn is_garbled(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<hyper::Error>()
        .is_some_and(hyper::Error::is_parse)
}
