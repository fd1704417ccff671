//! `~/.alibabacloud/credentials.ini`, as the SDKs read it.

use std::collections::BTreeMap;

use super::plan::{Base, Plan, RolePlan};
use crate::credential::key::{Credential, UNSENDABLE};

const DEFAULT_PROFILE: &str = "default";
const TYPES: &str = "access_key, ecs_ram_role, ram_role_arn or oidc_role_arn";

type Section<'a> = BTreeMap<&'a str, &'a str>;

/// The profile called `wanted`, else `default`, and what it says.
pub(super) fn parse(bytes: &[u8], wanted: Option<&str>) -> Result<(String, Plan), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
    let name = wanted.unwrap_or(DEFAULT_PROFILE);
    let section = section(text, name)
        .ok_or_else(|| format!("it has no section [{}]", name.escape_debug()))?;
    let plan =
        plan(&section).map_err(|what| format!("section [{}] {what}", name.escape_debug()))?;
    Ok((name.to_owned(), plan))
}

/// The keys of a section; `None` if there is none of that name. Whatever follows a `#` is a comment.
fn section<'a>(text: &'a str, wanted: &str) -> Option<Section<'a>> {
    let mut found: Option<Section<'a>> = None;
    let mut inside = false;
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let header = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(name) = header {
            inside = name.trim() == wanted;
            if inside {
                found.get_or_insert_default();
            }
        } else if let (true, Some((key, value))) =
            (inside && !line.starts_with(';'), line.split_once('='))
        {
            found
                .get_or_insert_default()
                .insert(key.trim(), value.trim());
        }
    }
    found
}

fn plan(section: &Section<'_>) -> Result<Plan, String> {
    let given = |key: &str| section.get(key).copied().filter(|value| !value.is_empty());
    let required = |key: &str| given(key).ok_or_else(|| format!("has no {key}"));
    let key = || -> Result<Base, String> {
        let (id, secret) = (required("access_key_id")?, required("access_key_secret")?);
        let key = Credential::new(id, secret);
        match key.unsendable_part() {
            None => Ok(Base::Key(key)),
            Some(_) => Err(format!("has an access_key_id, which {UNSENDABLE}")),
        }
    };
    let role = || -> Result<RolePlan, String> {
        Ok(RolePlan {
            arn: required("role_arn")?.to_owned(),
            session_name: given("role_session_name").map(str::to_owned),
            policy: given("policy").map(str::to_owned),
            ..RolePlan::default()
        })
    };
    if given("enable").is_some_and(|value| value.eq_ignore_ascii_case("false")) {
        return Err("is switched off by enable = false".to_owned());
    }
    match required("type")? {
        "access_key" => Ok(Plan::new(key()?)),
        "ecs_ram_role" => Ok(Plan::new(Base::Instance(
            given("role_name").map(str::to_owned),
        ))),
        "ram_role_arn" => Ok(Plan {
            base: key()?,
            roles: vec![role()?],
        }),
        "oidc_role_arn" => Ok(Plan::new(Base::Token {
            role: role()?,
            identity_provider: required("oidc_provider_arn")?.to_owned(),
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
