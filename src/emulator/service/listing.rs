//! ListSecrets of KMS.

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::kms::{invalid, is_true};
use crate::sign;
use crate::state::Services;
use crate::state::secret::Summary;
use crate::wire::answer::ServiceAnswer;
use crate::wire::inbound::Inbound;
use crate::wire::instant;
use crate::wire::refusal::ServiceRefusal;

/// Largest page.
const MAX_PAGE: usize = 100;

/// Entry of `Filters`. Its values are alternatives.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    key: String,
    values: Vec<String>,
}

impl Filter {
    /// Names are compared by a part of them, tags as a whole.
    fn accepts(&self, secret: &Summary<'_>) -> bool {
        self.values.iter().any(|value| match self.key.as_str() {
            "SecretName" => secret.name.contains(value.as_str()),
            "TagKey" => secret.tags.contains_key(value),
            "TagValue" => secret.tags.values().any(|held| held == value),
            _ => true,
        })
    }
}

/// Answers a request for the names of secrets, a page at a time.
pub(crate) fn secrets(
    shared: &Services,
    request: &Inbound,
    request_id: &str,
) -> Result<ServiceAnswer, ServiceRefusal> {
    let mut state = shared.state();
    sign::verify(request, &mut state)?;
    let number = |name, default| match request.given(name) {
        None => Ok(default),
        Some(text) => text.parse::<usize>().map_err(|_| invalid(name)),
    };
    let (page, size) = (number("PageNumber", 1)?, number("PageSize", 10)?);
    if page == 0 {
        return Err(invalid("PageNumber"));
    }
    if !(1..=MAX_PAGE).contains(&size) {
        return Err(invalid("PageSize"));
    }
    let filters: Vec<Filter> = match request.given("Filters") {
        None => Vec::new(),
        Some(text) => serde_json::from_str(text).map_err(|_| invalid("Filters"))?,
    };
    let mut found = state.secrets.list();
    found.retain(|secret| filters.iter().all(|filter| filter.accepts(secret)));
    let total = found.len();
    let with_tags = is_true(request.parameter("FetchTags"));
    let listed: Vec<_> = found
        .iter()
        .skip((page - 1).saturating_mul(size))
        .take(size)
        .map(|secret| {
            let mut members = json!({
                "SecretName": secret.name,
                "SecretType": secret.secret_type,
                "CreateTime": instant::text(secret.created_at),
                "UpdateTime": instant::text(secret.updated_at),
            });
            if let Some(members) = members.as_object_mut().filter(|_| with_tags) {
                let tags: Vec<_> = secret
                    .tags
                    .iter()
                    .map(|(key, value)| json!({ "TagKey": key, "TagValue": value }))
                    .collect();
                members.insert("Tags".to_owned(), json!({ "Tag": tags }));
            }
            members
        })
        .collect();
    let body = json!({
        "SecretList": { "Secret": listed },
        "PageNumber": page,
        "PageSize": size,
        "TotalCount": total,
        "RequestId": request_id,
    });
    Ok(ServiceAnswer::json(StatusCode::OK, &body))
}
