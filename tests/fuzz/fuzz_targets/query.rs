//! From a query string or a path to a secret: nothing panics, nothing invalid comes through, and both ways of
//! asking mean the same.

#![no_main]

/// The parser's own files rather than its crate, which keeps it to itself.
#[path = "../../../src/server"]
mod server {
    #[expect(dead_code, reason = "only what parsing needs of it is called")]
    pub(crate) mod error;
    pub(crate) mod query;
}
use server::{error, query};

use kms_agent_core::SecretRef;
use libfuzzer_sys::fuzz_target;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use query::{Question, parse_path, parse_query, parse_vault_path};

fuzz_target!(|target: &str| {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let by_query = check(parse_query(query));
    let by_path = check(parse_path(path, query));
    let by_vault = check(parse_vault_path(path, query));

    if let Some(secret) = &by_query {
        let id = encode(secret.id.as_str());
        let again = check(parse_query(&format!("secretId={id}")));
        assert_eq!(again.map(|secret| secret.id).as_ref(), Some(&secret.id));
    }
    if let Some(secret) = &by_path {
        let id = encode(secret.id.as_str());
        assert_eq!(check(parse_path(&id, query)).as_ref(), Some(secret));
        let asked = format!("secretId={id}&{query}");
        assert_eq!(check(parse_query(&asked)).as_ref(), Some(secret));
        let prefixed = format!("secret/data/{path}");
        assert_eq!(
            check(parse_vault_path(&prefixed, query)).as_ref(),
            Some(secret)
        );
        if !path.starts_with("secret/data/") {
            assert_eq!(by_vault.as_ref(), Some(secret));
        }
    }
});

/// What was asked for, if it may be asked for.
fn check(question: Result<Question, error::ApiError>) -> Option<SecretRef> {
    match question {
        Ok(question) => {
            let id = question.secret.id.as_str();
            assert!((1..=512).contains(&id.len()) && !id.contains(char::is_control));
            Some(question.secret)
        }
        Err(error) => {
            assert!(["InvalidParameter", "MissingParameter"].contains(&error.code.as_str()));
            None
        }
    }
}

fn encode(id: &str) -> String {
    utf8_percent_encode(id, NON_ALPHANUMERIC).to_string()
}
