//! Values of secrets as templates see them.

use std::fmt;
use std::sync::Arc;

use kms_agent_core::member;
use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::Notes;

/// Limit of levels that are parsed; what lies deeper is text.
const MAX_LEVELS: usize = 64;

/// Returns the parsed value of the secret `id` where it is a JSON object, else its text.
pub(super) fn value_of(text: &str, id: &str, notes: &Arc<Notes>) -> Value {
    match member::parse(text).filter(|parsed| parsed.get().starts_with('{')) {
        Some(object) => {
            let owner = Owner {
                id: Arc::from(id),
                notes: Arc::clone(notes),
            };
            parsed(object, &owner, 0)
        }
        None => Value::from(text),
    }
}

/// The secret that a value is a part of.
#[derive(Clone)]
struct Owner {
    id: Arc<str>,
    notes: Arc<Notes>,
}

fn parsed(raw: &RawValue, owner: &Owner, level: usize) -> Value {
    let text = raw.get();
    let deeper = |raw: &RawValue| parsed(raw, owner, level + 1);
    let parts = match text.as_bytes().first() {
        Some(b'"') => {
            return member::text(raw).map_or(Value::UNDEFINED, |text| Value::from(&**text));
        }
        Some(b't') => return Value::from(true),
        Some(b'f') => return Value::from(false),
        Some(b'n') => return Value::from(()),
        Some(b'{' | b'[') if level >= MAX_LEVELS => return Value::from(text),
        Some(b'{') => member::members(raw).map(|members| {
            Parts::Members(
                members
                    .into_iter()
                    .filter_map(|(name, raw)| Some((Value::from(&**name?), deeper(raw))))
                    .collect(),
            )
        }),
        Some(b'[') => {
            member::items(raw).map(|items| Parts::Items(items.into_iter().map(deeper).collect()))
        }
        _ => return number(text),
    };
    parts.map_or(Value::UNDEFINED, |parts| {
        Value::from_object(Json {
            owner: owner.clone(),
            text: Zeroizing::new(text.to_owned()),
            parts,
        })
    })
}

/// Returns a number, or its text where a number would be printed with other digits.
fn number(text: &str) -> Value {
    let is_exact = |value: &Value| value.to_string() == text;
    let integer = text.parse::<i64>().ok().map(Value::from).filter(is_exact);
    integer
        .or_else(|| text.parse::<f64>().ok().map(Value::from).filter(is_exact))
        .unwrap_or_else(|| Value::from(text))
}

/// A JSON object or array. It is printed as it is written in the secret.
struct Json {
    owner: Owner,
    text: Zeroizing<String>,
    parts: Parts,
}

enum Parts {
    Members(Vec<(Value, Value)>),
    Items(Vec<Value>),
}

impl Object for Json {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.parts {
            Parts::Members(_) => ObjectRepr::Map,
            Parts::Items(_) => ObjectRepr::Seq,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let found = match &self.parts {
            Parts::Members(members) => members
                .iter()
                .rev()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value.clone()),
            Parts::Items(items) => key.as_usize().and_then(|index| items.get(index).cloned()),
        };
        if found.is_none() {
            let name: String = key
                .to_string()
                .chars()
                .take(64)
                .flat_map(char::escape_debug)
                .collect();
            self.owner.notes.lock().missing = Some(format!(
                "the value of {} has no member {name}",
                self.owner.id
            ));
        }
        found
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match &self.parts {
            Parts::Members(members) => {
                let mut names: Vec<Value> = Vec::with_capacity(members.len());
                for (name, _) in members {
                    if !names.contains(name) {
                        names.push(name.clone());
                    }
                }
                Enumerator::Values(names)
            }
            Parts::Items(items) => Enumerator::Seq(items.len()),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Json(<redacted>)")
    }
}
