//! The agent under a service manager that speaks `sd_notify`.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use kms_agent_test_support::http::{self, Connection};
use kms_agent_test_support::{Setup, TestAgent};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use crate::harness::cloud::Cloud;

/// Limit for things that happen soon unless something hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// A service manager with its own socket.
struct Manager {
    socket: UnixDatagram,
    name: String,
    _folder: tempfile::TempDir,
}

impl Manager {
    /// Creates one with a socket file.
    fn with_path() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        Self::new(
            UnixDatagram::bind(&path).unwrap(),
            path.display().to_string(),
            folder,
        )
    }

    /// Creates one with an abstract socket.
    #[cfg(target_os = "linux")]
    fn with_abstract_name() -> Self {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;

        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().display().to_string();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::new(
            UnixDatagram::bind_addr(&address).unwrap(),
            format!("@{name}"),
            folder,
        )
    }

    fn new(socket: UnixDatagram, name: String, folder: tempfile::TempDir) -> Self {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Self {
            socket,
            name,
            _folder: folder,
        }
    }

    fn setup(&self, cloud: &Cloud) -> Setup {
        cloud.setup().env("NOTIFY_SOCKET", &self.name)
    }

    /// Returns the lines of the next message.
    fn hears(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self
            .socket
            .recv(&mut bytes)
            .expect("the agent says something");
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Drops the messages that were not read yet.
    fn forget(&self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 4096]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }
}

/// Returns the microseconds of systemd's clock.
fn monotonic() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

/// Checks the messages from readiness through a reload to shutdown.
fn lives(manager: &Manager) {
    let cloud = Cloud::start();
    let agent = manager.setup(&cloud).start();
    let listening = format!("STATUS=listening on 127.0.0.1:{}", agent.port());
    assert_eq!(manager.hears(), ["READY=1", &listening]);

    let before = monotonic();
    agent.signal(Signal::HUP);
    let reloading = manager.hears();
    assert_eq!(reloading[0], "RELOADING=1");
    let at: i64 = reloading[1]
        .strip_prefix("MONOTONIC_USEC=")
        .unwrap()
        .parse()
        .unwrap();
    assert!(before <= at && at <= monotonic(), "{at}");
    assert_eq!(
        manager.hears(),
        ["READY=1", "STATUS=the configuration was reloaded"]
    );

    std::fs::write(agent.folder().join("config.toml"), "nonsense").unwrap();
    agent.signal(Signal::HUP);
    assert_eq!(manager.hears()[0], "RELOADING=1");
    let refused = manager.hears();
    assert_eq!(refused[0], "READY=1");
    assert!(refused[1].contains("refused"), "{refused:?}");

    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(
        manager.hears(),
        ["STOPPING=1", "STATUS=finishing requests in flight"]
    );
    assert!(!said.contains("service manager"), "{said}");
}

#[test]
fn a_manager_at_a_path_is_notified_from_startup_to_shutdown() {
    lives(&Manager::with_path());
}

#[cfg(target_os = "linux")]
#[test]
fn a_manager_at_an_abstract_name_is_notified_from_startup_to_shutdown() {
    lives(&Manager::with_abstract_name());
}

#[test]
fn without_a_watchdog_there_are_no_signs_of_life_and_without_a_manager_no_trouble() {
    let cloud = Cloud::start();
    let manager = Manager::with_path();
    let agent = manager.setup(&cloud).start();
    assert_eq!(manager.hears()[0], "READY=1");
    // Unrelated messages were sent before the reload.
    agent.signal(Signal::HUP);
    assert_eq!(manager.hears()[0], "RELOADING=1");

    for name in ["/no/such/socket", "@", "vsock:2:1234", ""] {
        let agent = cloud.setup().env("NOTIFY_SOCKET", name).start();
        assert_eq!(http::get(agent.port(), "/livez", &[]).status, 200, "{name}");
        let (status, said) = agent.stop();
        assert_eq!(status.code(), Some(0), "{said}");
        let told = said
            .matches("Sending the state to the service manager failed")
            .count();
        assert!(told <= 1, "{said}");
    }
}

fn wait_until_said(agent: &TestAgent, text: &str) {
    let began = Instant::now();
    while !agent.stderr().contains(text) {
        assert!(
            began.elapsed() < LIMIT,
            "no {text:?} in:\n{}",
            agent.stderr()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_watchdog_is_fed_only_while_the_agent_answers_itself() {
    let cloud = Cloud::start();
    let manager = Manager::with_path();
    let agent = manager
        .setup(&cloud)
        .env("WATCHDOG_USEC", "200000")
        // With so few descriptors the agent soon cannot accept a connection, not even its own.
        .by("ulimit -n 64; exec \"$@\"")
        .start();
    assert_eq!(manager.hears()[0], "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.hears(), ["WATCHDOG=1"]);
    }
    let crowd: Vec<Connection> = (0..100)
        .map(|_| Connection::open(agent.port()).unwrap())
        .collect();
    wait_until_said(&agent, "The agent does not answer its own health check");
    manager.forget();
    manager
        .socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let silence = manager
        .socket
        .recv(&mut [0; 64])
        .map_err(|error| error.kind());
    assert_eq!(silence, Err(ErrorKind::WouldBlock));

    drop(crowd);
    manager.socket.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(manager.hears(), ["WATCHDOG=1"]);
}
