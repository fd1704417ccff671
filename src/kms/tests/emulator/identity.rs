//! The agent's identity and region, against the emulator.

use std::sync::Arc;

use kms_agent_core::SecretSource;
use kms_agent_core::source::SourceErrorKind;
use kms_agent_emulator::{Action, MetadataSettings, TokenEndpoint};
use kms_agent_kms::ProviderChoice;

use crate::agent::{Agent, NAME, file_of};

#[tokio::test]
async fn a_disabled_key_is_a_refused_identity() {
    let mut agent = Agent::start();
    let id = agent.emulator.access_key().id().to_owned();
    assert!(agent.emulator.set_access_key_enabled(&id, false));
    assert_eq!(agent.kind().await, SourceErrorKind::IdentityRefused);
    assert_eq!(agent.calls(Action::GetSecretValue), 1);
}

#[tokio::test]
async fn a_secret_is_read_in_a_role_assumed_with_a_token() {
    let token = file_of("header.payload.signature");
    let mut agent = Agent::start().with_role(&token);
    agent
        .emulator
        .register_oidc_token("header.payload.signature");
    for _ in 0..3 {
        let fetched = agent.read(NAME).await.expect("a secret");
        assert_eq!(
            &*fetched.scope.identity,
            "acs:ram::1234567890123456:role/agent"
        );
    }
    assert_eq!(agent.calls(Action::AssumeRoleWithOidc), 1);
    let state = agent.source().credentials();
    assert_eq!(state.provider.as_deref(), Some("oidc"));
    assert!(state.usable && state.expires_at.is_some());
}

#[tokio::test]
async fn credentials_that_were_revoked_are_renewed_at_once() {
    let token = file_of("header.payload.signature");
    let mut agent = Agent::start().with_role(&token);
    assert!(agent.read(NAME).await.is_ok());
    let calls = agent.emulator.calls();
    let used = calls
        .iter()
        .filter(|call| call.action == Action::GetSecretValue)
        .find_map(|call| call.access_key_id.clone())
        .expect("a key");
    assert!(agent.emulator.revoke_access_key(&used));
    assert!(agent.read(NAME).await.is_ok());
    assert_eq!(agent.calls(Action::AssumeRoleWithOidc), 2);
    assert_eq!(agent.calls(Action::GetSecretValue), 3);
}

#[tokio::test]
async fn a_role_that_sts_refuses_gives_no_credentials() {
    let token = file_of("header.payload.signature");
    let mut agent = Agent::start().with_role(&token);
    agent.emulator.register_role("acs:ram::1:role/other");
    let error = agent.read(NAME).await.expect_err("no credentials");
    assert_eq!(error.kind(), SourceErrorKind::NoCredentials);
    assert!(error.report().contains("EntityNotExist.Role"));
    assert_eq!(agent.calls(Action::GetSecretValue), 0);
}

#[tokio::test]
async fn a_secret_is_read_in_the_role_of_the_instance() {
    for (token_endpoint, allow_v1) in [
        (TokenEndpoint::Present, false),
        (TokenEndpoint::Absent, true),
        (TokenEndpoint::Forbidden, true),
    ] {
        let mut agent = Agent::start();
        agent.settings.credentials.provider = ProviderChoice::EcsRamRole;
        agent.emulator.set_metadata(MetadataSettings {
            role: Some("web".to_owned()),
            token_endpoint,
            allow_v1,
            ..MetadataSettings::default()
        });
        let fetched = agent.read(NAME).await.expect("a secret");
        assert_eq!(&*fetched.scope.identity, "web");
    }
}

#[tokio::test]
async fn an_instance_without_a_role_has_no_credentials() {
    let mut agent = Agent::start();
    agent.variables.clear();
    agent.emulator.set_metadata(MetadataSettings {
        role: None,
        ..MetadataSettings::default()
    });
    let error = agent.read(NAME).await.expect_err("no credentials");
    assert_eq!(error.kind(), SourceErrorKind::NoCredentials);
    assert!(error.report().contains("attach a RAM role"));
}

#[tokio::test]
async fn the_region_is_learnt_from_the_instance_when_nothing_else_names_it() {
    let mut agent = Agent::start();
    agent.settings.kms.endpoint = None;
    let source = agent.source();
    assert!(source.scope().is_none() && source.region().is_none());
    let maintained = tokio::spawn({
        let source = Arc::clone(&source);
        async move { source.maintain().await }
    });
    while source.scope().is_none() {
        tokio::task::yield_now().await;
    }
    maintained.abort();
    assert_eq!(source.region().as_deref(), Some("cn-hangzhou"));
    let scope = source.scope().expect("a scope");
    assert_eq!(&*scope.endpoint, "kms.cn-hangzhou.aliyuncs.com");
}
