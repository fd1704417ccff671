//! Templates, from which a file with several secrets is made.

mod json;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kms_agent_core::{SecretId, SecretRef, VersionSelector};
use kms_agent_trust::Kind;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, escape_formatter};
use zeroize::Zeroizing;

use crate::format::RenderError;

/// Limit of a template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 256 * 1024;

/// Limit of the instructions that a template executes.
const FUEL: u64 = 1_000_000;

/// Limit of the file that a template makes, in bytes.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Values of secrets by name and version.
pub type Values = BTreeMap<SecretRef, Arc<Zeroizing<String>>>;

/// Outcome of rendering a template.
#[derive(Debug)]
pub enum Rendered {
    /// The content of the file.
    File(Zeroizing<Vec<u8>>),
    /// The template asks for a secret whose value is not given. The caller adds it and renders again.
    Needs(SecretRef),
}

/// Renders the template `source`, in which `secret(id)` and `secret(id, stage)` are one of `values`.
pub fn render(source: &str, values: &Values) -> Result<Rendered, RenderError> {
    let notes = Arc::new(Notes::default());
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(|out, state, value| match value.kind() {
        // As JSON has them. The library's own words are those of Python.
        ValueKind::Bool if value.is_true() => Ok(out.write_str("true")?),
        ValueKind::Bool => Ok(out.write_str("false")?),
        ValueKind::None => Ok(out.write_str("null")?),
        _ => escape_formatter(out, state, value),
    });
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    environment.set_syntax(syntax.map_err(|error| RenderError::Template(shown(&error, None)))?);
    environment.add_function("secret", {
        let (values, notes) = (values.clone(), Arc::clone(&notes));
        move |id: &str, stage: Option<&str>| {
            let wanted = find(id, stage)?;
            let Some(value) = values.get(&wanted) else {
                notes.lock().needed = Some(wanted);
                let later = "the secret is being read";
                return Err(Error::new(ErrorKind::InvalidOperation, later));
            };
            Ok(json::value_of(value, id, &notes))
        }
    });
    let mut file = Bounded(Zeroizing::new(Vec::with_capacity(source.len())));
    let result = environment
        .template_from_str(source)
        .and_then(|template| template.render_captured_to((), &mut file).map(drop));
    let Err(error) = result else {
        return Ok(Rendered::File(file.0));
    };
    let notes = std::mem::take(&mut *notes.lock());
    if let Some(needed) = notes.needed {
        return Ok(Rendered::Needs(needed));
    }
    Err(RenderError::Template(shown(&error, notes.missing)))
}

/// Reads a template, which others must not be able to change.
pub fn read(path: &Path) -> Result<String, String> {
    let fail = |why: String| format!("the template {}: {why}", path.display());
    let opened =
        kms_agent_trust::open(path, Kind::Setting).map_err(|error| fail(error.to_string()))?;
    if let Some(refusal) = opened.verdict.refusal() {
        return Err(fail(refusal.to_string()));
    }
    let mut text = String::new();
    opened
        .file
        .take(MAX_TEMPLATE_BYTES as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| fail(error.to_string()))?;
    if text.len() > MAX_TEMPLATE_BYTES {
        return Err(fail(format!("it has more than {MAX_TEMPLATE_BYTES} bytes")));
    }
    Ok(text)
}

fn find(id: &str, stage: Option<&str>) -> Result<SecretRef, Error> {
    let refuse = |what: &str, why| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("{ARGUMENT}{what} of secret() {why}"),
        )
    };
    Ok(SecretRef {
        id: SecretId::parse(id).map_err(|why| refuse("the id", why))?,
        selector: VersionSelector::parse(None, stage).map_err(|why| refuse("the stage", why))?,
    })
}

/// Mark of a detail that this module wrote. Details of the library may contain values.
const ARGUMENT: &str = "\u{0}";

/// Returns the error as a message may show it: without any text that may come from a value.
fn shown(error: &Error, missing: Option<String>) -> String {
    let reason = match (error.kind(), missing) {
        (ErrorKind::UndefinedError, Some(missing)) => missing,
        (ErrorKind::UndefinedError, None) => "a name is not defined".to_owned(),
        (ErrorKind::OutOfFuel, _) => format!("it takes more than {FUEL} steps"),
        (ErrorKind::WriteFailure, _) => format!("the file has more than {MAX_FILE_BYTES} bytes"),
        (ErrorKind::InvalidOperation, _) => error
            .detail()
            .and_then(|detail| detail.strip_prefix(ARGUMENT))
            .unwrap_or("an operation does not fit its values")
            .to_owned(),
        // Nothing was evaluated yet, so the detail is about the template alone.
        (ErrorKind::SyntaxError, _) => format!(
            "syntax error: {}",
            error.detail().unwrap_or("unexpected text")
        ),
        (kind, _) => kind.to_string(),
    };
    match error.line() {
        Some(line) => format!("line {line}: {reason}"),
        None => reason,
    }
}

/// Notes of what a template asked for.
#[derive(Debug, Default)]
struct Notes(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// Secret whose value is not given.
    needed: Option<SecretRef>,
    /// Sentence about the last member that a value does not have.
    missing: Option<String>,
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Buffer that refuses more than [`MAX_FILE_BYTES`].
struct Bounded(Zeroizing<Vec<u8>>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_FILE_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
