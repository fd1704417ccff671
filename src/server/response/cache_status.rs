//! `Cache-Status` header (RFC 9211).

use http::HeaderValue;
use kms_agent_cache::CacheStatus;
use kms_agent_cache::answer::ForwardReason;

/// Returns the value of the header. It is never `None`, since the text is visible ASCII.
pub(crate) fn value(status: &CacheStatus) -> Option<HeaderValue> {
    HeaderValue::try_from(text(status)).ok()
}

/// Returns the value as text.
pub(crate) fn text(status: &CacheStatus) -> String {
    match status {
        // Nearly every response. Without a formatter the text is allocated once, in exactly its size.
        CacheStatus::Hit { left } => [
            "kms-agent; hit; ttl=",
            itoa::Buffer::new().format(left.as_secs()),
        ]
        .concat(),
        CacheStatus::Forwarded {
            reason,
            stored,
            collapsed,
        } => {
            let reason = match reason {
                ForwardReason::Miss => "miss",
                ForwardReason::Stale => "stale",
                ForwardReason::Request => "request",
                ForwardReason::Bypass => "bypass",
            };
            let stored = if *stored { "; stored" } else { "" };
            let collapsed = if *collapsed { "; collapsed" } else { "" };
            format!("kms-agent; fwd={reason}{stored}{collapsed}")
        }
        CacheStatus::Stale {
            forwarded,
            since,
            detail,
        } => {
            let how = if *forwarded { "fwd=stale" } else { "hit" };
            // Rounded up: an expired copy has a negative ttl from the first moment.
            let expired = since.as_secs() + u64::from(since.subsec_nanos() > 0 || since.is_zero());
            format!("kms-agent; {how}; ttl=-{expired}; detail={detail}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_situation_has_its_text() {
        let stale = |forwarded| CacheStatus::Stale {
            forwarded,
            since: Duration::from_secs(37),
            detail: "Rejected.Throttling".to_owned(),
        };
        let forwarded = |reason, stored, collapsed| CacheStatus::Forwarded {
            reason,
            stored,
            collapsed,
        };
        let left = Duration::from_millis(212_999);
        for (status, expected) in [
            (CacheStatus::Hit { left }, "kms-agent; hit; ttl=212"),
            (
                forwarded(ForwardReason::Miss, true, false),
                "kms-agent; fwd=miss; stored",
            ),
            (
                forwarded(ForwardReason::Miss, true, true),
                "kms-agent; fwd=miss; stored; collapsed",
            ),
            (
                forwarded(ForwardReason::Stale, true, false),
                "kms-agent; fwd=stale; stored",
            ),
            (
                forwarded(ForwardReason::Request, true, false),
                "kms-agent; fwd=request; stored",
            ),
            (
                forwarded(ForwardReason::Bypass, false, false),
                "kms-agent; fwd=bypass",
            ),
            (
                stale(true),
                "kms-agent; fwd=stale; ttl=-37; detail=Rejected.Throttling",
            ),
            (
                stale(false),
                "kms-agent; hit; ttl=-37; detail=Rejected.Throttling",
            ),
        ] {
            assert_eq!(text(&status), expected);
        }
    }
}
