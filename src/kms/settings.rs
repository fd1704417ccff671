//! Validated settings of KMS and credentials.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use kms_agent_core::config::ConfigTable;

use crate::location::endpoint::{self, Endpoint};
use crate::location::region::{self, Region};

/// The tables `KMS` and `Credentials`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Endpoint and limits of calls to KMS.
    pub kms: KmsSettings,
    /// Source of the agent's own credentials.
    pub credentials: CredentialSettings,
}

impl Settings {
    /// Reads both tables out of the file's top table. Problems go to the report; then the result is `None`.
    pub fn read(root: &mut ConfigTable<'_>) -> Option<Self> {
        let kms = KmsSettings::read(root);
        let credentials = CredentialSettings::read(root);
        Some(Self {
            kms: kms?,
            credentials: credentials?,
        })
    }
}

/// The table `KMS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsSettings {
    /// `Region`; without it the environment or the metadata service says.
    pub region: Option<Region>,
    /// `Endpoint`; without it the region's public gateway.
    pub endpoint: Option<Endpoint>,
    /// `CaFile`: trust anchors for the endpoint besides the machine's.
    pub ca_file: Option<PathBuf>,
    /// `ConnectTimeoutMs`.
    pub connect_timeout: Duration,
    /// `RequestTimeoutMs`: one attempt from its first step to its last byte.
    pub request_timeout: Duration,
    /// `MaxAttempts`.
    pub max_attempts: NonZeroU32,
    /// `MaxRequestsPerSecond`; `None` means no ceiling.
    pub max_requests_per_second: Option<NonZeroU32>,
    /// `PostQuantum`: whether TLS offers a key exchange that withstands quantum computers.
    pub post_quantum: bool,
}

impl Default for KmsSettings {
    fn default() -> Self {
        Self {
            region: None,
            endpoint: None,
            ca_file: None,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            max_attempts: NonZeroU32::MIN.saturating_add(2),
            max_requests_per_second: NonZeroU32::new(200),
            post_quantum: true,
        }
    }
}

impl KmsSettings {
    /// Reads the table `KMS` of the file's top table.
    pub fn read(root: &mut ConfigTable<'_>) -> Option<Self> {
        let default = Self::default();
        let mut table = root.table("KMS");
        let region = table.string("Region", "", region::ALLOWED, |text| {
            unless_empty(text, Region::parse)
        });
        let endpoint = table.string("Endpoint", "", endpoint::ALLOWED, |text| {
            unless_empty(text, Endpoint::parse)
        });
        let ca_file = table.string("CaFile", "", "the path of a PEM file", |text| {
            unless_empty(text, |path| Ok(PathBuf::from(path)))
        });
        let mut timeout = |key, default: Duration| {
            let default = u32::try_from(default.as_millis()).unwrap_or(u32::MAX);
            Duration::from_millis(table.integer(key, 100..=60_000, default).into())
        };
        let connect_timeout = timeout("ConnectTimeoutMs", default.connect_timeout);
        let request_timeout = timeout("RequestTimeoutMs", default.request_timeout);
        let max_attempts = table.integer("MaxAttempts", 1..=10, default.max_attempts.get());
        let max_requests_per_second = table.integer(
            "MaxRequestsPerSecond",
            0..=1000,
            default.max_requests_per_second.map_or(0, NonZeroU32::get),
        );
        let post_quantum = table.boolean("PostQuantum", default.post_quantum);
        table.finish();
        Some(Self {
            region: region?,
            endpoint: endpoint?,
            ca_file: ca_file?,
            connect_timeout,
            request_timeout,
            max_attempts: NonZeroU32::new(max_attempts)?,
            max_requests_per_second: NonZeroU32::new(max_requests_per_second),
            post_quantum,
        })
    }
}

/// The table `Credentials`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialSettings {
    /// `Provider`.
    pub provider: ProviderChoice,
    /// `StsEndpoint`; without it the official one that the environment chooses.
    pub sts_endpoint: Option<Endpoint>,
    /// `MetadataEndpoint`; without it the official one.
    pub metadata_endpoint: Option<Endpoint>,
}

/// Which provider is the agent's identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProviderChoice {
    /// The first of the official chain that is configured.
    #[default]
    Default,
    /// A key in the environment.
    Environment,
    /// A token of an OIDC provider, exchanged at STS (RRSA).
    Oidc,
    /// A profile in a file: that of the command line tool, else the SDKs' ini file.
    Profile,
    /// The RAM role of the ECS instance.
    EcsRamRole,
    /// A service of the operator's that hands out credentials.
    Uri,
}

impl ProviderChoice {
    /// Every choice, as the file spells it.
    const ALL: &[(&str, Self)] = &[
        ("Default", Self::Default),
        ("Environment", Self::Environment),
        ("OIDC", Self::Oidc),
        ("Profile", Self::Profile),
        ("EcsRamRole", Self::EcsRamRole),
        ("Uri", Self::Uri),
    ];

    fn allowed() -> String {
        let names: Vec<_> = Self::ALL.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    }

    /// As the file spells it.
    fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, choice)| *choice == self);
        found.map_or("", |(name, _)| name)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, choice)| *choice)
            .ok_or_else(|| format!("must be {}", Self::allowed()))
    }
}

impl CredentialSettings {
    /// Reads the table `Credentials` of the file's top table.
    pub fn read(root: &mut ConfigTable<'_>) -> Option<Self> {
        let mut table = root.table("Credentials");
        let provider = table.string(
            "Provider",
            ProviderChoice::default().name(),
            &ProviderChoice::allowed(),
            ProviderChoice::parse,
        );
        let sts_endpoint = table.string("StsEndpoint", "", endpoint::ALLOWED, |text| {
            unless_empty(text, Endpoint::parse)
        });
        let metadata_endpoint =
            table.string("MetadataEndpoint", "", endpoint::METADATA_ALLOWED, |text| {
                unless_empty(text, Endpoint::parse_metadata)
            });
        table.finish();
        Some(Self {
            provider: provider?,
            sts_endpoint: sts_endpoint?,
            metadata_endpoint: metadata_endpoint?,
        })
    }
}

fn unless_empty<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::Path;

    use kms_agent_core::config::{Located, RawTable, RawValue, Report};

    use super::*;

    fn table(entries: Vec<(&str, RawValue)>) -> RawTable {
        RawTable {
            line: 1,
            entries: entries
                .into_iter()
                .zip(2..)
                .map(|((key, value), line)| (key.to_owned(), Located { line, value }))
                .collect(),
        }
    }

    fn text(text: &str) -> RawValue {
        RawValue::String(text.to_owned())
    }

    fn read(tables: Vec<(&str, RawValue)>) -> (Option<Settings>, Report) {
        let report = RefCell::default();
        let mut root = ConfigTable::root(table(tables), &report);
        let settings = Settings::read(&mut root);
        root.finish();
        (settings, report.into_inner())
    }

    #[test]
    fn an_empty_file_means_the_documented_defaults() {
        let (settings, report) = read(Vec::new());
        assert_eq!(report.problems, Vec::new());
        assert_eq!(settings, Some(Settings::default()));
        let defaults: Vec<_> = report
            .keys
            .iter()
            .map(|spec| format!("{} {}", spec.key, spec.default))
            .collect();
        assert_eq!(
            defaults,
            [
                "KMS.Region \"\"",
                "KMS.Endpoint \"\"",
                "KMS.CaFile \"\"",
                "KMS.ConnectTimeoutMs 2000",
                "KMS.RequestTimeoutMs 5000",
                "KMS.MaxAttempts 3",
                "KMS.MaxRequestsPerSecond 200",
                "KMS.PostQuantum true",
                "Credentials.Provider \"Default\"",
                "Credentials.StsEndpoint \"\"",
                "Credentials.MetadataEndpoint \"\"",
            ]
        );
    }

    #[test]
    fn every_key_is_read() {
        let (settings, report) = read(vec![
            (
                "KMS",
                RawValue::Table(table(vec![
                    ("Region", text("cn-beijing")),
                    ("Endpoint", text("http://127.0.0.1:9000")),
                    ("CaFile", text("/etc/kms/ca.pem")),
                    ("ConnectTimeoutMs", RawValue::Integer(100)),
                    ("RequestTimeoutMs", RawValue::Integer(60_000)),
                    ("MaxAttempts", RawValue::Integer(10)),
                    ("MaxRequestsPerSecond", RawValue::Integer(0)),
                    ("PostQuantum", RawValue::Bool(false)),
                ])),
            ),
            (
                "Credentials",
                RawValue::Table(table(vec![
                    ("Provider", text("OIDC")),
                    ("StsEndpoint", text("sts.example.com")),
                    ("MetadataEndpoint", text("http://100.100.100.200")),
                ])),
            ),
        ]);
        assert_eq!(report.problems, Vec::new());
        let settings = settings.expect("no problem, so settings");
        assert_eq!(
            settings.kms.region.as_ref().map(Region::as_str),
            Some("cn-beijing")
        );
        assert_eq!(
            settings.kms.ca_file.as_deref(),
            Some(Path::new("/etc/kms/ca.pem"))
        );
        assert_eq!(settings.kms.connect_timeout, Duration::from_millis(100));
        assert_eq!(settings.kms.request_timeout, Duration::from_mins(1));
        assert_eq!(settings.kms.max_attempts.get(), 10);
        assert_eq!(settings.kms.max_requests_per_second, None);
        assert!(!settings.kms.post_quantum);
        assert_eq!(settings.credentials.provider, ProviderChoice::Oidc);
    }

    #[test]
    fn every_problem_is_reported_at_once_and_none_repeats_a_value() {
        let (settings, report) = read(vec![
            (
                "KMS",
                RawValue::Table(table(vec![
                    ("Region", text("hunter2")),
                    ("Endpoint", text("http://hunter2.example.com")),
                    ("ConnectTimeoutMs", RawValue::Integer(99)),
                    ("MaxAttempts", RawValue::Integer(11)),
                    ("Enpoint", text("hunter2")),
                ])),
            ),
            (
                "Credentials",
                RawValue::Table(table(vec![("Provider", text("hunter2"))])),
            ),
        ]);
        assert_eq!(settings, None);
        let keys: Vec<_> = report
            .problems
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        assert_eq!(
            keys,
            [
                "KMS.Region",
                "KMS.Endpoint",
                "KMS.ConnectTimeoutMs",
                "KMS.MaxAttempts",
                "KMS.Enpoint",
                "Credentials.Provider",
            ]
        );
        assert!(!format!("{:?}", report.problems).contains("hunter2"));
    }
}
