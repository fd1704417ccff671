//! The `Authorization` header of a signed request.

use crate::sign::SCHEME;
use crate::wire::refusal::ServiceRefusal;

/// Contents of the header.
#[derive(Debug)]
pub(crate) struct Authorization<'a> {
    /// Id of the access key.
    pub(crate) key_id: &'a str,
    /// Names of the signed headers, as the client wrote them.
    pub(crate) signed_headers: Vec<&'a str>,
    /// Signature, in hex.
    pub(crate) signature: &'a str,
}

impl<'a> Authorization<'a> {
    /// Reads `ACS3-HMAC-SHA256 Credential=…,SignedHeaders=…,Signature=…`.
    pub(crate) fn parse(header: &'a str) -> Result<Self, ServiceRefusal> {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme != SCHEME {
            return Err(ServiceRefusal::gateway(
                400,
                "InvalidSignatureMethod",
                "The specified signature method is not supported: use ACS3-HMAC-SHA256.",
            ));
        }
        let member = |name: &str| {
            rest.split(',')
                .filter_map(|part| part.trim().split_once('='))
                .find_map(|(key, value)| (key == name && !value.is_empty()).then_some(value))
                .ok_or_else(|| incomplete(&format!("{name} is missing in Authorization.")))
        };
        Ok(Self {
            key_id: member("Credential")?,
            signed_headers: member("SignedHeaders")?.split(';').collect(),
            signature: member("Signature")?,
        })
    }

    /// Returns whether a header, named in lower case, is signed.
    pub(crate) fn signs(&self, header: &str) -> bool {
        self.signed_headers
            .iter()
            .any(|name| name.eq_ignore_ascii_case(header))
    }
}

/// The signature does not cover what it must.
pub(crate) fn incomplete(detail: &str) -> ServiceRefusal {
    ServiceRefusal::gateway(
        400,
        "IncompleteSignature",
        format!("The request signature does not conform to Aliyun standards. {detail}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_all_members_is_read() {
        let text = "ACS3-HMAC-SHA256 Credential=id,SignedHeaders=host;x-acs-date,Signature=ab";
        let read = Authorization::parse(text);
        assert!(read.is_ok_and(|read| read.key_id == "id"
            && read.signed_headers == ["host", "x-acs-date"]
            && read.signature == "ab"
            && read.signs("x-acs-date")
            && !read.signs("x-acs-action")));
    }

    #[test]
    fn a_missing_member_is_an_incomplete_signature() {
        for text in [
            "ACS3-HMAC-SHA256",
            "ACS3-HMAC-SHA256 Credential=id",
            "ACS3-HMAC-SHA256 Credential=id,SignedHeaders=host,Signature=",
        ] {
            let code = Authorization::parse(text).err().map(|error| error.code);
            assert_eq!(code.as_deref(), Some("IncompleteSignature"), "{text}");
        }
    }

    #[test]
    fn another_scheme_is_an_invalid_method() {
        let code = Authorization::parse("Bearer x")
            .err()
            .map(|error| error.code);
        assert_eq!(code.as_deref(), Some("InvalidSignatureMethod"));
    }
}
