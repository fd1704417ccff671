//! HTTP clients, one for each kind of server: which of them uses a proxy, and which CAs it trusts.

mod logged;

use std::sync::Arc;

use kms_agent_core::Clock;

use self::logged::Logged;
use crate::host::Environment;
use crate::http::{ClientProfile, HttpSend, ProxySettings, ReqwestSend, Roots};
use crate::location::endpoint::Endpoint;
use crate::location::metadata;
use crate::settings::Settings;

/// One client for each kind of server. Only the clients of KMS and STS use a proxy.
#[derive(Clone, Debug)]
pub(crate) struct HttpClients {
    pub(crate) kms: Arc<dyn HttpSend>,
    pub(crate) sts: Arc<dyn HttpSend>,
    pub(crate) metadata: Arc<dyn HttpSend>,
    pub(crate) uri: Arc<dyn HttpSend>,
}

impl HttpClients {
    pub(crate) fn new(
        settings: &Settings,
        uri_is_secure: bool,
        environment: &Environment,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let kms = &settings.kms;
        let credentials = &settings.credentials;
        // The anchors of `CaFile` are trusted for the endpoint of KMS only.
        let kms_roots = match &kms.ca_file {
            Some(path) => Roots::SystemAnd(path.clone()),
            None => Roots::System,
        };
        let upstream = |endpoint: Option<&Endpoint>, roots| {
            let near = endpoint.is_some_and(Endpoint::is_loopback);
            let proxy = (!near).then(|| ProxySettings::from_environment(environment));
            client(ClientProfile {
                roots: if endpoint.is_none_or(Endpoint::is_secure) {
                    roots
                } else {
                    Roots::None
                },
                proxy: proxy.flatten(),
                connect_timeout: kms.connect_timeout,
                post_quantum: kms.post_quantum,
            })
        };
        let metadata_is_secure = credentials
            .metadata_endpoint
            .as_ref()
            .is_some_and(Endpoint::is_secure);
        let logged = |client, action| -> Arc<dyn HttpSend> {
            Arc::new(Logged::new(client, action, Arc::clone(clock)))
        };
        let near = |secure, connect_timeout| {
            client(ClientProfile {
                // A client that speaks no TLS needs no CA bundle.
                roots: if secure { Roots::System } else { Roots::None },
                proxy: None,
                connect_timeout,
                post_quantum: kms.post_quantum,
            })
        };
        Self {
            // Its calls are logged where their outcome is known.
            kms: upstream(kms.endpoint.as_ref(), kms_roots),
            sts: logged(
                upstream(credentials.sts_endpoint.as_ref(), Roots::System),
                "AssumeRole",
            ),
            metadata: logged(
                near(metadata_is_secure, metadata::CONNECT_TIMEOUT),
                "metadata",
            ),
            uri: logged(near(uri_is_secure, kms.connect_timeout), "credentials URI"),
        }
    }
}

fn client(profile: ClientProfile) -> Arc<dyn HttpSend> {
    Arc::new(ReqwestSend::new(profile))
}
