use super::*;

fn secret(id: &str, stage: Option<&str>) -> SecretRef {
    SecretRef {
        id: SecretId::parse(id).unwrap(),
        selector: VersionSelector::parse(None, stage).unwrap(),
    }
}

fn values(values: &[(&str, &str)]) -> Values {
    values
        .iter()
        .map(|(id, value)| {
            let value = Arc::new(Zeroizing::new((*value).to_owned()));
            (secret(id, None), value)
        })
        .collect()
}

fn rendered(source: &str, values: &Values) -> Result<String, String> {
    match render(source, values).map_err(|error| error.to_string())? {
        Rendered::File(file) => Ok(String::from_utf8(file.to_vec()).unwrap()),
        Rendered::Needs(secret) => Err(format!("needs {} {}", secret.id.as_str(), secret.selector)),
    }
}

#[test]
fn an_object_is_parsed_and_anything_else_is_text() {
    let values = values(&[
        (
            "app/db",
            r#"{"user":"app","password":"h\"<&","n":1.10,"big":12345678901234567890123,"list":[1,{"a":true}],"none":null}"#,
        ),
        ("plain", "hunter2\n"),
        ("array", "[1, 2]"),
    ]);
    for (source, file) in [
        ("{{ secret(\"app/db\").password }}\n", "h\"<&\n"),
        (
            "{{ secret('app/db').n }} {{ secret('app/db').big }}",
            "1.10 12345678901234567890123",
        ),
        (
            "{{ secret('app/db').list[1].a }} {{ secret('app/db').none }}",
            "true null",
        ),
        ("{{ secret('app/db').list }}", r#"[1,{"a":true}]"#),
        ("{{ secret('plain') }}", "hunter2\n"),
        ("{{ secret('array') }}", "[1, 2]"),
        (
            "{% set db = secret('app/db') %}{{ db.user }}:{{ db['user']|upper }}",
            "app:APP",
        ),
        (
            "{% for name in secret('app/db') %}{{ name }},{% endfor %}",
            "user,password,n,big,list,none,",
        ),
        ("{{ secret('app/db').port|default(3306) }}", "3306"),
        ("{{ secret('plain', 'ACSCurrent') }}", "hunter2\n"),
    ] {
        assert_eq!(rendered(source, &values).as_deref(), Ok(file), "{source}");
    }
}

#[test]
fn a_secret_that_is_not_given_is_asked_for() {
    let none = Values::new();
    for (source, needed) in [
        ("{{ secret('a').b }}", "needs a ACSCurrent"),
        ("{{ secret('a', 'ACSPrevious') }}", "needs a ACSPrevious"),
        ("{{ secret('x' ~ 'y') }}", "needs xy ACSCurrent"),
    ] {
        assert_eq!(rendered(source, &none), Err(needed.to_owned()));
    }
}

#[test]
fn an_error_names_what_is_missing_and_never_a_value() {
    let values = values(&[("app/db", r#"{"user":"hunter2"}"#), ("plain", "hunter2")]);
    for (source, reason) in [
        (
            "\n{{ secret('app/db').pasword }}",
            "line 2: the value of app/db has no member pasword",
        ),
        (
            "{{ secret('app/db').a.b }}",
            "line 1: the value of app/db has no member a",
        ),
        ("{{ undefined_name }}", "line 1: a name is not defined"),
        ("{{ secret('') }}", "line 1: the id of secret() is empty"),
        (
            "{{ secret('plain')|int }}",
            "line 1: an operation does not fit its values",
        ),
        (
            "{{ secret('plain') + 1 }}",
            "line 1: an operation does not fit its values",
        ),
        ("{{ nothing( }}", "line 1: syntax error: unexpected `}`"),
        (
            "{% include 'x' %}",
            "line 1: syntax error: unknown statement include",
        ),
        (
            "{{ secret('plain')|no_such_filter }}",
            "line 1: unknown filter",
        ),
    ] {
        let error = rendered(source, &values).unwrap_err();
        assert!(
            error.starts_with("the template cannot be rendered: "),
            "{source}: {error}"
        );
        assert!(error.ends_with(reason), "{source}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn steps_and_bytes_are_bounded() {
    let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    let error = rendered(loops, &Values::new()).unwrap_err();
    assert!(
        error.ends_with("it takes more than 1000000 steps"),
        "{error}"
    );
    let long = "{% for a in range(2000) %}".to_owned() + &"x".repeat(1000) + "{% endfor %}";
    let error = rendered(&long, &Values::new()).unwrap_err();
    assert!(
        error.ends_with("the file has more than 1048576 bytes"),
        "{error}"
    );
}
