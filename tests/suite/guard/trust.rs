//! Files that decide something are trusted only if no other user can change them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use kms_agent_test_support::{Setup, TOKEN, TestAgent, http};

use crate::harness::cloud::{BINARY, Cloud};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A folder with a token, a CA file, a profile, an OIDC token, a key and a store, and the setup of an agent that
/// uses them.
struct House {
    cloud: Cloud,
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let cloud = Cloud::start();
        cloud.put("s", "value");
        let house = Self {
            cloud,
            folder: tempfile::tempdir().unwrap(),
        };
        for name in ["token", "ca", "oidc", "home/.aliyun", "keys", "cache"] {
            fs::create_dir_all(house.path(name)).unwrap();
        }
        let key = house.cloud.access_key();
        let profile = format!(
            r#"{{"current":"dev","profiles":[{{"name":"dev","mode":"AK","access_key_id":"{}","access_key_secret":"{}"}}]}}"#,
            key.id(),
            key.expose_secret()
        );
        for (name, text) in [
            ("token/kmstoken", TOKEN),
            ("ca/ca.pem", "no certificate"),
            ("oidc/token", "token"),
            ("home/.aliyun/config.json", &profile),
        ] {
            fs::write(house.path(name), text).unwrap();
            set_mode(&house.path(name), 0o600);
        }
        house
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn token(&self) -> String {
        format!("file://{}", self.path("token/kmstoken").display())
    }

    /// Sets up an agent with the access key in the environment.
    fn setup(&self) -> Setup {
        self.cloud.setup().env("KMS_TOKEN", self.token())
    }

    /// Sets up an agent with the access key in a profile.
    fn setup_of_profile(&self) -> Setup {
        Setup::new(BINARY)
            .and_config(&format!(
                "[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\n",
                self.cloud.base_url()
            ))
            .env("HOME", self.path("home").to_str().unwrap())
    }

    fn setup_of_store(&self) -> Setup {
        let folder = self.folder.path().display();
        self.setup().and_config(&format!(
            "[Cache]\nCacheType = \"Persistent\"\n[Cache.Persistent]\nPath = \"{folder}/cache/store.redb\"\n\
             KeyFile = \"{folder}/keys/store.key\"\n"
        ))
    }
}

/// Expects startup to fail with 78 and name the command that repairs the file, and `check` to do the same.
fn assert_refused(setup: &Setup, command: &str) {
    let (status, said) = setup.clone().run();
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains(command), "{command:?} is not in: {said}");
    let check = r#"out=$("$1" check "$3") || { code=$?; echo "$out" >&2; exit $code; }"#;
    let (status, said) = setup.clone().by(check).run();
    assert_eq!(status.code(), Some(78), "check: {said}");
    assert!(said.contains(command), "{command:?} is not in: {said}");
}

#[test]
fn files_that_others_may_change_end_the_start_with_the_command_that_mends_it() {
    let house = House::new();
    let ca = house.setup().and_config(&format!(
        "CaFile = \"{}\"\n",
        house.path("ca/ca.pem").display()
    ));
    let oidc = Setup::new(BINARY)
        .env("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/r")
        .env(
            "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
            "acs:ram::1:oidc-provider/p",
        )
        .env(
            "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
            house.path("oidc/token").to_str().unwrap(),
        );
    for (name, setup) in [
        ("token/kmstoken", house.setup()),
        ("ca/ca.pem", ca),
        ("oidc/token", oidc),
        ("home/.aliyun/config.json", house.setup_of_profile()),
    ] {
        let file = house.path(name);
        let folder = file.parent().unwrap();
        set_mode(&file, 0o602);
        assert_refused(&setup, &format!("chmod o-w {}", file.display()));
        set_mode(&file, 0o600);
        set_mode(folder, 0o777);
        assert_refused(&setup, &format!("chmod o-w {}", folder.display()));
        set_mode(folder, 0o755);
        if chown(folder, Some(54_321), None).is_ok() {
            assert_refused(&setup, &format!("chown root {}", folder.display()));
            chown(folder, Some(0), None).unwrap();
            chown(&file, None, Some(54_321)).unwrap();
            set_mode(&file, 0o660);
            assert_refused(&setup, &format!("chmod g-w {}", file.display()));
            chown(&file, None, Some(0)).unwrap();
        }
        set_mode(&file, 0o600);
    }
}

#[test]
fn a_config_that_others_may_change_is_refused_at_start_and_in_a_reload() {
    let house = House::new();
    for (spoil, command) in [
        ("chmod 606 config.toml", "chmod o-w"),
        ("chmod 777 .", "chmod o-w"),
        (
            "mv config.toml real; ln -s real config.toml; chmod 606 real",
            "chmod o-w",
        ),
    ] {
        let (status, said) = house.setup().by(&format!(r#"{spoil}; exec "$@""#)).run();
        assert_eq!(status.code(), Some(78), "{said}");
        assert!(said.contains(command), "{said}");
    }
    let agent = house.setup().start();
    let config = agent.folder().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}[Cache]\nTtlSeconds = 1\n")).unwrap();
    set_mode(&config, 0o666);
    agent.signal(rustix::process::Signal::HUP);
    until("the config is refused", || {
        agent.stderr().contains("was not reloaded")
    });
    assert!(agent.stderr().contains("chmod o-w"), "{}", agent.stderr());
    assert_eq!(read(&agent), 200);
}

#[test]
fn files_that_only_this_user_and_root_can_change_are_believed() {
    let house = House::new();
    symlink(house.path("token"), house.path("link")).unwrap();
    let by_link = house.setup().env(
        "KMS_TOKEN",
        format!("file://{}", house.path("link/kmstoken").display()),
    );
    for setup in [house.setup(), by_link, house.setup_of_store()] {
        let agent = setup.start();
        assert_eq!(read(&agent), 200);
        assert!(
            !agent.stderr().contains("not as safe"),
            "{}",
            agent.stderr()
        );
    }
    assert_eq!(house.setup_of_profile().start().read("s").status, 200);
}

#[test]
fn key_and_store_are_refused_if_others_may_touch_them_or_their_folders() {
    let house = House::new();
    let setup = house.setup_of_store();
    // Neither file exists yet.
    for name in ["keys", "cache"] {
        let folder = house.path(name);
        set_mode(&folder, 0o777);
        assert_refused(&setup, &format!("chmod o-w {}", folder.display()));
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            0,
            "nothing was made"
        );
        set_mode(&folder, 0o700);
    }
    fs::remove_file(house.path("keys/store.key")).unwrap_or_default();
    let agent = setup.clone().start();
    assert_eq!(read(&agent), 200);
    agent.stop();
    for name in ["keys/store.key", "cache/store.redb"] {
        let file = house.path(name);
        let folder = file.parent().unwrap();
        set_mode(folder, 0o777);
        assert_refused(&setup, &format!("chmod o-w {}", folder.display()));
        set_mode(folder, 0o700);
        if chown(&file, Some(54_321), None).is_ok() {
            assert_refused(&setup, &format!("chown root {}", file.display()));
            chown(&file, Some(0), None).unwrap();
        }
    }
    assert_eq!(read(&setup.start()), 200);
}

#[test]
fn files_that_become_writable_for_others_at_work_leave_in_force_what_was() {
    let house = House::new();
    let agent = house.setup().start();
    let token = house.path("token/kmstoken");
    fs::write(&token, "1111111111111111").unwrap();
    set_mode(&token, 0o666);
    until("the token file is refused", || {
        agent.stderr().contains("chmod o-w") && agent.stderr().contains("last token stays")
    });
    assert_eq!(read(&agent), 200);

    let agent = house.setup_of_profile().start();
    assert_eq!(agent.read("s").status, 200);
    let profile = house.path("home/.aliyun/config.json");
    let text = fs::read_to_string(&profile).unwrap();
    set_mode(&profile, 0o666);
    fs::write(&profile, text.replace("LTAI", "OTHER")).unwrap();
    until("the profile is refused", || {
        agent.stderr().contains("chmod o-w")
    });
    assert_eq!(
        agent.read("s&refreshNow=true").status,
        200,
        "{}",
        agent.stderr()
    );
}

#[test]
fn a_token_that_every_user_may_read_and_a_weak_or_quoted_one_are_warned_of_once() {
    let house = House::new();
    let token = house.path("token/kmstoken");
    set_mode(&token, 0o644);
    fs::write(&token, "aaaaaaaaaaaaaaaa").unwrap();
    let quoted = format!("'{TOKEN}'");
    for (setup, warnings) in [
        (
            house.setup(),
            &["may read the token", "fewer than 128 random bits"][..],
        ),
        (
            house.setup().env("KMS_TOKEN", quoted),
            &["stands in quotes"],
        ),
        (
            house.setup().env("KMS_TOKEN", "0123456789abcde-"),
            &["fewer than 128 random bits"],
        ),
    ] {
        let agent = setup.start();
        // Two rounds of the follower later.
        std::thread::sleep(Duration::from_millis(2500));
        let (_, said) = agent.stop();
        for warning in warnings {
            let count = said.matches(warning).count();
            assert_eq!(count, 1, "{warning}: {said}");
        }
        assert!(!said.contains("aaaaaaaa") && !said.contains(TOKEN));
    }
    let check = r#"echo "$("$1" check "$3")" >&2"#;
    let (_, said) = house.setup().by(check).run();
    assert!(said.contains("fewer than 128 random bits"), "{said}");
}

#[test]
fn a_volume_that_is_open_to_all_is_warned_of_once_and_holds_the_token() {
    if !crate::harness::namespace::is_inside(
        module_path!(),
        "a_volume_that_is_open_to_all_is_warned_of_once_and_holds_the_token",
    ) {
        return;
    }
    let house = House::new();
    let volume = house.path("volume");
    fs::create_dir(&volume).unwrap();
    crate::harness::namespace::mount(&["-t", "tmpfs", "-o", "mode=777", "tmpfs"], &volume);
    // The parent folder does not matter.
    set_mode(house.folder.path(), 0o777);
    let path = volume.join("kmstoken");
    let agent = Setup::new(BINARY)
        .env("KMS_TOKEN", format!("file://{}", path.display()))
        .start();
    let token = fs::read_to_string(&path).unwrap();
    let reply = http::get(agent.port(), "/no/such", &[("X-KMS-Token", &token)]);
    assert_eq!(reply.status, 404);
    std::thread::sleep(Duration::from_millis(2500));
    let (_, said) = agent.stop();
    assert_eq!(
        said.matches("let only the agent mount it writable").count(),
        1,
        "{said}"
    );
}

#[test]
fn nothing_is_made_behind_a_link_that_others_could_have_planted() {
    let house = House::new();
    let open = house.path("open");
    fs::create_dir(&open).unwrap();
    set_mode(&open, 0o777);
    symlink(house.path("elsewhere"), open.join("link")).unwrap();
    let link = open.join("link").display().to_string();
    let log = Setup::new(BINARY)
        .edit_config(|text| text.replace("LogPath = \"\"", &format!("LogPath = \"{link}/logs\"")));
    let agent = log.start();
    assert!(
        agent.stderr().contains("not followed"),
        "{}",
        agent.stderr()
    );
    agent.stop();
    let token = Setup::new(BINARY).env("KMS_TOKEN", format!("file://{link}/kmstoken"));
    let (status, _) = token.run();
    assert_eq!(status.code(), Some(78));
    let store = house.setup().and_config(&format!(
        "[Cache]\nCacheType = \"Persistent\"\n[Cache.Persistent]\nPath = \"{link}/store\"\nKeyFile = \"{link}/key\"\n"
    ));
    let agent = store.start();
    assert_eq!(read(&agent), 200, "without a store");
    agent.stop();
    assert!(!house.path("elsewhere").exists());
}

fn read(agent: &TestAgent) -> u16 {
    agent.read("s").status
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "still waiting: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_device_is_never_said_to_need_another_mode() {
    let check = |config: &str, token: &str| {
        let output = std::process::Command::new(crate::harness::cloud::BINARY)
            .args(["check", "--offline", config])
            .env_clear()
            .env("KMS_TOKEN", token)
            .output()
            .unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    for config in ["/dev/null", "/dev/zero"] {
        let said = check(config, kms_agent_test_support::TOKEN);
        assert!(!said.contains("chmod"), "{said}");
    }
}
