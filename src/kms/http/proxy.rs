use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{Proxy, Url};
use zeroize::Zeroizing;

use super::bypass::Bypass;
use super::error::{HttpError, HttpErrorKind};
use crate::host::Environment;

/// The operator's proxy for HTTPS.
#[derive(Clone)]
pub(crate) struct ProxySettings {
    /// May hold a password.
    url: Zeroizing<String>,
    bypass: Bypass,
}

impl ProxySettings {
    /// Settings from `HTTPS_PROXY` and `NO_PROXY`, in either case.
    pub(crate) fn from_environment(environment: &Environment) -> Option<Self> {
        let url = either(environment, "HTTPS_PROXY", "https_proxy")?;
        Some(Self {
            url: Zeroizing::new(url.to_owned()),
            bypass: Bypass::parse(no_proxy(environment)),
        })
    }

    /// The entries of `NO_PROXY` that can never match, where there is a proxy at all.
    pub(crate) fn useless_entries(environment: &Environment) -> Vec<&str> {
        match either(environment, "HTTPS_PROXY", "https_proxy") {
            Some(_) => Bypass::useless(no_proxy(environment)),
            None => Vec::new(),
        }
    }

    /// Fault of the proxy.
    pub(crate) fn problem(&self) -> Option<HttpError> {
        self.proxy().err()
    }

    /// The proxy as the HTTP library wants it.
    pub(super) fn proxy(&self) -> Result<Proxy, HttpError> {
        let unusable = |why| {
            let text =
                format!("HTTPS_PROXY {why}; write http://host:port, or unset it to go without");
            HttpError::new(HttpErrorKind::Setup, text)
        };
        if self.url.trim_start().starts_with("socks") {
            return Err(unusable(
                "names a SOCKS proxy, and only HTTP proxies will do",
            ));
        }
        let url = self.url.trim().to_owned();
        if self.authority().is_none() || Proxy::https(&url).is_err() {
            return Err(unusable("is not the URL of a proxy"));
        }
        let bypass = self.bypass.clone();
        Ok(Proxy::custom(move |target| {
            (!is_covered(&bypass, target)).then(|| url.clone())
        }))
    }

    /// The proxy that requests to `url` go through, without its password.
    pub(crate) fn on_the_way_to(&self, url: &str) -> Option<String> {
        let target = Url::parse(url).ok()?;
        (!is_covered(&self.bypass, &target))
            .then(|| self.authority())
            .flatten()
    }

    /// Host and port of the proxy itself.
    fn authority(&self) -> Option<String> {
        let matcher = Matcher::builder().https(self.url.trim().to_owned()).build();
        let proxy = matcher.intercept(&"https://kms.invalid".parse().ok()?)?;
        let authority = proxy.uri().authority()?;
        Some(match authority.port() {
            Some(port) => format!("{}:{port}", authority.host()),
            None => authority.host().to_owned(),
        })
    }
}

impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxySettings")
            .field("bypass", &self.bypass)
            .finish_non_exhaustive()
    }
}

fn either<'a>(environment: &'a Environment, upper: &str, lower: &str) -> Option<&'a str> {
    environment.given(upper).or(environment.given(lower))
}

fn no_proxy(environment: &Environment) -> &str {
    either(environment, "NO_PROXY", "no_proxy").unwrap_or_default()
}

fn is_covered(bypass: &Bypass, target: &Url) -> bool {
    let port = target.port_or_known_default().unwrap_or_default();
    target
        .host_str()
        .is_some_and(|host| bypass.covers(host, port))
}
