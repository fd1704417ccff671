//! Values and members on the command line, byte for byte under every response type.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

use kms_agent_test_support::{TOKEN, TestAgent};

use super::{client, run, stderr};
use crate::harness::cloud::{BINARY, Cloud};

/// A member and its value, or `None` if it cannot be printed.
type Member = (&'static str, Option<&'static str>);

/// Values that a JSON parser would change.
#[expect(clippy::too_many_lines, reason = "a table")]
fn values() -> Vec<(String, Vec<Member>)> {
    let with = |value: &str, members: &[Member]| (value.to_owned(), members.to_vec());
    let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(400), "]".repeat(400));
    vec![
        with("plain \"text\" \\n ünï 密码 😀", &[]),
        with("", &[]),
        with("line\n", &[]),
        with("  spaces\t\r\n\r\n", &[]),
        with("\u{feff}bom", &[]),
        with("\u{1b}[31m\u{7}\u{202e}", &[]),
        with(
            r#"{"id": 12345678901234567890123, "b":1}"#,
            &[("id", Some("12345678901234567890123")), ("b", Some("1"))],
        ),
        with(
            r#"{"v":1.10,"w":0.10,"z":-0,"y":-0.0}"#,
            &[
                ("v", Some("1.10")),
                ("w", Some("0.10")),
                ("z", Some("-0")),
                ("y", Some("-0.0")),
            ],
        ),
        with(
            r#"{"e":1E5,"f":1e+5,"g":1e400,"h":1e-400,"i":123456789012345678.0}"#,
            &[
                ("e", Some("1E5")),
                ("f", Some("1e+5")),
                ("g", Some("1e400")),
                ("h", Some("1e-400")),
                ("i", Some("123456789012345678.0")),
            ],
        ),
        with(r#"{"z":1,"a":2,"m":3}"#, &[("a", Some("2"))]),
        with(
            "{\n  \"a\" : [ 1 , 2 ] ,\n  \"b\" : { \"c\" : true }\n}\n",
            &[
                ("a", Some("[ 1 , 2 ]")),
                ("b", Some(r#"{ "c" : true }"#)),
                ("b.c", Some("true")),
                ("a.1", Some("2")),
            ],
        ),
        with("\t {\"a\":1} \n", &[("a", Some("1"))]),
        with(
            r#"{"a":1,"a":2,"b":"x"}"#,
            &[("a", Some("2")), ("b", Some("x"))],
        ),
        with(
            r#"{"bad":"\ud800","good":"x"}"#,
            &[("good", Some("x")), ("bad", None)],
        ),
        with(r#"{"\udfff":1,"good":"x"}"#, &[("good", Some("x"))]),
        (
            format!(r#"{{"deep":{},"b":"x"}}"#, deep("1")),
            vec![("b", Some("x"))],
        ),
        (deep(r#"{"a":"x"}"#), vec![]),
        with("\u{feff}{\"a\":\"x\"}", &[("a", Some("x"))]),
        with(
            "{\"a\":\"\u{feff}x\",\"b\":2}",
            &[("a", Some("\u{feff}x")), ("b", Some("2"))],
        ),
        with(r#"{"value":"x"}"#, &[("value", Some("x"))]),
        with(r#"{"value": "x"}"#, &[("value", Some("x"))]),
        with(
            r#"{"value":{"k":1}}"#,
            &[("value", Some(r#"{"k":1}"#)), ("value.k", Some("1"))],
        ),
        with(r#"{"value":1.0}"#, &[("value", Some("1.0"))]),
        with(
            r#"{"spring.datasource.password":"pw","spring":{"datasource":{"password":"other"}}}"#,
            &[("spring.datasource.password", Some("pw"))],
        ),
        with(
            r#"{"a.b":{"c.d":"1"},"a":{"b":{"c":{"d":"2"}},"x":"3"}}"#,
            &[("a.b.c.d", Some("1")), ("a.x", Some("3"))],
        ),
        with(
            r#"{"s":"\u0041\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}"#,
            &[("s", Some("A\"\\/\u{8}\u{c}\n\r\té😀"))],
        ),
        with(
            r#"{"n":null,"t":true,"f":false,"e":"","o":{},"l":[]}"#,
            &[
                ("n", Some("null")),
                ("t", Some("true")),
                ("f", Some("false")),
                ("e", Some("")),
                ("o", Some("{}")),
                ("l", Some("[]")),
            ],
        ),
        with(r#"{"a":"1"} and more"#, &[("a", None)]),
        with(r#"{"a":01}"#, &[("a", None)]),
        with(
            "[1.50,[2.50]]",
            &[
                ("0", Some("1.50")),
                ("1.0", Some("2.50")),
                ("2", None),
                ("+0", None),
                ("00", None),
            ],
        ),
        with(r#""text""#, &[]),
        with("1.50", &[]),
    ]
}

fn with_type(cloud: &Cloud, response_type: u8) -> TestAgent {
    let server = format!("[Server]\nResponseType = {response_type}\n");
    cloud
        .setup()
        .edit_config(|text| text.replacen("[Server]\n", &server, 1))
        .start()
}

#[test]
fn values_and_members_are_given_byte_for_byte_by_response_type_0() {
    given_byte_for_byte(0);
}

#[test]
fn values_and_members_are_given_byte_for_byte_by_response_type_1() {
    given_byte_for_byte(1);
}

#[test]
fn values_and_members_are_given_byte_for_byte_by_response_type_2() {
    given_byte_for_byte(2);
}

fn given_byte_for_byte(response_type: u8) {
    let cloud = Cloud::start();
    let values = values();
    assert!(values.len() > 30);
    for (index, (value, _)) in values.iter().enumerate() {
        cloud.put(&format!("app/{index}"), value);
    }
    let agent = with_type(&cloud, response_type);
    for (index, (value, members)) in values.iter().enumerate() {
        let name = format!("app/{index}");
        let output = client(&agent, &["get", &name]);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), *value);
        // This response type is the hardest; below, `exec` reads the same members under all of them.
        let asked = members.iter().filter(|_| response_type == 2);
        for (field, expected) in asked {
            let output = client(&agent, &["get", &name, "--field", field]);
            let found = output
                .status
                .success()
                .then(|| String::from_utf8(output.stdout.clone()).unwrap());
            let said = stderr(&output);
            assert_eq!(found.as_deref(), *expected, "{value}, {field}: {said}");
        }
        let wrong = environment(&agent, &name, value, members);
        assert_eq!(wrong, BTreeMap::new(), "{value}");
    }
}

/// Returns the variables that differ from the whole value and each member, as `exec` sets them.
fn environment(
    agent: &TestAgent,
    name: &str,
    value: &str,
    members: &[Member],
) -> BTreeMap<String, String> {
    let mut expected = BTreeMap::from([("WHOLE".to_owned(), value.to_owned())]);
    let mut exec = Command::new(BINARY);
    exec.args([
        "exec",
        "--port",
        &agent.port().to_string(),
        "-e",
        &format!("WHOLE={name}"),
    ]);
    for (index, (field, found)) in members.iter().enumerate() {
        if let Some(found) = found {
            exec.args(["-e", &format!("M{index}={name}#{field}")]);
            expected.insert(format!("M{index}"), (*found).to_owned());
        }
    }
    let output = exec
        .args(["--", "env", "-0"])
        .env_clear()
        .envs([("KMS_TOKEN", TOKEN), ("PATH", "/usr/bin:/bin")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_terminator('\0')
        .map(|line| line.split_once('=').unwrap())
        .filter(|(name, _)| *name != "PATH")
        .filter(|(name, value)| expected.get(*name).map(String::as_str) != Some(value))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Runs a client command against a server that answers every request with `status` and `body`.
fn against(status: &str, body: &str, arguments: &[&str]) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let (command, rest) = arguments.split_first().unwrap();
    let arguments = [&[*command, "--port", &port], rest].concat();
    let folder = tempfile::tempdir().unwrap();
    let output = run(&arguments, &[("KMS_TOKEN", TOKEN)], folder.path());
    server.join().unwrap();
    output
}

#[test]
fn an_agent_that_knows_one_form_only_is_understood() {
    for (body, value) in [
        (r#"{"SecretData":"a\n1.10"}"#, "a\n1.10"),
        (r#"{"SecretString":"x","VersionStages":[]}"#, "x"),
        (r#"{"SecretBinary":"AAEC"}"#, "\0\u{1}\u{2}"),
        (
            r#"{"data":{"data":{"n":1.10},"metadata":{}}}"#,
            r#"{"n":1.10}"#,
        ),
        (r#"{"data":{"data":{"value":"x"},"metadata":{}}}"#, "x"),
        (
            r#"{"data":{"data":{"value":{"k":1}},"metadata":{}}}"#,
            r#"{"value":{"k":1}}"#,
        ),
    ] {
        let output = against("200 OK", body, &["get", "a"]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), value, "{body}");
    }
    for body in ["healthy", "[]", "{}", "\u{1b}[2J"] {
        let output = against("200 OK", body, &["get", "a"]);
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(1), 0),
            "{body}"
        );
        assert!(
            stderr(&output).contains("did not answer as the agent does"),
            "{body}"
        );
    }
}

#[test]
fn nothing_that_another_process_answers_commands_the_terminal() {
    let evil = "X\u{1b}]0;pwned\u{7}\u{1b}[2J\r\nerror: forged\u{202e}\u{200b}\u{9b}2J\u{2028}";
    let json = serde_json::to_string(evil).unwrap();
    let status = format!(
        r#"{{"version":{json},"cache":{{"backend":{json},"store":{{"path":{json},"state":{json},"committed_at":{json}}}}},
        "upstream":{{"state":{json},"last_error":{json}}},"credentials":{{"provider":{json},"expires_at":{json}}},
        "prefetch":[{{"name":{json},"state":{json},"error":{json}}}],
        "files":[{{"path":{json},"secret":{json},"version":{json},"written_at":{json},"state":{json},"error":{json}}}],
        "entries":[{{"name":{json},"selector":{json},"version_id":{json},"state":{json}}}]}}"#
    );
    for (answer, body, arguments) in [
        (
            "403 Forbidden",
            format!(r#"{{"Code":{json},"Message":{json}}}"#),
            &["get", "a"][..],
        ),
        (
            "403 Forbidden",
            format!(r#"{{"__type":{json},"message":{json}}}"#),
            &["get", "a"],
        ),
        (
            "403 Forbidden",
            format!(
                r#"{{"errors":[{}]}}"#,
                serde_json::json!(format!("{evil}: {evil}"))
            ),
            &["get", "a"],
        ),
        (
            "403 Forbidden",
            format!(r#"{{"Code":{json},"Message":{json}}}"#),
            &["exec", "-e", "X=a", "--", "true"],
        ),
        (
            "403 Forbidden",
            format!(r#"{{"Code":{json},"Message":{json}}}"#),
            &["purge", "a"],
        ),
        (
            "400 Bad",
            format!(r#"{{"Code":"InvalidParameter","Message":{json}}}"#),
            &["purge", "--all"],
        ),
        (
            "403 Forbidden",
            format!(r#"{{"Code":{json},"Message":{json}}}"#),
            &["status"],
        ),
        ("200 OK", status.clone(), &["status"]),
        ("200 OK", status, &["status", "--json"]),
        ("200 OK", evil.to_owned(), &["status"]),
        ("200 OK", evil.to_owned(), &["status", "--json"]),
        ("503 Busy", evil.to_owned(), &["health"]),
    ] {
        let output = against(answer, &body, arguments);
        let said = format!("{}{}", super::stdout(&output), stderr(&output));
        let hidden =
            |c: char| c.is_control() && c != '\n' || "\u{202e}\u{200b}\u{2028}".contains(c);
        assert!(!said.contains(hidden), "{arguments:?}: {said:?}");
        assert!(
            !said.lines().any(|line| line.starts_with("error: forged")),
            "{arguments:?}: {said}"
        );
    }
}
