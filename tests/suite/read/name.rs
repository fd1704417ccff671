//! Names of secrets: each is read by query and by path, and KMS accepts the signature.

use crate::harness::cloud::Cloud;

/// Names and their encoded forms in a path or query.
const NAMES: [(&str, &str); 17] = [
    ("plain", "plain"),
    ("app/db", "app/db"),
    ("app/db2", "app%2Fdb2"),
    ("a+b", "a+b"),
    ("a+c", "a%2Bc"),
    ("a=b", "a=b"),
    ("user@example", "user@example"),
    (".-_~", ".-_~"),
    ("star*", "star*"),
    ("with space", "with%20space"),
    ("%2F", "%252F"),
    ("a&b", "a%26b"),
    (
        "密码/ключ/é",
        "%E5%AF%86%E7%A0%81/%D0%BA%D0%BB%D1%8E%D1%87/%C3%A9",
    ),
    ("a?b#c", "a%3Fb%23c"),
    ("'\"<>\\^`{|}", "%27%22%3C%3E%5C%5E%60%7B%7C%7D"),
    ("acs/ram/user/x", "acs/ram/user/x"),
    ("..", "%2E%2E"),
];

#[test]
fn names_of_every_kind_are_read_by_query_and_by_path() {
    let cloud = Cloud::start();
    for (name, _) in NAMES {
        cloud.put(name, &format!("value of {name}"));
    }
    let agent = cloud.setup().start();
    for (name, encoded) in NAMES {
        for reply in [agent.read(encoded), agent.get(&format!("/v1/{encoded}"))] {
            assert_eq!(reply.status, 200, "{name}: {}", reply.text());
            assert_eq!(reply.json()["SecretData"], format!("value of {name}"));
        }
    }
    assert_eq!(cloud.reads(), NAMES.len() as u64, "the second way is a hit");
}

#[test]
fn an_arn_is_an_id_of_its_own_and_another_regions_is_refused() {
    let cloud = Cloud::start();
    cloud.put("app/db", "value");
    let agent = cloud.setup().start();
    let account = cloud.account_id();
    let arn = format!("acs:kms:cn-hangzhou:{account}:secret/app/db");
    for reply in [
        agent.read(&arn),
        agent.get(&format!("/v1/{arn}")),
        agent.read("app/db"),
    ] {
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["SecretData"], "value");
    }
    assert_eq!(cloud.reads(), 2, "the ARN and the name are fetched apart");
    let elsewhere = agent.read(&format!("acs:kms:cn-beijing:{account}:secret/app/db"));
    assert_eq!(
        (elsewhere.status, elsewhere.json()["Code"].as_str()),
        (400, Some("InvalidParameter"))
    );
    assert_eq!(cloud.reads(), 2);
}
