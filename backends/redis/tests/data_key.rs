//! The fleet's key as a data key of KMS.
#![allow(clippy::expect_used, reason = "a test that cannot go on panics")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use kms_agent_core::data_key::{DecryptedKey, EncryptionContext, GeneratedKey};
use kms_agent_core::{DataKeySource, SourceError, SourceErrorKind};
use zeroize::Zeroizing;

use self::support::{Agent, Server, agent_with_data_key};

/// KMS that makes a key of one repeated byte, and names that byte and the context in the ciphertext.
#[derive(Debug, Default)]
struct FakeKeys {
    made: AtomicU8,
}

#[async_trait]
impl DataKeySource for FakeKeys {
    async fn generate(
        &self,
        key_id: &str,
        context: &EncryptionContext<'_>,
    ) -> Result<GeneratedKey, SourceError> {
        let byte = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(GeneratedKey {
            plaintext: Zeroizing::new([byte; 32]),
            ciphertext: format!("{byte} {key_id} {context:?}"),
        })
    }

    async fn decrypt(
        &self,
        ciphertext: &str,
        context: &EncryptionContext<'_>,
    ) -> Result<DecryptedKey, SourceError> {
        let wrong = || SourceError::new(SourceErrorKind::Refused, "not such a ciphertext");
        let mut parts = ciphertext.splitn(3, ' ');
        let byte = parts
            .next()
            .and_then(|it| it.parse().ok())
            .ok_or_else(wrong)?;
        let key_id = parts.next().ok_or_else(wrong)?.to_owned();
        if parts.next() != Some(&format!("{context:?}")) {
            return Err(wrong());
        }
        Ok(DecryptedKey {
            plaintext: Zeroizing::new([byte; 32]),
            key_id,
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_agent_has_a_key_made_and_the_others_decrypt_it() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let keys: Arc<FakeKeys> = Arc::default();
    let first = agent_with_data_key(&server.url(), Arc::clone(&keys) as _).await;
    let second = agent_with_data_key(&server.url(), Arc::clone(&keys) as _).await;
    assert_eq!(keys.made.load(Ordering::Relaxed), 1);
    first.source.then_value("v1");
    assert!(first.value("s").await.contains("v1"));
    second
        .wait("the entry is there", async |agent: &Agent| {
            agent.has("s").await
        })
        .await;
    assert!(second.value("s").await.contains("v1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_everything_makes_a_new_key() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let keys: Arc<FakeKeys> = Arc::default();
    let agent = agent_with_data_key(&server.url(), Arc::clone(&keys) as _).await;
    agent.source.then_value("v1");
    agent.value("s").await;
    agent.service.purge_all().await.expect("it is taken");
    assert_eq!(keys.made.load(Ordering::Relaxed), 2);
    agent.wait_until_connected().await;
    agent.source.then_value("v2");
    assert!(agent.value("s").await.contains("v2"));
    let other = agent_with_data_key(&server.url(), Arc::clone(&keys) as _).await;
    other
        .wait("the entry is there", async |agent: &Agent| {
            agent.has("s").await
        })
        .await;
    assert!(other.value("s").await.contains("v2"));
    assert_eq!(keys.made.load(Ordering::Relaxed), 2);
}
