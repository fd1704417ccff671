//! Route for Prometheus.

use std::sync::Arc;

use axum::extract::State;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::Full;
use prometheus_client::encoding::text::encode;

use crate::app::App;
use crate::monitor::Readiness;
use crate::response::FullResponse;

const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// `/metrics`: `OpenMetrics`, or the older text format for a client that accepts only that.
pub(crate) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> FullResponse {
    if let Ok(stats) = app.service.backend_stats().await {
        app.metrics.set_cache(&stats);
    }
    app.metrics.set_checks(&Readiness::take(&app).await);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut text, &app.registry);
    let (kind, text) = if wants_plain(&headers) {
        (PLAIN, plain(&text))
    } else {
        (OPENMETRICS, text)
    };
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Whether `Accept` names the older text format and not `OpenMetrics`.
fn wants_plain(headers: &HeaderMap) -> bool {
    let names = |kind: &str| {
        headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|range| range.split(';').next())
            .any(|range| range.trim().eq_ignore_ascii_case(kind))
    };
    names("text/plain") && !names("application/openmetrics-text")
}

/// Converts to the older text format, in which the name of a counter ends with `_total`, and which has neither units nor
/// an end mark.
fn plain(openmetrics: &str) -> String {
    let counters: Vec<&str> = openmetrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => continue,
            (Some("#"), Some(keyword), Some(name), Some(rest)) if counters.contains(&name) => {
                text.extend(["# ", keyword, " ", name, "_total ", rest]);
            }
            (Some("#"), Some("TYPE"), Some(name), Some("unknown")) => {
                text.extend(["# TYPE ", name, " untyped"]);
            }
            (Some("#"), Some("TYPE"), Some(name), Some("info")) => {
                text.extend(["# TYPE ", name, "_info gauge"]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_keep_their_names_in_the_older_text() {
        let openmetrics = "# HELP a_requests Requests by outcome.\n# TYPE a_requests counter\na_requests_total{outcome=\"ok\"} 3\n# HELP a_size Size.\n# TYPE a_size gauge\n# UNIT a_size bytes\na_size 1\n# EOF\n";
        assert_eq!(
            plain(openmetrics),
            "# HELP a_requests_total Requests by outcome.\n# TYPE a_requests_total counter\na_requests_total{outcome=\"ok\"} 3\n# HELP a_size Size.\n# TYPE a_size gauge\na_size 1\n"
        );
    }

    #[test]
    fn the_older_text_goes_to_clients_that_accept_nothing_newer() {
        for (accept, expected) in [
            ("text/plain", true),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", true),
            ("*/*", false),
            (
                "application/openmetrics-text; version=1.0.0, text/plain;q=0.5",
                false,
            ),
            ("text/html, */*", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wants_plain(&headers), expected, "{accept}");
        }
        assert!(!wants_plain(&HeaderMap::new()));
    }
}
