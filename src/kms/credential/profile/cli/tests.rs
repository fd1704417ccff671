use super::*;

fn parsed(text: &str, wanted: Option<&str>) -> Result<(String, ProfilePlan), String> {
    parse(text.as_bytes(), wanted)
}

/// A file whose only profile has these members.
fn profile(members: &str) -> Result<(String, ProfilePlan), String> {
    let text = format!(r#"{{"current":"dev","profiles":[{{"name":"dev",{members}}}]}}"#);
    parsed(&text, None)
}

const KEY: &str = r#""access_key_id":"LTAI","access_key_secret":"hunter2""#;

#[test]
fn the_current_profile_counts_unless_another_is_named() {
    let text = r#"{"current":"a","profiles":["broken",{"name":7},
        {"name":"a","mode":"AK","access_key_id":"A","access_key_secret":"s","expired_seconds":0,"site":"china"},
        {"name":"b","mode":"AK","access_key_id":"B","access_key_secret":"s","sts_token":"left over"},
        {"name":"c","mode":"AK","access_key_id":7}],"meta_path":""}"#;
    for (wanted, name, identity) in [(None, "a", "A"), (Some("b"), "b", "B")] {
        let (found, plan) = parsed(text, wanted).expect("a plan");
        assert_eq!(found, name);
        assert_eq!(plan.identity(&found).as_deref(), Some(identity));
        assert!(matches!(plan.base, Base::Key(key) if key.security_token().is_none()));
    }
    let error = parsed(text, Some("x")).expect_err("none of that name");
    assert_eq!(error, "it has no profile x; its profiles are: a, b, c");
    let error = parsed(text, Some("c")).expect_err("a wrong type");
    assert_eq!(
        error,
        "profile c has a member access_key_id of a wrong type"
    );
}

#[test]
fn each_mode_is_understood() {
    let role = r#""ram_role_arn":"acs:ram::1:role/r","ram_session_name":"me","expired_seconds":900,
        "sts_region":"cn-beijing","enable_vpc":true,"policy":"{}","external_id":"x""#;
    for (members, identity) in [
        (format!(r#""mode":"AK",{KEY}"#), Some("LTAI")),
        (
            format!(r#""mode":"StsToken",{KEY},"sts_token":"t""#),
            Some("profile:dev"),
        ),
        (
            format!(r#""mode":"RamRoleArn",{KEY},{role}"#),
            Some("acs:ram::1:role/r"),
        ),
        (
            format!(r#""mode":"RamRoleArn",{KEY},{role},"sts_token":"left over""#),
            Some("acs:ram::1:role/r"),
        ),
        (
            r#""mode":"EcsRamRole","ram_role_name":"web""#.to_owned(),
            Some("web"),
        ),
        (r#""mode":"EcsRamRole""#.to_owned(), None),
        (
            format!(r#""mode":"OIDC",{role},"oidc_provider_arn":"p","oidc_token_file":"/t""#),
            Some("acs:ram::1:role/r"),
        ),
    ] {
        let (name, plan) = profile(&members).expect(&members);
        assert_eq!(plan.identity(&name).as_deref(), identity, "{members}");
        assert!(!format!("{plan:?}").contains("hunter2"));
        if let Some(role) = plan.roles.first() {
            assert_eq!(role.session_name.as_deref(), Some("me"));
            assert_eq!(role.duration_seconds, Some(900));
            assert_eq!(role.policy.as_deref(), Some("{}"));
            assert_eq!(role.external_id.as_deref(), Some("x"));
            assert_eq!(
                (role.sts_region.as_deref(), role.inner),
                (Some("cn-beijing"), Some(true))
            );
        }
    }
}

#[test]
fn roles_are_assumed_one_after_the_other_from_the_source_on() {
    let link = |name: &str, source: &str| {
        format!(
            r#"{{"name":"{name}","mode":"ChainableRamRoleArn","ram_role_arn":"role-of-{name}","source_profile":"{source}"}}"#
        )
    };
    let base =
        format!(r#"{{"name":"base","mode":"RamRoleArn","ram_role_arn":"role-of-base",{KEY}}}"#);
    let text = format!(
        r#"{{"profiles":[{},{base},{},{},{}]}}"#,
        link("outer", "inner"),
        link("inner", "base"),
        link("x", "y"),
        link("y", "x"),
    );
    let (_, plan) = parsed(&text, Some("outer")).expect("a plan");
    let roles: Vec<_> = plan.roles.iter().map(|role| role.arn.as_str()).collect();
    assert_eq!(roles, ["role-of-base", "role-of-inner", "role-of-outer"]);
    assert_eq!(plan.identity("outer").as_deref(), Some("role-of-outer"));

    for (start, circle) in [("x", "x -> y -> x"), ("y", "y -> x -> y")] {
        let error = parsed(&text, Some(start)).expect_err("a circle");
        assert!(error.ends_with(circle), "{error}");
    }
    let alone = format!(r#"{{"current":"a","profiles":[{}]}}"#, link("a", "a"));
    let error = parsed(&alone, None).expect_err("a circle");
    assert!(error.ends_with("a -> a"), "{error}");
    let error = parsed(&alone.replace(r#":"a"}"#, r#":"b"}"#), None).expect_err("no source");
    assert!(error.contains("no profile b"), "{error}");
}

#[test]
fn what_is_missing_or_not_supported_is_named_and_no_value_is_quoted() {
    for (members, said) in [
        (
            r#""mode":"AK","access_key_secret":"hunter2""#.to_owned(),
            "no access_key_id",
        ),
        (
            r#""mode":"AK","access_key_id":"hunter2""#.to_owned(),
            "no access_key_secret",
        ),
        (format!(r#""mode":"StsToken",{KEY}"#), "no sts_token"),
        (
            r#""mode":"AK","access_key_id":"é","access_key_secret":"hunter2""#.to_owned(),
            "access_key_id, which has a character that no key has",
        ),
        (format!(r#""mode":"RamRoleArn",{KEY}"#), "no ram_role_arn"),
        (
            r#""mode":"ChainableRamRoleArn","ram_role_arn":"r""#.to_owned(),
            "no source_profile",
        ),
        (
            r#""mode":"OIDC","ram_role_arn":"r""#.to_owned(),
            "no oidc_provider_arn",
        ),
        (
            r#""mode":"CloudSSO""#.to_owned(),
            "mode CloudSSO, which this agent does not support",
        ),
        (
            r#""mode":"External","process_command":"hunter2""#.to_owned(),
            "mode External, which",
        ),
        (r#""mode":"hunter2""#.to_owned(), "a mode that nobody knows"),
        (KEY.to_owned(), "no mode"),
    ] {
        let error = profile(&members).expect_err(&members);
        assert!(
            error.starts_with("profile dev ") && error.contains(said),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
    for (text, said) in [
        ("hunter2", "not the JSON"),
        (r#"[{"current":"hunter2"}]"#, "not the JSON"),
        ("{}", "no current profile"),
        (r#"{"current":"a\nb"}"#, r"no profile a\nb;"),
    ] {
        let error = parsed(text, None).expect_err(text);
        assert!(
            error.contains(said) && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[test]
fn members_that_the_mode_does_not_use_may_be_anything() {
    let odd = r#""expired_seconds":"3600","expired_seconds":-1,"enable_vpc":"false","sts_token":7,"policy":{},"name":"dev""#;
    for members in [
        format!(r#""mode":"AK",{KEY},{odd}"#),
        format!(r#"{odd},"mode":"hunter2","mode":"AK",{KEY}"#),
        format!(r#""mode":"AK","access_key_id":7,{KEY}"#),
        format!(r#""mode":"AK","access_key_secret":null,{KEY}"#),
    ] {
        let (name, plan) = profile(&members).expect(&members);
        assert_eq!(plan.identity(&name).as_deref(), Some("LTAI"), "{members}");
    }
    let text = format!(
        "\u{feff}{}",
        r#"{"profiles":7,"current":"dev","profiles":[{"name":"dev","mode":"EcsRamRole"}]}"#
    );
    assert!(parsed(&text, None).is_ok());
    let text = r#"{"current":7,"profiles":[{"name":"dev","mode":"EcsRamRole"}]}"#;
    assert!(parsed(text, Some("dev")).is_ok());
}

#[test]
fn a_member_of_a_wrong_type_is_named_and_its_value_is_not_quoted() {
    let role = format!(r#""mode":"RamRoleArn",{KEY},"ram_role_arn":"r""#);
    for (members, member) in [
        (r#""mode":["hunter2"]"#.to_owned(), "mode"),
        (
            r#""mode":"AK","access_key_id":{"a":"hunter2"}"#.to_owned(),
            "access_key_id",
        ),
        (
            r#""mode":"EcsRamRole","ram_role_name":7"#.to_owned(),
            "ram_role_name",
        ),
        (
            format!(r#"{role},"expired_seconds":"hunter2""#),
            "expired_seconds",
        ),
        (format!(r#"{role},"expired_seconds":-1"#), "expired_seconds"),
        (format!(r#"{role},"enable_vpc":"hunter2""#), "enable_vpc"),
    ] {
        let error = profile(&members).expect_err(&members);
        assert_eq!(
            error,
            format!("profile dev has a member {member} of a wrong type")
        );
    }
    let error = parsed(r#"{"current":7}"#, None).expect_err("no name");
    assert_eq!(error, "it has a member current of a wrong type");
    let error = parse(b"\xff\xfe{\0}\0", None).expect_err("UTF-16");
    assert!(error.contains("UTF-16"), "{error}");
}
