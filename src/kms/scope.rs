//! Scope of fetches, published so that a read only loads it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use kms_agent_core::Scope;

/// The scope, known once the locator has set the endpoint and the credentials have set the identity.
#[derive(Debug, Default)]
pub(crate) struct PublishedScope {
    parts: Mutex<ScopeParts>,
    whole: ArcSwapOption<Scope>,
}

#[derive(Debug, Default)]
struct ScopeParts {
    endpoint: Option<Box<str>>,
    identity: Option<Box<str>>,
}

impl PublishedScope {
    /// The scope as it was last published.
    pub(crate) fn load(&self) -> Option<Arc<Scope>> {
        self.whole.load_full()
    }

    /// Sets the authority of the endpoint that requests go to.
    pub(crate) fn set_endpoint(&self, authority: &str) {
        let mut parts = self.lock();
        if parts.endpoint.as_deref() != Some(authority) {
            parts.endpoint = Some(authority.into());
            self.publish(&parts);
        }
    }

    /// Sets the identity that requests are signed as. It outlives the credentials: those expire, and the agent
    /// stays who it is.
    pub(crate) fn set_identity(&self, identity: Option<&str>) {
        let mut parts = self.lock();
        if parts.identity.as_deref() != identity {
            parts.identity = identity.map(Into::into);
            self.publish(&parts);
        }
    }

    /// Scope of an answer that `identity` got at `endpoint`; the published one where they are the same, since every
    /// entry holds it.
    pub(crate) fn of_answer(&self, endpoint: &str, identity: &str) -> Arc<Scope> {
        self.set_endpoint(endpoint);
        self.load()
            .filter(|scope| *scope.endpoint == *endpoint && *scope.identity == *identity)
            .unwrap_or_else(|| {
                Arc::new(Scope {
                    endpoint: endpoint.into(),
                    identity: identity.into(),
                })
            })
    }

    fn publish(&self, parts: &ScopeParts) {
        let scope = parts.endpoint.as_ref().zip(parts.identity.as_ref());
        self.whole.store(scope.map(|(endpoint, identity)| {
            Arc::new(Scope {
                endpoint: endpoint.clone(),
                identity: identity.clone(),
            })
        }));
    }

    fn lock(&self) -> MutexGuard<'_, ScopeParts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scope_is_published_once_both_parts_are_known() {
        let scope = PublishedScope::default();
        scope.set_endpoint("kms.cn-a.aliyuncs.com");
        assert_eq!(scope.load(), None);
        scope.set_identity(Some("role"));
        let published = scope.load().expect("a scope");
        assert_eq!(&*published.endpoint, "kms.cn-a.aliyuncs.com");
        assert_eq!(&*published.identity, "role");

        // The same news again: entries keep sharing one scope.
        scope.set_endpoint("kms.cn-a.aliyuncs.com");
        scope.set_identity(Some("role"));
        let answer = scope.of_answer("kms.cn-a.aliyuncs.com", "role");
        assert!(Arc::ptr_eq(&published, &answer));

        scope.set_identity(None);
        assert_eq!(scope.load(), None);
    }

    #[test]
    fn an_answer_to_the_former_identity_changes_nothing() {
        let scope = PublishedScope::default();
        scope.set_identity(Some("new"));
        let answer = scope.of_answer("kms.cn-a.aliyuncs.com", "old");
        assert_eq!(&*answer.identity, "old");
        let published = scope.load().expect("a scope");
        assert_eq!(&*published.endpoint, "kms.cn-a.aliyuncs.com");
        assert_eq!(&*published.identity, "new");
    }
}
