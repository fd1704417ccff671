//! `~/.aliyun/config.json`, as the command line tool writes it.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::plan::{Base, Plan, RolePlan};
use crate::credential::key::{Credential, Part, UNSENDABLE};
use crate::wire::{Text, parse_object};

const MODES: &str = "AK, StsToken, RamRoleArn, EcsRamRole, OIDC or ChainableRamRoleArn";

/// What the tool and the SDKs know besides: they need a browser, another program, or a key pair.
const OTHER_MODES: [&str; 8] = [
    "CloudSSO",
    "OAuth",
    "External",
    "CredentialsURI",
    "RamRoleArnWithRoleName",
    "RsaKeyPair",
    "BearerToken",
    "Anonymous",
];

#[derive(Deserialize)]
struct Configuration<'a> {
    #[serde(borrow, default)]
    current: Option<Text<'a>>,
    /// Each is looked into only when it is needed, so that one that is not understood does no harm.
    #[serde(borrow, default)]
    profiles: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

#[derive(Deserialize)]
struct Profile<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow, default)]
    mode: Option<Text<'a>>,
    #[serde(borrow, default)]
    access_key_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    access_key_secret: Option<Text<'a>>,
    #[serde(borrow, default)]
    sts_token: Option<Text<'a>>,
    #[serde(borrow, default)]
    ram_role_arn: Option<Text<'a>>,
    #[serde(borrow, default)]
    ram_role_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    ram_session_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    role_session_name: Option<Text<'a>>,
    #[serde(default)]
    expired_seconds: Option<u32>,
    #[serde(borrow, default)]
    policy: Option<Text<'a>>,
    #[serde(borrow, default)]
    external_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    sts_region: Option<Text<'a>>,
    #[serde(default)]
    enable_vpc: Option<bool>,
    #[serde(borrow, default, rename = "source_profile")]
    source: Option<Text<'a>>,
    #[serde(borrow, default)]
    oidc_provider_arn: Option<Text<'a>>,
    #[serde(borrow, default)]
    oidc_token_file: Option<Text<'a>>,
}

/// The profile called `wanted`, else the current one, and what it says.
pub(super) fn parse(bytes: &[u8], wanted: Option<&str>) -> Result<(String, Plan), String> {
    let configuration: Configuration<'_> =
        parse_object(bytes).ok_or("it is not the JSON that `aliyun configure` writes")?;
    let name = match wanted {
        Some(name) => name,
        None => given(configuration.current.as_ref())
            .ok_or("it has no current profile, and ALIBABA_CLOUD_PROFILE names none")?,
    };
    Ok((name.to_owned(), configuration.plan(name)?))
}

impl Configuration<'_> {
    /// Follows the profile `name` to those it builds on.
    fn plan(&self, name: &str) -> Result<Plan, String> {
        let mut followed = vec![name.to_owned()];
        let mut roles = Vec::new();
        let mut profile = self.find(name)?;
        let base = loop {
            match given(profile.mode.as_ref()) {
                Some("ChainableRamRoleArn") => {
                    roles.push(profile.role()?);
                    let source = profile.required("source_profile", profile.source.as_ref())?;
                    let again = followed.iter().any(|name| name == source);
                    followed.push(source.to_owned());
                    if again {
                        return Err(format!(
                            "its profiles name each other as source_profile in a circle: {}",
                            shown(followed.join(" -> "))
                        ));
                    }
                    profile = self.find(source)?;
                }
                Some("RamRoleArn") => {
                    roles.push(profile.role()?);
                    break profile.long_lived_key()?;
                }
                _ => break profile.base()?,
            }
        };
        roles.reverse();
        Ok(Plan { base, roles })
    }

    fn find(&self, name: &str) -> Result<Profile<'_>, String> {
        let mut names = Vec::new();
        for raw in &self.profiles {
            let Some(other) = parse_object::<Named<'_>>(raw.get().as_bytes()) else {
                continue;
            };
            if *other.name == *name {
                return parse_object(raw.get().as_bytes()).ok_or_else(|| {
                    format!("profile {} has a member of a wrong type", shown(name))
                });
            }
            names.push(other.name.to_owned());
        }
        Err(format!(
            "it has no profile {}; its profiles are: {}",
            shown(name),
            shown(names.join(", "))
        ))
    }
}

impl Profile<'_> {
    fn required<'a>(&self, member: &str, text: Option<&'a Text<'_>>) -> Result<&'a str, String> {
        given(text).ok_or_else(|| format!("profile {} has no {member}", shown(&*self.name)))
    }

    fn base(&self) -> Result<Base, String> {
        match given(self.mode.as_ref()) {
            Some("AK") => self.long_lived_key(),
            Some("StsToken") => {
                let token = self.required("sts_token", self.sts_token.as_ref())?;
                let key = self.key()?.with_security_token(token);
                self.sendable(key).map(Base::Session)
            }
            Some("EcsRamRole") => Ok(Base::Instance(owned(self.ram_role_name.as_ref()))),
            Some("OIDC") => Ok(Base::Token {
                role: self.role()?,
                identity_provider: self
                    .required("oidc_provider_arn", self.oidc_provider_arn.as_ref())?
                    .to_owned(),
                token_file: self
                    .required("oidc_token_file", self.oidc_token_file.as_ref())?
                    .into(),
            }),
            mode => {
                let mode = match mode {
                    None => "no mode".to_owned(),
                    Some(mode) if OTHER_MODES.contains(&mode) => {
                        format!("mode {mode}, which this agent does not support")
                    }
                    Some(_) => "a mode that nobody knows".to_owned(),
                };
                Err(format!(
                    "profile {} has {mode}; use a profile of mode {MODES}",
                    shown(&*self.name)
                ))
            }
        }
    }

    /// A key that needs no token. One that another mode has left behind does not count.
    fn long_lived_key(&self) -> Result<Base, String> {
        self.sendable(self.key()?).map(Base::Key)
    }

    fn key(&self) -> Result<Credential, String> {
        Ok(Credential::new(
            self.required("access_key_id", self.access_key_id.as_ref())?,
            self.required("access_key_secret", self.access_key_secret.as_ref())?,
        ))
    }

    fn sendable(&self, key: Credential) -> Result<Credential, String> {
        match key.unsendable_part() {
            None => Ok(key),
            Some(part) => {
                let member = match part {
                    Part::Id => "access_key_id",
                    Part::Token => "sts_token",
                };
                let name = shown(&*self.name);
                Err(format!(
                    "profile {name} has a member {member}, which {UNSENDABLE}"
                ))
            }
        }
    }

    fn role(&self) -> Result<RolePlan, String> {
        let session_name = given(self.ram_session_name.as_ref())
            .or_else(|| given(self.role_session_name.as_ref()));
        Ok(RolePlan {
            arn: self
                .required("ram_role_arn", self.ram_role_arn.as_ref())?
                .to_owned(),
            session_name: session_name.map(str::to_owned),
            // The tool writes 0 for what nobody has chosen.
            duration_seconds: self.expired_seconds.filter(|seconds| *seconds > 0),
            policy: owned(self.policy.as_ref()),
            external_id: owned(self.external_id.as_ref()),
            sts_region: owned(self.sts_region.as_ref()),
            inner: self.enable_vpc.unwrap_or_default(),
        })
    }
}

fn given<'a>(text: Option<&'a Text<'_>>) -> Option<&'a str> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty())
}

fn owned(text: Option<&Text<'_>>) -> Option<String> {
    given(text).map(str::to_owned)
}

/// A name as it may stand in a message.
fn shown(name: impl AsRef<str>) -> String {
    let name = name.as_ref();
    let end = name.floor_char_boundary(256);
    name.get(..end)
        .unwrap_or_default()
        .escape_debug()
        .to_string()
}

#[cfg(test)]
mod tests;
