//! Every mode of a profile, in both file formats.

use kms_agent_emulator::Action;

use super::{assert_reads, at_home, cloud, provider, put, role_arn, without_key};
use crate::harness::cloud::Cloud;

/// Returns a CLI configuration whose current profile, `dev`, has these members.
pub(super) fn cli_file(members: &str) -> String {
    cli_files(&format!(r#"{{"name":"dev",{members}}}"#))
}

fn cli_files(profiles: &str) -> String {
    format!(
        r#"{{"current":"dev","profiles":[{{"name":"default","mode":"CloudSSO"}},{profiles}],"meta_path":""}}"#
    )
}

/// Returns the members with the cloud's own key.
pub(super) fn access_key(cloud: &Cloud) -> String {
    let key = cloud.access_key();
    let (id, secret) = (key.id(), key.expose_secret());
    format!(r#""access_key_id":"{id}","access_key_secret":"{secret}""#)
}

/// Returns an ini file with a section for each type.
pub(super) fn ini_file(cloud: &Cloud) -> String {
    let key = cloud.access_key();
    let key = format!(
        "access_key_id = {}\naccess_key_secret = {}",
        key.id(),
        key.expose_secret()
    );
    let account = cloud.account_id();
    format!(
        "[default]\ntype = access_key\n{key}\n\
         [role]\ntype = ram_role_arn # assumed\n{key}\nrole_arn = {}\nrole_session_name = me\n\
         [instance]\ntype = ecs_ram_role\nrole_name = app-role\n\
         [pod]\ntype = oidc_role_arn\nrole_arn = {}\noidc_provider_arn = acs:ram::{account}:oidc-provider/ack\n\
         oidc_token_file_path = TOKEN\n",
        role_arn(cloud, "of-ini"),
        role_arn(cloud, "of-pod"),
    )
}

#[test]
fn each_mode_of_the_cli_configuration_reads() {
    let cloud = cloud(Some("app-role"));
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    put(home, "token", "the-projected-token");
    let token = home.join("token");
    let (key, account) = (access_key(&cloud), cloud.account_id());
    let session = cloud.issue_session();
    let role = |name: &str| format!(r#""ram_role_arn":"{}""#, role_arn(&cloud, name));
    let link = |name: &str, source: &str| {
        format!(
            r#"{{"name":"{name}","mode":"ChainableRamRoleArn","source_profile":"{source}",{}}}"#,
            role(name)
        )
    };
    for (file, assumed, by_token) in [
        (cli_file(&format!(r#""mode":"AK",{key}"#)), 0, 0),
        (
            cli_file(&format!(
                r#""mode":"StsToken","access_key_id":"{}","access_key_secret":"{}","sts_token":"{}""#,
                session.id(),
                session.expose_secret(),
                session.expose_token()
            )),
            0,
            0,
        ),
        (
            cli_file(&format!(
                r#""mode":"RamRoleArn",{key},{},"ram_session_name":"me","expired_seconds":900,"external_id":"x","policy":"{{}}""#,
                role("one")
            )),
            1,
            0,
        ),
        (
            cli_file(r#""mode":"EcsRamRole","ram_role_name":"app-role""#),
            0,
            0,
        ),
        (cli_file(r#""mode":"EcsRamRole""#), 0, 0),
        (
            cli_file(&format!(
                r#""mode":"OIDC",{},"oidc_provider_arn":"acs:ram::{account}:oidc-provider/ack","oidc_token_file":"{}""#,
                role("two"),
                token.display()
            )),
            0,
            1,
        ),
        (
            cli_files(&format!(
                r#"{},{},{{"name":"base","mode":"RamRoleArn",{key},{}}}"#,
                link("dev", "middle"),
                link("middle", "base"),
                role("base")
            )),
            3,
            0,
        ),
    ] {
        cloud.clear_calls();
        let agent = at_home(&cloud, home, &[(".aliyun/config.json", &file)]).start();
        assert_reads(&agent);
        assert_eq!(provider(&agent), "cli_profile");
        assert_eq!(cloud.count_calls(Action::AssumeRole), assumed, "{file}");
        assert_eq!(
            cloud.count_calls(Action::AssumeRoleWithOidc),
            by_token,
            "{file}"
        );
        let callers: Vec<_> = cloud
            .calls()
            .into_iter()
            .filter(|call| call.action == Action::AssumeRole)
            .filter_map(|call| call.access_key_id)
            .collect();
        for (nth, caller) in callers.iter().enumerate() {
            let own = caller == cloud.access_key().id();
            assert_eq!(
                own,
                nth == 0,
                "each role is assumed as the one before: {callers:?}"
            );
        }
    }
}

#[test]
fn each_type_of_the_ini_file_reads_at_either_of_its_places() {
    let cloud = cloud(Some("app-role"));
    for (place, section) in [
        (".alibabacloud/credentials", ""),
        (".alibabacloud/credentials.ini", "role"),
        (".alibabacloud/credentials", "instance"),
        (".alibabacloud/credentials.ini", "pod"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        put(home, "token", "the-projected-token");
        let token = home.join("token");
        let file = ini_file(&cloud).replace("TOKEN", token.to_str().unwrap());
        let agent = at_home(&cloud, home, &[(place, &file)])
            .env("ALIBABA_CLOUD_PROFILE", section)
            .start();
        assert_reads(&agent);
        assert_eq!(provider(&agent), "profile");
    }
    assert_eq!(cloud.count_calls(Action::AssumeRole), 1);
    assert_eq!(cloud.count_calls(Action::AssumeRoleWithOidc), 1);
}

#[test]
fn files_elsewhere_and_profiles_by_name_are_found_by_the_environment() {
    let cloud = cloud(None);
    let folder = tempfile::tempdir().unwrap();
    let key = access_key(&cloud);
    let cli = cli_files(&format!(
        r#"{{"name":"dev","mode":"OAuth"}},{{"name":"prod","mode":"AK",{key}}}"#
    ));
    put(folder.path(), "elsewhere.json", &cli);
    put(folder.path(), "elsewhere.ini", &ini_file(&cloud));
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let agent = without_key(&cloud)
        .env("ALIBABA_CLOUD_CONFIG_FILE", path("elsewhere.json"))
        .env("ALIBABA_CLOUD_PROFILE", "prod")
        .start();
    assert_reads(&agent);
    assert_eq!(provider(&agent), "cli_profile");
    let agent = without_key(&cloud)
        .env("ALIBABA_CLOUD_CREDENTIALS_FILE", path("elsewhere.ini"))
        .start();
    assert_reads(&agent);
    assert_eq!(provider(&agent), "profile");
}
