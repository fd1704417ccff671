use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Put,
}

/// A request, with the limits of its answer. Headers and body may hold secrets.
pub(crate) struct HttpRequest {
    pub(crate) method: Method,
    pub(crate) url: String,
    /// Lower-case names.
    pub(crate) headers: Vec<(&'static str, Zeroizing<String>)>,
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// Limit from the first step to the last byte of the answer.
    pub(crate) timeout: Duration,
    /// The longest answer that is read.
    pub(crate) body_limit: usize,
}

impl HttpRequest {
    /// A `GET` without headers, for small answers of services nearby.
    pub(crate) fn get(url: String, timeout: Duration, body_limit: usize) -> Self {
        Self {
            method: Method::Get,
            url,
            headers: Vec::new(),
            body: Zeroizing::default(),
            timeout,
            body_limit,
        }
    }
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.split('?').next().unwrap_or_default();
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("url", &url)
            .field("headers", &names)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// An answer of any status.
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    /// Lower-case names; only values that are text.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl HttpResponse {
    /// The first header called `name`, which is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
