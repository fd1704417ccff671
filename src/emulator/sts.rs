//! STS: temporary credentials for a role.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::inbound::Inbound;
use crate::instant;
use crate::key::SessionCredentials;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::sign;

/// Who may become whom.
#[derive(Default)]
pub(crate) struct Trust {
    /// The OIDC tokens that are good; with none registered any will do.
    tokens: Vec<String>,
    /// The role ARNs that exist; with none registered all do.
    roles: Vec<String>,
}

impl Trust {
    /// Accepts an OIDC token, and from now on only registered ones.
    pub(crate) fn register_token(&mut self, token: String) {
        self.tokens.push(token);
    }

    /// Makes a role, and from now on only registered ones exist.
    pub(crate) fn register_role(&mut self, arn: String) {
        self.roles.push(arn);
    }

    fn check_role(&self, arn: &str) -> Result<(), Refusal> {
        if self.roles.is_empty() || self.roles.iter().any(|role| role == arn) {
            return Ok(());
        }
        Err(Refusal::gateway(
            404,
            "EntityNotExist.Role",
            "The specified Role not exists.",
        ))
    }

    fn check_token(&self, token: &str) -> Result<(), Refusal> {
        let known = self.tokens.is_empty() || self.tokens.iter().any(|good| good == token);
        if known && (4..=20_000).contains(&token.len()) {
            return Ok(());
        }
        Err(Refusal::gateway(
            400,
            "AuthenticationFail.OIDCToken.Invalid",
            "This JWT token is invalid.",
        ))
    }
}

/// Answers `AssumeRoleWithOIDC`, which nobody signs.
pub(crate) fn assume_role_with_oidc(
    shared: &Shared,
    request: &Inbound,
    request_id: &str,
) -> Result<Answer, Refusal> {
    let mut state = shared.state();
    if let Some(date) = request.given("Timestamp") {
        sign::check_date(date, state.now())?;
    }
    let wish = Wish::read(request)?;
    let provider = request
        .given("OIDCProviderArn")
        .ok_or_else(|| Refusal::missing("OIDCProviderArn"))?;
    if !is_ram_arn(provider, "oidc-provider/") {
        return Err(invalid("OIDCProviderArn"));
    }
    let token = request
        .given("OIDCToken")
        .ok_or_else(|| Refusal::missing("OIDCToken"))?;
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
    Ok(Answer::json(StatusCode::OK, &body))
}

/// Answers `AssumeRole`, which must be signed.
pub(crate) fn assume_role(
    shared: &Shared,
    request: &Inbound,
    request_id: &str,
) -> Result<Answer, Refusal> {
    let mut state = shared.state();
    sign::verify(request, &mut state)?;
    let wish = Wish::read(request)?;
    state.trust.check_role(wish.role)?;
    let credentials = state.issue_session(&shared.draw, Some(wish.duration));
    let body = wish.body(&shared.draw.hex(18), &credentials, request_id);
    Ok(Answer::json(StatusCode::OK, &body))
}

/// What both ways of assuming a role have in common.
struct Wish<'a> {
    role: &'a str,
    session: &'a str,
    duration: Duration,
}

impl<'a> Wish<'a> {
    fn read(request: &'a Inbound) -> Result<Self, Refusal> {
        let required = |name: &str| request.given(name).ok_or_else(|| Refusal::missing(name));
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

fn invalid(what: &str) -> Refusal {
    Refusal::gateway(
        400,
        format!("InvalidParameter.{what}"),
        format!("The parameter {what} is wrongly formed."),
    )
}

/// Whether `text` is `acs:ram::<account>:<kind><name>`.
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
