//! Files that a [`KmsSource`](crate::KmsSource) reads, for the process that opens them to it and judges them first.

use std::path::PathBuf;

use crate::credential;
use crate::host::{Environment, file};
use crate::settings::Settings;

/// Files that a source with these settings reads again and again. Some may not exist yet. A token file that only a
/// profile names is missing here: nothing is read to find out.
pub fn all(settings: &Settings, environment: &Environment) -> Vec<PathBuf> {
    let credentials = credential::files(settings.credentials.provider, environment);
    settings
        .kms
        .ca_file
        .clone()
        .into_iter()
        .chain(credentials)
        .collect()
}

/// Complaints about files that decide which KMS is asked and who the agent is, and that others may change: a sentence
/// for each.
pub fn distrusted(settings: &Settings, environment: &Environment) -> Vec<String> {
    let ca = settings.kms.ca_file.as_deref();
    let ca = ca.map(|path| (format!("KMS.CaFile {}", path.display()), path.to_owned()));
    let credentials = credential::deciding_files(settings.credentials.provider, environment)
        .into_iter()
        .map(|path| (format!("the credentials file {}", path.display()), path));
    ca.into_iter()
        .chain(credentials)
        .filter_map(|(what, path)| {
            let refusal = file::distrust(&path)?;
            Some(format!("{what} is not used: {refusal}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{CredentialSettings, KmsSettings, ProviderChoice};

    #[test]
    fn only_the_files_of_the_provider_that_is_asked_are_named() {
        const PROFILES: &[&str] = &[
            "/home/agent/.aliyun/config.json",
            "/home/agent/.alibabacloud/credentials.ini",
            "/home/agent/.alibabacloud/credentials",
        ];
        const HOME: (&str, &str) = ("HOME", "/home/agent");
        let key = [
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", "id"),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret"),
        ];
        let oidc = [
            ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/app"),
            (
                "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
                "acs:ram::1:oidc-provider/ack",
            ),
            ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "/run/token"),
        ];
        let everything = [&key[..], &oidc[..]].concat();
        for (provider, variables, files) in [
            (ProviderChoice::Default, &everything[..], &[][..]),
            (ProviderChoice::Default, &oidc[..], &["/run/token"][..]),
            (ProviderChoice::Default, &[][..], PROFILES),
            (ProviderChoice::Profile, &everything[..], PROFILES),
            (ProviderChoice::Oidc, &everything[..], &["/run/token"][..]),
            (ProviderChoice::Environment, &[][..], &[][..]),
            (ProviderChoice::EcsRamRole, &oidc[..], &[][..]),
            (ProviderChoice::Uri, &[][..], &[][..]),
        ] {
            let settings = Settings {
                credentials: CredentialSettings {
                    provider,
                    ..CredentialSettings::default()
                },
                kms: KmsSettings {
                    ca_file: Some("/etc/kms/ca.pem".into()),
                    ..KmsSettings::default()
                },
            };
            let environment = variables.iter().copied().chain([HOME]).collect();
            let files: Vec<_> = ["/etc/kms/ca.pem"]
                .iter()
                .chain(files)
                .map(PathBuf::from)
                .collect();
            assert_eq!(all(&settings, &environment), files, "{provider:?}");
        }
    }
}
