use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::gateway::wire::{Text, parse_object};

/// The members of a JSON object, each read when it is asked for. Where a member is there twice, the last one counts,
/// as in the SDKs.
pub(super) struct ProfileMembers<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> ProfileMembers<'a> {
    /// `None` for anything but an object.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        parse_object(text.as_bytes()).map(Self)
    }

    /// The member `name`; `None` where it is not there, or null. The error says which member it is.
    pub(super) fn read<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(raw) = self.0.get(name) else {
            return Ok(None);
        };
        // The reason would quote the text.
        serde_json::from_str(raw.get())
            .map_err(|_| format!("it has a member {name} of a wrong type"))
    }

    /// A member of text without the white space around it; `None` where nothing is left.
    pub(super) fn text(&self, name: &str) -> Result<Option<Zeroizing<String>>, String> {
        let text = self.read::<Text<'a>>(name)?;
        Ok(text
            .map(|text| Zeroizing::new(text.trim().to_owned()))
            .filter(|text| !text.is_empty()))
    }

    /// A member that is a list, empty where it is not there.
    pub(super) fn list(&self, name: &str) -> Result<Vec<&'a RawValue>, String> {
        self.read(name).map(Option::unwrap_or_default)
    }

    /// The member `name`, exactly as it is written.
    pub(super) fn name(&self) -> Option<Text<'a>> {
        self.read("name").ok().flatten()
    }
}
