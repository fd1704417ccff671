//! `~/.alibabacloud/credentials.ini`, as the SDKs read it.

mod parser;

use zeroize::Zeroizing;

use self::parser::{Document, IniSection};
use super::decode;
use super::plan::{Base, ProfilePlan, RolePlan};
use crate::gateway::{Credential, UNSENDABLE};

const DEFAULT_PROFILE: &str = "default";
const TYPES: &str = "access_key, ecs_ram_role, ram_role_arn or oidc_role_arn";

/// The profile called `wanted`, else `default`, and what it says.
pub(super) fn parse(bytes: &[u8], wanted: Option<&str>) -> Result<(String, ProfilePlan), String> {
    let document = Document::parse(decode(bytes)?);
    let name = wanted.unwrap_or(DEFAULT_PROFILE);
    let section = document
        .section(name)
        .ok_or_else(|| format!("it has no section [{}]", name.escape_debug()))?;
    let plan =
        plan(&section).map_err(|what| format!("section [{}] {what}", name.escape_debug()))?;
    Ok((name.to_owned(), plan))
}

fn plan(section: &IniSection<'_>) -> Result<ProfilePlan, String> {
    let given = |key: &str| section.value(key);
    let required = |key: &str| given(key).ok_or_else(|| format!("has no {key}"));
    let key = || -> Result<Base, String> {
        let (id, secret) = (
            required("access_key_id")?,
            Zeroizing::new(required("access_key_secret")?),
        );
        let key = Credential::new(&id, &secret);
        match key.unsendable_part() {
            None => Ok(Base::Key(key)),
            Some(_) => Err(format!("has an access_key_id, which {UNSENDABLE}")),
        }
    };
    let role = || -> Result<RolePlan, String> {
        Ok(RolePlan {
            arn: required("role_arn")?,
            session_name: given("role_session_name"),
            policy: given("policy"),
            ..RolePlan::default()
        })
    };
    if given("enable").is_some_and(|value| value.eq_ignore_ascii_case("false")) {
        return Err("is switched off by enable = false".to_owned());
    }
    match required("type")?.as_str() {
        "access_key" => Ok(ProfilePlan::new(key()?)),
        "ecs_ram_role" => Ok(ProfilePlan::new(Base::Instance(given("role_name")))),
        "ram_role_arn" => Ok(ProfilePlan {
            base: key()?,
            roles: vec![role()?],
        }),
        "oidc_role_arn" => Ok(ProfilePlan::new(Base::Token {
            role: role()?,
            identity_provider: required("oidc_provider_arn")?,
            token_file: required("oidc_token_file_path")?.into(),
        })),
        "rsa_key_pair" => Err(format!(
            "has type rsa_key_pair, which this agent does not support; use {TYPES}"
        )),
        _ => Err(format!("has a type that nobody knows; use {TYPES}")),
    }
}

#[cfg(test)]
mod tests;
