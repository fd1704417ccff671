use std::sync::Arc;

use kms_agent_core::secret::{CURRENT_STAGE, MAX_ID_BYTES, stages as stages_of};
use kms_agent_core::{Secret, SecretRef, SecretValue, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::parse_object;
use super::text::Text;

/// The longest version id and stage of KMS, in characters.
const MAX_LABEL_CHARS: usize = 64;

/// More stages than one version has in KMS.
const MAX_STAGES: usize = 64;

/// A GetSecretValue answer and what the agent must know of it.
#[derive(Debug)]
pub(crate) struct SecretAnswer {
    pub(crate) secret: Secret,
    /// The secret that it says it is of.
    secret_name: Box<str>,
    /// By the wall clock.
    pub(crate) rotates_at: Option<Timestamp>,
    pub(crate) request_id: Option<String>,
}

impl SecretAnswer {
    /// Whether this answers `question`. An answer that got onto the wrong connection is about another secret or
    /// stage. Another version of the right secret is a fact about the secret, which the caller judges.
    pub(crate) fn is_for(&self, question: &SecretRef) -> bool {
        let id = &question.id;
        let is_named = *self.secret_name == *id.as_str() || *self.secret_name == *id.name();
        let selector = &question.selector;
        let stage = match (selector.version_id(), selector.stage()) {
            (None, None) => Some(CURRENT_STAGE),
            (_, stage) => stage,
        };
        let stages = &self.secret.stages;
        let has_stage = stage.is_none_or(|stage| {
            stages.is_empty() || stages.iter().any(|candidate| **candidate == *stage)
        });
        is_named && has_stage
    }
}

/// Whether `text` has the form of a version id: visible ASCII of a bounded length.
fn is_version_id(text: &str) -> bool {
    (1..=MAX_LABEL_CHARS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether `text` has the form of a stage. Owners name stages, also with letters beyond ASCII.
fn is_stage(text: &str) -> bool {
    let is_visible = |letter: char| letter.is_ascii_graphic() || letter.is_alphanumeric();
    (1..=MAX_LABEL_CHARS).contains(&text.chars().count()) && text.chars().all(is_visible)
}

/// The members that are looked at. The value itself is looked over in place: unescaping it here would leave a
/// copy behind that nobody wipes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AnswerMembers<'a> {
    #[serde(borrow)]
    secret_name: Text<'a>,
    #[serde(borrow)]
    secret_data: &'a RawValue,
    #[serde(borrow)]
    version_id: Text<'a>,
    #[serde(borrow, default)]
    version_stages: Option<StageList<'a>>,
    #[serde(borrow, default)]
    next_rotation_date: Option<Text<'a>>,
    #[serde(borrow, default)]
    request_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StageList<'a> {
    #[serde(borrow, default)]
    version_stage: Vec<Text<'a>>,
}

/// Takes over the bytes of an answer; `None` when it is no answer to GetSecretValue. Why is not said: the
/// reason would quote the answer.
pub(crate) fn decode(body: Zeroizing<Vec<u8>>) -> Option<SecretAnswer> {
    let members: AnswerMembers<'_> = parse_object(&body)?;
    if !(1..=MAX_ID_BYTES).contains(&members.secret_name.len())
        || !is_version_id(&members.version_id)
        || !members.secret_data.get().starts_with('"')
    {
        return None;
    }
    let version_id = Arc::from(&*members.version_id);
    let stages = members.version_stages.map(|stages| stages.version_stage);
    let stages = stages.as_deref().unwrap_or_default();
    if stages.len() > MAX_STAGES || !stages.iter().all(|stage| is_stage(stage)) {
        return None;
    }
    let stages = stages_of(stages);
    let secret_name = Box::from(&*members.secret_name);
    let rotates_at = members
        .next_rotation_date
        .and_then(|date| Timestamp::parse_rfc3339(&date));
    let request_id = members.request_id.map(|id| id.to_owned());
    Some(SecretAnswer {
        secret: Secret {
            answer: SecretValue::new(body),
            version_id,
            stages,
        },
        secret_name,
        rotates_at,
        request_id,
    })
}

#[cfg(test)]
mod tests {
    use kms_agent_core::{SecretId, VersionSelector};

    use super::*;

    fn answer(text: &str) -> Option<SecretAnswer> {
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
    fn an_answer_is_for_the_secret_and_the_stage_that_were_asked_for() {
        let question = |id, version_id, stage| SecretRef {
            id: SecretId::parse(id).expect("an id"),
            selector: VersionSelector::parse(version_id, stage).expect("a selector"),
        };
        let arn = "acs:kms:cn-hangzhou:1:secret/app/db";
        let current = r#"{"VersionStage":["ACSCurrent","x"]}"#;
        for (name, stages, question, is_for) in [
            ("app/db", current, question("app/db", None, None), true),
            ("app/db", current, question(arn, None, None), true),
            (arn, current, question(arn, None, None), true),
            (arn, current, question("app/db", None, None), false),
            ("other", current, question("app/db", None, None), false),
            ("App/db", current, question("app/db", None, None), false),
            ("app/db ", current, question("app/db", None, None), false),
            ("db", current, question(arn, None, None), false),
            ("app/db", current, question("app/db", None, Some("x")), true),
            (
                "app/db",
                current,
                question("app/db", None, Some("ACSPrevious")),
                false,
            ),
            (
                "app/db",
                r#"{"VersionStage":["x"]}"#,
                question("app/db", None, None),
                false,
            ),
            (
                "app/db",
                r#"{"VersionStage":["x"]}"#,
                question("app/db", Some("v1"), None),
                true,
            ),
            (
                "app/db",
                current,
                question("app/db", Some("v1"), Some("y")),
                false,
            ),
            (
                "app/db",
                current,
                question("app/db", Some("other"), None),
                true,
            ),
            ("app/db", "{}", question("app/db", None, None), true),
            ("app/db", "null", question("app/db", None, Some("x")), true),
        ] {
            let text = format!(
                r#"{{"SecretName":"{name}","VersionId":"v1","SecretData":"","VersionStages":{stages}}}"#
            );
            let answer = answer(&text).expect("an answer");
            assert_eq!(answer.is_for(&question), is_for, "{text} {question:?}");
        }
    }

    #[test]
    fn version_ids_and_stages_have_the_form_of_those_of_kms() {
        let parsed = |version_id: &str, stage: &str| {
            let (version_id, stage) = (json(version_id), json(stage));
            answer(&format!(
                r#"{{"SecretName":"s","VersionId":{version_id},"SecretData":"","VersionStages":{{"VersionStage":[{stage}]}}}}"#
            ))
        };
        let long = "v".repeat(MAX_LABEL_CHARS);
        assert!(parsed(&long, &long).is_some() && parsed("v~1", "a:b").is_some());
        for bad in [
            "",
            "a b",
            "v\n",
            "\u{1b}[31m",
            "v\u{202e}",
            &"v".repeat(MAX_LABEL_CHARS + 1),
        ] {
            assert!(parsed(bad, "ACSCurrent").is_none(), "{bad:?}");
            assert!(parsed("v1", bad).is_none(), "{bad:?}");
        }
        let stages = vec!["x"; MAX_STAGES + 1].join("\",\"");
        let text = format!(
            r#"{{"SecretName":"s","VersionId":"1","SecretData":"","VersionStages":{{"VersionStage":["{stages}"]}}}}"#
        );
        assert!(answer(&text).is_none());
    }

    fn json(text: &str) -> String {
        serde_json::to_string(text).expect("text")
    }

    #[test]
    fn any_other_body_is_not_an_answer() {
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
