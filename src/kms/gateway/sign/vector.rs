//! Signatures made by the official SDK, and one that the official documentation prints.

use super::*;

const EMPTY_HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn plain() -> Credential {
    Credential::new("LTAI4TestAccessKeyId", "TestAccessKeySecret0123456789")
}

fn signature(signed: &Signed) -> &str {
    signed
        .headers
        .iter()
        .find(|(name, _)| *name == "authorization")
        .and_then(|(_, value)| value.split_once(",Signature="))
        .map(|(_, signature)| signature)
        .expect("a signature")
}

/// The hash of the canonical request, worked out from what would be sent.
fn request_hash(signed: &Signed) -> String {
    let mut headers: Vec<_> = signed
        .headers
        .iter()
        .filter(|(name, _)| *name != "authorization")
        .cloned()
        .collect();
    headers.sort_unstable_by_key(|(name, _)| *name);
    let body_hash = headers
        .iter()
        .find(|(name, _)| *name == "x-acs-content-sha256")
        .map(|(_, value)| value.clone())
        .expect("a hash");
    sha256_hex(
        canonical_request(
            &signed.query,
            &canonical_headers(&headers),
            &signed_headers(&headers),
            &body_hash,
        )
        .as_bytes(),
    )
}

#[test]
fn the_vector_of_the_official_documentation() {
    let signed = sign(
        CallToSign {
            host: "ecs.cn-shanghai.aliyuncs.com",
            action: "RunInstances",
            version: "2014-05-26",
            query: &[
                (
                    "ImageId",
                    "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd",
                ),
                ("RegionId", "cn-shanghai"),
            ],
            content_type: None,
            body: b"",
        },
        &Credential::new("YourAccessKeyId", "YourAccessKeySecret"),
        CallStamp {
            date: "2023-10-26T10:22:32Z",
            nonce: "3156853299f313e23d1673dc12e1703d",
        },
    );
    assert_eq!(
        request_hash(&signed),
        "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259"
    );
    assert_eq!(
        signature(&signed),
        "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    );
}

#[test]
fn a_secret_is_asked_for_with_a_static_key() {
    let signed = sign(
        CallToSign {
            host: "kms.cn-hangzhou.aliyuncs.com",
            action: "GetSecretValue",
            version: "2016-01-20",
            query: &[
                ("VersionStage", "ACSCurrent"),
                ("SecretName", "app/db password+v1~*"),
            ],
            content_type: None,
            body: b"",
        },
        &plain(),
        CallStamp {
            date: "2026-01-02T03:04:05Z",
            nonce: "00000000000000000000000000000001",
        },
    );
    assert_eq!(
        signed.query,
        "SecretName=app%2Fdb%20password%2Bv1~%2A&VersionStage=ACSCurrent"
    );
    assert!(
        signed
            .headers
            .iter()
            .any(|(name, value)| *name == "x-acs-content-sha256" && **value == EMPTY_HASH)
    );
    assert_eq!(
        request_hash(&signed),
        "ab40944956eb2080ea496a1a9ea7a63a43aeed4c46bc5b38601a44c1c03410c7"
    );
    assert_eq!(
        signature(&signed),
        "42294c13612acf3f393a1859ff9f6330b1b53cea7116cd37d87023506932f885"
    );
}

#[test]
fn a_security_token_is_signed_with_the_rest() {
    let credential = Credential::new("STS.TestAccessKeyId", "TestAccessKeySecret0123456789")
        .with_security_token("CAISTestSecurityToken==");
    let signed = sign(
        CallToSign {
            host: "kms.cn-hangzhou.aliyuncs.com",
            action: "GetSecretValue",
            version: "2016-01-20",
            query: &[
                ("FetchExtendedConfig", "true"),
                ("SecretName", "app/db"),
                ("VersionStage", "ACSCurrent"),
            ],
            content_type: None,
            body: b"",
        },
        &credential,
        CallStamp {
            date: "2026-01-02T03:04:05Z",
            nonce: "00000000000000000000000000000002",
        },
    );
    assert_eq!(
        request_hash(&signed),
        "3ece169f63bb2844843daf1ff0d8e7fd2cf371633312f6dcc6fcf1123c35e109"
    );
    assert_eq!(
        signature(&signed),
        "33228e9e4313ac5fa2e4d3cacce76a42419ca68d746fc06b7fc3ad8a3464b0f6"
    );
}

#[test]
fn a_form_is_signed_with_its_type() {
    let signed = sign(
        CallToSign {
            host: "sts.cn-hangzhou.aliyuncs.com",
            action: "AssumeRole",
            version: "2015-04-01",
            query: &[],
            content_type: Some("application/x-www-form-urlencoded"),
            body: b"RoleArn=acs%3Aram%3A%3A1234567890123456%3Arole%2Fdemo\
                &RoleSessionName=kms-agent&DurationSeconds=3600",
        },
        &plain(),
        CallStamp {
            date: "2026-01-02T03:04:05Z",
            nonce: "00000000000000000000000000000003",
        },
    );
    assert_eq!(
        request_hash(&signed),
        "05fa2e213fb9161f1c6e9d28e6a76d61d0322cfa60ec504589060f7950e73fb2"
    );
    assert_eq!(
        signature(&signed),
        "2d65c3449c3c43bf713798b6e6ca51b1ca43352ffc005e317b93a3bcc9aa2ba2"
    );
}
