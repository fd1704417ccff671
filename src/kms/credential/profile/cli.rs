//! `~/.aliyun/config.json`, as the command line tool writes it.

mod members;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use self::members::ProfileMembers;
use super::decode;
use super::plan::{Base, ProfilePlan, RolePlan};
use crate::gateway::{Credential, Part, UNSENDABLE};

const MODES: &str = "AK, StsToken, RamRoleArn, EcsRamRole, OIDC or ChainableRamRoleArn";

/// Modes of the tool and the SDKs that need a browser, another program or a key pair.
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

/// The members of the whole file.
struct Configuration<'a> {
    members: ProfileMembers<'a>,
    /// Each is looked into only when it is needed, so that one that is not understood does no harm.
    profiles: Vec<&'a RawValue>,
}

/// One profile. A member counts only where the profile's mode uses it.
struct Profile<'a> {
    name: &'a str,
    members: ProfileMembers<'a>,
}

/// The profile called `wanted`, else the current one, and what it says.
pub(super) fn parse(bytes: &[u8], wanted: Option<&str>) -> Result<(String, ProfilePlan), String> {
    let members = ProfileMembers::parse(decode(bytes)?)
        .ok_or("it is not the JSON that `aliyun configure` writes")?;
    let configuration = Configuration {
        profiles: members.list("profiles")?,
        members,
    };
    let name = match wanted {
        Some(name) => name.to_owned(),
        None => configuration
            .members
            .text("current")?
            .ok_or("it has no current profile, and ALIBABA_CLOUD_PROFILE names none")?
            .to_string(),
    };
    let plan = configuration.plan(&name)?;
    Ok((name, plan))
}

impl<'a> Configuration<'a> {
    /// Follows the profile `name` to those it builds on.
    fn plan(&self, name: &str) -> Result<ProfilePlan, String> {
        let mut followed = vec![name.to_owned()];
        let mut roles = Vec::new();
        let base = loop {
            let name = followed.last().map_or(name, String::as_str);
            let profile = self.find(name)?;
            match profile.text("mode")?.as_ref().map(|mode| mode.as_str()) {
                Some("ChainableRamRoleArn") => {
                    roles.push(profile.role()?);
                    let source = profile.required("source_profile")?.to_string();
                    let again = followed.contains(&source);
                    followed.push(source);
                    if again {
                        return Err(format!(
                            "its profiles name each other as source_profile in a circle: {}",
                            shown(followed.join(" -> "))
                        ));
                    }
                }
                Some("RamRoleArn") => {
                    roles.push(profile.role()?);
                    break profile.long_lived_key()?;
                }
                mode => break profile.base(mode)?,
            }
        };
        roles.reverse();
        Ok(ProfilePlan { base, roles })
    }

    fn find<'b>(&self, name: &'b str) -> Result<Profile<'b>, String>
    where
        'a: 'b,
    {
        let mut names = Vec::new();
        for raw in &self.profiles {
            let Some(members) = ProfileMembers::parse(raw.get()) else {
                continue;
            };
            match members.name() {
                Some(other) if *other == *name => return Ok(Profile { name, members }),
                Some(other) => names.push(other.to_string()),
                None => {}
            }
        }
        Err(format!(
            "it has no profile {}; its profiles are: {}",
            shown(name),
            shown(names.join(", "))
        ))
    }
}

impl Profile<'_> {
    /// A member of text; `None` where it is not there, or blank.
    fn text(&self, member: &str) -> Result<Option<Zeroizing<String>>, String> {
        self.members.text(member).map_err(|what| self.error(&what))
    }

    fn owned(&self, member: &str) -> Result<Option<String>, String> {
        Ok(self.text(member)?.map(|text| text.to_string()))
    }

    fn required(&self, member: &str) -> Result<Zeroizing<String>, String> {
        self.text(member)?
            .ok_or_else(|| self.error(&format!("has no {member}")))
    }

    fn error(&self, what: &str) -> String {
        // Of the file, the same is said with another beginning.
        let what = what.strip_prefix("it ").unwrap_or(what);
        format!("profile {} {what}", shown(self.name))
    }

    fn base(&self, mode: Option<&str>) -> Result<Base, String> {
        match mode {
            Some("AK") => self.long_lived_key(),
            Some("StsToken") => {
                let token = self.required("sts_token")?;
                let key = self.key()?.with_security_token(&token);
                self.sendable(key).map(Base::Session)
            }
            Some("EcsRamRole") => Ok(Base::Instance(self.owned("ram_role_name")?)),
            Some("OIDC") => Ok(Base::Token {
                role: self.role()?,
                identity_provider: self.required("oidc_provider_arn")?.to_string(),
                token_file: self.required("oidc_token_file")?.as_str().into(),
            }),
            mode => {
                let mode = match mode {
                    None => "no mode".to_owned(),
                    Some(mode) if OTHER_MODES.contains(&mode) => {
                        format!("mode {mode}, which this agent does not support")
                    }
                    Some(_) => "a mode that nobody knows".to_owned(),
                };
                Err(self.error(&format!("has {mode}; use a profile of mode {MODES}")))
            }
        }
    }

    /// A key that needs no token. One that another mode has left behind does not count.
    fn long_lived_key(&self) -> Result<Base, String> {
        self.sendable(self.key()?).map(Base::Key)
    }

    fn key(&self) -> Result<Credential, String> {
        Ok(Credential::new(
            &self.required("access_key_id")?,
            &self.required("access_key_secret")?,
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
                Err(self.error(&format!("has a member {member}, which {UNSENDABLE}")))
            }
        }
    }

    fn role(&self) -> Result<RolePlan, String> {
        let session_name = match self.owned("ram_session_name")? {
            Some(name) => Some(name),
            None => self.owned("role_session_name")?,
        };
        let duration = self.members.read::<u32>("expired_seconds");
        let inner = self.members.read::<bool>("enable_vpc");
        Ok(RolePlan {
            arn: self.required("ram_role_arn")?.to_string(),
            session_name,
            // The tool writes 0 for an unset value.
            duration_seconds: duration
                .map_err(|what| self.error(&what))?
                .filter(|seconds| *seconds > 0),
            policy: self.owned("policy")?,
            external_id: self.owned("external_id")?,
            sts_region: self.owned("sts_region")?,
            inner: inner.map_err(|what| self.error(&what))?,
        })
    }
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
