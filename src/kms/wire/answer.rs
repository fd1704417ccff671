use std::sync::Arc;

use kms_agent_core::secret::stages as stages_of;
use kms_agent_core::{Secret, SecretValue, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::object::parse_object;
use super::text::Text;

/// A GetSecretValue answer and what the agent must know of it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) secret: Secret,
    /// By the wall clock.
    pub(crate) rotates_at: Option<Timestamp>,
    pub(crate) request_id: Option<String>,
}

/// The members that are looked at. The value itself is looked over in place: unescaping it here would leave a
/// copy behind that nobody wipes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Members<'a> {
    #[serde(borrow)]
    secret_name: Text<'a>,
    #[serde(borrow)]
    secret_data: &'a RawValue,
    #[serde(borrow)]
    version_id: Text<'a>,
    #[serde(borrow, default)]
    version_stages: Option<Stages<'a>>,
    #[serde(borrow, default)]
    next_rotation_date: Option<Text<'a>>,
    #[serde(borrow, default)]
    request_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stages<'a> {
    #[serde(borrow, default)]
    version_stage: Vec<Text<'a>>,
}

/// Takes over the bytes of an answer; `None` when it is no answer to GetSecretValue. Why is not said: the
/// reason would quote the answer.
pub(crate) fn decode(body: Zeroizing<Vec<u8>>) -> Option<Answer> {
    let members: Members<'_> = parse_object(&body)?;
    if members.secret_name.is_empty()
        || members.version_id.is_empty()
        || !members.secret_data.get().starts_with('"')
    {
        return None;
    }
    let version_id = Arc::from(&*members.version_id);
    let stages = members.version_stages.map(|stages| stages.version_stage);
    let stages = stages_of(stages.as_deref().unwrap_or_default());
    let rotates_at = members
        .next_rotation_date
        .and_then(|date| Timestamp::parse_rfc3339(&date));
    let request_id = members.request_id.map(|id| id.to_owned());
    Some(Answer {
        secret: Secret {
            answer: SecretValue::new(body),
            version_id,
            stages,
        },
        rotates_at,
        request_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Option<Answer> {
        decode(Zeroizing::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn the_bytes_are_kept_as_they_came_and_the_rest_is_read_off() {
        let text = r#" {"SecretName":"s","VersionId":"v\u0031","SecretData":"a\"\u00e9\\","Other":[1,{}],
            "VersionStages":{"VersionStage":["ACSCurrent","x"]},"NextRotationDate":"2020-07-06T18:22:03Z"} "#;
        let answer = answer(text).expect("an answer");
        assert_eq!(answer.secret.answer.expose(), text.as_bytes());
        assert_eq!(&*answer.secret.version_id, "v1");
        assert_eq!(*answer.secret.stages, ["ACSCurrent".into(), "x".into()]);
        assert_eq!(
            answer.rotates_at.map(Timestamp::as_millis),
            Some(1_594_059_723_000)
        );
    }

    #[test]
    fn stages_and_rotation_may_be_missing_and_a_date_that_is_none_is_no_date() {
        let answer = answer(
            r#"{"SecretName":"s","VersionId":"1","SecretData":"","NextRotationDate":"soon"}"#,
        )
        .expect("an answer");
        assert!(answer.secret.stages.is_empty());
        assert_eq!(answer.rotates_at, None);
    }

    #[test]
    fn anything_else_is_no_answer() {
        for text in [
            "",
            "hello",
            "[]",
            r#"["s","\"d\"","1"]"#,
            "{}",
            r#"{"SecretName":"s","VersionId":"1"}"#,
            r#"{"SecretName":"s","SecretData":"d"}"#,
            r#"{"VersionId":"1","SecretData":"d"}"#,
            r#"{"SecretName":"s","VersionId":"","SecretData":"d"}"#,
            r#"{"SecretName":"s","VersionId":"1","SecretData":5}"#,
            r#"{"SecretName":"s","VersionId":"1","SecretData":null}"#,
            r#"{"SecretName":"s","VersionId":1,"SecretData":"d"}"#,
            r#"{"SecretName":"s","VersionId":"1","SecretData":"d"} trailing"#,
            r#"{"SecretName":"s","VersionId":"1","SecretData":"d"#,
            r#"{"Code":"Oops","Message":"m"}"#,
        ] {
            assert!(answer(text).is_none(), "{text}");
        }
        assert!(decode(Zeroizing::new(vec![0xff, 0xfe])).is_none());
    }
}
