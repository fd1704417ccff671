use std::time::Duration;

use super::*;
use crate::http::{HttpError, HttpErrorKind, HttpSend, Method};
use crate::testing::{ManualClock, Script, ScriptedOutcome, answer, manual_clock};

const BASE: &str = "http://100.100.100.200/latest/";

struct Case {
    region: Option<&'static str>,
    endpoint: Option<&'static str>,
    variable: Option<&'static str>,
}

fn locator(case: &Case, script: Option<&Arc<Script>>, clock: &Arc<ManualClock>) -> Locator {
    let region = case
        .region
        .map(|text| Region::parse(text).expect("a region"));
    let endpoint = case
        .endpoint
        .map(|text| Endpoint::parse(text).expect("an endpoint"));
    let environment = case
        .variable
        .map(|value| (REGION_VARIABLE, value))
        .into_iter()
        .collect();
    let metadata = script.map(|script| {
        let http: Arc<dyn HttpSend> = Arc::clone(script) as _;
        Metadata::new(http, Endpoint::metadata(), true)
    });
    Locator::new(
        endpoint,
        region,
        &environment,
        metadata,
        Arc::clone(clock) as _,
        Arc::default(),
    )
}

fn lost() -> ScriptedOutcome {
    Err(HttpError::new(HttpErrorKind::Connect, "timed out"))
}

#[tokio::test]
async fn configuration_precedes_the_environment_and_no_service_is_asked() {
    let clock = manual_clock();
    for (region, endpoint, variable, host, region_known) in [
        (
            Some("cn-a"),
            None,
            Some("cn-b"),
            "kms.cn-a.aliyuncs.com",
            Some("cn-a"),
        ),
        (
            None,
            None,
            Some("cn-b"),
            "kms.cn-b.aliyuncs.com",
            Some("cn-b"),
        ),
        (
            None,
            Some("kms-vpc.cn-c.aliyuncs.com"),
            None,
            "kms-vpc.cn-c.aliyuncs.com",
            Some("cn-c"),
        ),
        (
            Some("cn-a"),
            Some("kms-vpc.cn-c.aliyuncs.com"),
            None,
            "kms-vpc.cn-c.aliyuncs.com",
            Some("cn-a"),
        ),
        (
            None,
            Some("gateway.example:8443"),
            None,
            "gateway.example:8443",
            None,
        ),
    ] {
        let case = Case {
            region,
            endpoint,
            variable,
        };
        let script = Script::new();
        let locator = locator(&case, Some(&script), &clock);
        locator.maintain().await;
        let found = locator.endpoint().await.expect("an endpoint");
        assert_eq!(found.authority(), host);
        assert_eq!(locator.known_endpoint(), Some(found));
        assert_eq!(locator.region().as_deref(), region_known);
    }
}

#[tokio::test]
async fn the_metadata_service_is_asked_once_and_remembered() {
    let clock = manual_clock();
    let script = Script::new()
        .expect(Method::Put, BASE, answer(200, "t0k"))
        .expect(Method::Get, BASE, answer(200, "cn-hangzhou\n"));
    let case = Case {
        region: None,
        endpoint: None,
        variable: None,
    };
    let locator = locator(&case, Some(&script), &clock);
    assert_eq!(locator.known_endpoint(), None);
    for _ in 0..3 {
        let endpoint = locator.endpoint().await.expect("an endpoint");
        assert_eq!(endpoint.authority(), "kms.cn-hangzhou.aliyuncs.com");
    }
    assert_eq!(locator.region().as_deref(), Some("cn-hangzhou"));
}

#[tokio::test]
async fn a_failure_names_the_key_and_holds_for_a_moment() {
    let clock = manual_clock();
    let script = Script::new()
        .expect(Method::Put, BASE, lost())
        .expect(Method::Get, BASE, lost())
        .expect(Method::Put, BASE, lost())
        .expect(Method::Get, BASE, answer(200, "cn-hangzhou"));
    let case = Case {
        region: None,
        endpoint: None,
        variable: None,
    };
    let locator = locator(&case, Some(&script), &clock);
    for _ in 0..3 {
        let error = locator.endpoint().await.expect_err("no region");
        assert_eq!(error.kind(), SourceErrorKind::RegionUnknown);
        assert!(error.report().contains("KMS.Region"), "{}", error.report());
    }
    assert_eq!(script.calls(), 2);
    clock.advance(Duration::from_secs(1));
    assert!(locator.endpoint().await.is_ok());
}

#[tokio::test]
async fn an_invalid_region_never_becomes_a_host() {
    let clock = manual_clock();
    let case = |variable| Case {
        region: None,
        endpoint: None,
        variable,
    };
    let script = Script::new()
        .expect(Method::Put, BASE, answer(200, "t0k"))
        .expect(Method::Get, BASE, answer(200, "evil.example/"));
    assert!(
        locator(&case(None), Some(&script), &clock)
            .endpoint()
            .await
            .is_err()
    );
    // A bad variable is reported rather than passed over.
    let error = locator(&case(Some("Hangzhou")), Some(&Script::new()), &clock)
        .endpoint()
        .await
        .expect_err("no region");
    assert!(error.report().contains(REGION_VARIABLE));
    let error = locator(&case(None), None, &clock)
        .endpoint()
        .await
        .expect_err("no region");
    assert!(
        error
            .report()
            .contains("ALIBABA_CLOUD_ECS_METADATA_DISABLED")
    );
}

#[tokio::test]
async fn the_region_of_the_previous_process_applies_until_another_is_known() {
    let clock = manual_clock();
    let script = Script::new()
        .expect(Method::Put, BASE, answer(404, ""))
        .expect(Method::Get, BASE, answer(404, ""))
        .expect(Method::Put, BASE, answer(404, ""))
        .expect(Method::Get, BASE, answer(200, "cn-shanghai"));
    let case = Case {
        region: None,
        endpoint: None,
        variable: None,
    };
    let locator = locator(&case, Some(&script), &clock);
    locator.remember("127.0.0.1:9000");
    assert_eq!(locator.region(), None);
    locator.remember("kms-vpc.cn-beijing.aliyuncs.com");
    assert_eq!(locator.region().as_deref(), Some("cn-beijing"));
    let endpoint = locator
        .endpoint()
        .await
        .map(|endpoint| endpoint.authority());
    assert_eq!(
        endpoint.ok().as_deref(),
        Some("kms.cn-beijing.aliyuncs.com")
    );
    assert_eq!(locator.known_endpoint(), None, "it is a stopgap");
    clock.advance(Duration::from_secs(1));
    let endpoint = locator
        .endpoint()
        .await
        .map(|endpoint| endpoint.authority());
    assert_eq!(
        endpoint.ok().as_deref(),
        Some("kms.cn-shanghai.aliyuncs.com")
    );
    assert_eq!(locator.region().as_deref(), Some("cn-shanghai"));
}
