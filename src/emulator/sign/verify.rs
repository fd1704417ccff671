//! The gateway's checks of a signed request, in the gateway's order.

use time::{Duration, OffsetDateTime};

use crate::sign::authorization::{Authorization, incomplete};
use crate::sign::canonical::{Canonical, signature};
use crate::sign::sha256;
use crate::state::EmulatorState;
use crate::state::key::Known;
use crate::wire::inbound::Inbound;
use crate::wire::instant;
use crate::wire::refusal::ServiceRefusal;

/// Largest difference between a request's date and the gateway's clock.
const SKEW: Duration = Duration::minutes(15);

/// Checks that a request is signed by a valid key. Only then is its nonce used up.
pub(crate) fn verify(request: &Inbound, state: &mut EmulatorState) -> Result<(), ServiceRefusal> {
    let header = request
        .header("authorization")
        .ok_or_else(|| incomplete("There is no Authorization header."))?;
    let authorization = Authorization::parse(header)?;
    let required = |name: &str| {
        request
            .header(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| incomplete(&format!("The header {name} is missing.")))
    };
    let date = required("x-acs-date")?;
    let nonce = required("x-acs-signature-nonce")?;
    let digest = required("x-acs-content-sha256")?;

    let now = state.now();
    check_date(date, now)?;
    let key = state.keys.find(authorization.key_id).ok_or_else(|| {
        ServiceRefusal::gateway(
            404,
            "InvalidAccessKeyId.NotFound",
            "Specified access key is not found.",
        )
    })?;
    if !key.enabled {
        return Err(ServiceRefusal::gateway(
            400,
            "InvalidAccessKeyId.Inactive",
            "Specified access key is disabled.",
        ));
    }
    check_token(request.header("x-acs-security-token"), key, now)?;
    if digest != sha256(&request.body) {
        return Err(mismatch("x-acs-content-sha256 is not that of the body."));
    }
    check_coverage(request, &authorization)?;

    let string_to_sign = Canonical {
        method: request.method.as_str(),
        path: &request.path,
        query: &request.query,
        headers: &request.headers,
        signed_headers: &authorization.signed_headers,
        body: &request.body,
    }
    .string_to_sign();
    if signature(&key.secret, &string_to_sign).as_deref() != Some(authorization.signature) {
        let shown = format!("Server StringToSign is [{string_to_sign}].");
        return Err(mismatch(&shown));
    }
    if state.nonces.take(nonce) {
        return Ok(());
    }
    Err(ServiceRefusal::gateway(
        400,
        "SignatureNonceUsed",
        "Specified signature nonce was used already.",
    ))
}

/// Checks that `text` is a time near the gateway's own.
pub(crate) fn check_date(text: &str, now: OffsetDateTime) -> Result<(), ServiceRefusal> {
    let date = instant::parse(text).ok_or_else(|| {
        ServiceRefusal::gateway(
            400,
            "InvalidTimeStamp.Format",
            "Specified time stamp or date value is not well formatted.",
        )
    })?;
    if (now - date).abs() > SKEW {
        return Err(ServiceRefusal::gateway(
            400,
            "InvalidTimeStamp.Expired",
            "Specified time stamp or date value is expired.",
        ));
    }
    Ok(())
}

/// Checks that the token belongs to the key and is still valid.
fn check_token(
    token: Option<&str>,
    key: &Known,
    now: OffsetDateTime,
) -> Result<(), ServiceRefusal> {
    let token = token.filter(|token| !token.is_empty());
    let (code, message) = match (&key.session, token) {
        (None, None) => return Ok(()),
        (Some(_), None) => (
            "MissingSecurityToken",
            "SecurityToken is mandatory for this action.",
        ),
        (Some((own, expires_at)), Some(token)) if own == token => {
            if now < *expires_at {
                return Ok(());
            }
            (
                "InvalidSecurityToken.Expired",
                "Specified SecurityToken is expired.",
            )
        }
        (_, Some(_)) => (
            "InvalidSecurityToken.MismatchWithAccessKey",
            "Specified SecurityToken mismatch with the AccessKey.",
        ),
    };
    Err(ServiceRefusal::gateway(400, code, message))
}

/// Checks that the signature covers the host and all headers that the gateway uses, and no absent header.
fn check_coverage(
    request: &Inbound,
    authorization: &Authorization<'_>,
) -> Result<(), ServiceRefusal> {
    let unsigned = request
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .chain(["host"])
        .filter(|name| *name == "host" || name.starts_with("x-acs-"))
        .find(|name| !authorization.signs(name));
    if let Some(name) = unsigned {
        return Err(incomplete(&format!("The header {name} is not signed.")));
    }
    let absent = authorization
        .signed_headers
        .iter()
        .any(|name| !request.headers.contains_key(*name));
    if absent {
        return Err(incomplete("A signed header was not sent."));
    }
    Ok(())
}

fn mismatch(detail: &str) -> ServiceRefusal {
    ServiceRefusal::gateway(
        400,
        "SignatureDoesNotMatch",
        format!("Specified signature does not match our calculation. {detail}"),
    )
}
