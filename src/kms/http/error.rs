use std::fmt;

/// Kind of the failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpErrorKind {
    /// The client could not be made; the operator must fix the configuration or the machine.
    Setup,
    /// No connection came about.
    Connect,
    /// The server's identity could not be established, or the TLS session broke.
    Tls(TlsFault),
    /// The answer did not come in time.
    Timeout,
    /// The connection ended before the answer did.
    Cut,
    /// The same, before anything of an answer came, and the connection had been used before: its end may have
    /// crossed the request, so that nobody ever read it.
    Stale,
    /// The answer is not HTTP.
    Garbled,
    /// The answer is larger than the request allowed.
    TooLarge,
    /// Anything else.
    Other,
}

/// Fault of a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsFault {
    /// No trusted CA signed the server's certificate.
    Untrusted,
    /// The certificate is for another name.
    OtherName,
    /// The certificate's time is over, by this machine's clock.
    Expired,
    /// The certificate's time is yet to come, by this machine's clock.
    NotYetValid,
    /// The certificate is not for a server.
    Unfit,
    /// No version or algorithm that both sides would use.
    NothingInCommon,
    /// The server does not speak TLS.
    NotSpoken,
    /// The connection was cut before the handshake was over.
    Cut,
    /// Anything else.
    Other,
}

/// A request that got no answer. Its text names neither URL nor header nor body.
#[derive(Clone, Debug)]
pub(crate) struct HttpError {
    kind: HttpErrorKind,
    detail: String,
    /// The proxy that was asked to lead there, without its password.
    proxy: Option<String>,
}

impl HttpError {
    pub(crate) fn new(kind: HttpErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            proxy: None,
        }
    }

    /// The same failure, known better.
    #[must_use]
    pub(super) fn of_kind(mut self, kind: HttpErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Names the proxy on the way, if there is one and no answer came back.
    #[must_use]
    pub(super) fn by_way_of(mut self, proxy: impl FnOnce() -> Option<String>) -> Self {
        if matches!(
            self.kind,
            HttpErrorKind::Connect
                | HttpErrorKind::Timeout
                | HttpErrorKind::Cut
                | HttpErrorKind::Tls(TlsFault::Cut)
        ) {
            self.proxy = proxy();
        }
        self
    }

    /// Says that the connection had been used before.
    #[must_use]
    pub(super) fn on_used_connection(mut self) -> Self {
        if self.kind == HttpErrorKind::Cut {
            self.kind = HttpErrorKind::Stale;
        }
        self
    }

    /// Names the proxy in between, if there was one.
    pub(crate) fn by_proxy(&self) -> String {
        let proxy = self.proxy.as_ref();
        proxy.map_or_else(String::new, |proxy| format!(" by way of the proxy {proxy}"))
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
            Self::Unfit => "the server's certificate is of no use",
            Self::NothingInCommon => "the server offers no TLS 1.2 or newer that is safe",
            Self::NotSpoken => "the server does not speak TLS",
            Self::Cut => "the TLS handshake was cut",
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
            HttpErrorKind::Cut | HttpErrorKind::Stale => "the connection was cut",
            HttpErrorKind::Garbled => "the answer is not HTTP",
            HttpErrorKind::TooLarge => "the answer is too large",
            HttpErrorKind::Other => "the request failed",
        };
        write!(f, "{what}{}", self.by_proxy())?;
        if self.detail.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.detail)
    }
}

impl std::error::Error for HttpError {}
