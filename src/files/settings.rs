//! Tables `[[File]]` of the config.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kms_agent_core::config::ConfigTable;
use kms_agent_core::{SecretId, SecretRef, VersionSelector};

use crate::format::Format;
use crate::target::{Target, names_a_file};
use crate::template;

const TABLES: &str = "a list of tables with Path, SecretId and further keys";

const FORMATS: &str = "one of Raw, Base64, Field, Json, Env";

const NAMES: &str = "a list of names of members";

/// Settings of one file, as the config has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSettings {
    /// Path of the file.
    pub path: PathBuf,
    /// Origin of its content.
    pub content: Content,
    /// Its permissions.
    pub mode: u32,
    /// Name or number of its group.
    pub group: Option<String>,
    /// Effect of a refusal by KMS.
    pub on_refusal: OnRefusal,
    /// Whether the file is removed when the agent stops or its entry leaves the config.
    pub is_removed_on_stop: bool,
}

/// Origin of the content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// One secret in a format.
    Secret {
        /// Secret and version.
        secret: SecretRef,
        /// Format of the file.
        format: Format,
    },
    /// Template at this path.
    Template(PathBuf),
}

/// Effect of a refusal by KMS on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRefusal {
    /// Removes the file if KMS has no such secret.
    Auto,
    /// Removes the file.
    Remove,
    /// Keeps the file.
    Keep,
}

/// A file whose group is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// Path, mode and group.
    pub target: Target,
    /// Origin of the content.
    pub content: Content,
    /// Effect of a refusal by KMS.
    pub on_refusal: OnRefusal,
    /// Whether the file is removed when it is no longer maintained.
    pub is_removed_on_stop: bool,
}

impl FileSettings {
    /// Reads all tables `File` of the config; `None` after a problem.
    pub fn read_all(root: &mut ConfigTable<'_>) -> Option<Vec<Self>> {
        let paths = std::cell::RefCell::new(BTreeSet::new());
        root.tables("File", "Path", TABLES, |table| {
            let file = read(table)?;
            if !paths.borrow_mut().insert(file.path.clone()) {
                table.problem(
                    table.line_of("Path"),
                    "Path",
                    "is that of another [[File]] too",
                );
                return None;
            }
            Some(file)
        })
    }

    /// Looks up the group with `find_group`.
    pub fn resolve(
        self,
        find_group: impl Fn(&str) -> Result<u32, String>,
    ) -> Result<FileSpec, String> {
        let group = self.group.as_deref().map(find_group).transpose();
        let group = group.map_err(|why| format!("File.Group of {}: {why}", self.path.display()))?;
        Ok(FileSpec {
            target: Target {
                path: self.path,
                mode: self.mode,
                group,
            },
            content: self.content,
            on_refusal: self.on_refusal,
            is_removed_on_stop: self.is_removed_on_stop,
        })
    }

    /// Path of the template, if it has one.
    pub fn template(&self) -> Option<&Path> {
        match &self.content {
            Content::Template(path) => Some(path),
            Content::Secret { .. } => None,
        }
    }
}

impl FileSpec {
    /// Checks whether the file can be written and its template be read, without writing it. Returns a warning about the
    /// folder.
    pub fn examine(&self) -> Result<Option<String>, String> {
        if let Content::Template(path) = &self.content {
            template::read(path)?;
        }
        self.target.examine().map_err(|error| error.to_string())
    }
}

fn read(table: &mut ConfigTable<'_>) -> Option<FileSettings> {
    let path = table.string("Path", "", "the path of a file", |text| {
        let path = PathBuf::from(text);
        if names_a_file(&path) {
            Ok(path)
        } else {
            Err("must be the path of a file".to_owned())
        }
    });
    let mode = table.string("Mode", "0400", "an octal mode such as 0400", parse_mode);
    let group = table.string("Group", "", "the name or number of a group", optional);
    let on_refusal = match table.choice("OnRefusal", &["Auto", "Remove", "Keep"], "Auto") {
        "Remove" => OnRefusal::Remove,
        "Keep" => OnRefusal::Keep,
        _ => OnRefusal::Auto,
    };
    let on_stop = table.choice("OnStop", &["Keep", "Remove"], "Keep");
    let content = read_content(table);
    Some(FileSettings {
        path: path?,
        content: content?,
        mode: mode?,
        group: group?,
        on_refusal,
        is_removed_on_stop: on_stop == "Remove",
    })
}

fn read_content(table: &mut ConfigTable<'_>) -> Option<Content> {
    let template = table.string("Template", "", "the path of a template", optional)?;
    let id = table.string("SecretId", "", "a name or ARN", optional)?;
    let stage = table.string("VersionStage", "", "a stage", optional)?;
    let format = table.string("Format", "", FORMATS, optional)?;
    let field = table.string("Field", "", "a member of a JSON value", optional)?;
    let names = table.strings("Names", 0..=1000, &[], NAMES, |name| Ok(name.to_owned()))?;
    let refuse = |key: &str, message: &str| {
        table.problem(table.line_of(key), key, message);
        None
    };
    if let Some(template) = template {
        let others = [
            ("SecretId", id.is_some()),
            ("VersionStage", stage.is_some()),
            ("Format", format.is_some()),
            ("Field", field.is_some()),
            ("Names", !names.is_empty()),
        ];
        return match others.iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => refuse(key, "does not go with Template"),
            None => Some(Content::Template(template.into())),
        };
    }
    let Some(id) = id else {
        return refuse(
            "SecretId",
            "is missing; write a secret's name or ARN, or set Template",
        );
    };
    let id = match SecretId::parse(&id) {
        Ok(id) => id,
        Err(error) => {
            return refuse(
                "SecretId",
                &format!("{error}; write a secret's name or ARN"),
            );
        }
    };
    let selector = match VersionSelector::parse(None, stage.as_deref()) {
        Ok(selector) => selector,
        Err(error) => return refuse("VersionStage", &error.to_string()),
    };
    let format = match (format.as_deref().unwrap_or("Raw"), field) {
        ("Field", Some(field)) => Format::Field(field),
        ("Field", None) => return refuse("Field", "is missing; Format = \"Field\" needs it"),
        (_, Some(_)) => return refuse("Field", "needs Format = \"Field\""),
        ("Env", None) => Format::Env(names.clone()),
        ("Raw", None) => Format::Raw,
        ("Base64", None) => Format::Base64,
        ("Json", None) => Format::Json,
        _ => return refuse("Format", &format!("must be {FORMATS}")),
    };
    if !names.is_empty() && !matches!(format, Format::Env(_)) {
        return refuse("Names", "needs Format = \"Env\"");
    }
    Some(Content::Secret {
        secret: SecretRef { id, selector },
        format,
    })
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "ConfigTable::string takes parsers that can fail"
)]
fn optional(text: &str) -> Result<Option<String>, String> {
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777);
    match mode {
        Some(mode) if mode & 0o022 != 0 => {
            Err("must let neither the group nor others write the file".to_owned())
        }
        Some(mode) if mode & 0o400 != 0 => Ok(mode),
        _ => {
            Err("must be an octal mode such as 0400, which lets the agent read the file".to_owned())
        }
    }
}
