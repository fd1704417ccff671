use std::fs;
use std::process::Command;

use super::*;

fn lines(value: &str, names: &[&str]) -> Result<String, RenderError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    render(value, &names).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

#[test]
fn safe_values_stand_bare_and_others_in_double_quotes() {
    for (value, line) in [
        (r#"{"A":"b"}"#, "A=b\n"),
        (r#"{"A":""}"#, "A=\n"),
        (
            r#"{"A":"aGVsbG8=","B":1.10,"C":true,"D":null}"#,
            "A=aGVsbG8=\nB=1.10\nC=true\nD=null\n",
        ),
        (r#"{"A":"a b"}"#, "A=\"a b\"\n"),
        (r#"{"A":"~/x"}"#, "A=\"~/x\"\n"),
        (r#"{"A":"\"\\$`'"}"#, "A=\"\\\"\\\\\\$\\`'\"\n"),
        (r#"{"A":"1","A":"2"}"#, "A=2\n"),
        (r#"{"A":{"b":1}}"#, "A=\"{\\\"b\\\":1}\"\n"),
    ] {
        assert_eq!(lines(value, &[]).as_deref(), Ok(line));
    }
}

#[test]
fn names_choose_members_and_their_order() {
    let value = r#"{"not-a-name":1,"A":"1","B":"2"}"#;
    assert_eq!(lines(value, &["B", "A"]).as_deref(), Ok("B=2\nA=1\n"));
    assert_eq!(
        lines(value, &["C"]).unwrap_err().to_string(),
        "the value has no member C"
    );
}

#[test]
fn what_no_reader_could_read_is_refused_with_the_name_of_the_member() {
    for control in ["\\u0000", "\\r", "\\u001b", "\\u007f", "\\u0085", "\\ufffe"] {
        let value = format!(r#"{{"OK":"1","BAD":"hunter2{control}"}}"#);
        let error = lines(&value, &[]).unwrap_err();
        assert_eq!(error, RenderError::VariableValue("BAD".to_owned()));
        assert!(!error.to_string().contains("hunter2"));
    }
    for name in ["", "1a", "a-b", "a b", "ü", "a.b", "A\\n"] {
        let value = format!(r#"{{"{name}":"hunter2"}}"#);
        let error = lines(&value, &[]).unwrap_err();
        assert!(matches!(error, RenderError::VariableName(_)), "{name}");
        assert!(!error.to_string().contains("hunter2"));
    }
    assert_eq!(lines("[1]", &[]), Err(RenderError::NotAnObject));
    assert_eq!(lines("hunter2", &[]), Err(RenderError::NotJson));
}

/// Every printable character, tab and line break, alone and at each end of a value.
fn awkward_values() -> Vec<String> {
    let mut values: Vec<String> = (' '..='~')
        .chain(['\t', '\n', 'ü', '密', '\u{2028}', '\u{a0}'])
        .flat_map(|c| {
            [
                format!("{c}"),
                format!("{c}a"),
                format!("a{c}"),
                format!("a {c}{c}\\"),
            ]
        })
        .collect();
    values.extend(
        [
            "", "a\nB=c", "$HOME", "${HOME}", "$(id)", "`id`", "\\n", "\\\\", "a:~", "!!", "'\"'",
            "#a", "a #b", "a\\\nb",
        ]
        .map(str::to_owned),
    );
    values
}

fn file_of(values: &[String]) -> Zeroizing<Vec<u8>> {
    let members: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(index, value)| format!("\"V{index}\":{}", serde_json::to_string(value).unwrap()))
        .collect();
    render(&format!("{{{}}}", members.join(",")), &[]).unwrap()
}

#[test]
fn shells_read_the_exact_bytes() {
    let values = awkward_values();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("env");
    fs::write(&path, &*file_of(&values)).unwrap();
    let expected = values.join("\0") + "\0";
    let print: Vec<String> = (0..values.len())
        .map(|index| format!("printf '%s\\0' \"$V{index}\""))
        .collect();
    let print = print.join("\n");
    for shell in ["sh", "bash"] {
        let output = Command::new(shell)
            .args(["-c", &format!("set -eu\n. {}\n{print}", path.display())])
            .output();
        let output = output.unwrap_or_else(|error| panic!("{shell} is needed: {error}"));
        assert!(
            output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            expected,
            "{shell}"
        );
    }
}

#[test]
fn bare_values_are_what_docker_reads() {
    for value in awkward_values() {
        let file = file_of(std::slice::from_ref(&value));
        let text = str::from_utf8(&file).unwrap();
        // Docker takes all that follows the first `=` of a line for the value, quotes included.
        if let Some(bare) = text
            .strip_prefix("V0=")
            .filter(|bare| !bare.starts_with('"'))
        {
            assert_eq!(bare, format!("{value}\n"));
        }
    }
}

/// Reads a file as `parse_env_file` of systemd 252 does, apart from forms that the agent never writes.
fn as_systemd_reads(file: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = file.chars();
    while rest.as_str().contains('=') {
        let mut value = String::new();
        let _key: String = rest.by_ref().take_while(|c| *c != '=').collect();
        let mut is_quoted = false;
        while let Some(c) = rest.next() {
            match c {
                '"' if !is_quoted && value.is_empty() => is_quoted = true,
                '"' => is_quoted = false,
                '\\' if is_quoted => match rest.next().unwrap() {
                    escaped @ ('"' | '\\' | '$' | '`') => value.push(escaped),
                    '\n' => {}
                    other => value.extend(['\\', other]),
                },
                '\n' if !is_quoted => break,
                c => value.push(c),
            }
        }
        values.push(value);
    }
    values
}

#[test]
fn systemd_reads_the_exact_bytes() {
    let values = awkward_values();
    let file = file_of(&values);
    assert_eq!(as_systemd_reads(str::from_utf8(&file).unwrap()), values);
}
