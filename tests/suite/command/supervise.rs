//! `exec --watch` and `watch` as parents: signals, terminal, orphans and exit status.

mod follow;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kms_agent_test_support::{TOKEN, TestAgent};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::cloud::{BINARY, Cloud};
use crate::process::is_root;

/// Limit for things that happen soon unless something hangs.
const LIMIT: Duration = Duration::from_secs(30);

fn house() -> (Cloud, TestAgent) {
    let cloud = Cloud::start();
    cloud.put("plain", "text");
    let agent = cloud.setup().start();
    (cloud, agent)
}

/// Builds `exec --watch` with one variable and more options.
fn watching(agent: &TestAgent, options: &[&str], command: &[&str]) -> Command {
    let mut words = vec![BINARY, "exec", "--watch"];
    let port = agent.port().to_string();
    words.extend(["--port", &port, "-e", "X=plain"]);
    words.extend(options);
    words.push("--");
    words.extend(command);
    by(&words)
}

/// Builds a command with the token and nothing else of this environment.
fn by(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .env_clear()
        .envs([("KMS_TOKEN", TOKEN), ("PATH", "/usr/bin:/bin:/usr/sbin")])
        .stdin(Stdio::null());
    command
}

/// A running command whose output is read line by line. It is killed when it is dropped.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Returns the next line of the output.
    fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("a line")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end. Returns the rest of the output.
    fn end(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().unwrap();
        (status, self.lines.iter().collect())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(output: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Waits until `is_true`.
fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the process exists and is not a zombie.
fn is_running(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
}

#[test]
fn the_exit_status_is_that_of_the_command() {
    let (_cloud, agent) = house();
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -s TERM $$", 143),
        ("kill -s KILL $$", 137),
        ("test \"$X$KMS_TOKEN\" = text", 0),
    ] {
        let command = watching(&agent, &[], &["sh", "-c", script]);
        let (status, _) = Running::start(command).end();
        assert_eq!(status.code(), Some(code), "{script}");
    }
    let folder = agent.folder().to_str().unwrap();
    for (program, code, expected) in [
        ("no-such-command", 127, "there is no such command"),
        (folder, 126, "cannot be run"),
    ] {
        let output = watching(&agent, &[], &[program]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn wrong_options_are_refused_before_anything_is_read() {
    let (cloud, agent) = house();
    let port = agent.port().to_string();
    for (options, expected) in [
        (&["--watch", "--on-change", "NOPE"][..], "name of a signal"),
        (&["--watch", "--stop-timeout", "10h"], "up to 1 hour"),
        (&["--on-change", "HUP"], "--watch"),
        (&["--stop-timeout", "1s"], "--watch"),
    ] {
        let mut words = vec![BINARY, "exec", "--port", &port, "-e", "X=plain"];
        words.extend(options);
        words.extend(["--", "true"]);
        let output = by(&words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options:?}: {said}");
        assert!(said.contains(expected), "{options:?}: {said}");
    }
    assert_eq!(cloud.reads(), 0);
}

#[test]
fn each_signal_reaches_the_command_once() {
    let (_cloud, agent) = house();
    let script = "for it in HUP INT QUIT TERM USR1 USR2 ALRM; do trap \"echo $it\" $it; done; trap 'exit 9' WINCH; \
         echo ready; while :; do sleep 0.02; done";
    let running = Running::start(watching(&agent, &[], &["sh", "-c", script]));
    assert_eq!(running.line(), "ready");
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::TERM, "TERM"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::ALARM, "ALRM"),
    ] {
        running.signal(signal);
        assert_eq!(running.line(), name);
    }
    running.signal(Signal::WINCH);
    let (status, rest) = running.end();
    assert_eq!(status.code(), Some(9));
    assert_eq!(rest, [""; 0], "a signal came twice");
}

#[test]
fn a_signal_that_was_ignored_before_stays_ignored() {
    let (_cloud, agent) = house();
    let inner = watching(&agent, &[], &["sh", "-c", "kill -s HUP $$ $PPID; echo on"]);
    let mut words = vec!["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", BINARY];
    words.extend(inner.get_args().map(|word| word.to_str().unwrap()));
    let (status, lines) = Running::start(by(&words)).end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(lines, ["on"]);
}

#[test]
fn the_command_does_not_outlive_its_parent() {
    let (_cloud, agent) = house();
    let script = "trap '' HUP INT TERM; echo $$; while :; do sleep 0.05; done";
    let running = Running::start(watching(&agent, &[], &["sh", "-c", script]));
    let command = running.line();
    assert!(is_running(&command));
    running.signal(Signal::KILL);
    wait_until("the command lives on", || !is_running(&command));
}

#[test]
fn core_files_are_as_before_for_the_command() {
    let (_cloud, agent) = house();
    let script = "ulimit -S -c 0; ulimit -S -c $(ulimit -H -c); ulimit -S -c; exec \"$@\"";
    let inner = watching(&agent, &[], &["sh", "-c", "ulimit -S -c"]);
    let mut words = vec!["bash", "-c", script, "bash", BINARY];
    words.extend(inner.get_args().map(|word| word.to_str().unwrap()));
    let (_, lines) = Running::start(by(&words)).end();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], lines[1]);
}

/// Returns the children of `pid`, zombies included.
fn children(pid: u32) -> Vec<String> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).unwrap();
    children.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn orphans_are_adopted_and_reaped() {
    let (_cloud, agent) = house();
    let script = "(sleep 0.5 &); (sleep 0.6 &); echo $$; exec sleep 60";
    let running = Running::start(watching(&agent, &[], &["sh", "-c", script]));
    let command = running.line();
    let parent = running.child.id();
    wait_until("the orphans were not adopted", || {
        children(parent).len() == 3
    });
    wait_until("the orphans were not reaped", || {
        children(parent) == [command.clone()]
    });
}

#[test]
fn process_1_of_a_container_reaps_and_takes_signals() {
    if !is_root() {
        return;
    }
    let (_cloud, agent) = house();
    let script = "(sleep 0.2 &); (sleep 0.3 &); trap 'echo TERM; exit 3' TERM; echo ready; \
         while :; do sleep 0.05; done";
    let inner = watching(&agent, &[], &["sh", "-c", script]);
    let mut words = vec![
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        BINARY,
    ];
    words.extend(inner.get_args().map(|word| word.to_str().unwrap()));
    let running = Running::start(by(&words));
    assert_eq!(running.line(), "ready");
    let first = children(running.child.id()).remove(0);
    let parent = first.parse().unwrap();
    wait_until("the orphans were not reaped", || {
        children(parent).len() == 1
    });
    kill_process(
        Pid::from_raw(i32::try_from(parent).unwrap()).unwrap(),
        Signal::TERM,
    )
    .unwrap();
    assert_eq!(running.line(), "TERM");
    let (status, _) = running.end();
    assert_eq!(status.code(), Some(3));
}

/// A terminal with a command in a session of its own.
struct Terminal {
    keyboard: File,
    running: Running,
    screen: String,
}

impl Terminal {
    fn start(words: &[&str]) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

        let keyboard: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let terminal = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let mut command = by(&[&["setsid", "--ctty", "--wait"], words].concat());
        let child = command
            .env("TERM", "dumb")
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal.try_clone().unwrap())
            .stderr(terminal)
            .spawn()
            .unwrap();
        drop(command);
        let keyboard = File::from(keyboard);
        let lines = lines_of(keyboard.try_clone().unwrap());
        Self {
            keyboard,
            running: Running { child, lines },
            screen: String::new(),
        }
    }

    fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a line that ends with `text`.
    fn wait_for(&mut self, text: &str) {
        loop {
            let line = self.running.lines.recv_timeout(LIMIT);
            let screen = &self.screen;
            let line = line.unwrap_or_else(|error| unreachable!("{error}: {text:?} in:\n{screen}"));
            self.screen.push_str(&line);
            self.screen.push('\n');
            if line.trim_end().ends_with(text) {
                return;
            }
        }
    }
}

#[test]
fn ctrl_c_reaches_the_command_once_and_the_terminal_is_its_own() {
    let (_cloud, agent) = house();
    // The last field but two is the process group in the foreground.
    let script = "n=0; trap 'n=$((n+1))' INT; read -r _ _ _ _ group _ _ foreground _ </proc/$$/stat; \
         [ $foreground = $$ ] && echo ready; while [ $n = 0 ]; do sleep 0.05; done; sleep 0.5; echo count $n; exit 5";
    let inner = watching(&agent, &[], &["sh", "-c", script]);
    let mut words = vec![BINARY];
    words.extend(inner.get_args().map(|word| word.to_str().unwrap()));
    let mut terminal = Terminal::start(&words);
    terminal.wait_for("ready");
    terminal.type_keys("\u{3}");
    terminal.wait_for("count 1");
    assert_eq!(terminal.running.child.wait().unwrap().code(), Some(5));
}

#[test]
fn ctrl_z_stops_the_job_and_the_shell_continues_it() {
    let (_cloud, agent) = house();
    let inner = watching(&agent, &[], &["sh", "-c", "'echo ready; exec cat'"]);
    let words: Vec<&str> = inner
        .get_args()
        .map(|word| word.to_str().unwrap())
        .collect();
    let job = format!("{BINARY} {}", words.join(" "));
    let mut terminal = Terminal::start(&["bash", "--norc", "--noediting", "-i"]);
    terminal.type_keys("PS1=; stty -echo; echo sh''ell\n");
    terminal.wait_for("shell");
    terminal.type_keys(&format!("{job}\n"));
    terminal.wait_for("ready");
    terminal.type_keys("one\n");
    terminal.wait_for("one");
    // The terminal drops what is typed right after these keys.
    terminal.type_keys("\u{1a}");
    terminal.wait_for("exec cat'");
    terminal.type_keys("echo $(jobs -s | wc -l) stopped\n");
    terminal.wait_for("1 stopped");
    terminal.type_keys("fg; echo code $?\n");
    terminal.wait_for("exec cat'");
    terminal.type_keys("two\n");
    terminal.wait_for("two");
    terminal.type_keys("\u{3}");
    terminal.wait_for("code 130");

    // In the background it stops when it reads, as any job does.
    terminal.type_keys(&format!("{job} &\n"));
    terminal
        .type_keys("until [ $(jobs -s | wc -l) = 1 ]; do sleep 0.1; done; echo stopped again\n");
    terminal.wait_for("stopped again");
    terminal.type_keys("fg; echo code $?\n");
    terminal.wait_for("exec cat'");
    terminal.type_keys("three\n");
    terminal.wait_for("three");
    terminal.type_keys("\u{4}");
    terminal.wait_for("code 0");
    terminal.type_keys("exit\n");
    assert_eq!(terminal.running.child.wait().unwrap().code(), Some(0));
}
