use super::*;

fn value(text: &str, section: &str, option: &str) -> Option<String> {
    Document::parse(text).section(section)?.value(option)
}

fn default(text: &str, option: &str) -> Option<String> {
    value(text, "default", option)
}

#[test]
fn options_are_read_as_configparser_reads_them() {
    for (text, wanted) in [
        ("[default]\ntype = a", Some("a")),
        ("[default]\ntype: a", Some("a")),
        ("[default]\nTYPE=a", Some("a")),
        ("[default]\nType : a:b = c", Some("a:b = c")),
        ("[default]\r\ntype = a\r\n", Some("a")),
        ("[default]\rtype = a\r", Some("a")),
        ("[default] # mine\ntype = a", Some("a")),
        ("[ default ]\ntype = a", Some("a")),
        ("[default]\ntype =\n  a", Some("a")),
        ("[default]\ntype = a\n  b\n\n  c\n", Some("a\nb\n\nc")),
        ("[default]\ntype = a\n  # no\n  b", Some("a\nb")),
        ("[default]\ntype = a # no\n  b", Some("a")),
        ("[default]\ntype = a ; b", Some("a ; b")),
        ("[default]\n# type = b\n; type = c\ntype = a", Some("a")),
        ("[default]\ntype = 'a'", Some("'a'")),
        ("[default]\n  type = a\n  policy = b", Some("a")),
        // An option of its own, although it is indented.
        ("[default]\npolicy = b\n  type = a", Some("a")),
        ("[default]\ntype = 100%%", Some("100%")),
        ("[default]\ntype = %(policy)s!\npolicy = b", Some("b!")),
        ("[default]\ntype = %(Policy)s!\npolicy = b", Some("b!")),
        ("[default]\ntype = %(none)s 5%", Some("%(none)s 5%")),
        ("[DEFAULT]\ntype = a\n[default]", Some("a")),
        ("[DEFAULT]\ntype = a\n[default]\ntype = b", Some("b")),
        ("[default]\n[DEFAULT]\ntype = a", Some("a")),
        ("[default]\ntype = a\n[other]\ntype = b", Some("a")),
        ("[other]\ntype = b\n[default]\ntype = a", Some("a")),
        ("[default]\nno delimiter\ntype = a", Some("a")),
        ("type = b\n[default]\ntype = a", Some("a")),
        ("[default]\n = b\ntype = a", Some("a")),
        ("[default]\ntype =", None),
        ("[default]\ntype = # a", None),
        ("[DEFAULT]\ntype = a", None),
        ("[Default]\ntype = a", None),
        ("", None),
    ] {
        assert_eq!(default(text, "type").as_deref(), wanted, "{text:?}");
    }
}

#[test]
fn a_policy_may_take_many_lines() {
    let text = "[default]\ntype = a\npolicy = {\n  \"Version\": \"1\",\n  \"Statement\": [\n    {\"Effect\": \"Allow\"}]\n  }\nrole_arn = r\n";
    let policy = default(text, "policy").expect("a policy");
    assert_eq!(
        policy,
        "{\n\"Version\": \"1\",\n\"Statement\": [\n{\"Effect\": \"Allow\"}]\n}"
    );
    assert_eq!(default(text, "role_arn").as_deref(), Some("r"));
}

#[test]
fn defaults_are_no_section_and_names_are_compared_exactly() {
    let text = "[DEFAULT]\ntype = a\n[x]y]\ntype = b\n[ x ]\ntype = c\n[x]\ntype = d\n";
    assert_eq!(value(text, "DEFAULT", "type"), None);
    assert_eq!(value(text, "x]y", "type").as_deref(), Some("b"));
    assert_eq!(value(text, "x", "type").as_deref(), Some("d"));
    assert_eq!(value(text, " x ", "type").as_deref(), Some("c"));
}

#[test]
fn values_that_refer_to_each_other_come_to_an_end() {
    let round = "[default]\ntype = %(policy)s%(policy)s\npolicy = %(type)s%(type)s";
    assert!(default(round, "type").is_some_and(|value| value.len() < 10_000));
}
