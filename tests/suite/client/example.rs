//! Client programs of docs/clients.md, exactly as the page shows them.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use kms_agent_test_support::http;

use crate::harness::cloud::Cloud;

const PAGE: &str = include_str!("../../../docs/clients.md");

/// A program: language of its block, file, and the command that runs it.
struct Program {
    language: &'static str,
    file: &'static str,
    command: &'static [&'static str],
}

const CURL: Program = Program {
    language: "sh",
    file: "read_secret.sh",
    command: &["sh"],
};
const PYTHON: Program = Program {
    language: "python",
    file: "read_secret.py",
    command: &["python3"],
};
const NODE: Program = Program {
    language: "js",
    file: "read_secret.js",
    command: &["node"],
};
const JAVA: Program = Program {
    language: "java",
    file: "ReadSecret.java",
    command: &["java"],
};
const GO: Program = Program {
    language: "go",
    file: "read_secret.go",
    command: &["go", "run"],
};

impl Program {
    /// Returns its block on the page.
    fn source(&self) -> &'static str {
        let fence = format!("\n```{}\n", self.language);
        let mut blocks = PAGE.split(fence.as_str()).skip(1);
        let block = blocks.next().expect("the language has a program");
        assert!(blocks.next().is_none(), "it has one only");
        block.split_once("\n```").unwrap().0
    }

    fn is_runnable(&self) -> bool {
        let runtime = self.command[0];
        let path = std::env::var_os("PATH").unwrap();
        let found = std::env::split_paths(&path).any(|folder| folder.join(runtime).is_file());
        if !found {
            eprintln!("skipped: there is no {runtime} on this machine");
        }
        found
    }

    /// Returns the command that runs it in `folder` against an agent. Its proxy does not answer.
    fn prepare(&self, folder: &Path, port: u16, secret_id: &str) -> Command {
        let file = folder.join(self.file);
        std::fs::write(&file, self.source()).unwrap();
        let mut command = Command::new(self.command[0]);
        command
            .args(&self.command[1..])
            .arg(file)
            .arg(secret_id)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", folder)
            .env("LANG", "C.UTF-8")
            .env("GOTOOLCHAIN", "local")
            .env("KMS_AGENT", format!("127.0.0.1:{port}"))
            .env("KMS_TOKEN_FILE", folder.join("kmstoken"))
            .current_dir(folder)
            .stdin(Stdio::null());
        for variable in ["http_proxy", "HTTP_PROXY", "ALL_PROXY"] {
            command.env(variable, "http://127.0.0.1:1");
        }
        command
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn reads_and_reports(program: &Program) {
    if !program.is_runnable() {
        return;
    }
    let cloud = Cloud::start();
    let (name, value) = ("app/db +x=@.密&%", "välue with \"quotes\" 密码");
    cloud.put(name, value);
    let agent = cloud.setup().env("KMS_TOKEN", "file://kmstoken").start();
    let folder = agent.folder();
    let run = |port: u16, name: &str| program.prepare(folder, port, name).output().unwrap();
    let read = || {
        let output = run(agent.port(), name);
        assert!(output.status.success(), "{}", stderr(&output));
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.strip_suffix('\n'), Some(value));
    };
    read();

    let token = "fedcba9876543210fedcba9876543210";
    std::fs::write(folder.join("kmstoken"), format!("{token}\n")).unwrap();
    let began = Instant::now();
    while http::get(agent.port(), "/v1/x", &[("X-KMS-Token", token)]).status == 403 {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the new token is never honoured"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    read();

    let refused = run(agent.port(), "missing");
    assert!(!refused.status.success());
    let said = stderr(&refused) + &String::from_utf8_lossy(&refused.stdout);
    assert!(
        said.contains("404") && said.contains("Forbidden.ResourceNotFound"),
        "{said}"
    );
    let unreachable = run(1, name);
    assert!(!unreachable.status.success() && !unreachable.stderr.is_empty());
    std::fs::remove_file(folder.join("kmstoken")).unwrap();
    let without_token = run(agent.port(), name);
    assert!(!without_token.status.success() && !without_token.stderr.is_empty());
    for output in [refused, unreachable, without_token] {
        assert!(!stderr(&output).contains(token), "{}", stderr(&output));
    }
}

#[test]
fn the_curl_line_reads_a_secret_and_reports_what_is_wrong() {
    reads_and_reports(&CURL);
}

#[test]
fn the_python_program_reads_a_secret_and_reports_what_is_wrong() {
    reads_and_reports(&PYTHON);
}

#[test]
fn the_node_program_reads_a_secret_and_reports_what_is_wrong() {
    reads_and_reports(&NODE);
}

#[test]
fn the_java_program_reads_a_secret_and_reports_what_is_wrong() {
    reads_and_reports(&JAVA);
}

#[test]
fn the_go_program_reads_a_secret_and_reports_what_is_wrong() {
    reads_and_reports(&GO);
}

#[test]
fn no_program_waits_for_ever() {
    // The system accepts connections; no program answers them.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kmstoken"), "0123456789abcdef").unwrap();
    let running: Vec<_> = [CURL, PYTHON, NODE, JAVA, GO]
        .into_iter()
        .filter(Program::is_runnable)
        .map(|program| {
            let mut command = program.prepare(folder.path(), port, "s");
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            (program.language, command.spawn().unwrap())
        })
        .collect();
    for (language, child) in running {
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success(), "{language}");
        assert!(!output.stderr.is_empty(), "{language} says nothing");
    }
}
