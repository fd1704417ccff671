use kms_agent_core::source::KmsRefusal;
use serde::Deserialize;

use super::parse_object;
use super::text::Text;

/// Longer codes and request ids are cut.
const MAX_WORD_BYTES: usize = 128;

/// Longer messages are cut.
const MAX_MESSAGE_BYTES: usize = 4096;

/// Body of an error. Every member is optional on the wire; without a code it is not an error
/// of KMS or STS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ErrorBody {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) request_id: Option<String>,
}

/// The two spellings that occur. `HttpStatus`, `HostId` and `Recommend` are not used.
#[derive(Deserialize)]
struct ErrorMembers<'a> {
    #[serde(borrow, default, rename = "Code")]
    code: Option<Text<'a>>,
    #[serde(borrow, default, rename = "code")]
    lower_code: Option<Text<'a>>,
    #[serde(borrow, default, rename = "Message")]
    message: Option<Text<'a>>,
    #[serde(borrow, default, rename = "message")]
    lower_message: Option<Text<'a>>,
    #[serde(borrow, default, rename = "RequestId")]
    request_id: Option<Text<'a>>,
    #[serde(borrow, default, rename = "requestId")]
    lower_request_id: Option<Text<'a>>,
}

impl ErrorBody {
    /// Reads the JSON or XML body of an error; `None` when it is neither.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        if text.trim_start().starts_with('<') {
            return Self::parse_xml(text);
        }
        let members: ErrorMembers<'_> = parse_object(body)?;
        let either = |upper: Option<Text<'_>>, lower: Option<Text<'_>>, limit| {
            upper
                .or(lower)
                .filter(|text| !text.is_empty())
                .map(|text| cut(&text, limit))
        };
        Some(Self {
            code: either(members.code, members.lower_code, MAX_WORD_BYTES)?,
            message: either(members.message, members.lower_message, MAX_MESSAGE_BYTES)
                .unwrap_or_default(),
            request_id: either(members.request_id, members.lower_request_id, MAX_WORD_BYTES),
        })
    }

    /// The gateway's older form. Only what can stand there without escapes is looked for.
    fn parse_xml(text: &str) -> Option<Self> {
        let (_, text) = text.split_once("<Error>")?;
        let element = |open: &str, close: &str, limit| {
            let (_, rest) = text.split_once(open)?;
            let (inner, _) = rest.split_once(close)?;
            Some(cut(inner.trim(), limit))
        };
        Some(Self {
            code: element("<Code>", "</Code>", MAX_WORD_BYTES).filter(|code| !code.is_empty())?,
            message: element("<Message>", "</Message>", MAX_MESSAGE_BYTES).unwrap_or_default(),
            request_id: element("<RequestId>", "</RequestId>", MAX_WORD_BYTES),
        })
    }

    /// With the status of the status line, which counts whatever the body says.
    pub(crate) fn into_refusal(self, status: u16) -> KmsRefusal {
        KmsRefusal {
            status,
            code: self.code,
            message: self.message,
            request_id: self.request_id,
        }
    }
}

/// Whether `text` is a word that may stand in a log line or a sentence as it is.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_WORD_BYTES
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn cut(text: &str, limit: usize) -> String {
    let end = text.floor_char_boundary(limit);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &str) -> Option<(String, String, Option<String>)> {
        ErrorBody::parse(body.as_bytes()).map(|said| (said.code, said.message, said.request_id))
    }

    #[test]
    fn every_shape_of_an_error_is_understood() {
        for body in [
            r#"{"HttpStatus":400,"Code":"C.1","Message":"m","RequestId":"r"}"#,
            r#"{"RequestId":"r","HostId":"h","Code":"C.1","Message":"m","Recommend":"https://x"}"#,
            r#"{"code":"C.1","message":"m","requestId":"r","AccessDeniedDetail":{"a":[1]}}"#,
            "<?xml version='1.0'?><Error><RequestId>r</RequestId><Code>C.1</Code><Message>m</Message></Error>",
        ] {
            let (code, message, request_id) = said(body).expect(body);
            assert_eq!((&*code, &*message), ("C.1", "m"), "{body}");
            assert_eq!(request_id.as_deref(), Some("r"), "{body}");
        }
        assert_eq!(
            said(r#"{"Code":"C"}"#),
            Some(("C".to_owned(), String::new(), None))
        );
    }

    #[test]
    fn a_body_without_a_code_is_not_an_error_of_kms() {
        for body in [
            "",
            "<html><body>Bad Gateway</body></html>",
            "{}",
            r#"{"Code":""}"#,
            r#"{"Code":400}"#,
            r#"["Code"]"#,
            "<Error></Error>",
        ] {
            assert_eq!(said(body), None, "{body}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let body = format!(
            r#"{{"Code":"{}","Message":"{}"}}"#,
            "c".repeat(500),
            "é".repeat(5000)
        );
        let (code, message, _) = said(&body).expect("an error");
        assert_eq!(code.len(), 128);
        assert_eq!(message.len(), 4096);
    }

    #[test]
    fn words_hold_nothing_that_could_break_a_line() {
        assert!(is_word("Forbidden.ResourceNotFound") && is_word("6a3e9c36-1150"));
        assert!(!is_word("") && !is_word("a b") && !is_word("a\n") && !is_word("\"a"));
    }
}
