//! Text that is signed.

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use crate::sign::{SCHEME, hex, sha256};

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Parts of a request that the signature covers.
pub(super) struct Canonical<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// Decoded parameters. The service encodes them again, so that any encoding of a space is accepted.
    pub(super) query: &'a [(String, String)],
    pub(super) headers: &'a HeaderMap,
    pub(super) signed_headers: &'a [&'a str],
    pub(super) body: &'a [u8],
}

impl Canonical<'_> {
    /// Returns the string to sign, with a digest of the request instead of its content.
    pub(super) fn string_to_sign(&self) -> String {
        format!("{SCHEME}\n{}", sha256(&self.request()))
    }

    fn request(&self) -> Vec<u8> {
        let mut names: Vec<String> = self
            .signed_headers
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect();
        names.sort_unstable();
        names.dedup();

        let mut text = format!("{}\n{}\n{}\n", self.method, self.path, self.query()).into_bytes();
        for name in &names {
            text.extend_from_slice(name.as_bytes());
            text.push(b':');
            text.extend_from_slice(&self.header(name));
            text.push(b'\n');
        }
        let end = format!("\n{}\n{}", names.join(";"), sha256(self.body));
        text.extend_from_slice(end.as_bytes());
        text
    }

    fn query(&self) -> String {
        let mut sorted: Vec<_> = self.query.iter().collect();
        sorted.sort_unstable();
        let encoded: Vec<String> = sorted
            .iter()
            .map(|(key, value)| format!("{}={}", encode(key), encode(value)))
            .collect();
        encoded.join("&")
    }

    /// Returns a header's value without outer white space; several values are joined by commas.
    fn header(&self, name: &str) -> Vec<u8> {
        let values: Vec<&[u8]> = self
            .headers
            .get_all(name)
            .iter()
            .map(|value| value.as_bytes().trim_ascii())
            .collect();
        values.join(&b","[..])
    }
}

/// Returns the signature in hex. HMAC accepts keys of any length, so this always succeeds.
pub(super) fn signature(secret: &str, string_to_sign: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    mac.update(string_to_sign.as_bytes());
    Some(hex(&mac.finalize().into_bytes()))
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const SECRET: &str = "TestAccessKeySecret0123456789";
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    struct Vector {
        secret: &'static str,
        query: Vec<(String, String)>,
        headers: Vec<(&'static str, &'static str)>,
        body: &'static [u8],
        digest: &'static str,
        signature: &'static str,
    }

    impl Vector {
        fn check(&self) {
            let signed: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
            let headers: HeaderMap = self
                .headers
                .iter()
                .map(|(name, value)| {
                    (
                        HeaderName::from_static(name),
                        HeaderValue::from_static(value),
                    )
                })
                .collect();
            let canonical = Canonical {
                method: "POST",
                path: "/",
                query: &self.query,
                headers: &headers,
                signed_headers: &signed,
                body: self.body,
            };
            let string = canonical.string_to_sign();
            assert_eq!(string, format!("ACS3-HMAC-SHA256\n{}", self.digest));
            assert_eq!(
                super::signature(self.secret, &string).as_deref(),
                Some(self.signature)
            );
        }
    }

    fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_published_example_is_accepted() {
        Vector {
            secret: "YourAccessKeySecret",
            query: query(&[
                (
                    "ImageId",
                    "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd",
                ),
                ("RegionId", "cn-shanghai"),
            ]),
            headers: vec![
                ("host", "ecs.cn-shanghai.aliyuncs.com"),
                ("x-acs-action", "RunInstances"),
                ("x-acs-content-sha256", EMPTY),
                ("x-acs-date", "2023-10-26T10:22:32Z"),
                ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
                ("x-acs-version", "2014-05-26"),
            ],
            body: b"",
            digest: "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259",
            signature: "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0",
        }
        .check();
    }

    #[test]
    fn a_name_with_reserved_characters_is_accepted() {
        Vector {
            secret: SECRET,
            query: query(&[
                ("VersionStage", "ACSCurrent"),
                ("SecretName", "app/db password+v1~*"),
            ]),
            headers: vec![
                ("host", "kms.cn-hangzhou.aliyuncs.com"),
                ("x-acs-action", "GetSecretValue"),
                ("x-acs-content-sha256", EMPTY),
                ("x-acs-date", "2026-01-02T03:04:05Z"),
                ("x-acs-signature-nonce", "00000000000000000000000000000001"),
                ("x-acs-version", "2016-01-20"),
            ],
            body: b"",
            digest: "ab40944956eb2080ea496a1a9ea7a63a43aeed4c46bc5b38601a44c1c03410c7",
            signature: "42294c13612acf3f393a1859ff9f6330b1b53cea7116cd37d87023506932f885",
        }
        .check();
    }

    #[test]
    fn a_request_with_a_security_token_is_accepted() {
        Vector {
            secret: SECRET,
            query: query(&[
                ("FetchExtendedConfig", "true"),
                ("SecretName", "app/db"),
                ("VersionStage", "ACSCurrent"),
            ]),
            headers: vec![
                ("host", "kms.cn-hangzhou.aliyuncs.com"),
                ("x-acs-accesskey-id", "STS.TestAccessKeyId"),
                ("x-acs-action", "GetSecretValue"),
                ("x-acs-content-sha256", EMPTY),
                ("x-acs-date", "2026-01-02T03:04:05Z"),
                ("x-acs-security-token", "CAISTestSecurityToken=="),
                ("x-acs-signature-nonce", "00000000000000000000000000000002"),
                ("x-acs-version", "2016-01-20"),
            ],
            body: b"",
            digest: "3ece169f63bb2844843daf1ff0d8e7fd2cf371633312f6dcc6fcf1123c35e109",
            signature: "33228e9e4313ac5fa2e4d3cacce76a42419ca68d746fc06b7fc3ad8a3464b0f6",
        }
        .check();
    }

    #[test]
    fn a_form_body_is_accepted() {
        Vector {
            secret: SECRET,
            query: Vec::new(),
            headers: vec![
                ("content-type", "application/x-www-form-urlencoded"),
                ("host", "sts.cn-hangzhou.aliyuncs.com"),
                ("x-acs-action", "AssumeRole"),
                (
                    "x-acs-content-sha256",
                    "e52bc8c7d7c6a3e08839401cbb055a2d3f53127d4c2becd379a2e9a400396464",
                ),
                ("x-acs-date", "2026-01-02T03:04:05Z"),
                ("x-acs-signature-nonce", "00000000000000000000000000000003"),
                ("x-acs-version", "2015-04-01"),
            ],
            body: b"RoleArn=acs%3Aram%3A%3A1234567890123456%3Arole%2Fdemo&RoleSessionName=kms-agent&DurationSeconds=3600",
            digest: "05fa2e213fb9161f1c6e9d28e6a76d61d0322cfa60ec504589060f7950e73fb2",
            signature: "2d65c3449c3c43bf713798b6e6ca51b1ca43352ffc005e317b93a3bcc9aa2ba2",
        }
        .check();
    }
}
