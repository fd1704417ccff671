//! The emulated services, and which of them answers a request.

mod batch;
mod credentials_uri;
mod data_key;
pub(crate) mod kms;
mod listing;
mod metadata;
mod sts;

use http::Method;

use crate::state::Services;
use crate::state::action::Action;
use crate::wire::answer::ServiceAnswer;
use crate::wire::inbound::Inbound;
use crate::wire::refusal::{Occasion, ServiceRefusal};

/// Returns what `request` asks for.
pub(crate) fn action_of(request: &Inbound) -> Action {
    match request.path.as_str() {
        "/" => Action::named(action_name(request).unwrap_or_default()),
        path if path.starts_with("/latest/") => Action::Metadata,
        credentials_uri::PATH => Action::CredentialsUri,
        _ => Action::Other,
    }
}

fn action_name(request: &Inbound) -> Option<&str> {
    request
        .header("x-acs-action")
        .or_else(|| request.given("Action"))
}

/// Returns the answer that the services give.
pub(crate) fn serve(shared: &Services, request: &Inbound, action: Action) -> ServiceAnswer {
    let request_id = shared.draw.request_id();
    if action == Action::Metadata {
        return metadata::answer(shared, request);
    }
    if action == Action::CredentialsUri {
        return credentials_uri::answer(shared);
    }
    let answer = check_api(request, action).and_then(|()| match action {
        Action::GetSecretValue => kms::secret_value(shared, request, &request_id),
        Action::BatchGetSecretValue => batch::secret_values(shared, request, &request_id),
        Action::ListSecrets => listing::secrets(shared, request, &request_id),
        Action::GenerateDataKey => data_key::generate(shared, request, &request_id),
        Action::Decrypt => data_key::decrypt(shared, request, &request_id),
        Action::AssumeRoleWithOidc => sts::assume_role_with_oidc(shared, request, &request_id),
        Action::AssumeRole => sts::assume_role(shared, request, &request_id),
        Action::Metadata | Action::CredentialsUri | Action::Other => Err(unknown_api()),
    });
    answer.unwrap_or_else(|refusal| refused(shared, &refusal, action, request_id))
}

/// Checks of the gateway that come before authentication.
fn check_api(request: &Inbound, action: Action) -> Result<(), ServiceRefusal> {
    if request.path != "/" {
        return Err(unknown_api());
    }
    if request.method != Method::GET && request.method != Method::POST {
        return Err(ServiceRefusal::gateway(
            400,
            "UnsupportedHTTPMethod",
            "This http method is not supported.",
        ));
    }
    if action_name(request).is_none_or(str::is_empty) {
        return Err(ServiceRefusal::missing("Action"));
    }
    let version = request
        .header("x-acs-version")
        .or_else(|| request.given("Version"))
        .ok_or_else(|| ServiceRefusal::missing("Version"))?;
    let is_rpc = request.header("x-acs-action").is_none();
    let format = request.given("Format").unwrap_or("XML");
    if action.api().is_none_or(|api| api.version != version) {
        return Err(unknown_api());
    }
    if is_rpc && request.header("authorization").is_none() && format != "JSON" {
        return Err(ServiceRefusal::gateway(
            400,
            "InvalidParameter.Format",
            "The emulator only writes JSON: send Format=JSON.",
        ));
    }
    Ok(())
}

fn unknown_api() -> ServiceRefusal {
    ServiceRefusal::gateway(
        404,
        "InvalidApi.NotFound",
        "Specified api is not found, please check your url and method.",
    )
}

/// Returns the error answer for `refusal`.
pub(crate) fn refused(
    shared: &Services,
    refusal: &ServiceRefusal,
    action: Action,
    request_id: String,
) -> ServiceAnswer {
    refusal.answer(Occasion {
        request_id,
        host: &shared.endpoint,
        product: action.api().map_or("Unknown", |api| api.product),
    })
}
