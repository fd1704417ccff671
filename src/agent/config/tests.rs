use super::*;

fn problems(text: &str) -> String {
    Config::parse(text, "config.toml").unwrap_err().to_string()
}

#[test]
fn an_empty_file_gives_every_default() {
    let config = Config::parse("", "config.toml").unwrap();
    assert_eq!(config.server.http_port, 2025);
    assert_eq!(config.cache.backend.name, "InMemory");
    assert_eq!(config.cache.size.get(), 1000);
    assert_eq!(config.cache.policy, kms_agent_core::Policy::default());
    assert_eq!(config.log.target, LogTarget::Folder("./logs/".into()));
}

#[test]
fn the_file_of_the_official_guide_is_taken_as_it_is() {
    let config = Config::parse(
        r#"
[Server]
HttpPort = 2025

[KMS]
Region = "cn-hangzhou"

[Cache]
CacheType = "InMemory"
CacheSize = 1000
TtlSeconds = 300

[Log]
LogLevel = "Debug"
LogPath = "./logs/"
MaxSize = 100
MaxBackups = 2
"#,
        "config.toml",
    )
    .unwrap();
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.log.max_bytes, 100 * 1024 * 1024);
}

#[test]
fn every_problem_is_reported_at_once_with_line_key_and_remedy() {
    let text = problems(
        "[Server]\nHttpPort = 80\nMaxCon = 5\nSSRFHeaders = []\n\n[Cache]\nCacheType = \"Redis\"\nTtlSeconds = \"5\"\n[Logs]\nx = 1\n",
    );
    assert_eq!(
        text,
        "config.toml has 6 problems:\n  \
         config.toml:2: Server.HttpPort: must be 0 or a port from 1024 to 65535\n  \
         config.toml:3: Server.MaxCon: unknown key; did you mean MaxConn?\n  \
         config.toml:4: Server.SSRFHeaders: must be a list of 1 to 8 header names\n  \
         config.toml:7: Cache.CacheType: must be one of InMemory, Persistent\n  \
         config.toml:8: Cache.TtlSeconds: must be a whole number from 0 to 86400, not a string\n  \
         config.toml:9: Logs: unknown table; did you mean Log?"
    );
}

#[test]
fn what_is_no_toml_is_reported_without_its_text() {
    for text in [
        "[KMS]\nRegion = hunter2\n",
        "[KMS]\nRegion = \"hunter2\n",
        "[KMS]\nhunter2\n",
        "[KMS]\nRegion = \"cn\" hunter2\n",
        "[KMS]\nRegion = [hunter2, hunter2]\n",
        "[Cache]\nCacheType = \"hunter2\"\nTtlSeconds = 99999999999999999999999\nPrefetch = 2020-01-01T00:00:00Z\n",
        "[Server]\nPathPrefix = \"hunter2\"\n",
    ] {
        let text = problems(text);
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("config.toml:2"), "{text}");
    }
}

/// The keys that `text` sets, with their values as they are written.
fn settings(text: &str) -> Vec<(String, String)> {
    let mut table = "";
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            table = name.trim();
        } else if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#'))
        {
            let value = value.split_once(" # ").map_or(value, |(value, _)| value);
            found.push((format!("{table}.{key}"), value.to_owned()));
        }
    }
    found.sort();
    found
}

#[test]
fn the_code_the_sample_file_and_the_readme_name_the_same_keys_and_defaults() {
    let sample = include_str!("../../../config/kms-agent.toml");
    Config::parse(sample, "kms-agent.toml").unwrap();
    let (_, report) = Config::examine("");
    let mut keys: Vec<_> = report
        .keys
        .into_iter()
        .map(|spec| (spec.key, spec.default))
        .collect();
    keys.sort();
    assert_eq!(settings(sample), keys);

    let readme = include_str!("../../../README.md");
    let mut rows: Vec<_> = readme
        .lines()
        .filter_map(|line| {
            let (key, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            let (default, _) = rest.split_once(" | ")?;
            key.contains('.')
                .then(|| (key.to_owned(), default.to_owned()))
        })
        .collect();
    rows.sort();
    assert_eq!(rows, keys);
}
