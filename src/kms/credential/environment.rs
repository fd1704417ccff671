use super::fixed::FixedProvider;
use super::provider::{CredentialError, Origin};
use crate::gateway::{Credential, Part, QUOTED, UNSENDABLE};
use crate::host::Environment;

pub(super) const NAME: &str = "environment";

const KEY_ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
const KEY_SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
const TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";

/// Whether the environment names a key, be it half of one.
pub(super) fn is_configured(environment: &Environment) -> bool {
    environment.given(KEY_ID).is_some() || environment.given(KEY_SECRET).is_some()
}

/// The key that stands in the environment, with a security token or without.
pub(super) fn parse(environment: &Environment) -> Result<FixedProvider, CredentialError> {
    let origin = Origin::new("from the environment");
    let half = |set, unset| {
        origin.error(format_args!(
            "{set} is set, but {unset} is not; set both or neither"
        ))
    };
    match (environment.given(KEY_ID), environment.given(KEY_SECRET)) {
        (Some(id), Some(secret)) => {
            let credential = Credential::new(id, secret);
            let credential = match environment.given(TOKEN) {
                Some(token) => credential.with_security_token(token),
                None => credential,
            };
            let variables = [KEY_ID, KEY_SECRET, TOKEN];
            if let Some(variable) = variables.iter().find(|name| environment.is_quoted(name)) {
                return Err(origin.error(format_args!("{variable} {QUOTED}")));
            }
            let variable = match credential.unsendable_part() {
                None => return Ok(FixedProvider::new(NAME, credential, id.into())),
                Some(Part::Id) => KEY_ID,
                Some(Part::Token) => TOKEN,
            };
            Err(origin.error(format_args!("{variable} {UNSENDABLE}; set it again")))
        }
        (Some(_), None) => Err(half(KEY_ID, KEY_SECRET)),
        (None, Some(_)) => Err(half(KEY_SECRET, KEY_ID)),
        (None, None) => Err(origin.error(format_args!("set {KEY_ID} and {KEY_SECRET}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::provider::CredentialProvider;
    use super::*;

    fn parsed(variables: &[(&str, &str)]) -> Result<FixedProvider, CredentialError> {
        let environment = variables.iter().copied().collect();
        assert_eq!(is_configured(&environment), !variables.is_empty());
        parse(&environment)
    }

    #[tokio::test]
    async fn a_key_is_taken_with_or_without_a_token() {
        let provider = parsed(&[(KEY_ID, "LTAI"), (KEY_SECRET, "hunter2")]).expect("a key");
        assert_eq!(provider.identity().as_deref(), Some("LTAI"));
        let obtained = provider.obtain().await.expect("a credential");
        assert_eq!(obtained.credential.access_key_secret(), "hunter2");
        assert_eq!(obtained.credential.security_token(), None);
        assert!(!format!("{provider:?} {obtained:?}").contains("hunter2"));

        let provider = parsed(&[(KEY_ID, "STS.x"), (KEY_SECRET, "s"), (TOKEN, "t0k")]);
        let obtained = provider.expect("a key").obtain().await.expect("obtained");
        assert_eq!(obtained.credential.security_token(), Some("t0k"));
    }

    #[test]
    fn a_value_that_cannot_be_sent_is_reported_by_its_variable() {
        for (id, token, variable) in [("LTAI\u{e9}", "t", KEY_ID), ("STS.x", "a b", TOKEN)] {
            let error = parsed(&[(KEY_ID, id), (KEY_SECRET, "s"), (TOKEN, token)]);
            let text = error.expect_err("not to be sent").to_string();
            assert!(
                text.contains(variable) && text.contains("set it again"),
                "{text}"
            );
            assert!(!text.contains(id), "{text}");
        }
    }

    #[test]
    fn quotation_marks_are_reported_by_their_variable_and_not_sent() {
        for variable in [KEY_ID, KEY_SECRET, TOKEN] {
            for value in ["\"hunter2\"", "'hunter2'"] {
                let mut variables = vec![(KEY_ID, "LTAI"), (KEY_SECRET, "s"), (TOKEN, "t")];
                variables.retain(|(name, _)| *name != variable);
                variables.push((variable, value));
                let error = parsed(&variables).expect_err("quoted").to_string();
                assert!(
                    error.contains(&format!("{variable} begins and ends with a quotation mark")),
                    "{error}"
                );
                assert!(!error.contains("hunter2"));
            }
        }
    }

    #[test]
    fn half_a_key_is_an_error_that_names_the_other_half_and_no_value() {
        for (given, missing) in [(KEY_ID, KEY_SECRET), (KEY_SECRET, KEY_ID)] {
            let error = parsed(&[(given, "hunter2")]).expect_err("half a key");
            let text = error.to_string();
            assert!(text.contains(&format!("{missing} is not")), "{text}");
            assert!(!text.contains("hunter2"));
        }
        assert!(parsed(&[]).is_err());
    }
}
