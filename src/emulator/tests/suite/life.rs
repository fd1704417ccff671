use kms_agent_emulator::{AccessKey, Action, Emulator, Options, PutSecret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Outgoing, read, start};

#[test]
fn without_a_runtime_it_does_not_start() {
    assert!(Emulator::start(Options::default()).is_err());
}

#[tokio::test]
async fn a_taken_port_fails_the_start() {
    let first = start();
    let second = Emulator::start(Options {
        port: first.address().port(),
        ..Options::default()
    });
    assert!(second.is_err());
}

#[tokio::test]
async fn an_idle_connection_ends_with_the_emulator() {
    for graceful in [true, false] {
        let emulator = start();
        let mut idle = TcpStream::connect(emulator.address()).await.unwrap();
        while emulator.connections_accepted() == 0 {
            tokio::task::yield_now().await;
        }
        if graceful {
            emulator.stop().await;
        } else {
            drop(emulator);
        }
        let mut bytes = Vec::new();
        // An error is an end as well.
        let _ = idle.read_to_end(&mut bytes).await;
        assert!(bytes.is_empty());
    }
}

#[tokio::test]
async fn keys_are_random_unless_one_is_given() {
    let (one, two) = (start(), start());
    assert_ne!(one.access_key(), two.access_key());
    let given = AccessKey::new("LTAIgiven", "secret");
    let emulator = Emulator::start(Options {
        access_key: Some(given.clone()),
        ..Options::default()
    })
    .unwrap();
    assert_eq!(emulator.access_key(), &given);
}

#[tokio::test]
async fn calls_tell_who_asked_for_what() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "v")).unwrap();
    read(&emulator, "a").await;
    read(&emulator, "none").await;
    let request = Outgoing::new("GET", "/latest/meta-data/region-id");
    request
        .header("user-agent", "probe/1")
        .send(&emulator)
        .await;

    assert_eq!(emulator.count_calls(Action::GetSecretValue), 2);
    assert_eq!(emulator.count_calls(Action::Metadata), 1);
    let calls = emulator.calls();
    assert_eq!(calls[0].secret.as_deref(), Some("a"));
    assert_eq!(
        calls[0].access_key_id.as_deref(),
        Some(emulator.access_key().id())
    );
    assert_eq!(
        (calls[0].status, calls[0].code.as_deref()),
        (Some(200), None)
    );
    assert_eq!(calls[1].code.as_deref(), Some("Forbidden.ResourceNotFound"));
    assert_eq!(calls[2].user_agent.as_deref(), Some("probe/1"));
    assert_eq!(emulator.connections_accepted(), 3);

    emulator.clear_calls();
    assert_eq!(emulator.count_calls(Action::GetSecretValue), 0);
    assert_eq!(read(&emulator, "a").await.status, Some(200));
}

#[tokio::test]
async fn a_reset_forgets_everything_but_the_first_key() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "v")).unwrap();
    let other = emulator.issue_access_key();
    emulator.set_clock_offset(99_999);
    emulator.set_access_key_enabled(emulator.access_key().id(), false);
    emulator.reset();
    assert!(emulator.calls().is_empty());
    assert!(!emulator.revoke_access_key(other.id()));
    assert_eq!(
        read(&emulator, "a").await.error().1,
        "Forbidden.ResourceNotFound"
    );
}

#[tokio::test]
async fn debug_of_a_running_emulator_shows_no_secret() {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "hunter2")).unwrap();
    let text = format!("{emulator:?} {:?}", emulator.issue_session());
    assert!(text.contains(emulator.base_url()), "{text}");
    assert!(!text.contains("hunter2") && !text.contains(emulator.access_key().expose_secret()));
    assert!(!text.contains("CAIS"), "{text}");
}

#[tokio::test]
async fn a_connection_is_kept_for_further_requests() {
    let emulator = start();
    let mut stream = TcpStream::connect(emulator.address()).await.unwrap();
    for last in [false, true] {
        let close = if last { "connection: close\r\n" } else { "" };
        let request = format!("GET /latest/meta-data/region-id HTTP/1.1\r\nhost: x\r\n{close}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text.matches("200 OK").count(), 2);
    assert_eq!(emulator.connections_accepted(), 1);
}

#[tokio::test]
async fn only_loopback_is_served() {
    assert!(start().address().ip().is_loopback());
}
