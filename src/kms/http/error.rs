use std::fmt;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpErrorKind {
    /// The client could not be made; somebody must mend the configuration or the machine.
    Setup,
    /// No connection came about.
    Connect,
    /// The server's identity could not be established, or the TLS session broke.
    Tls(TlsFault),
    /// The answer did not come in time.
    Timeout,
    /// The connection ended before the answer did.
    Cut,
    /// What came was no HTTP.
    Garbled,
    /// The answer is larger than the request allowed.
    TooLarge,
    /// Anything else.
    Other,
}

/// What is the matter with a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsFault {
    /// Nobody who is trusted vouches for the server's certificate.
    Untrusted,
    /// The certificate is for another name.
    OtherName,
    /// The certificate's time is over, by this machine's clock.
    Expired,
    /// The certificate's time is yet to come, by this machine's clock.
    NotYetValid,
    /// No version or algorithm that both sides would use.
    NothingInCommon,
    /// The server does not speak TLS.
    NotSpoken,
    /// Anything else.
    Other,
}

/// A request that got no answer. Its text names neither URL nor header nor body.
#[derive(Clone, Debug)]
pub(crate) struct HttpError {
    kind: HttpErrorKind,
    detail: String,
}

impl HttpError {
    pub(crate) fn new(kind: HttpErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }

    pub(crate) fn kind(&self) -> HttpErrorKind {
        self.kind
    }
}

impl TlsFault {
    const fn sentence(self) -> &'static str {
        match self {
            Self::Untrusted => "no trusted CA vouches for the server's certificate",
            Self::OtherName => "the server's certificate is for another name",
            Self::Expired => "the server's certificate has expired",
            Self::NotYetValid => "the server's certificate is not valid yet",
            Self::NothingInCommon => "the server offers no TLS 1.2 or newer that is safe",
            Self::NotSpoken => "the server does not speak TLS",
            Self::Other => "the TLS handshake failed",
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            HttpErrorKind::Setup => return f.write_str(&self.detail),
            HttpErrorKind::Connect => "no connection",
            HttpErrorKind::Tls(fault) => fault.sentence(),
            HttpErrorKind::Timeout => "no answer in time",
            HttpErrorKind::Cut => "the connection was cut",
            HttpErrorKind::Garbled => "the answer is no HTTP",
            HttpErrorKind::TooLarge => "the answer is too large",
            HttpErrorKind::Other => "the request failed",
        };
        write!(f, "{what} ({})", self.detail)
    }
}

impl std::error::Error for HttpError {}
