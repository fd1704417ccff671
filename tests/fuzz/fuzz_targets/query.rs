//! Queries and paths: the parser never panics and lets nothing invalid through, and both ways of asking mean the
//! same.

#![no_main]

/// Files of the parser, which its crate does not export.
#[path = "../../../src/server"]
mod server {
    #[expect(dead_code, reason = "only what parsing needs of it is called")]
    pub(crate) mod error;
    pub(crate) mod query;
    pub(crate) mod format {
        pub(crate) mod vault {
            pub(crate) mod query;
        }
    }
}
use server::{error, query};

use error::ApiError;
use kms_agent_core::SecretId;
use libfuzzer_sys::fuzz_target;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use query::{PurgeOrder, SecretQuery, parse_path, parse_purge, parse_query};
use server::format::vault::query::parse_path as parse_vault_path;

fuzz_target!(|target: &str| {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let by_query = checked(parse_query(query));
    let by_path = checked(parse_path(path, query));
    let by_vault = checked(parse_vault_path(path, query));

    if let Some(question) = by_query {
        let asked = ask_for(&question.secret.id);
        assert_eq!(id_by_query(&asked), Some(question.secret.id));
    }
    if let Some(question) = by_path {
        let id = &question.secret.id;
        let by_its_id = parse_path(&encode(id), query);
        assert_eq!(checked(by_its_id).as_ref(), Some(&question));
        let asked = format!("{}&{query}", ask_for(id));
        assert_eq!(checked(parse_query(&asked)).as_ref(), Some(&question));
        let prefixed = format!("secret/data/{path}");
        assert_eq!(
            checked(parse_vault_path(&prefixed, query)).as_ref(),
            Some(&question)
        );
        if !path.starts_with("secret/data/") {
            assert_eq!(by_vault.as_ref(), Some(&question));
        }
    }
    if let Some(PurgeOrder::Secret(id)) = allowed(parse_purge(query)) {
        assert_eq!(id_by_query(&ask_for(&id)), Some(id));
    }
});

/// Returns a valid query.
fn checked(query: Result<SecretQuery, ApiError>) -> Option<SecretQuery> {
    let query = allowed(query)?;
    let id = query.secret.id.as_str();
    assert!((1..=512).contains(&id.len()) && !id.contains(char::is_control));
    Some(query)
}

/// Returns the result; an error must be the caller's fault.
fn allowed<T>(result: Result<T, ApiError>) -> Option<T> {
    if let Err(error) = &result {
        assert!(["InvalidParameter", "MissingParameter"].contains(&error.code.as_str()));
    }
    result.ok()
}

fn id_by_query(query: &str) -> Option<SecretId> {
    checked(parse_query(query)).map(|question| question.secret.id)
}

fn ask_for(id: &SecretId) -> String {
    format!("secretId={}", encode(id))
}

fn encode(id: &SecretId) -> String {
    utf8_percent_encode(id.as_str(), NON_ALPHANUMERIC).to_string()
}
