//! STS: temporary credentials for a role.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::sign;
use crate::state::Services;
use crate::state::key::SessionCredentials;
use crate::wire::answer::ServiceAnswer;
use crate::wire::inbound::Inbound;
use crate::wire::instant;
use crate::wire::refusal::ServiceRefusal;

/// Answers `AssumeRoleWithOIDC`, which is not signed.
pub(crate) fn assume_role_with_oidc(
    shared: &Services,
    request: &Inbound,
    request_id: &str,
) -> Result<ServiceAnswer, ServiceRefusal> {
    let mut state = shared.state();
    if let Some(date) = request.given("Timestamp") {
        sign::check_date(date, state.now())?;
    }
    let wish = Wish::read(request)?;
    let provider = request
        .given("OIDCProviderArn")
        .ok_or_else(|| ServiceRefusal::missing("OIDCProviderArn"))?;
    if !is_ram_arn(provider, "oidc-provider/") {
        return Err(invalid("OIDCProviderArn"));
    }
    let token = request
        .given("OIDCToken")
        .ok_or_else(|| ServiceRefusal::missing("OIDCToken"))?;
    state.trust.check_role(wish.role)?;
    state.trust.check_token(token)?;

    let credentials = state.issue_session(&shared.draw, Some(wish.duration));
    let mut body = wish.body(&shared.draw.hex(18), &credentials, request_id);
    if let Some(members) = body.as_object_mut() {
        let info = json!({
            "Issuer": "https://oidc.example.com",
            "Subject": "system:serviceaccount:default:default",
            "ClientIds": "sts.aliyuncs.com",
            "IssuanceTime": instant::text(state.now()),
            "ExpirationTime": instant::text(credentials.expiration()),
            "VerificationInfo": "Success",
        });
        members.insert("OIDCTokenInfo".to_owned(), info);
    }
    Ok(ServiceAnswer::json(StatusCode::OK, &body))
}

/// Answers `AssumeRole`, which must be signed.
pub(crate) fn assume_role(
    shared: &Services,
    request: &Inbound,
    request_id: &str,
) -> Result<ServiceAnswer, ServiceRefusal> {
    let mut state = shared.state();
    sign::verify(request, &mut state)?;
    let wish = Wish::read(request)?;
    state.trust.check_role(wish.role)?;
    let credentials = state.issue_session(&shared.draw, Some(wish.duration));
    let body = wish.body(&shared.draw.hex(18), &credentials, request_id);
    Ok(ServiceAnswer::json(StatusCode::OK, &body))
}

/// Parameters that both ways of assuming a role share.
struct Wish<'a> {
    role: &'a str,
    session: &'a str,
    duration: Duration,
}

impl<'a> Wish<'a> {
    fn read(request: &'a Inbound) -> Result<Self, ServiceRefusal> {
        let required = |name: &str| {
            request
                .given(name)
                .ok_or_else(|| ServiceRefusal::missing(name))
        };
        let role = required("RoleArn")?;
        if !is_ram_arn(role, "role/") {
            return Err(invalid("RoleArn"));
        }
        let session = required("RoleSessionName")?;
        if !is_session_name(session) {
            return Err(invalid("RoleSessionName"));
        }
        if request
            .given("Policy")
            .is_some_and(|policy| policy.len() > 2048)
        {
            return Err(invalid("PolicySize"));
        }
        let seconds = match request.given("DurationSeconds") {
            Some(text) => text.parse().map_err(|_| invalid("DurationSeconds"))?,
            None => 3600,
        };
        if !(900..=43_200).contains(&seconds) {
            return Err(invalid("DurationSeconds"));
        }
        Ok(Self {
            role,
            session,
            duration: Duration::from_secs(seconds),
        })
    }

    fn body(&self, role_id: &str, credentials: &SessionCredentials, request_id: &str) -> Value {
        json!({
            "RequestId": request_id.to_uppercase(),
            "AssumedRoleUser": {
                "Arn": format!("{}/{}", self.role, self.session),
                "AssumedRoleId": format!("{role_id}:{}", self.session),
            },
            "Credentials": {
                "AccessKeyId": credentials.id(),
                "AccessKeySecret": credentials.expose_secret(),
                "SecurityToken": credentials.expose_token(),
                "Expiration": instant::text(credentials.expiration()),
            },
        })
    }
}

fn invalid(what: &str) -> ServiceRefusal {
    ServiceRefusal::gateway(
        400,
        format!("InvalidParameter.{what}"),
        format!("The parameter {what} is wrongly formed."),
    )
}

/// Returns whether `text` is `acs:ram::<account>:<kind><name>`.
fn is_ram_arn(text: &str, kind: &str) -> bool {
    text.strip_prefix("acs:ram::")
        .and_then(|rest| rest.split_once(':'))
        .is_some_and(|(account, resource)| {
            !account.is_empty()
                && account.bytes().all(|byte| byte.is_ascii_digit())
                && resource
                    .strip_prefix(kind)
                    .is_some_and(|name| !name.is_empty())
        })
}

fn is_session_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".@_-".contains(&byte);
    (2..=64).contains(&text.len()) && text.bytes().all(allowed)
}
