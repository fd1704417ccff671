//! Settings that the agent can go by, but that probably mean something else than their operator wants.

use crate::credential::uri_is_exposed;
use crate::host::Environment;
use crate::http::ProxySettings;
use crate::settings::Settings;

const QUOTED: &str = "Environment variables begin and end with a quotation mark, which is part of their values; remove the quotation marks (docker run --env-file keeps them)";

const NO_PROXY: &str = "NO_PROXY has entries that can never match; write host names, .domains, *.domains, addresses or networks, with commas between them";

const EXPOSED_URI: &str = "Credentials are fetched from another machine in plain HTTP, where they can be read and replaced on the way; use an https:// URI";

const MAX_SUBJECT_BYTES: usize = 100;

/// Text for an operator, on one line and without any secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    /// The oddity and its remedy.
    pub(crate) message: &'static str,
    /// The names of the variables or the entries that it is about.
    pub(crate) subject: String,
}

/// Everything that is odd in `settings` and `environment` that is known without asking a server.
pub(crate) fn warnings(settings: &Settings, environment: &Environment) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |message, subjects: Vec<String>| {
        if !subjects.is_empty() {
            warnings.push(Warning {
                message,
                subject: shortened(subjects.join(" ")),
            });
        }
    };
    let quoted = environment.quoted().map(str::to_owned).collect();
    warn(QUOTED, quoted);
    let useless = ProxySettings::useless_entries(environment);
    warn(NO_PROXY, useless.into_iter().map(shown).collect());
    if uri_is_exposed(settings.credentials.provider, environment) {
        warn(
            EXPOSED_URI,
            vec!["ALIBABA_CLOUD_CREDENTIALS_URI".to_owned()],
        );
    }
    warnings
}

/// Logs all warnings.
pub fn log_warnings(settings: &Settings, environment: &Environment) {
    for Warning { message, subject } in warnings(settings, environment) {
        tracing::warn!(subject, "{message}");
    }
}

/// Lines for operators have an end.
fn shortened(mut text: String) -> String {
    if text.len() > MAX_SUBJECT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_SUBJECT_BYTES));
        text.push('\u{2026}');
    }
    text
}

/// An entry as it may stand in a log: one that may be a URL with a password is not shown.
fn shown(entry: &str) -> String {
    if entry.contains('@') {
        return "(an entry with an @)".to_owned();
    }
    let end = entry.floor_char_boundary(64);
    let shown = entry.get(..end).unwrap_or_default();
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ProviderChoice;

    fn warned(variables: &[(&str, &str)], provider: ProviderChoice) -> Vec<Warning> {
        let mut settings = Settings::default();
        settings.credentials.provider = provider;
        warnings(&settings, &variables.iter().copied().collect())
    }

    #[test]
    fn quotation_marks_are_reported_by_their_variables_without_values() {
        let found = warned(
            &[
                ("ALIBABA_CLOUD_ACCESS_KEY_ID", "\"hunter2\""),
                ("ALIBABA_CLOUD_ROLE_ARN", " 'hunter2' "),
                ("ALIBABA_CLOUD_PROFILE", "hunter2\""),
                ("ALIBABA_CLOUD_REGION_ID", "\""),
            ],
            ProviderChoice::Default,
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            found[0].subject,
            "ALIBABA_CLOUD_ACCESS_KEY_ID ALIBABA_CLOUD_ROLE_ARN"
        );
    }

    #[test]
    fn useless_no_proxy_entries_are_reported_if_there_is_a_proxy() {
        let entries = "a.test,*b.test,http://user:hunter2@c.test";
        let proxy = ("HTTPS_PROXY", "http://127.0.0.1:3128");
        let found = warned(&[proxy, ("NO_PROXY", entries)], ProviderChoice::Default);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].subject, "\"*b.test\" (an entry with an @)");
        assert_eq!(
            warned(&[("NO_PROXY", entries)], ProviderChoice::Default),
            Vec::new()
        );
    }

    #[test]
    fn credentials_in_plain_http_are_warned_of_where_they_leave_this_machine() {
        const URI: &str = "ALIBABA_CLOUD_CREDENTIALS_URI";
        for (uri, exposed) in [
            ("http://10.0.0.1/sts", true),
            ("HTTP://sts.test", true),
            ("http://127.0.0.1@sts.test/", true),
            ("http://localhost.sts.test:80/", true),
            ("http://127.0.0.1:8000/sts", false),
            ("http://localhost?key=1", false),
            ("http://user:pass@[::1]:8000/sts", false),
            ("http://100.100.100.200/latest/meta-data", false),
            ("https://sts.test/", false),
            ("ftp://sts.test/", false),
        ] {
            let found = warned(&[(URI, uri)], ProviderChoice::Uri);
            assert_eq!(!found.is_empty(), exposed, "{uri}");
            let found = warned(&[(URI, uri)], ProviderChoice::Default);
            assert_eq!(!found.is_empty(), exposed, "{uri}");
            assert_eq!(warned(&[(URI, uri)], ProviderChoice::Profile), Vec::new());
        }
    }
}
