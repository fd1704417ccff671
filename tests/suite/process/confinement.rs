//! Confinement of the real binary by Landlock.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kms_agent_test_support::http::{self, Connection};
use kms_agent_test_support::{TOKEN, TestAgent};
use landlock::{AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
use rustix::process::Signal;

use super::{LIMIT, wait_until_said};
use crate::harness::cloud::{BINARY, Cloud};

const NEEDS_RESTART: &str = "These changes need a restart";
const OTHER: &str = "another-token-0123456789";
const GIVEN_UP: &str = "root's right to open the files of other users is given up at startup";
const UNCONFINED: &str = "the process may open every file of its user";

/// Returns whether this kernel supports Landlock; prints a message if not.
pub(crate) fn kernel_confines() -> bool {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::ReadFile)
        .and_then(Ruleset::create);
    if let Err(error) = &ruleset {
        eprintln!("skipped: this kernel has no Landlock ({error})");
    }
    ruleset.is_ok()
}

fn read_with(agent: &TestAgent, token: &str) -> u16 {
    http::get(agent.port(), "/v1/s", &[("X-KMS-Token", token)]).status
}

/// Adds lines to the config and reloads it.
fn reload_with(agent: &TestAgent, change: impl Fn(&str) -> String) {
    let path = agent.folder().join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, change(&text)).unwrap();
    agent.signal(Signal::HUP);
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LIMIT, "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn files_outside_its_folders_stay_shut_to_a_running_agent() {
    if !kernel_confines() {
        return;
    }
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let token = inside.path().join("kmstoken");
    fs::write(&token, TOKEN).unwrap();
    fs::write(outside.path().join("kmstoken"), OTHER).unwrap();
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud
        .setup()
        .env("KMS_TOKEN", format!("file://{}", token.display()))
        .start();
    assert_eq!(read_with(&agent, TOKEN), 200);
    assert!(!agent.stderr().contains(UNCONFINED), "{}", agent.stderr());

    // The token file is opened again every second, by a thread that started long after the main thread.
    let link = inside.path().join("link");
    symlink(outside.path().join("kmstoken"), &link).unwrap();
    fs::rename(&link, &token).unwrap();
    wait_until_said(&agent, "Permission denied");
    assert_eq!(
        (read_with(&agent, TOKEN), read_with(&agent, OTHER)),
        (200, 403)
    );

    // A link to a file inside its folders works.
    fs::write(inside.path().join("next"), OTHER).unwrap();
    symlink("next", &link).unwrap();
    fs::rename(&link, &token).unwrap();
    wait_until("the new token", || read_with(&agent, OTHER) == 200);
}

#[test]
fn all_that_is_replaced_at_work_still_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["token", "logs", "cache"] {
        fs::create_dir(path(name)).unwrap();
    }
    let private = |name: &str| {
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    fs::write(path("cache/store"), "damaged beyond recognition").unwrap();
    private("cache/store");
    fs::write(path("token/kmstoken"), TOKEN).unwrap();
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let at = folder.path().display();
    let config = format!(
        "[Server]\nHttpPort = 0\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\n\
         [Log]\nLogLevel = \"Debug\"\nLogPath = \"{at}/logs\"\nMaxSize = 1\nMaxBackups = 1\n\
         [Cache]\nCacheType = \"Persistent\"\n\
         [Cache.Persistent]\nPath = \"{at}/cache/store\"\nKeyFile = \"{at}/keys/key\"\n",
        cloud.base_url()
    );
    // Damage is recognised without the store's key.
    fs::create_dir(path("keys")).unwrap();
    fs::write(path("keys/key"), [7; 32]).unwrap();
    private("keys/key");
    let agent = cloud
        .setup()
        .config(config)
        .env("KMS_TOKEN", format!("file://{at}/token/kmstoken"))
        .start();
    assert_eq!(read_with(&agent, TOKEN), 200);

    let aside = fs::read_dir(path("cache"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.starts_with("store.corrupt-"));
    assert!(aside.is_some(), "{}", agent.stderr());

    let purged = Command::new(BINARY)
        .args(["purge", "--all", "--port", &agent.port().to_string()])
        .env_clear()
        .env("KMS_TOKEN", TOKEN)
        .output()
        .unwrap();
    assert!(purged.status.success(), "{purged:?}");
    assert_ne!(fs::read(path("keys/key")).unwrap(), [7; 32]);

    fill_the_log(&agent, &path("logs/kms-agent.log.1"));

    let made = Command::new(BINARY)
        .args(["token", &format!("{at}/token/kmstoken")])
        .output()
        .unwrap();
    assert!(made.status.success());
    let token = fs::read_to_string(path("token/kmstoken")).unwrap();
    wait_until("the new token", || read_with(&agent, &token) == 200);
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!said.contains("Permission denied"), "{said}");
}

/// Reads until the log has been rotated to `backup`.
fn fill_the_log(agent: &TestAgent, backup: &Path) {
    let name = "n".repeat(500);
    let request = format!(
        "GET /v1/{name} HTTP/1.1\r\nHost: localhost:{}\r\nX-KMS-Token: {TOKEN}\r\n\r\n",
        agent.port()
    );
    let mut connection = Connection::open(agent.port()).unwrap();
    wait_until("a rotated log", || {
        for _ in 0..100 {
            connection.send(request.as_bytes()).unwrap();
            assert_ne!(connection.reply().unwrap().status, 200);
        }
        backup.exists()
    });
}

#[test]
fn a_reload_that_leads_outside_is_told_and_changes_nothing() {
    if !kernel_confines() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let at = outside.path().display();
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud.setup().start();
    reload_with(&agent, |text| {
        text.replace("LogPath = \"\"", &format!("LogPath = \"{at}/logs\""))
            .replace("[KMS]", &format!("[KMS]\nCaFile = \"{at}/ca.pem\""))
            + "[Cache]\nTtlSeconds = 60\n"
    });
    wait_until_said(&agent, NEEDS_RESTART);
    wait_until_said(&agent, "outside the folders that the process may open");
    let said = agent.stderr();
    assert!(said.contains("keys=\"KMS.CaFile, Log.LogPath\""), "{said}");
    assert!(said.contains("changed=\"Cache.TtlSeconds\""), "{said}");
    assert_eq!(read_with(&agent, TOKEN), 200);
    // The log still goes to stderr, and to nowhere else.
    wait_until_said(&agent, "secret=\"s\"");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

/// Starter under which `landlock_create_ruleset` fails as on a kernel without Landlock.
pub(crate) const WITHOUT_LANDLOCK: &str = r#"
import ctypes, os, struct, sys
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, ENOSYS, ALLOW = 444, 0x50000 | 38, 0x7fff0000
steps = [(LOAD, 0, 0, 0), (EQUAL, 0, 1, NUMBER), (RETURN, 0, 0, ENOSYS), (RETURN, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2
assert libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert libc.prctl(SECCOMP, FILTER, program, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn a_kernel_without_landlock_is_warned_of_once_and_served_on() {
    let outside = tempfile::tempdir().unwrap();
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), WITHOUT_LANDLOCK).unwrap();
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud
        .setup()
        .by(&format!("exec python3 {} \"$@\"", script.path().display()))
        .start();
    assert_eq!(read_with(&agent, TOKEN), 200);
    assert_eq!(
        agent.stderr().matches(UNCONFINED).count(),
        1,
        "{}",
        agent.stderr()
    );

    // Then every file can be reached.
    let logs = outside.path().join("logs");
    reload_with(&agent, |text| {
        text.replace(
            "LogPath = \"\"",
            &format!("LogPath = \"{}\"", logs.display()),
        )
    });
    wait_until("the log moves", || {
        fs::read_to_string(logs.join("kms-agent.log"))
            .is_ok_and(|log| log.contains("The configuration was reloaded"))
    });
    let (_, said) = agent.stop();
    assert!(!said.contains(NEEDS_RESTART), "{said}");
}

/// Creates a home with a private key.
fn home_with_a_key() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".ssh")).unwrap();
    fs::write(home.path().join(".ssh/id"), "private").unwrap();
    home
}

#[test]
fn a_home_is_never_opened_whichever_provider_is_asked() {
    if !kernel_confines() {
        return;
    }
    let cloud = Cloud::start();
    for provider in ["Default", "Environment", "Profile", "EcsRamRole"] {
        let home = home_with_a_key();
        let agent = cloud
            .setup()
            .and_config(&format!("[Credentials]\nProvider = \"{provider}\"\n"))
            .env("HOME", home.path().to_str().unwrap())
            .start();
        let key = home.path().join(".ssh/id");
        reload_with(&agent, |text| {
            text.replace("[KMS]", &format!("[KMS]\nCaFile = \"{}\"", key.display()))
        });
        wait_until_said(&agent, "outside the folders that the process may open");
        assert!(
            agent.stderr().contains("keys=\"KMS.CaFile\""),
            "{}",
            agent.stderr()
        );
        let said_of_missing = agent.stderr().contains("out of reach until a restart");
        assert_eq!(said_of_missing, provider == "Profile", "{provider}");
    }
}

#[test]
fn a_token_in_a_home_is_read_and_what_takes_its_place_needs_a_restart() {
    if !kernel_confines() {
        return;
    }
    let home = home_with_a_key();
    let token = home.path().join("kmstoken");
    fs::write(&token, TOKEN).unwrap();
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud
        .setup()
        .env("HOME", home.path().to_str().unwrap())
        .env("KMS_TOKEN", format!("file://{}", token.display()))
        .start();
    assert_eq!(read_with(&agent, TOKEN), 200);
    let said = agent.stderr();
    assert_eq!(said.matches("stays shut").count(), 1, "{said}");
    assert!(said.contains("kmstoken"), "{said}");

    let next = home.path().join("next");
    fs::write(&next, OTHER).unwrap();
    fs::rename(&next, &token).unwrap();
    wait_until_said(&agent, "Permission denied");
    assert_eq!(read_with(&agent, TOKEN), 200);
}

#[test]
fn a_token_in_a_folder_of_all_programs_is_followed() {
    let file = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    };
    let (token, next) = (file(TOKEN), file(OTHER));
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let agent = cloud
        .setup()
        .env("KMS_TOKEN", format!("file://{}", token.path().display()))
        .start();
    assert_eq!(read_with(&agent, TOKEN), 200);
    fs::rename(next.path(), token.path()).unwrap();
    wait_until("the new token", || read_with(&agent, OTHER) == 200);
}

#[test]
fn files_that_root_may_no_longer_open_are_reported_at_startup() {
    if !super::is_root() {
        return;
    }
    let cloud = Cloud::start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let of_another = |name: &str| {
        std::os::unix::fs::chown(path(name), Some(54321), Some(54321)).unwrap();
    };
    fs::write(path("kmstoken"), TOKEN).unwrap();
    fs::set_permissions(path("kmstoken"), fs::Permissions::from_mode(0o600)).unwrap();
    of_another("kmstoken");
    let token = format!("file://{}", path("kmstoken").display());
    let (status, said) = cloud.setup().env("KMS_TOKEN", token).run();
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(
        said.contains(GIVEN_UP) && said.contains("kmstoken"),
        "{said}"
    );

    fs::create_dir(path("logs")).unwrap();
    fs::write(path("logs/kms-agent.log"), "").unwrap();
    of_another("logs");
    let logs = path("logs").display().to_string();
    let agent = cloud
        .setup()
        .edit_config(|text| text.replace("LogPath = \"\"", &format!("LogPath = \"{logs}\"")))
        .start();
    let (_, said) = agent.stop();
    assert!(said.contains("the log cannot be rotated"), "{said}");
    assert!(said.contains(GIVEN_UP), "{said}");
}
