//! The way out: a port, and the only place that knows the HTTP library.

mod anchor;
mod body;
mod bypass;
mod classify;
mod connect;
mod error;
mod lookup;
mod message;
mod proxy;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kms_agent_core::run_blocking;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Proxy, Response};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use self::body::BodyBuffer;
use self::classify::{chain, classify, classify_by_tls};
use self::connect::Connects;
pub(crate) use self::error::{HttpError, HttpErrorKind, TlsFault};
use self::lookup::Lookup;
pub(crate) use self::lookup::look_up;
pub(crate) use self::message::{HttpRequest, HttpResponse, Method};
pub(crate) use self::proxy::ProxySettings;
use crate::host::digest::fingerprint;

const USER_AGENT: &str = concat!("alibabacloud-kms-agent/", env!("CARGO_PKG_VERSION"));

/// The buffers of a TLS connection hold plaintext for as long as it is pooled. The pool looks for idle
/// connections once in this time, so they are closed within twice of it.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_millis(200);

/// Number of requests with a connection of their own after an answer that was meant for another request.
const SINGLE_USE_REQUESTS: u32 = 200;

/// Sends one request and reads the whole answer.
///
/// Implementers keep to the request's time and size limits, follow no redirects, repeat nothing by
/// themselves, and give back an answer of any status as `Ok`. The error's text holds no URL, header or body.
/// Dropping the future abandons the request.
#[async_trait]
pub(crate) trait HttpSend: fmt::Debug + Send + Sync + 'static {
    /// Makes what the first request would make, so that what the operator must mend is known before it; later
    /// makes it again where its files have changed. Returns whether it did anything. After a failure
    /// requests are sent as before.
    async fn prepare(&self) -> Result<bool, HttpError>;

    /// Says that an answer came that does not fit its request. No connection that is open by now is used for
    /// another request.
    fn distrust_connections(&self);

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError>;
}

/// Differences between HTTP clients.
#[derive(Debug)]
pub(crate) struct ClientProfile {
    /// Trust anchors for the server's certificate.
    pub(crate) roots: Roots,
    /// Proxy settings, if there is a proxy.
    pub(crate) proxy: Option<ProxySettings>,
    /// Limit of connecting.
    pub(crate) connect_timeout: Duration,
    /// Whether a post-quantum key exchange is offered, which makes the first message of a handshake larger than a
    /// packet.
    pub(crate) post_quantum: bool,
}

/// Trust anchors for the server's certificate.
#[derive(Debug)]
pub(crate) enum Roots {
    /// None: the client speaks plain HTTP, and needs no CA bundle on the machine.
    None,
    /// The machine's CA bundle.
    System,
    /// The machine's CA bundle and the certificates of a PEM file, each a trust anchor whether or not it is
    /// self-signed.
    SystemAnd(PathBuf),
}

/// [`HttpSend`] over reqwest. The client is built when it is first needed, so that a machine without a CA
/// bundle or with a bad `CaFile` still gets an agent that serves what it holds and says what is missing.
#[derive(Debug)]
pub(crate) struct ReqwestSend {
    profile: ClientProfile,
    /// Stays empty while building fails, which is then tried again.
    made: std::sync::Mutex<Option<Made>>,
    /// Held while a client is built, so that it is built once.
    making: tokio::sync::Mutex<()>,
    /// Number of further requests with a connection of their own.
    single_use: AtomicU32,
}

#[derive(Clone, Debug)]
struct Made {
    client: Client,
    connects: Connects,
    /// Of the file of trust anchors, where there is one.
    fingerprint: Option<String>,
    /// Those trust anchors.
    anchors: Vec<CertificateDer<'static>>,
    /// Whether connections are kept for later requests.
    is_pooled: bool,
}

impl ReqwestSend {
    pub(crate) fn new(profile: ClientProfile) -> Self {
        Self {
            profile,
            made: std::sync::Mutex::default(),
            making: tokio::sync::Mutex::default(),
            single_use: AtomicU32::new(0),
        }
    }

    async fn ready(&self) -> Result<Made, HttpError> {
        match self.made() {
            Some(made) if made.is_pooled == self.wants_pool() => Ok(made),
            Some(_) => self.change_pooling().await,
            None => Ok(self.make().await?.0),
        }
    }

    fn wants_pool(&self) -> bool {
        self.single_use.load(Ordering::Acquire) == 0
    }

    /// The client that keeps connections or does not, as is wanted now. The other one's idle connections go
    /// with it.
    async fn change_pooling(&self) -> Result<Made, HttpError> {
        let _turn = self.making.lock().await;
        let is_pooled = self.wants_pool();
        let Some(old) = self.made() else {
            return Err(HttpError::new(
                HttpErrorKind::Setup,
                "there is no HTTP client",
            ));
        };
        if old.is_pooled == is_pooled {
            return Ok(old);
        }
        let connects = Connects::default();
        let made = Made {
            client: self
                .build(old.anchors.clone(), connects.clone(), is_pooled)
                .await?,
            connects,
            is_pooled,
            ..old
        };
        *self.lock() = Some(made.clone());
        Ok(made)
    }

    /// The client that goes by today's files, and whether it was built just now.
    async fn make(&self) -> Result<(Made, bool), HttpError> {
        let _turn = self.making.lock().await;
        let file = match &self.profile.roots {
            Roots::SystemAnd(path) => Some((path, anchor::read(path).await?)),
            Roots::None | Roots::System => None,
        };
        let fingerprint = file.as_ref().map(|(_, pem)| fingerprint(pem));
        if let Some(made) = self.made().filter(|made| made.fingerprint == fingerprint) {
            return Ok((made, false));
        }
        let anchors = file.map_or(Ok(Vec::new()), |(path, pem)| anchor::parse(path, &pem))?;
        let connects = Connects::default();
        let is_pooled = self.wants_pool();
        let made = Made {
            client: self
                .build(anchors.clone(), connects.clone(), is_pooled)
                .await?,
            connects,
            fingerprint,
            anchors,
            is_pooled,
        };
        *self.lock() = Some(made.clone());
        Ok((made, true))
    }

    fn made(&self) -> Option<Made> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn build(
        &self,
        anchors: Vec<CertificateDer<'static>>,
        connects: Connects,
        is_pooled: bool,
    ) -> Result<Client, HttpError> {
        let is_plain = self.is_plain();
        let proxy = match &self.profile.proxy {
            Some(settings) if !is_plain => Some(settings.proxy()?),
            _ => None,
        };
        let post_quantum = self.profile.post_quantum;
        let plan = ClientPlan {
            // The file of trust anchors counts for TLS alone.
            anchors: (!is_plain).then_some(anchors),
            proxy,
            connect_timeout: self.profile.connect_timeout,
            connects,
            post_quantum,
            is_pooled,
        };
        // Loading the machine's CA bundle reads files.
        run_blocking(move || build(plan)).await.map_err(|error| {
            let text = format!("the HTTP client cannot be built: {error}");
            HttpError::new(HttpErrorKind::Setup, text)
        })?
    }

    fn is_plain(&self) -> bool {
        matches!(self.profile.roots, Roots::None)
    }

    /// The proxy on the way to `url`, without its password.
    fn proxy_to(&self, url: &str) -> Option<String> {
        self.profile.proxy.as_ref()?.on_the_way_to(url)
    }
}

#[async_trait]
impl HttpSend for ReqwestSend {
    async fn prepare(&self) -> Result<bool, HttpError> {
        self.make().await.map(|(_, is_new)| is_new)
    }

    fn distrust_connections(&self) {
        self.single_use
            .store(SINGLE_USE_REQUESTS, Ordering::Release);
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Made {
            client,
            connects,
            is_pooled,
            ..
        } = self.ready().await?;
        if !is_pooled {
            // At zero connections are kept again.
            let _ = self
                .single_use
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
                    left.checked_sub(1)
                });
        }
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        let mut builder = client
            .request(method, &request.url)
            .timeout(request.timeout)
            .headers(header_map(&request.headers)?);
        if !request.body.is_empty() {
            builder = builder.body(Bytes::from_owner(request.body));
        } else if request.method != Method::Get {
            builder = builder.header(reqwest::header::CONTENT_LENGTH, 0);
        }
        let begun_before = connects.begun();
        let mut response = builder.send().await.map_err(|error| {
            let error = if self.is_plain() {
                classify(error)
            } else {
                classify_by_tls(error)
            };
            let error = error.by_way_of(|| self.proxy_to(&request.url));
            // No connection was begun meanwhile, so this one had been used before.
            if connects.begun() == begun_before {
                error.on_used_connection()
            } else {
                error
            }
        })?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .filter_map(|(name, value)| {
                Some((name.as_str().to_owned(), value.to_str().ok()?.into()))
            })
            .collect();
        let body = read_body(&mut response, request.body_limit).await?;
        Ok(HttpResponse {
            status,
            headers,
            body,
        })
    }
}

/// All that a client is built from.
struct ClientPlan {
    /// Trust anchors besides the machine's; `None` for a client without TLS.
    anchors: Option<Vec<CertificateDer<'static>>>,
    proxy: Option<Proxy>,
    connect_timeout: Duration,
    connects: Connects,
    post_quantum: bool,
    /// Whether connections are kept for later requests.
    is_pooled: bool,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that builds clients"
)]
fn build(plan: ClientPlan) -> Result<Client, HttpError> {
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
        .connect_timeout(plan.connect_timeout)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .connector_layer(plan.connects)
        .dns_resolver(Lookup::within(plan.connect_timeout))
        .no_proxy();
    if !plan.is_pooled {
        builder = builder.pool_max_idle_per_host(0);
    }
    builder = match plan.anchors {
        None => builder.tls_certs_only([]),
        Some(anchors) if plan.post_quantum => {
            let anchors = anchors
                .iter()
                .map(|anchor| Certificate::from_der(anchor))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| no_tls(&chain(&error.without_url())))?;
            builder.https_only(true).tls_certs_merge(anchors)
        }
        Some(anchors) => builder
            .https_only(true)
            .tls_backend_preconfigured(tls::classical(anchors).map_err(|why| no_tls(&why))?),
    };
    if let Some(proxy) = plan.proxy {
        builder = builder.proxy(proxy);
    }
    builder
        .build()
        .map_err(|error| no_tls(&chain(&error.without_url())))
}

fn no_tls(why: &str) -> HttpError {
    HttpError::new(
        HttpErrorKind::Setup,
        format!(
            "no TLS client can be built: {why}; install the system's CA certificates (for KMS alone, KMS.CaFile may name a PEM file of trust anchors instead)"
        ),
    )
}

fn header_map(headers: &[(&'static str, Zeroizing<String>)]) -> Result<HeaderMap, HttpError> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let mut value = HeaderValue::from_str(value).map_err(|_| {
            HttpError::new(
                HttpErrorKind::Setup,
                format!("the value of the header {name} cannot be sent: it is not visible ASCII"),
            )
        })?;
        value.set_sensitive(true);
        map.insert(HeaderName::from_static(name), value);
    }
    Ok(map)
}

async fn read_body(response: &mut Response, limit: usize) -> Result<Zeroizing<Vec<u8>>, HttpError> {
    let mut body = BodyBuffer::new(response.content_length(), limit)?;
    while let Some(chunk) = response.chunk().await.map_err(classify)? {
        body.push(&chunk)?;
    }
    Ok(body.finish())
}

#[cfg(test)]
mod tests;
