//! Hosts of KMS and STS by region, seen by a proxy on loopback.

use std::net::SocketAddr;
use std::path::Path;

use kms_agent_emulator::Options;
use kms_agent_test_support::{Setup, http};

use super::choice::by_rrsa;
use super::profile::{access_key, cli_file};
use super::tunnel::Tunnel;
use super::{assert_reads, at_home, cloud, role_arn, wait_until};
use crate::harness::cloud::{BINARY, Cloud};

/// Starts a KMS with certificates for `names` and a proxy to it; sets up an agent with only a key and the proxy.
fn kms(names: &[&str], folder: &Path) -> (Cloud, Tunnel, Setup) {
    let cloud = Cloud::with(Options {
        tls: true,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Options::default()
    });
    cloud.put("s", "value");
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, cloud.ca_pem().unwrap()).unwrap();
    let tunnel = Tunnel::to(cloud.address());
    let key = cloud.access_key();
    let setup = Setup::new(BINARY)
        .env("HTTPS_PROXY", tunnel.url())
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", key.id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", key.expose_secret())
        .and_config(&format!("[KMS]\nCaFile = \"{}\"\n", ca.display()));
    (cloud, tunnel, setup)
}

#[test]
fn the_config_tells_the_region_before_the_environment_and_that_before_the_metadata_service() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = cloud(None);
    let asks = |setup: Setup| {
        setup
            .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "false")
            .and_config(&format!(
                "[Credentials]\nMetadataEndpoint = \"{}\"\n",
                metadata.base_url()
            ))
    };
    for (configured, variable, host) in [
        (
            "Region = \"cn-shanghai\"\n",
            "cn-beijing",
            "kms.cn-shanghai.aliyuncs.com",
        ),
        ("", "cn-beijing", "kms.cn-beijing.aliyuncs.com"),
        ("", "", "kms.cn-hangzhou.aliyuncs.com"),
    ] {
        let (_cloud, tunnel, setup) = kms(&[host], folder.path());
        let setup = setup
            .and_config(configured)
            .env("ALIBABA_CLOUD_REGION_ID", variable);
        let agent = asks(setup).start();
        assert_reads(&agent);
        assert_eq!(tunnel.hosts(), [format!("{host}:443")]);
    }
}

#[test]
fn without_any_other_word_the_region_is_the_one_the_store_was_last_used_with() {
    let folder = tempfile::tempdir().unwrap();
    let host = "kms.cn-shenzhen.aliyuncs.com";
    let (cloud, tunnel, setup) = kms(&[host], folder.path());
    cloud.put("t", "another");
    let place = folder.path().display();
    let cache = format!(
        "[Cache]\nCacheType = \"Persistent\"\n\
         [Cache.Persistent]\nPath = \"{place}/cache/store.redb\"\nKeyFile = \"{place}/keys/store.key\"\n"
    );
    let first = setup
        .clone()
        .and_config(&format!("Region = \"cn-shenzhen\"\n{cache}"))
        .start();
    assert_reads(&first);
    first.stop();

    let second = setup.and_config(&cache).start();
    assert_reads(&second);
    let line = "so that of the store's last use applies";
    wait_until(&second, line, || second.stderr().contains(line));
    assert_eq!(second.stderr().matches(line).count(), 1);
    assert_eq!(cloud.reads(), 1, "the copy is still this identity's");
    let reply = second.read("t");
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), second.stderr());
    assert_eq!(tunnel.hosts(), [format!("{host}:443")]);
}

#[test]
fn where_nobody_tells_the_region_the_answer_says_which_key_does() {
    let folder = tempfile::tempdir().unwrap();
    let (_cloud, tunnel, setup) = kms(&[], folder.path());
    for (variable, why) in [
        ("", "disabled by ALIBABA_CLOUD_ECS_METADATA_DISABLED"),
        (
            "CN_bad",
            "ALIBABA_CLOUD_REGION_ID is set, but holds no region id",
        ),
    ] {
        let agent = setup
            .clone()
            .env("ALIBABA_CLOUD_REGION_ID", variable)
            .start();
        // No reader has come yet.
        let text = "the region is not known; set KMS.Region";
        wait_until(&agent, text, || agent.stderr().contains(text));
        let log = agent.stderr();
        assert!(log.contains("ERROR") && log.contains(why), "{log}");
        let ready = http::get(agent.port(), "/readyz", &[]).json();
        let upstream = &ready["checks"]["upstream"];
        assert_eq!(
            (upstream["state"].as_str(), upstream["code"].as_str()),
            (Some("failed"), Some("RegionUnknown"))
        );
        let status = agent.get("/agent/status").json();
        assert_eq!(status["upstream"]["last_error"], "RegionUnknown");

        let reply = agent.read("s");
        assert_eq!(
            (reply.status, reply.json()["Code"].as_str()),
            (503, Some("RegionUnknown"))
        );
        assert!(reply.text().contains("KMS.Region"), "{}", reply.text());
        assert_eq!(agent.stderr().matches("ERROR").count(), 1);
    }
    assert!(tunnel.hosts().is_empty());
}

#[test]
fn gateways_of_a_vpc_and_of_an_instance_are_read_through_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for host in [
        "kms-vpc.cn-hangzhou.aliyuncs.com",
        "kst-hzz0123456789abcdef.cryptoservice.kms.aliyuncs.com",
    ] {
        let (_cloud, tunnel, setup) = kms(&[host], folder.path());
        let agent = setup
            .and_config(&format!("Endpoint = \"{host}\"\n"))
            .start();
        assert_reads(&agent);
        assert_eq!(tunnel.hosts(), [format!("{host}:443")]);
    }
}

#[test]
fn sts_is_asked_at_the_gateway_that_the_environment_or_the_profile_names() {
    let cloud = cloud(None);
    // The server does not speak TLS: only the host name matters here.
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let (key, role) = (access_key(&cloud), role_arn(&cloud, "app"));
    let profile = |more: &str| {
        cli_file(&format!(
            r#""mode":"RamRoleArn",{key},"ram_role_arn":"{role}"{more}"#
        ))
    };
    let region = ("ALIBABA_CLOUD_STS_REGION", "cn-beijing");
    let inner = ("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", "true");
    for (file, variables, host) in [
        (None, vec![], "sts.aliyuncs.com"),
        (None, vec![region], "sts.cn-beijing.aliyuncs.com"),
        (None, vec![region, inner], "sts-vpc.cn-beijing.aliyuncs.com"),
        (None, vec![inner], "sts.aliyuncs.com"),
        (
            Some(profile("")),
            vec![region],
            "sts.cn-beijing.aliyuncs.com",
        ),
        (
            Some(profile(r#","sts_region":"cn-shanghai","enable_vpc":true"#)),
            vec![region],
            "sts-vpc.cn-shanghai.aliyuncs.com",
        ),
    ] {
        let tunnel = Tunnel::to(nowhere);
        let setup = match &file {
            None => by_rrsa(&cloud, home, "any-token"),
            Some(file) => at_home(&cloud, home, &[(".aliyun/config.json", file)]),
        };
        let setup = variables
            .into_iter()
            .fold(setup, |setup, (name, value)| setup.env(name, value));
        let agent = setup
            .env("HTTPS_PROXY", tunnel.url())
            .config(format!(
                "[Server]\nHttpPort = 0\n[Log]\nLogPath = \"\"\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = \"{}\"\n",
                cloud.base_url()
            ))
            .start();
        wait_until(&agent, "a call to STS", || !tunnel.hosts().is_empty());
        assert_eq!(tunnel.hosts(), [format!("{host}:443")]);
    }
}
