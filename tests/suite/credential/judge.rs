//! Profile files, compared with the official Python SDK: the agent reads each file that the SDK reads, with the
//! same key.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{cloud, put, without_key};
use crate::harness::cloud::Cloud;
use crate::harness::python::{SCRIPTS, python};

/// Ini files. `@ID` and `@SECRET` stand for the access key of the cloud.
const INI: &[&str] = &[
    "[default]\ntype = access_key\naccess_key_id = @ID\naccess_key_secret = @SECRET\n",
    "[default]\ntype: access_key\naccess_key_id: @ID\naccess_key_secret:@SECRET\n",
    "[default]\nTYPE = access_key\nAccess_Key_Id = @ID\nACCESS_KEY_SECRET = @SECRET\n",
    "[default]\r\ntype = access_key\r\naccess_key_id = @ID\r\naccess_key_secret = @SECRET\r\n",
    "[default]\ntype =\n  access_key\naccess_key_id =\n\t@ID\naccess_key_secret =\n\n   @SECRET\n",
    "[DEFAULT]\ntype = access_key\naccess_key_secret = @SECRET\n[default]\naccess_key_id = @ID\n",
    "[default]\naccess_key_id = @ID\n[DEFAULT]\ntype = access_key\naccess_key_id = other\naccess_key_secret = @SECRET\n",
    "# mine\n[default] ; the first\ntype = access_key # a key\n; access_key_id = other\n# access_key_id = other\naccess_key_id = @ID#x\naccess_key_secret = @SECRET # hidden\n",
    "  [default]\n    type = access_key\n    access_key_id = @ID\n    access_key_secret = @SECRET\n",
    "[other]\ntype = access_key\naccess_key_id = x\naccess_key_secret = y\n[default]\ntype=access_key\naccess_key_id=@ID\naccess_key_secret=@SECRET\n[third]\ntype=rsa_key_pair\n",
    "[default]\nid = @ID\ntype = access_key\naccess_key_id = %(id)s\naccess_key_secret = @SECRET\n",
    "[default]\ntype = access_key\naccess_key_id = @ID\naccess_key_secret = @SECRET\npolicy = {\n  \"Version\": \"1\",\n  \"type\": \"x\"\n  }\n",
    "[default]\ntype = access_key\naccess_key_id = @ID\naccess_key_secret = @SECRET\nexpired_seconds = many\nenable_vpc = perhaps\n",
    // The SDK refuses these.
    "[default]\naccess_key_id = @ID\naccess_key_secret = @SECRET\n",
    "[default]\ntype = access_key\naccess_key_id = @ID\n",
    "[default]\ntype = \"access_key\"\naccess_key_id = @ID\naccess_key_secret = @SECRET\n",
    "[default]\ntype = access_key ; a key\naccess_key_id = @ID\naccess_key_secret = @SECRET\n",
    "[Default]\ntype = access_key\naccess_key_id = @ID\naccess_key_secret = @SECRET\n",
    "[DEFAULT]\ntype = access_key\naccess_key_id = @ID\naccess_key_secret = @SECRET\n",
    "[default]\ntype = Access_Key\naccess_key_id = @ID\naccess_key_secret = @SECRET\n",
];

/// Files that the SDK refuses for their form alone, and the agent reads.
const LENIENT_INI: &[&str] = &[
    "\u{feff}[default]\ntype = access_key\naccess_key_id = @ID\naccess_key_secret = @SECRET\n",
    "# a line of no form\nhello\n[default]\ntype = access_key\naccess_key_id = @ID\naccess_key_secret = @SECRET\n",
    "[default]\ntype = access_key\n  access_key_id = @ID\n  access_key_secret = @SECRET\n",
    "[ default ]\ntype = access_key\naccess_key_id = @ID\naccess_key_secret = @SECRET\n",
];

/// Members of the current profile in a configuration of the aliyun command line tool.
const CLI: &[&str] = &[
    r#""mode":"AK",KEY"#,
    r#""mode":"AK",KEY,"expired_seconds":"3600""#,
    r#""mode":"AK",KEY,"expired_seconds":-1"#,
    r#""mode":"AK",KEY,"expired_seconds":1,"expired_seconds":{}"#,
    r#""mode":"AK",KEY,"enable_vpc":"false""#,
    r#""mode":"AK",KEY,"sts_token":7,"policy":[],"ram_role_arn":null"#,
    r#""mode":"OAuth","mode":"AK","access_key_id":"other",KEY"#,
    r#""mode":"AK",KEY,"language":"en","cloud_sso_account_id":12345678901234567890123"#,
    // The SDK refuses these.
    KEYLESS,
    r#""mode":null,KEY"#,
    r#""mode":"ak",KEY"#,
    r#""mode":"AK","access_key_id":"@ID","access_key_secret":"""#,
];

const KEYLESS: &str = r#""mode":"AK""#;

fn cli_file(members: &str) -> String {
    let members = members.replace(
        "KEY",
        r#""access_key_id":"@ID","access_key_secret":"@SECRET""#,
    );
    format!(r#"{{"current":"dev","profiles":[{{"name":7}},{{"name":"dev",{members}}}]}}"#)
}

/// Returns the access key that the SDK finds in the files.
fn judged(python: &str, files: &[(&str, String)]) -> Vec<Value> {
    let mut child = Command::new(python)
        .arg(Path::new(SCRIPTS).join("read_profiles.py"))
        .env_clear()
        .env("PYTHONUTF8", "1")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = serde_json::to_vec(files).unwrap();
    child.stdin.take().unwrap().write_all(&asked).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns whether the agent reads secrets with the key in the file.
fn reads(cloud: &Cloud, form: &str, text: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "profiles", text);
    let path = folder.path().join("profiles").display().to_string();
    let (named, other) = match form {
        "ini" => ("ALIBABA_CLOUD_CREDENTIALS_FILE", "true"),
        _ => ("ALIBABA_CLOUD_CONFIG_FILE", "false"),
    };
    let agent = without_key(cloud)
        .and_config("Provider = \"Profile\"\n")
        .env("ALIBABA_CLOUD_CLI_PROFILE_DISABLED", other)
        .env(named, path)
        .start();
    let status = agent.read("s").status;
    (status == 200, agent.stderr())
}

#[test]
fn profiles_are_read_as_the_official_sdk_reads_them() {
    let Some(python) = python() else { return };
    let cloud = cloud(None);
    let key = cloud.access_key();
    let (id, secret) = (key.id().to_owned(), key.expose_secret().to_owned());
    let filled = |text: &str| text.replace("@ID", &id).replace("@SECRET", &secret);
    let ini = INI.iter().chain(LENIENT_INI).map(|text| ("ini", *text));
    let files: Vec<(&str, String)> = ini
        .map(|(form, text)| (form, filled(text)))
        .chain(
            CLI.iter()
                .map(|members| ("cli", filled(&cli_file(members)))),
        )
        .collect();
    let verdicts = judged(&python, &files);
    assert_eq!(verdicts.len(), files.len());
    for (number, ((form, text), verdict)) in files.iter().zip(&verdicts).enumerate() {
        let (reads, log) = reads(&cloud, form, text);
        let is_lenient = (INI.len()..INI.len() + LENIENT_INI.len()).contains(&number);
        if is_lenient {
            assert!(verdict.is_null() && reads, "{text}\n{verdict}\n{log}");
            continue;
        }
        let same = *verdict == serde_json::json!([id, secret]);
        assert!(same || verdict.is_null(), "another key: {text}\n{verdict}");
        assert_eq!(reads, same, "{text}\n{log}");
    }
}
