use super::*;

const FILE: &str = "\u{feff}; the agent's
[default]
enable = true                # optional
type = access_key
access_key_id = LTAI         # not a secret
access_key_secret = hunter2

[ role ]
type=ram_role_arn
access_key_id=LTAI
access_key_secret=hunter2
role_arn=acs:ram::1:role/r
role_session_name=me
policy={\"Version\": \"1\"}
[instance]
type = ecs_ram_role
role_name = web
;role_name = other
[any-instance]
type = ecs_ram_role
[pod]
type = oidc_role_arn
role_arn = acs:ram::1:role/p
oidc_provider_arn = p
oidc_token_file_path = /t
[off]
enable = False
type = ecs_ram_role
[half]
type = access_key
access_key_id = hunter2
[pair]
type = rsa_key_pair
[odd]
type = hunter2
[empty]
";

fn parsed(wanted: Option<&str>) -> Result<(String, ProfilePlan), String> {
    parse(FILE.as_bytes(), wanted)
}

#[test]
fn each_type_is_understood() {
    for (wanted, identity) in [
        (None, Some("LTAI")),
        (Some("role"), Some("acs:ram::1:role/r")),
        (Some("instance"), Some("web")),
        (Some("any-instance"), None),
        (Some("pod"), Some("acs:ram::1:role/p")),
    ] {
        let (name, plan) = parsed(wanted).expect("a plan");
        assert_eq!(name, wanted.unwrap_or("default"));
        assert_eq!(plan.identity(&name).as_deref(), identity);
        assert!(!format!("{plan:?}").contains("hunter2"));
    }
    let (_, plan) = parsed(Some("role")).expect("a plan");
    let [role] = &plan.roles[..] else {
        panic!("one role");
    };
    assert_eq!(role.session_name.as_deref(), Some("me"));
    assert_eq!(role.policy.as_deref(), Some(r#"{"Version": "1"}"#));
}

#[test]
fn what_is_missing_or_not_supported_is_named_and_no_value_is_quoted() {
    for (wanted, said) in [
        ("no such", "no section [no such]"),
        ("off", "enable = false"),
        ("half", "no access_key_secret"),
        ("pair", "rsa_key_pair, which this agent does not support"),
        ("odd", "a type that nobody knows"),
        ("empty", "has no type"),
    ] {
        let error = parsed(Some(wanted)).expect_err(wanted);
        assert!(
            error.contains(said) && !error.contains("hunter2"),
            "{error}"
        );
    }
    assert!(parse(b"\xff", None).is_err());
}
