//! Way from this machine to the endpoint: its name, and an unsigned request.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use kms_agent_core::Clock;

use super::StepOutcome;
use super::remedy;
use crate::client::KmsSource;
use crate::gateway::skew::Skew;
use crate::host::Environment;
use crate::http::{HttpErrorKind, ProxySettings, TlsFault, look_up};
use crate::location::endpoint::Endpoint;
use crate::settings::Settings;

/// More addresses of a name are not told.
const MOST_ADDRESSES: usize = 3;

pub(super) struct Way<'a> {
    source: &'a KmsSource,
    endpoint: &'a Endpoint,
    /// The proxy in between, without its password.
    proxy: Option<String>,
    /// Whether one is set that cannot be used.
    proxy_is_broken: bool,
    has_ca_file: bool,
    look_up_timeout: Duration,
    /// The same source without a post-quantum key exchange, where that is switched on.
    classical: Option<&'a KmsSource>,
    clock: &'a dyn Clock,
}

impl<'a> Way<'a> {
    pub(super) fn new(
        source: &'a KmsSource,
        settings: &Settings,
        environment: &Environment,
        endpoint: &'a Endpoint,
        classical: Option<&'a KmsSource>,
        clock: &'a dyn Clock,
    ) -> Self {
        let settings_of_proxy = ProxySettings::from_environment(environment)
            .filter(|_| endpoint.is_secure() && !endpoint.is_loopback());
        let proxy = settings_of_proxy.as_ref();
        Self {
            source,
            endpoint,
            proxy: proxy.and_then(|proxy| proxy.on_the_way_to(&endpoint.origin())),
            proxy_is_broken: proxy.is_some_and(|proxy| proxy.problem().is_some()),
            has_ca_file: settings.kms.ca_file.is_some(),
            look_up_timeout: settings.kms.connect_timeout,
            classical,
            clock,
        }
    }

    pub(super) async fn look_up(&self) -> StepOutcome {
        if self.proxy_is_broken {
            return StepOutcome::Skipped("left to a proxy that cannot be used");
        }
        if let Some(proxy) = &self.proxy {
            return StepOutcome::Passed(format!("left to the proxy {proxy}"));
        }
        let Some(name) = self.endpoint.name() else {
            return StepOutcome::Passed(format!("{} is an address", self.endpoint.authority()));
        };
        let why = match look_up(name, self.look_up_timeout).await {
            Ok(addresses) => {
                let addresses: BTreeSet<String> =
                    addresses.iter().map(ToString::to_string).collect();
                let shown: Vec<String> = addresses.into_iter().take(MOST_ADDRESSES).collect();
                return StepOutcome::Passed(format!("{name} is {}", shown.join(", ")));
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => "no answer in time".to_owned(),
            Err(error) => error.to_string(),
        };
        StepOutcome::failed(
            format!("{name} is not known here: {why}"),
            self.another_way().await,
        )
    }

    /// Asks for nothing, unsigned. Any answer will do; its date tells the clock of KMS.
    pub(super) async fn knock(&self) -> (StepOutcome, Option<Skew>) {
        let authority = self.endpoint.authority();
        let error = match self.source.knock(self.endpoint).await {
            Ok(response) => {
                let skew = Skew::measure(&response, self.clock.wall());
                let by = match &self.proxy {
                    Some(proxy) => format!(" by way of the proxy {proxy}"),
                    None => String::new(),
                };
                let how = if self.endpoint.is_secure() {
                    "over TLS"
                } else {
                    "in plain HTTP"
                };
                let said = format!("{authority} answers {how}{by}");
                return (StepOutcome::Passed(said), skew);
            }
            Err(error) => error,
        };
        let remedy = match error.kind() {
            // Says itself what to do.
            HttpErrorKind::Setup => return (StepOutcome::failed(error.to_string(), ""), None),
            HttpErrorKind::Tls(TlsFault::Cut) if self.answers_without_post_quantum().await => {
                "set KMS.PostQuantum = false, with which it answers here: something in between does not take a first TLS message of two packets"
                    .to_owned()
            }
            HttpErrorKind::Tls(fault) => remedy::of_tls(fault, self.has_ca_file).to_owned(),
            kind if remedy::is_about_the_way(kind) => self.another_way().await,
            _ => "check KMS.Endpoint, and what sits in between".to_owned(),
        };
        (
            StepOutcome::failed(format!("{authority}: {error}"), remedy),
            None,
        )
    }

    /// Whether the endpoint can be reached with the smaller first message of a handshake.
    async fn answers_without_post_quantum(&self) -> bool {
        match self.classical {
            Some(classical) => classical.knock(self.endpoint).await.is_ok(),
            None => false,
        }
    }

    /// Remedy for an endpoint that cannot be reached.
    async fn another_way(&self) -> String {
        let authority = self.endpoint.authority();
        let inner = self.inner_gateway();
        if let Some(inner) = &inner
            && self.source.knock(inner).await.is_ok()
        {
            let name = inner.authority();
            return format!("set KMS.Endpoint = \"{name}\", which answers here");
        }
        if self.proxy.is_some() {
            return "check HTTPS_PROXY, or put the host into NO_PROXY to go without".to_owned();
        }
        match inner {
            Some(inner) => format!(
                "let this machine reach the internet, or inside a VPC of that region set KMS.Endpoint = \"{}\"",
                inner.authority()
            ),
            None => format!(
                "check KMS.Endpoint, and let this machine reach {authority}, if need be by HTTPS_PROXY"
            ),
        }
    }

    /// The gateway inside the VPC, where this is the public one of a region.
    fn inner_gateway(&self) -> Option<Endpoint> {
        let region = self.endpoint.region()?;
        (*self.endpoint == Endpoint::kms(&region)).then(|| Endpoint::kms_vpc(&region))
    }
}
