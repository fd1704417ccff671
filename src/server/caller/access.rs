//! Rules of access, and the one decision on each use of a secret.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use axum::extract::FromRequestParts;
use http::request::Parts;
use kms_agent_core::pattern::Pattern;
use kms_agent_core::{SecretId, SecretRef};
use tokio::sync::watch;

use super::client::{Client, DEFAULT_CLIENT, covers};
use super::peer::{GroupLookup, Peer, UnmappedIds};
use super::token::{Token, TokenStore};
use crate::error::{ApiError, Reject};
use crate::log::refusal::RefusalLog;

/// Text of every refusal. It depends neither on the secret nor on the caller, and is the same for names that do not
/// exist.
const DENIED: &str = "This caller may not do that: no entry of Secrets or Admin in the agent's config allows it. Ask the \
                      operator of the agent.";

/// Rules in force, which a reload may replace, and the agent's own token.
#[derive(Debug)]
pub struct Access {
    token: Arc<TokenStore>,
    rules: ArcSwap<AccessRules>,
    groups: Arc<dyn GroupLookup>,
    unmapped: UnmappedIds,
    /// Refusals of the caller with the agent's own token.
    refused_default: AtomicU64,
    refusals: Arc<RefusalLog>,
}

/// Clients, and the secrets of the agent's own token.
#[derive(Debug)]
pub struct AccessRules {
    clients: Vec<(Client, AtomicU64)>,
    default_secrets: Vec<Pattern>,
    /// Whether the supplementary groups of a caller matter.
    needs_groups: bool,
}

/// A caller that has shown a valid token or has the credentials of a client.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// `None` is the caller with the agent's own token where nothing restricts it: the way of nearly every request.
    rules: Option<Arc<AccessRules>>,
    is_default: bool,
    /// Places of its clients in the rules; their rights add up.
    clients: Vec<usize>,
}

/// Permission to use one secret. Only [`decide`] makes one, and a secret is read only with one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed<'a>(&'a SecretRef);

/// Refusal of a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denied;

/// Decides whether the caller may use the secret. The decision reads the rules only: neither cache nor KMS can change
/// it, so its outcome and its time tell nothing about secrets that exist.
pub(crate) fn decide<'a>(caller: &Caller, secret: &'a SecretRef) -> Result<Allowed<'a>, Denied> {
    if caller.covers(&secret.id) {
        Ok(Allowed(secret))
    } else {
        Err(Denied)
    }
}

impl<'a> Allowed<'a> {
    /// Returns the secret.
    pub(crate) fn secret(self) -> &'a SecretRef {
        self.0
    }
}

impl From<Denied> for ApiError {
    fn from(_: Denied) -> Self {
        Reject::AccessDenied.because(DENIED)
    }
}

impl Access {
    /// Starts with `token`, the agent's own, and `rules`.
    pub fn new(
        token: Arc<TokenStore>,
        rules: AccessRules,
        groups: Arc<dyn GroupLookup>,
        unmapped: UnmappedIds,
    ) -> Self {
        Self {
            token,
            rules: ArcSwap::from_pointee(rules),
            groups,
            unmapped,
            refused_default: AtomicU64::new(0),
            refusals: Arc::default(),
        }
    }

    /// Puts other rules in force. Requests that are decided already keep their answer.
    pub fn replace(&self, rules: AccessRules) {
        self.rules.store(rules.into());
        self.token.note_change();
    }

    /// Returns a receiver that learns when a token or a rule has changed.
    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.token.changed()
    }

    /// Whether the source of a token has no valid one.
    pub(crate) fn is_stuck(&self) -> bool {
        let rules = self.rules.load();
        let clients = rules.clients.iter().filter_map(|(it, _)| it.token());
        self.token.is_stuck() || clients.into_iter().any(TokenStore::is_stuck)
    }

    /// Waits for the next read of the sources of tokens.
    pub(crate) async fn wait_for_read(&self) {
        self.token.wait_for_read().await;
    }

    /// Learns what the rules need to know of the other end of a connection.
    pub(crate) async fn examine(&self, peer: &Peer) {
        if let Peer::Unix(user) = peer
            && self.rules.load().needs_groups
        {
            user.learn_groups(&self.groups).await;
        }
    }

    /// Returns the caller at `peer` that shows `tokens`; `None` when it is not known.
    pub(crate) fn identify<'t>(
        &self,
        tokens: impl Iterator<Item = &'t [u8]>,
        peer: &Peer,
    ) -> Option<Caller> {
        let rules = self.rules.load();
        if rules.clients.is_empty() {
            // All are compared, so that the time does not tell which one is right.
            let is_default = tokens.fold(false, |it, token| it | self.token.admits(token));
            return is_default.then(|| Caller {
                rules: (!rules.allow_everything()).then(|| Arc::clone(&rules)),
                is_default,
                clients: Vec::new(),
            });
        }
        let tokens: Vec<Token> = tokens.map(Token::shown).collect();
        let is_default = tokens
            .iter()
            .fold(false, |it, token| it | self.token.is_in_force(token));
        let clients: Vec<usize> = (0..)
            .zip(&rules.clients)
            .filter(|(_, (client, _))| client.matches(&tokens, peer, self.unmapped))
            .map(|(place, _)| place)
            .collect();
        (is_default || !clients.is_empty()).then(|| Caller {
            rules: Some(Arc::clone(&rules)),
            is_default,
            clients,
        })
    }

    /// Whether the caller at `peer` is known without a token.
    pub(crate) fn knows(&self, peer: &Peer) -> bool {
        matches!(peer, Peer::Unix(_)) && self.identify(std::iter::empty(), peer).is_some()
    }

    /// Counts a refusal for the log.
    pub(crate) fn note_refusal(&self, code: &str) {
        self.refusals.note(code);
    }

    /// Returns the verdict of [`decide`], and counts a refusal.
    pub(crate) fn decide<'a>(
        &self,
        caller: &Caller,
        secret: &'a SecretRef,
    ) -> Result<Allowed<'a>, Denied> {
        decide(caller, secret).inspect_err(|_| self.count_refusal(caller))
    }

    /// Returns a refusal unless the caller is an admin, and counts it.
    pub(crate) fn require_admin(&self, caller: &Caller) -> Result<(), Denied> {
        caller
            .is_admin()
            .then_some(())
            .ok_or(Denied)
            .inspect_err(|_| self.count_refusal(caller))
    }

    /// Logs the refusals that are not logged yet.
    pub(crate) fn log_refusals(&self) {
        self.refusals.log();
    }

    fn count_refusal(&self, caller: &Caller) {
        self.refusals.note("AccessDenied");
        if caller.is_default {
            self.refused_default.fetch_add(1, Ordering::Relaxed);
        }
        for (_, refused) in caller.entries() {
            refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns each client with the number of its refusals since the rules are in force; `None` without clients.
    pub(crate) fn refusals(&self) -> Option<BTreeMap<String, u64>> {
        let rules = self.rules.load();
        let default = (DEFAULT_CLIENT, &self.refused_default);
        let clients = rules.clients.iter().map(|(it, count)| (it.name(), count));
        (!rules.clients.is_empty()).then(|| {
            std::iter::once(default)
                .chain(clients)
                .map(|(name, count)| (name.to_owned(), count.load(Ordering::Relaxed)))
                .collect()
        })
    }
}

impl AccessRules {
    /// Rules for `clients`, and for the caller with the agent's own token.
    pub fn new(clients: Vec<Client>, default_secrets: Vec<Pattern>) -> Self {
        Self {
            needs_groups: clients.iter().any(Client::needs_groups),
            clients: clients
                .into_iter()
                .map(|client| (client, AtomicU64::new(0)))
                .collect(),
            default_secrets,
        }
    }

    fn allow_everything(&self) -> bool {
        matches!(&*self.default_secrets, [only] if only.is_any())
    }
}

/// Takes the caller that the guard has put into the request. Without one there are no rights.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.remove().unwrap_or_else(Self::nobody))
    }
}

impl Caller {
    fn nobody() -> Self {
        Self {
            rules: None,
            is_default: false,
            clients: Vec::new(),
        }
    }

    fn entries(&self) -> impl Iterator<Item = &(Client, AtomicU64)> {
        let clients = self.rules.as_ref().map_or(&[][..], |rules| &rules.clients);
        self.clients.iter().filter_map(|place| clients.get(*place))
    }

    fn covers(&self, id: &SecretId) -> bool {
        let Some(rules) = &self.rules else {
            return self.is_default;
        };
        (self.is_default && covers(&rules.default_secrets, id))
            || self.entries().any(|(client, _)| client.covers(id))
    }

    /// Whether it may see and purge everything.
    pub(crate) fn is_admin(&self) -> bool {
        let is_open = self.rules.as_ref().is_none_or(|it| it.allow_everything());
        (self.is_default && is_open) || self.entries().any(|(client, _)| client.is_admin())
    }

    /// Whether it sees the state of the secret.
    pub(crate) fn sees(&self, id: &SecretId) -> bool {
        self.is_admin() || self.covers(id)
    }
}
