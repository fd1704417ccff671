use std::path::Path;
use std::time::Duration;

use super::*;
use crate::credential::sts::Sts;
use crate::http::{HttpSend, Method};
use crate::location::Metadata;
use crate::location::endpoint::Endpoint;
use crate::testing::{ManualClock, Script, answer, manual_clock, settle};

const KEY: [(&str, &str); 2] = [
    ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI"),
    ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s"),
];
const OIDC: [(&str, &str); 3] = [
    ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/agent"),
    (
        "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
        "acs:ram::1:oidc-provider/x",
    ),
    ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/no/such/token"),
];
const ECS: [(&str, &str); 1] = [("ALIBABA_CLOUD_ECS_METADATA", "web")];
const URI: [(&str, &str); 1] = [("ALIBABA_CLOUD_CREDENTIALS_URI", "http://10.0.0.1/")];

const CLI: &str = r#"{"current":"dev","profiles":[{"name":"dev","mode":"AK","access_key_id":"LTAI.cli",
    "access_key_secret":"s"}]}"#;
const INI: &str = "[default]\ntype = access_key\naccess_key_id = LTAI.ini\naccess_key_secret = s\n";
const ISSUED: &str = r#"{"Code":"Success","AccessKeyId":"STS.a","AccessKeySecret":"s","SecurityToken":"t",
    "Expiration":"2026-01-02T04:04:05Z"}"#;

/// A home with these files in it.
fn home(files: &[(&str, &str)]) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        put(home.path(), path, text);
    }
    home
}

#[expect(clippy::disallowed_methods, reason = "a test makes its own files")]
fn put(home: &Path, path: &str, text: &str) {
    let path = home.join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, text).expect("written");
}

/// Every way out leads to `script`.
fn chosen(
    choice: ProviderChoice,
    variables: &[&[(&str, &str)]],
    home: &Path,
    script: Option<&Arc<Script>>,
    metadata: bool,
) -> (Box<dyn CredentialProvider>, Arc<ManualClock>) {
    let http: Arc<dyn HttpSend> = script.map_or_else(Script::new, Arc::clone) as _;
    let clock = manual_clock();
    let home = [("HOME", home.to_str().expect("a path"))];
    let context = ProviderContext {
        environment: variables.concat().into_iter().chain(home).collect(),
        sts: Sts {
            http: Arc::clone(&http),
            endpoint: None,
            timeout: Duration::from_secs(5),
            clock: Arc::clone(&clock) as _,
            server_clock: Arc::default(),
        },
        uri: Arc::clone(&http),
        metadata: metadata.then(|| Metadata::new(http, Endpoint::metadata(), true)),
    };
    (choose(choice, &context), clock)
}

#[tokio::test]
async fn the_first_configured_provider_is_the_identity() {
    let both = [
        (".aliyun/config.json", CLI),
        (".alibabacloud/credentials", INI),
    ];
    let (empty, ini, both) = (home(&[]), home(&both[1..]), home(&both));
    let no_cli = [("ALIBABA_CLOUD_CLI_PROFILE_DISABLED", "True")];
    for (variables, home, name, identity) in [
        (
            vec![&KEY[..], &OIDC, &ECS, &URI],
            &both,
            "environment",
            "LTAI",
        ),
        (
            vec![&OIDC[..], &ECS, &URI],
            &both,
            "oidc",
            "acs:ram::1:role/agent",
        ),
        (vec![&ECS[..], &URI], &both, "cli_profile", "LTAI.cli"),
        (vec![&no_cli[..], &ECS, &URI], &both, "profile", "LTAI.ini"),
        (vec![&ECS[..], &URI], &ini, "profile", "LTAI.ini"),
        (vec![&ECS[..], &URI], &empty, "ecs_ram_role", "web"),
        (vec![&URI[..]], &empty, "uri", "http://10.0.0.1/"),
    ] {
        let script = match name {
            "ecs_ram_role" => Script::new()
                .expect(Method::Put, "http://100.100.100.200/", answer(404, ""))
                .expect(Method::Get, "http://100.100.100.200/", answer(500, "")),
            "uri" => Script::new().expect(Method::Get, "http://10.0.0.1/", answer(500, "")),
            _ => Script::new(),
        };
        let (provider, _) = chosen(
            ProviderChoice::Default,
            &variables,
            home.path(),
            Some(&script),
            true,
        );
        // Whatever comes of it.
        let _ = provider.obtain().await;
        assert_eq!(provider.name(), name);
        assert_eq!(provider.identity().as_deref(), Some(identity));
    }
}

#[tokio::test]
async fn a_provider_that_cannot_work_never_lets_another_step_in() {
    use ProviderChoice::{Default, EcsRamRole, Oidc, Profile, Uri};
    let broken = home(&[
        (".aliyun/config.json", "hunter2"),
        (".alibabacloud/credentials", INI),
    ]);
    let empty = home(&[]);
    let half = [("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI")];
    let named = [("ALIBABA_CLOUD_CONFIG_FILE", "/no/such/file")];
    for (choice, variables, home, metadata, name, remedy) in [
        (
            Default,
            vec![&half[..], &OIDC],
            &broken,
            true,
            "environment",
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        ),
        (
            Default,
            vec![&ECS[..]],
            &broken,
            true,
            "cli_profile",
            "aliyun configure",
        ),
        (
            Default,
            vec![&named[..]],
            &empty,
            true,
            "cli_profile",
            "ALIBABA_CLOUD_CONFIG_FILE",
        ),
        (
            Oidc,
            vec![&KEY[..]],
            &empty,
            true,
            "oidc",
            "ALIBABA_CLOUD_ROLE_ARN",
        ),
        (
            EcsRamRole,
            vec![&KEY[..]],
            &empty,
            false,
            "ecs_ram_role",
            "ALIBABA_CLOUD_ECS_METADATA_DISABLED",
        ),
        (
            Profile,
            vec![&KEY[..]],
            &empty,
            true,
            "profile",
            ".aliyun/config.json",
        ),
        (
            Uri,
            vec![&KEY[..]],
            &empty,
            true,
            "uri",
            "ALIBABA_CLOUD_CREDENTIALS_URI",
        ),
        (
            Default,
            vec![],
            &empty,
            false,
            "none",
            "ALIBABA_CLOUD_ACCESS_KEY_ID",
        ),
    ] {
        let (provider, _) = chosen(choice, &variables, home.path(), None, metadata);
        let text = provider.obtain().await.expect_err("not set up").to_string();
        assert_eq!(provider.name(), name);
        assert!(text.contains(remedy) && !text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn a_file_that_appears_counts_until_the_last_resort_has_worked() {
    let roles = "http://100.100.100.200/latest/meta-data/ram/security-credentials/";
    let token = "http://100.100.100.200/latest/api/token";
    let lonely = || {
        Script::new()
            .expect(Method::Put, token, answer(200, "t"))
            .expect(Method::Get, roles, answer(404, ""))
            .expect(Method::Get, roles, answer(404, ""))
    };
    let folder = home(&[]);
    let (provider, clock) = chosen(
        ProviderChoice::Default,
        &[],
        folder.path(),
        Some(&lonely()),
        true,
    );
    assert!(provider.obtain().await.is_err());
    assert_eq!(provider.name(), "ecs_ram_role");
    let provider: Arc<dyn CredentialProvider> = provider.into();
    let watched = Arc::clone(&provider);
    let change = tokio::spawn(async move { watched.changed().await });
    put(folder.path(), ".alibabacloud/credentials.ini", INI);
    while !change.is_finished() {
        settle().await;
        clock.advance(Duration::from_secs(1));
        // Looking takes a thread of its own.
        tokio::task::spawn_blocking(|| ()).await.expect("no panic");
    }
    assert!(provider.obtain().await.is_ok());
    assert_eq!(provider.identity().as_deref(), Some("LTAI.ini"));

    let worked = lonely()
        .expect(Method::Put, token, answer(200, "t"))
        .expect(Method::Get, roles, answer(200, "web"))
        .expect(Method::Get, &format!("{roles}web"), answer(200, ISSUED))
        .expect(Method::Put, token, answer(200, "t"))
        .expect(Method::Get, roles, answer(200, "web"))
        .expect(Method::Get, &format!("{roles}web"), answer(200, ISSUED));
    let folder = home(&[]);
    let (provider, _) = chosen(
        ProviderChoice::Default,
        &[],
        folder.path(),
        Some(&worked),
        true,
    );
    assert!(provider.obtain().await.is_err());
    assert!(provider.obtain().await.is_ok());
    put(folder.path(), ".aliyun/config.json", CLI);
    let obtained = provider.obtain().await.expect("the role, still");
    assert_eq!(&*obtained.identity, "web");
}

#[tokio::test]
async fn a_file_that_goes_away_leaves_its_profile_the_identity() {
    let folder = home(&[(".aliyun/config.json", CLI)]);
    let (provider, _) = chosen(ProviderChoice::Default, &[&ECS], folder.path(), None, true);
    assert!(provider.obtain().await.is_ok());
    drop(folder);
    let text = provider.obtain().await.expect_err("gone").to_string();
    assert!(text.contains("cannot be read"), "{text}");
    assert_eq!(provider.identity().as_deref(), Some("LTAI.cli"));
}
