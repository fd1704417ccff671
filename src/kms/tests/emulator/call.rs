//! Calls to KMS and their outcomes, against the emulator.

use std::num::NonZeroU32;
use std::time::Duration;

use kms_agent_core::VersionSelector;
use kms_agent_core::source::SourceErrorKind;
use kms_agent_emulator::{
    Action, Emulator, Fault, FaultKind, Options, PutSecret, Rotation, SecretType,
};

use crate::agent::{Agent, NAME, file_of, holds};

#[tokio::test]
async fn a_secret_is_read_with_a_static_key() {
    let mut agent = Agent::start();
    let fetched = agent.read(NAME).await.expect("a secret");
    assert!(holds(&fetched, "hunter2"));
    assert_eq!(&*fetched.secret.version_id, "v1");
    assert_eq!(*fetched.secret.stages, ["ACSCurrent".into()]);
    assert_eq!(&*fetched.scope.endpoint, agent.emulator.endpoint());
    assert_eq!(&*fetched.scope.identity, agent.emulator.access_key().id());
    let calls = agent.emulator.calls();
    let agents: Vec<_> = calls
        .iter()
        .filter_map(|call| call.user_agent.as_deref())
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(agents, [format!("alibabacloud-kms-agent/{version}")]);
}

#[tokio::test]
async fn versions_are_asked_for_by_id_and_by_stage() {
    let mut agent = Agent::start();
    agent
        .emulator
        .put_secret(PutSecret::new(NAME, "hunter3").version_id("v2"))
        .expect("a version");
    for (id, stage, value) in [
        (None, None, "hunter3"),
        (Some("v1"), None, "hunter2"),
        (None, Some("ACSPrevious"), "hunter2"),
        (Some("v2"), Some("ACSCurrent"), "hunter3"),
    ] {
        let selector = VersionSelector::parse(id, stage).expect("a selector");
        let fetched = agent.read_version(NAME, selector).await.expect("a secret");
        assert!(holds(&fetched, value));
    }
}

#[tokio::test]
async fn a_secret_is_read_over_tls_of_an_authority_that_only_the_ca_file_knows() {
    let options = Options {
        tls: true,
        ..Options::default()
    };
    let mut agent = Agent::new(Emulator::start(options).expect("an emulator"));
    let ca = file_of(agent.emulator.ca_pem().expect("a CA"));
    agent.settings.kms.ca_file = Some(ca.path().to_owned());
    assert!(agent.read(NAME).await.is_ok());

    // An authority of another run does not vouch for this one.
    let options = Options {
        tls: true,
        ..Options::default()
    };
    let other = Emulator::start(options).expect("an emulator");
    let ca = file_of(other.ca_pem().expect("a CA"));
    agent.settings.kms.ca_file = Some(ca.path().to_owned());
    agent.settings.kms.max_attempts = NonZeroU32::MIN;
    agent.source = None;
    agent.emulator.clear_calls();
    let error = agent.read(NAME).await.expect_err("a stranger");
    assert_eq!(error.kind(), SourceErrorKind::Unavailable);
    assert!(
        error.report().contains("no trusted CA"),
        "{}",
        error.report()
    );
    assert_eq!(agent.calls(Action::GetSecretValue), 0);
}

#[tokio::test]
async fn the_extended_configuration_is_asked_for_where_a_rule_says_so() {
    for extended_config in [false, true] {
        let mut agent = Agent::start();
        agent.extended_config = extended_config;
        let rotation = Rotation {
            extended_config: Some(r#"{"SecretSubType":"SingleUser"}"#.to_owned()),
            ..Rotation::default()
        };
        let order = PutSecret::new("rds", "value").managed(SecretType::Rds, rotation);
        agent.emulator.put_secret(order).expect("a secret");
        let fetched = agent.read("rds").await.expect("a secret");
        let text = std::str::from_utf8(fetched.secret.answer.expose()).expect("text");
        assert_eq!(text.contains("SingleUser"), extended_config);
    }
}

#[tokio::test]
async fn transient_failures_are_retried() {
    for kind in [
        FaultKind::Throttle,
        FaultKind::Status,
        FaultKind::Cut,
        FaultKind::CutMidBody,
        FaultKind::Garbage,
        FaultKind::Redirect,
    ] {
        let mut agent = Agent::start();
        agent.fault(Fault::new(kind).on(Action::GetSecretValue).times(2));
        assert!(agent.read(NAME).await.is_ok(), "{kind:?}");
        assert_eq!(agent.calls(Action::GetSecretValue), 3, "{kind:?}");
        assert_eq!(agent.calls(Action::Other), 0, "a redirect was followed");
    }
}

#[tokio::test]
async fn lasting_failures_are_reported_by_their_kind() {
    for (fault, kind) in [
        (Fault::new(FaultKind::Throttle), SourceErrorKind::Throttled),
        (
            Fault::status(500, "InternalFailure"),
            SourceErrorKind::ServerFailure,
        ),
        (Fault::new(FaultKind::Cut), SourceErrorKind::Unavailable),
        (
            Fault::new(FaultKind::CutMidBody),
            SourceErrorKind::Unavailable,
        ),
        (
            Fault::new(FaultKind::Garbage),
            SourceErrorKind::InvalidAnswer,
        ),
        (
            Fault::new(FaultKind::Redirect),
            SourceErrorKind::InvalidAnswer,
        ),
        (
            Fault::new(FaultKind::Oversize),
            SourceErrorKind::InvalidAnswer,
        ),
        (
            Fault::status(404, "Forbidden.ResourceNotFound"),
            SourceErrorKind::Decision,
        ),
        (
            Fault::status(400, "InvalidParameter"),
            SourceErrorKind::Refused,
        ),
    ] {
        let mut agent = Agent::start();
        agent.fault(fault.clone());
        assert_eq!(agent.kind().await, kind, "{fault:?}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
    let mut agent = Agent::start();
    agent.settings.kms.request_timeout = Duration::from_millis(100);
    agent.fault(Fault::new(FaultKind::Hang));
    assert_eq!(agent.kind().await, SourceErrorKind::TimedOut);
    assert_eq!(agent.calls(Action::GetSecretValue), 3);
}

#[tokio::test]
async fn a_closed_port_is_unavailable() {
    let mut agent = Agent::start();
    let Agent {
        emulator,
        settings,
        variables,
        ..
    } = agent;
    emulator.stop().await;
    agent = Agent {
        emulator: Emulator::start(Options::default()).expect("an emulator"),
        settings,
        variables,
        extended_config: false,
        source: None,
    };
    assert_eq!(agent.kind().await, SourceErrorKind::Unavailable);
}

#[tokio::test]
async fn a_secret_that_is_not_there_or_not_allowed_is_a_decision() {
    let mut agent = Agent::start();
    let error = agent.read("no/such").await.expect_err("not there");
    assert_eq!(error.kind(), SourceErrorKind::Decision);
    let refusal = error.refusal().expect("what KMS said");
    assert_eq!(refusal.status, 404);
    assert_eq!(refusal.code, "Forbidden.ResourceNotFound");
    assert!(refusal.request_id.is_some());
    agent.emulator.deny_secret(NAME);
    assert_eq!(agent.kind().await, SourceErrorKind::Decision);
}

#[tokio::test]
async fn a_clock_that_differs_by_hours_costs_one_call_more_however_many_follow() {
    for seconds in [-7200, 7200] {
        let mut agent = Agent::start();
        agent.emulator.set_clock_offset(seconds);
        for _ in 0..20 {
            assert!(agent.read(NAME).await.is_ok());
        }
        assert_eq!(agent.calls(Action::GetSecretValue), 21);
        // The time of KMS changes once more.
        agent.emulator.set_clock_offset(-2 * seconds);
        for _ in 0..20 {
            assert!(agent.read(NAME).await.is_ok());
        }
        assert_eq!(agent.calls(Action::GetSecretValue), 42);
        agent.emulator.set_clock_offset(0);
        for _ in 0..20 {
            assert!(agent.read(NAME).await.is_ok());
        }
        assert_eq!(agent.calls(Action::GetSecretValue), 63);
    }
}
