use std::time::{Duration, Instant};

use kms_agent_emulator::{Action, Emulator, Fault, FaultKind, PutSecret};
use serde_json::Value;

use crate::client::{Outgoing, read, start};

fn with_secret() -> Emulator {
    let emulator = start();
    emulator.put_secret(PutSecret::new("a", "hunter2")).unwrap();
    emulator
}

fn with_fault(fault: Fault) -> Emulator {
    let emulator = with_secret();
    emulator.fault(fault).unwrap();
    emulator
}

#[tokio::test]
async fn latency_delays_the_right_answer() {
    let wait = Duration::from_millis(30);
    let emulator = with_fault(Fault::latency(wait));
    let began = Instant::now();
    assert_eq!(read(&emulator, "a").await.status, Some(200));
    assert!(began.elapsed() >= wait);
}

#[tokio::test]
async fn a_status_has_the_code_ordered_or_the_usual_one() {
    let emulator = with_fault(Fault::status(418, "Teapot").times(1));
    emulator.fault(Fault::new(FaultKind::Status)).unwrap();
    assert_eq!(
        read(&emulator, "a").await.error(),
        (418, "Teapot".to_owned())
    );
    assert_eq!(
        read(&emulator, "a").await.error(),
        (500, "InternalFailure".to_owned())
    );
}

#[tokio::test]
async fn throttling_has_the_services_own_code() {
    let emulator = with_fault(Fault::new(FaultKind::Throttle).header("x-acs-retry-after", "1500"));
    let reply = read(&emulator, "a").await;
    assert_eq!(reply.error(), (429, "Rejected.Throttling".to_owned()));
    assert_eq!(reply.header("x-acs-retry-after"), Some("1500"));
    let sts = Outgoing::new("POST", "/?Action=AssumeRoleWithOIDC");
    assert_eq!(
        sts.send(&emulator).await.error(),
        (429, "Throttling.User".to_owned())
    );
}

#[tokio::test]
async fn a_cut_connection_gives_nothing() {
    let emulator = with_fault(Fault::new(FaultKind::Cut).times(1));
    let reply = read(&emulator, "a").await;
    assert_eq!((reply.status, reply.body.len()), (None, 0));
    assert_eq!(read(&emulator, "a").await.status, Some(200));
    let calls = emulator.calls();
    assert_eq!(calls[0].status, None);
    assert_eq!(calls[0].fault, Some(FaultKind::Cut));
    assert_eq!((calls[1].status, calls[1].fault), (Some(200), None));
}

#[tokio::test]
async fn a_cut_body_is_shorter_than_announced() {
    let emulator = with_fault(Fault::new(FaultKind::CutMidBody));
    let reply = read(&emulator, "a").await;
    assert_eq!(reply.status, Some(200));
    let announced: usize = reply.header("content-length").unwrap().parse().unwrap();
    assert_eq!(reply.body.len(), announced / 2);
    assert!(!reply.body.is_empty());
}

#[tokio::test]
async fn a_hanging_call_ends_with_the_emulator() {
    for graceful in [true, false] {
        let emulator = with_fault(Fault::new(FaultKind::Hang));
        let request = Outgoing::new("GET", "/latest/meta-data/region-id");
        let stream = tokio::net::TcpStream::connect(emulator.address())
            .await
            .unwrap();
        let waiting = tokio::spawn(async move { request.send_over(stream, "x").await });
        while emulator.count_calls(Action::Metadata) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        if graceful {
            emulator.stop().await;
        } else {
            drop(emulator);
        }
        assert_eq!(waiting.await.unwrap().status, None);
    }
}

#[tokio::test]
async fn garbage_is_a_complete_answer_that_is_no_json() {
    let emulator = with_fault(Fault::new(FaultKind::Garbage).times(1));
    emulator
        .fault(Fault::new(FaultKind::Garbage).body("{}"))
        .unwrap();
    let reply = read(&emulator, "a").await;
    assert_eq!(reply.status, Some(200));
    assert!(serde_json::from_slice::<Value>(&reply.body).is_err());
    assert_eq!(read(&emulator, "a").await.text(), "{}");
}

#[tokio::test]
async fn a_redirect_leads_to_a_path_that_is_counted() {
    let emulator = with_fault(Fault::new(FaultKind::Redirect).on(Action::GetSecretValue));
    let reply = read(&emulator, "a").await;
    assert_eq!(reply.status, Some(302));
    let location = reply.header("location").unwrap();
    let path = location.strip_prefix(emulator.base_url()).unwrap();
    Outgoing::new("GET", path).send(&emulator).await;
    assert_eq!(emulator.count_calls(Action::Other), 1);
}

#[tokio::test]
async fn an_oversized_answer_has_no_announced_length() {
    let emulator = with_fault(Fault::new(FaultKind::Oversize));
    let reply = read(&emulator, "a").await;
    assert_eq!(reply.status, Some(200));
    assert_eq!(reply.header("content-length"), None);
    assert!(reply.body.len() > 2 * 1024 * 1024);
}

#[tokio::test]
async fn a_slow_body_arrives_whole() {
    let emulator = with_fault(Fault::new(FaultKind::SlowBody).after(Duration::from_millis(1)));
    assert_eq!(read(&emulator, "a").await.json()["SecretData"], "hunter2");
}

#[tokio::test]
async fn a_rule_is_only_for_what_it_matches() {
    let emulator = with_secret();
    emulator.put_secret(PutSecret::new("b", "v")).unwrap();
    emulator
        .fault(Fault::new(FaultKind::Status).on_secret("a"))
        .unwrap();
    emulator
        .fault(Fault::new(FaultKind::Status).on(Action::Metadata))
        .unwrap();
    let arn = format!("acs:kms:{}:1:secret/a", emulator.region());
    assert_eq!(read(&emulator, "a").await.status, Some(500));
    assert_eq!(read(&emulator, &arn).await.status, Some(500));
    assert_eq!(read(&emulator, "b").await.status, Some(200));
    let region = Outgoing::new("GET", "/latest/meta-data/region-id");
    assert_eq!(region.send(&emulator).await.status, Some(500));
    emulator.clear_faults();
    assert_eq!(read(&emulator, "a").await.status, Some(200));
    assert_eq!(region.send(&emulator).await.status, Some(200));
}

#[tokio::test]
async fn rules_are_tried_in_order_and_run_out() {
    let emulator = with_fault(Fault::status(501, "First").times(2));
    emulator
        .fault(Fault::status(502, "Second").times(1))
        .unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(read(&emulator, "a").await.status.unwrap());
    }
    assert_eq!(seen, [501, 501, 502, 200]);
}

#[test]
fn a_rule_that_makes_no_sense_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let emulator = start();
    for fault in [
        Fault::new(FaultKind::Latency),
        Fault::status(99, "x"),
        Fault::status(600, "x"),
        Fault::new(FaultKind::Cut).times(0),
        Fault::new(FaultKind::Status).header("a b", "c"),
        Fault::new(FaultKind::Status).header("a", "b\r\nc"),
    ] {
        assert!(emulator.fault(fault).is_err());
    }
}
