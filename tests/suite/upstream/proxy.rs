//! Hosts that are called through a proxy, and hosts that never are.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use kms_agent_test_support::{Setup, TOKEN};

use crate::harness::cloud::{BINARY, Cloud};
use crate::harness::network::{Authority, Front, Proxy};

const KMS: &str = "kms.cn-hangzhou.aliyuncs.com";
const STS: &str = "sts.cn-hangzhou.aliyuncs.com";

/// Environment variables that name a proxy.
const VARIABLES: [&str; 6] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

fn with_every_proxy(mut setup: Setup, proxy: &Proxy) -> Setup {
    for name in VARIABLES {
        setup = setup.env(name, proxy.url());
    }
    setup
}

#[test]
fn kms_and_sts_are_asked_by_way_of_the_proxy() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let authority = Authority::new();
    let ca = authority.root_file();
    let (kms, sts) = (
        Front::start(cloud.address(), authority.certify(KMS)),
        Front::start(cloud.address(), authority.certify(STS)),
    );
    let proxy = Proxy::start(&[
        (&format!("{KMS}:443"), kms.address()),
        (&format!("{STS}:443"), sts.address()),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "the-projected-token").unwrap();
    let account = cloud.account_id();
    for name in ["HTTPS_PROXY", "https_proxy"] {
        let agent = Setup::new(BINARY)
            .and_config("[KMS]\nRegion = \"cn-hangzhou\"\n")
            .env("SSL_CERT_FILE", ca.display().to_string())
            .env("ALIBABA_CLOUD_STS_REGION", "cn-hangzhou")
            .env(
                "ALIBABA_CLOUD_ROLE_ARN",
                format!("acs:ram::{account}:role/app"),
            )
            .env(
                "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
                format!("acs:ram::{account}:oidc-provider/ack"),
            )
            .env("ALIBABA_CLOUD_OIDC_TOKEN_FILE", token.display().to_string())
            .env(name, proxy.url())
            .env("NO_PROXY", "example.com")
            .start();
        let reply = agent.read("s");
        assert_eq!(reply.status, 200, "{}", agent.stderr());
        assert!(!agent.stderr().contains(Proxy::PASSWORD));
    }
    let requests = proxy.requests();
    for host in [KMS, STS] {
        let line = format!("CONNECT {host}:443 HTTP/1.1");
        let count = requests.iter().filter(|request| **request == line).count();
        assert!(count >= 2, "{host}: {requests:?}");
    }
}

/// Wraps the binary so that `/etc/hosts` puts KMS on this machine. Returns the path of the wrapper.
fn at_home(folder: &Path) -> PathBuf {
    let (hosts, program) = (folder.join("hosts"), folder.join("agent"));
    std::fs::write(&hosts, format!("127.0.0.1 {KMS}\n")).unwrap();
    let script = format!(
        "#!/bin/sh\nexec unshare --map-root-user --mount sh -c 'mount --bind {} /etc/hosts && exec {BINARY} \"$@\"' - \"$@\"\n",
        hosts.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o700)).unwrap();
    program
}

#[test]
fn hosts_in_no_proxy_are_called_directly() {
    let folder = tempfile::tempdir().unwrap();
    let program = at_home(folder.path());
    if !Command::new(&program)
        .arg("--version")
        .status()
        .unwrap()
        .success()
    {
        assert!(std::env::var_os("CI").is_none(), "CI may make namespaces");
        eprintln!("skipped: no mount namespace can be made");
        return;
    }
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let authority = Authority::new();
    let front = Front::start(cloud.address(), authority.certify(KMS));
    let proxy = Proxy::start(&[]);
    let port = front.address().port();
    for (bypass, status) in [
        (KMS, 200),
        (".aliyuncs.com", 200),
        ("*.ALIYUNCS.com", 200),
        ("*", 200),
        ("10.0.0.0/8 , aliyuncs.com", 200),
        (&format!("{KMS}:{port}"), 200),
        (&format!("*.aliyuncs.com:{port}"), 200),
        ("other.example.com", 503),
        (&format!("{KMS}:443"), 503),
        (&format!(".{KMS}"), 503),
        ("*aliyuncs.com", 503),
        ("aliyuncs.com.", 503),
    ] {
        let agent = Setup::new(&program)
            .kms(
                &format!("https://{KMS}:{}", front.address().port()),
                cloud.access_key().id(),
                cloud.access_key().expose_secret(),
            )
            .and_config("MaxAttempts = 1\n")
            .env("SSL_CERT_FILE", authority.root_file().display().to_string())
            .env("HTTPS_PROXY", proxy.url())
            .env("NO_PROXY", bypass)
            .start();
        let reply = agent.read("s");
        assert_eq!(reply.status, status, "{bypass}: {}", agent.stderr());
        assert_eq!(proxy.requests().is_empty(), status == 200, "{bypass}");
    }
}

#[test]
fn what_is_near_is_never_asked_by_way_of_a_proxy() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let proxy = Proxy::start(&[]);
    let url = cloud.base_url().to_owned();

    let metadata = cloud
        .setup()
        .and_config(&format!("[Credentials]\nMetadataEndpoint = \"{url}\"\n"))
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "")
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "")
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "false");
    let role = "/latest/meta-data/ram/security-credentials/kms-agent-role";
    let uri = cloud
        .setup()
        .and_config("[Credentials]\nProvider = \"Uri\"\n")
        .env("ALIBABA_CLOUD_CREDENTIALS_URI", format!("{url}{role}"));
    for setup in [metadata, uri] {
        let agent = with_every_proxy(setup, &proxy).start();
        let reply = agent.read("s");
        assert_eq!(reply.status, 200, "{}", agent.stderr());
    }
    assert_eq!(proxy.requests(), [""; 0]);
}

#[test]
fn client_commands_never_use_a_proxy() {
    let cloud = Cloud::start();
    cloud.put("s", "value");
    let proxy = Proxy::start(&[]);
    let agent = cloud.setup().start();
    let port = agent.port().to_string();
    for command in [
        &["get", "s"][..],
        &["status"],
        &["health"],
        &["health", "--live"],
        &["purge", "s"],
        &["purge", "--all"],
    ] {
        let output = Command::new(BINARY)
            .args(command)
            .args(["--port", &port])
            .env_clear()
            .env("KMS_TOKEN", TOKEN)
            .envs(VARIABLES.map(|name| (name, proxy.url())))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert_eq!(proxy.requests(), [""; 0]);
}
