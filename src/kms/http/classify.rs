//! Foreign errors stop here.

use std::error::Error;
use std::io;

use kms_agent_core::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

use super::error::{HttpError, HttpErrorKind, TlsFault};

/// Kind of the library's error.
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
    let root = causes(&error)
        .last()
        // "Operation timed out" says it once more.
        .filter(|_| kind != HttpErrorKind::Timeout)
        .map(ToString::to_string);
    HttpError::new(kind, root.unwrap_or_default())
}

/// The same for a client that speaks TLS: a connection that ended while it was made, ended in the handshake.
pub(super) fn classify_by_tls(error: reqwest::Error) -> HttpError {
    let is_cut = error.is_connect() && causes(&error).any(is_end_of_connection);
    let error = classify(error);
    if is_cut && error.kind() == HttpErrorKind::Connect {
        error.of_kind(HttpErrorKind::Tls(TlsFault::Cut))
    } else {
        error
    }
}

/// Whether the other side, or something in between, ended the connection. An I/O error may wrap another.
fn is_end_of_connection(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        ) || error
            .get_ref()
            .is_some_and(|wrapped| is_end_of_connection(wrapped))
    })
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
                let shown: Vec<&str> = presented.iter().take(3).map(|name| bare(name)).collect();
                if shown.is_empty() {
                    "it has no subjectAltName, and its common name does not count".to_owned()
                } else {
                    format!("it is for {}", shown.join(", "))
                }
            }
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("it ended at {}", date(not_after))
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                format!("it begins at {}", date(not_before))
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => String::new(),
            CertificateError::Other(other) => spelt_out(&other.0.to_string()),
            other => spelt_out(&other.to_string()),
        },
        rustls::Error::PeerIncompatible(why) => spelt_out(&format!("{why:?}")),
        rustls::Error::AlertReceived(alert) => {
            format!("it says {}", spelt_out(&format!("{alert:?}")))
        }
        rustls::Error::InvalidMessage(_) => String::new(),
        other => spelt_out(&other.to_string()),
    }
}

/// A name of a certificate as an operator would write it, out of what the library makes of it: `DnsName("a.b")`.
fn bare(name: &str) -> &str {
    name.split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .map_or(name, |inner| inner.trim_matches('"'))
}

/// The library's own words, such as `CaUsedAsEndEntity`, as words.
fn spelt_out(text: &str) -> String {
    let mut spelt = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    for letter in text.chars() {
        if letter.is_ascii_uppercase() && before.is_ascii_lowercase() {
            spelt.push(' ');
            spelt.push(letter.to_ascii_lowercase());
        } else {
            spelt.push(letter);
        }
        before = letter;
    }
    spelt
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
            CertificateError::Revoked
            | CertificateError::BadEncoding
            | CertificateError::UnhandledCriticalExtension
            | CertificateError::InvalidPurpose
            | CertificateError::InvalidPurposeContext { .. }
            | CertificateError::Other(_) => TlsFault::Unfit,
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
    let no_head = error
        .downcast_ref::<hyper::Error>()
        .is_some_and(hyper::Error::is_parse);
    // How the framing of a body is complained of.
    let no_chunk = error.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
        )
    });
    no_head || no_chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_errors_are_reported_in_plain_words() {
        assert_eq!(bare(r#"DnsName("kms.example.com")"#), "kms.example.com");
        assert_eq!(bare("IpAddress(127.0.0.1)"), "127.0.0.1");
        assert_eq!(bare("kms.example.com"), "kms.example.com");
        assert_eq!(spelt_out("CaUsedAsEndEntity"), "Ca used as end entity");
        assert_eq!(spelt_out("no TLS at all"), "no TLS at all");
    }
}
