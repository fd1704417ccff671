//! Path and query in which Vault clients name a secret.

use crate::error::{ApiError, Reject};
use crate::query::{QueryParameters, SecretQuery};

/// `<PathPrefix>secret/data/<id>?version=…` besides the parameters of the other formats; the prefix `secret/data/` may be
/// absent. KMS versions have no numbers, so `version` can only name the latest one.
pub(crate) fn parse_path(path: &str, query: &str) -> Result<SecretQuery, ApiError> {
    const KNOWN: [&str; 6] = [
        "versionId",
        "versionStage",
        "refreshNow",
        "field",
        "format",
        "version",
    ];
    let parameters = QueryParameters::parse(query, &KNOWN)?;
    if !matches!(parameters.get("version"), None | Some("0" | "1")) {
        return Err(Reject::InvalidParameter.because(
            "The parameter version takes 0 or 1: KMS versions have no numbers. Use versionId or versionStage.",
        ));
    }
    parameters.secret_in_path(path.strip_prefix("secret/data/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vault_clients_name_secrets_in_their_own_way() {
        for path in ["secret/data/app%2Fdb", "app/db"] {
            for query in ["", "version=0", "version=1"] {
                let query = parse_path(path, query).unwrap();
                assert_eq!(query.secret.id.as_str(), "app/db");
            }
        }
        let code = |path, query| parse_path(path, query).unwrap_err().code;
        assert_eq!(code("secret/data/a", "version=2"), "InvalidParameter");
        assert_eq!(code("secret/data/", ""), "MissingParameter");
    }
}
