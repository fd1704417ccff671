//! The real binary, as a test fixture.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::{self, Reply};

/// Limit for startup and shutdown; generous, because only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(30);

/// Token of test agents.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A running agent with its own folder. Dropping it kills the process.
#[derive(Debug)]
pub struct TestAgent {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// Configuration and environment of an agent to start.
#[derive(Clone, Debug)]
pub struct Setup {
    executable: PathBuf,
    /// Command that starts the binary, if not the test itself.
    starter: Vec<String>,
    config: String,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// Sets up the binary at `executable` with a free port, the log on stderr at level Debug, the literal
    /// [`TOKEN`], and nothing of the test's own environment.
    pub fn new(executable: impl AsRef<Path>) -> Self {
        Self {
            executable: executable.as_ref().to_owned(),
            starter: Vec::new(),
            config: "[Server]\nHttpPort = 0\n[Log]\nLogLevel = \"Debug\"\nLogPath = \"\"\n"
                .to_owned(),
            environment: [
                ("KMS_TOKEN", TOKEN),
                // Tests send nothing to other machines.
                ("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        }
    }

    /// Replaces the config file, which should contain `HttpPort = 0`.
    #[must_use]
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.config = text.into();
        self
    }

    /// Changes the config file.
    #[must_use]
    pub fn edit_config(mut self, edit: impl FnOnce(&str) -> String) -> Self {
        self.config = edit(&self.config);
        self
    }

    /// Adds lines to the config file.
    #[must_use]
    pub fn and_config(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Configures the endpoint of KMS and the access key.
    #[must_use]
    pub fn kms(self, endpoint: &str, access_key_id: &str, access_key_secret: &str) -> Self {
        self.and_config(&format!(
            "[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{endpoint}\"\n"
        ))
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", access_key_id)
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", access_key_secret)
    }

    /// Starts the agent by a bash script in the agent's folder, which ends with `exec "$@"`.
    #[must_use]
    pub fn by(mut self, script: &str) -> Self {
        self.starter = ["bash", "-euc", script, "bash"].map(str::to_owned).into();
        self
    }

    /// Starts the agent in a new folder and waits until it listens. Panics with its log otherwise.
    pub fn start(self) -> TestAgent {
        let (mut agent, port) = self.launch();
        match port.recv_timeout(LIMIT) {
            Ok(port) => agent.port = port,
            Err(error) => panic!(
                "the agent does not listen ({error}); its log:\n{}",
                agent.stderr()
            ),
        }
        agent
    }

    /// Starts the agent in a new folder without waiting. Its port is unknown, and it may never listen.
    pub fn spawn(self) -> TestAgent {
        self.launch().0
    }

    /// Starts an agent that exits by itself; returns its exit status and log.
    pub fn run(self) -> (ExitStatus, String) {
        self.launch().0.wait()
    }

    fn launch(self) -> (TestAgent, mpsc::Receiver<u16>) {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let config = folder.path().join("config.toml");
        std::fs::write(&config, &self.config).expect("the config can be written");
        let executable = self.executable.as_os_str();
        let words: Vec<&OsStr> = self
            .starter
            .iter()
            .map(OsStr::new)
            .chain([executable])
            .collect();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .arg("agent")
            .arg(&config)
            .env_clear()
            .envs(self.environment)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let (found, port) = mpsc::channel();
        let reader = {
            let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
            let stderr = Arc::clone(&stderr);
            std::thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    if let Some((_, port)) = line.split_once("listening on 127.0.0.1:") {
                        // After the first line the receiver may be gone.
                        let digits = port.chars().take_while(char::is_ascii_digit);
                        let _ = found.send(digits.collect::<String>().parse().expect("a port"));
                    }
                    let mut text = stderr.lock().unwrap_or_else(PoisonError::into_inner);
                    text.push_str(&line);
                    text.push('\n');
                }
            })
        };
        let agent = TestAgent {
            child,
            folder,
            port: 0,
            stderr,
            reader: Some(reader),
        };
        (agent, port)
    }
}

impl TestAgent {
    /// Returns the port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its working directory, which holds `config.toml`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns its log so far.
    pub fn stderr(&self) -> String {
        self.stderr
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sends a GET with the token.
    pub fn get(&self, target: &str) -> Reply {
        http::get(self.port, target, &[("X-KMS-Token", TOKEN)])
    }

    /// Reads a secret by query; `query` is what follows `secretId=`.
    pub fn read(&self, query: &str) -> Reply {
        self.get(&format!("/secretsmanager/get?secretId={query}"))
    }

    /// Sends the process a signal.
    #[cfg(unix)]
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process id"), signal).expect("it runs");
    }

    /// Sends SIGTERM and waits for the exit; returns exit status and log.
    #[cfg(unix)]
    pub fn stop(self) -> (ExitStatus, String) {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    fn wait(mut self) -> (ExitStatus, String) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break status;
            }
            assert!(
                began.elapsed() < LIMIT,
                "the agent did not exit; its log:\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        self.join_reader();
        (status, self.stderr())
    }

    /// Kills the process with SIGKILL, waits until it is gone, and returns its log.
    pub fn kill(mut self) -> String {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
        self.join_reader();
        self.stderr()
    }

    fn join_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader works");
        }
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        // Both fail only if it has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
