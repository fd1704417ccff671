use std::path::{Path, PathBuf};

use kms_agent_core::Clock;

use super::plan::{Base, ProfilePlan};
use super::{MAX_FILE_BYTES, cli, ini};
use crate::credential::provider::Origin;
use crate::host::Environment;
use crate::host::file::{self, FileError, LOOK_EVERY};

const PROFILE: &str = "ALIBABA_CLOUD_PROFILE";
const CLI_FILE: &str = "ALIBABA_CLOUD_CONFIG_FILE";
const CLI_DISABLED: &str = "ALIBABA_CLOUD_CLI_PROFILE_DISABLED";
const INI_FILE: &str = "ALIBABA_CLOUD_CREDENTIALS_FILE";
const HOME: &str = "HOME";

const CLI_DEFAULT: &str = ".aliyun/config.json";

/// The SDKs do not agree.
const INI_DEFAULTS: [&str; 2] = [".alibabacloud/credentials.ini", ".alibabacloud/credentials"];

/// A file that may hold profiles.
#[derive(Clone, Debug)]
pub(in crate::credential) struct ProfilePlace {
    pub(super) form: Form,
    pub(super) path: PathBuf,
    /// The variable that names the file, so that it counts whether or not it is there.
    variable: Option<&'static str>,
    /// The profile that the environment names; else the file's own choice.
    pub(super) profile: Option<String>,
}

/// Format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Cli,
    Ini,
}

impl Form {
    /// As the official SDKs call the provider.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cli => "cli_profile",
            Self::Ini => "profile",
        }
    }

    /// The profile that counts, and what it says. The error names what is wrong and quotes no value.
    pub(super) fn parse(
        self,
        bytes: &[u8],
        profile: Option<&str>,
    ) -> Result<(String, ProfilePlan), String> {
        match self {
            Self::Cli => cli::parse(bytes, profile),
            Self::Ini => ini::parse(bytes, profile),
        }
    }
}

impl ProfilePlace {
    /// All places of profiles, in order of precedence.
    pub(in crate::credential) fn all(environment: &Environment) -> Vec<Self> {
        let profile = environment.given(PROFILE).map(str::to_owned);
        let place = |form, path: PathBuf, variable| Self {
            form,
            path,
            variable,
            profile: profile.clone(),
        };
        let home = environment.given(HOME).map(Path::new);
        let mut places = Vec::new();
        if !environment.flag(CLI_DISABLED) {
            places.extend(match (environment.given(CLI_FILE), home) {
                (Some(path), _) => Some(place(Form::Cli, path.into(), Some(CLI_FILE))),
                (None, Some(home)) => Some(place(Form::Cli, home.join(CLI_DEFAULT), None)),
                (None, None) => None,
            });
        }
        match (environment.given(INI_FILE), home) {
            (Some(path), _) => places.push(place(Form::Ini, path.into(), Some(INI_FILE))),
            (None, Some(home)) => {
                places.extend(INI_DEFAULTS.map(|path| place(Form::Ini, home.join(path), None)));
            }
            (None, None) => {}
        }
        places
    }

    /// The file and, if it can be read now, the token file that its profile names.
    pub(in crate::credential) fn into_files(self) -> Vec<PathBuf> {
        let bytes = file::read_now(&self.path, MAX_FILE_BYTES);
        let plan = bytes
            .ok()
            .and_then(|bytes| self.form.parse(&bytes, self.profile.as_deref()).ok());
        let token = plan.and_then(|(_, plan)| match plan.base {
            Base::Token { token_file, .. } => Some(token_file),
            Base::Key(_) | Base::Session(_) | Base::Instance(_) => None,
        });
        [Some(self.path), token].into_iter().flatten().collect()
    }

    /// The first of `places` that is configured by now, as [`first_configured`](Self::first_configured) says.
    pub(in crate::credential) fn first_configured_now(places: Vec<Self>) -> Option<Self> {
        places
            .into_iter()
            .find(|place| place.variable.is_some() || !file::is_absent_now(&place.path))
    }

    /// The first of `places` that is configured: named by a variable, or there. One that cannot be seen may be
    /// there, and must not change the agent's identity.
    pub(in crate::credential) async fn first_configured(places: &[Self]) -> Option<&Self> {
        for place in places {
            if place.variable.is_some() || !file::is_absent(place.path.clone()).await {
                return Some(place);
            }
        }
        None
    }

    /// Waits until one of `places` is configured.
    pub(in crate::credential) async fn appearance(places: &[Self], clock: &dyn Clock) {
        if places.is_empty() {
            std::future::pending::<()>().await;
        }
        while Self::first_configured(places).await.is_none() {
            clock.sleep_until(clock.boot() + LOOK_EVERY).await;
        }
    }

    /// Complaint that none of `places` is configured.
    pub(in crate::credential) fn none_of(places: &[Self]) -> String {
        let paths: Vec<_> = places
            .iter()
            .map(|place| place.path.display().to_string())
            .collect();
        if paths.is_empty() {
            return format!("no file is known to hold any; set HOME, {CLI_FILE} or {INI_FILE}");
        }
        format!(
            "there is no {}; write one, or name another in {CLI_FILE} or {INI_FILE}",
            paths.join(", nor ")
        )
    }

    /// Beginning of errors about the file.
    pub(super) fn origin(&self) -> Origin {
        Origin::new(format!("from the {}", self.words()))
    }

    /// Beginning of errors about one of its profiles.
    pub(super) fn origin_of(&self, profile: &str) -> Origin {
        Origin::new(format!("from {}", self.words_of(profile)))
    }

    pub(super) fn words_of(&self, profile: &str) -> String {
        format!("profile {} of the {}", profile.escape_debug(), self.words())
    }

    fn words(&self) -> String {
        let kind = match self.form {
            Form::Cli => "CLI configuration",
            Form::Ini => "credentials file",
        };
        format!("{kind} {}", self.path.display())
    }

    /// Remedy for a file that cannot be read.
    pub(super) fn remedy_of(&self, error: &FileError) -> String {
        match (error.remedy(), self.variable) {
            (Some(remedy), Some(variable)) => format!("{remedy}, or name another in {variable}"),
            // What says that there is a file at all is where HOME is.
            (Some(remedy), None) => format!("{remedy}, or set another HOME to do without"),
            (None, _) => self.remedy(),
        }
    }

    /// Remedy for a file that cannot be used.
    pub(super) fn remedy(&self) -> String {
        match (self.form, self.variable) {
            (_, Some(variable)) => format!("fix it, or name another in {variable}"),
            (Form::Cli, None) => {
                format!("fix it with `aliyun configure`, or set {CLI_DISABLED}=true to do without")
            }
            (Form::Ini, None) => "fix it, or remove it to do without".to_owned(),
        }
    }
}
