use std::fmt;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpErrorKind {
    /// The client could not be made; somebody must mend the configuration or the machine.
    Setup,
    /// No connection came about.
    Connect,
    /// The server's identity could not be established, or the TLS session broke.
    Tls,
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

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            HttpErrorKind::Setup => return f.write_str(&self.detail),
            HttpErrorKind::Connect => "no connection",
            HttpErrorKind::Tls => "the TLS handshake failed",
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
