use kms_agent_core::config::variable_name;

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
    assert_eq!(config.cache.policy, kms_agent_cache::Policies::default());
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
        "[Server]\nHttpPort = 80\nMaxCon = 5\nSSRFHeaders = []\n\n[Cache]\nCacheType = \"Memcached\"\nTtlSeconds = \"5\"\n[Logs]\nx = 1\n",
    );
    assert_eq!(
        text,
        "config.toml has 6 problems:\n  \
         config.toml:2: Server.HttpPort: must be 0 or a port from 1024 to 65535\n  \
         config.toml:3: Server.MaxCon: unknown key; did you mean MaxConn?\n  \
         config.toml:4: Server.SSRFHeaders: must be a list of 1 to 8 header names\n  \
         config.toml:7: Cache.CacheType: must be one of InMemory, Persistent, Redis\n  \
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
            let key = if table.is_empty() {
                key.to_owned()
            } else {
                format!("{table}.{key}")
            };
            found.push((key, value.to_owned()));
        }
    }
    found.sort();
    found
}

#[test]
fn the_code_the_sample_file_and_the_page_name_the_same_keys_and_defaults() {
    let sample = include_str!("../../../config/kms-agent.toml");
    Config::parse(sample, "kms-agent.toml").unwrap();
    let mut keys: Vec<_> = Config::examine("", &Overrides::default())
        .report
        .keys
        .into_iter()
        .map(|spec| (spec.key, spec.default))
        .collect();
    keys.sort();
    assert_eq!(settings(sample), keys);

    let page = include_str!("../../../docs/configuration.md");
    let mut rows: Vec<_> = page
        .lines()
        .filter_map(|line| {
            let (key, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            let (default, _) = rest.split_once(" | ")?;
            (key.contains('.') || default == "[]").then(|| (key.to_owned(), default.to_owned()))
        })
        .collect();
    rows.sort();
    assert_eq!(rows, keys);
}

#[test]
fn rules_by_secret_take_what_they_leave_out_from_the_general_ones() {
    let text = "[Cache]\nTtlSeconds = 60\n[[Secret]]\nMatch = \"app/*\"\nMaxStaleSeconds = 0\n[[Secret]]\nMatch = \"*\"\n\
                TtlSeconds = 5\nFetchExtendedConfig = true\n";
    let policy = Config::parse(text, "config.toml").unwrap().cache.policy;
    for (id, ttl, max_stale, extended) in [
        ("app/db", 60, 0, false),
        ("web", 5, 86_400, true),
        ("acs:kms:cn-hangzhou:1:secret/app/db", 5, 86_400, true),
    ] {
        let id = kms_agent_core::SecretId::parse(id).unwrap();
        let rule = policy.of(&id);
        assert_eq!(
            (rule.ttl.as_secs(), rule.max_stale.as_secs()),
            (ttl, max_stale)
        );
        assert_eq!(policy.wants_extended_config(&id), extended);
    }
    assert_eq!(
        problems("[[Secret]]\nTtlSeconds = 86401\nMatch = \"\"\nTtlSecond = 5\n"),
        "config.toml has 3 problems:\n  \
         config.toml:2: Secret.TtlSeconds: must be a whole number from 0 to 86400\n  \
         config.toml:3: Secret.Match: is empty; write a pattern of names or ARNs, such as \"app/*\"\n  \
         config.toml:4: Secret.TtlSecond: unknown key; did you mean TtlSeconds?"
    );
}

fn overrides(variables: &[(&str, &str)]) -> Overrides {
    let variables = variables.iter().copied();
    Overrides::collect(variables.map(|(name, value)| (name.into(), value.into())))
}

/// Every key with a single value: its variable, its default, and what it allows.
fn scalar_keys() -> Vec<(String, String, String, String)> {
    let keys = Config::examine("", &Overrides::default()).report.keys;
    let scalar = keys.into_iter().filter(|spec| spec.is_scalar);
    scalar
        .map(|spec| {
            let name = variable_name(&spec.key);
            (name, spec.key, spec.default, spec.allowed)
        })
        .collect()
}

/// Values for a key, of which at least one is valid and not the default.
fn candidates(default: &str, allowed: &str) -> Vec<String> {
    let words = allowed.split([' ', ',']);
    let fixed = [
        "true",
        "false",
        "cn-beijing",
        "/v9/",
        "./elsewhere",
        "127.0.0.1",
    ];
    words
        .chain(fixed)
        .map(str::to_owned)
        .filter(|word| !word.is_empty() && word != default && format!("\"{word}\"") != default)
        .collect()
}

/// The value of `key` in the config that `text` and `overrides` make, if that is valid.
fn value_of(key: &str, text: &str, overrides: &Overrides) -> Option<String> {
    let config = Config::parse_with(text, "config.toml", overrides).ok()?;
    config.keys.get(key).cloned()
}

#[test]
fn every_key_with_a_single_value_is_set_by_its_variable() {
    let keys = scalar_keys();
    assert!(keys.len() > 25);
    for (name, key, default, allowed) in &keys {
        let sets = |value: &String| {
            let found = value_of(key, "", &overrides(&[(name, value)]));
            found.is_some_and(|found| found == *value || found == format!("{value:?}"))
        };
        let valid: Vec<_> = candidates(default, allowed)
            .into_iter()
            .filter(sets)
            .collect();
        assert!(!valid.is_empty(), "no value is taken from {name} for {key}");

        // It wins over the file, also where the file has what would be refused.
        let (table, last) = key.rsplit_once('.').unwrap();
        for in_file in [default.as_str(), "{}"] {
            let text = format!("[{table}]\n{last} = {in_file}\n");
            let found = value_of(key, &text, &overrides(&[(name, &valid[0])]));
            assert!(
                found.is_some_and(|found| found.contains(&valid[0])),
                "{name} does not override {text}"
            );
        }
    }
    let names: std::collections::BTreeSet<_> = keys.iter().map(|(name, ..)| name).collect();
    assert_eq!(names.len(), keys.len(), "two keys have one variable");
}

#[test]
fn a_bad_value_of_a_variable_is_reported_with_its_name_and_without_its_text() {
    let mut refused = 0;
    for (name, key, default, _) in scalar_keys() {
        let is_text = default.starts_with('"');
        for value in ["", "hunter2 \u{7f}", "-1", "1e3", "99999999999999999999999"] {
            let set = overrides(&[(&name, value)]);
            match Config::parse_with("", "config.toml", &set) {
                // Any text is a path.
                Ok(_) => assert!(is_text, "{name} took {value:?}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.starts_with(&format!("{name}: {key}: ")), "{text}");
                    assert!(!text.contains("hunter2"), "{text}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 50, "{refused}");

    let set = overrides(&[
        ("KMS_AGENT_CACHE_TTL_SECONDS", "hunter2"),
        ("KMS_AGENT_SERVER_HTTP_PORT", "80"),
        ("KMS_AGENT_CACHE_REFRESH_AHEAD", ""),
        ("KMS_AGENT_KMS_ENDPOINT", "http://hunter2.example.com"),
    ]);
    let text = Config::parse_with("[Server]\nMaxCon = 5\n", "config.toml", &set)
        .unwrap_err()
        .to_string();
    for line in [
        "config.toml:2: Server.MaxCon: unknown key; did you mean MaxConn?",
        "KMS_AGENT_CACHE_TTL_SECONDS: Cache.TtlSeconds: must be a whole number from 0 to 86400",
        "KMS_AGENT_SERVER_HTTP_PORT: Server.HttpPort: must be 0 or a port from 1024 to 65535",
        "KMS_AGENT_CACHE_REFRESH_AHEAD: Cache.RefreshAhead: is empty; set true or false, or do not set the variable",
    ] {
        assert!(
            text.lines().any(|it| it.trim() == line),
            "{line} in\n{text}"
        );
    }
    assert!(
        text.contains("KMS_AGENT_KMS_ENDPOINT: KMS.Endpoint: "),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_variable_that_sets_no_key_is_at_most_a_warning() {
    let set = overrides(&[
        ("KMS_AGENT_PORT", "tcp://10.0.0.1:2025"),
        ("KMS_AGENT_SERVICE_HOST", "10.0.0.1"),
        ("KMS_AGENT_SERVER_HTTP_PORT", "tcp://10.0.0.1:80"),
        ("KMS_AGENT_SOCKET", "/run/agent.sock"),
        ("KMS_AGENTX_CACHE_TTL_SECONDS", "60"),
        ("KMS_AGENT_CACHE_TTL_SECOND", "60"),
        ("KMS_AGENT_SERVER_SSRF_HEADERS", "X-Token"),
        ("KMS_AGENT_UNRELATED_THING", "hunter2"),
        ("KMS_AGENT_CACHE_PREFETCH_SECRET_ID", "app/db"),
    ]);
    let text = "[Cache]\nPrefetch = [\"app/api\"]\n";
    let config = Config::parse_with(text, "config.toml", &set).unwrap();
    assert_eq!(config.server.http_port, 2025);
    assert_eq!(config.cache.prefetch[0].id.as_str(), "app/api");
    let warned = config.warnings.join("\n");
    assert_eq!(config.warnings.len(), 4, "{warned}");
    assert!(
        warned.contains("did you mean KMS_AGENT_CACHE_TTL_SECONDS?"),
        "{warned}"
    );
    assert!(
        warned.contains("Server.SSRFHeaders is a list, which only the config file can set"),
        "{warned}"
    );
    assert!(
        warned.contains("KMS_AGENT_UNRELATED_THING sets no key"),
        "{warned}"
    );
    assert!(!warned.contains("hunter2"), "{warned}");
}

#[test]
fn an_empty_file_is_refused_in_a_reload_of_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let none = Overrides::default();
    for text in ["", "\n \n", "# KMS\n", "[KMS]\n[Cache.Persistent]\n"] {
        std::fs::write(&path, text).unwrap();
        assert!(!Config::load(&path, &none).unwrap().has_keys());
        Config::load_again(&path, &none, false).unwrap();
        let error = Config::load_again(&path, &none, true).unwrap_err();
        assert!(error.to_string().contains("is empty"), "{error}");
    }
    std::fs::write(&path, "[KMS]\nRegion = \"\"\n").unwrap();
    Config::load_again(&path, &none, true).unwrap();
}
