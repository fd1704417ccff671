//! Clients: the callers that the operator has named, and their settings.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use kms_agent_core::SecretId;
use kms_agent_core::config::ConfigTable;
use kms_agent_core::pattern::Pattern;

use super::peer::{Peer, PeerUser, UnmappedIds};
use super::token::{Token, TokenStore};

/// Name of the caller with the agent's own token.
pub(super) const DEFAULT_CLIENT: &str = "default";

/// Number of patterns that one list may have.
pub(crate) const MAX_PATTERNS: usize = 1000;

/// Sentence on the values of a list of patterns.
pub(crate) const PATTERNS: &str = "a list of at most 1000 patterns of secret ids, in which * stands for any characters and ? for one";

const CLIENTS: &str = "a list of tables with Name, TokenFile, User, Group, Secrets and Admin";

/// One `[[Client]]` of the config. Nothing is opened or looked up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// Name for logs and status.
    pub name: String,
    /// File with a token of its own.
    pub token_file: Option<PathBuf>,
    /// Name or number of a user.
    pub user: Option<String>,
    /// Name or number of a group.
    pub group: Option<String>,
    /// Secrets that it may use.
    pub secrets: Vec<Pattern>,
    /// Whether it may see and purge everything.
    pub is_admin: bool,
}

impl ClientSettings {
    /// Reads the list `Client`; `None` after a problem.
    pub fn read_all(root: &mut ConfigTable<'_>) -> Option<Vec<Self>> {
        let line = root.line_of("Client");
        let clients = root.tables("Client", "Name", CLIENTS, Self::read)?;
        let mut names = BTreeSet::new();
        let mut files = BTreeSet::new();
        for client in &clients {
            if !names.insert(&client.name) {
                root.problem(line, "Client", "has the same Name twice");
                return None;
            }
            if let Some(file) = &client.token_file
                && !files.insert(file)
            {
                root.problem(
                    line,
                    "Client",
                    "has the same TokenFile twice; give each client a token of its own",
                );
                return None;
            }
        }
        Some(clients)
    }

    fn read(table: &mut ConfigTable<'_>) -> Option<Self> {
        let name = table.string("Name", "", "1 to 64 letters, digits, - _ and .", parse_name);
        let token_file = table.string("TokenFile", "", "a path", |text| Ok(text.to_owned()));
        let mut account = |key: &'static str| {
            table.number_as_text(key);
            table.string(key, "", "a name or a number", |text| Ok(text.to_owned()))
        };
        let (user, group) = (account("User"), account("Group"));
        let secrets = table.strings("Secrets", 0..=MAX_PATTERNS, &[], PATTERNS, parse_pattern);
        let is_admin = table.boolean("Admin", false);
        let given = |text: Option<String>| Some(Some(text?).filter(|text| !text.is_empty()));
        let client = Self {
            name: name?,
            token_file: given(token_file)?.map(PathBuf::from),
            user: given(user)?,
            group: given(group)?,
            secrets: secrets?,
            is_admin,
        };
        if client.token_file.is_none() && client.user.is_none() && client.group.is_none() {
            table.problem(
                table.line_of("Name"),
                "Name",
                "needs at least one of TokenFile, User and Group beside it",
            );
            return None;
        }
        Some(client)
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !(1..=64).contains(&text.len()) || !text.bytes().all(plain) {
        return Err("must be 1 to 64 letters, digits, - _ and .".to_owned());
    }
    if text == DEFAULT_CLIENT {
        return Err("is the name of the caller with the agent's own token; choose another".into());
    }
    Ok(text.to_owned())
}

/// Parses one pattern of a list.
pub(crate) fn parse_pattern(text: &str) -> Result<Pattern, String> {
    Pattern::parse(text).map_err(|error| format!("has a pattern that {error}"))
}

/// One client, with its token open and its names resolved. All that is set must hold.
#[derive(Debug)]
pub struct Client {
    name: Arc<str>,
    token: Option<Arc<TokenStore>>,
    uid: Option<u32>,
    gid: Option<u32>,
    secrets: Vec<Pattern>,
    is_admin: bool,
}

impl Client {
    /// Makes a client of its settings, the store of its token, and the numbers of its user and group.
    pub fn new(
        settings: &ClientSettings,
        token: Option<Arc<TokenStore>>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Self {
        Self {
            name: settings.name.as_str().into(),
            token,
            uid,
            gid,
            secrets: settings.secrets.clone(),
            is_admin: settings.is_admin,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_admin(&self) -> bool {
        self.is_admin
    }

    pub(super) fn needs_groups(&self) -> bool {
        self.gid.is_some()
    }

    pub(super) fn token(&self) -> Option<&TokenStore> {
        self.token.as_deref()
    }

    /// Whether a caller at `peer` that shows `tokens` is this client. Every token is compared, so that the time does not
    /// tell which one is right.
    pub(super) fn matches(&self, tokens: &[Token], peer: &Peer, unmapped: UnmappedIds) -> bool {
        let shows_token = self.token.as_ref().is_none_or(|own| {
            tokens
                .iter()
                .fold(false, |it, token| it | own.is_in_force(token))
        });
        let has_credentials = self.uid.is_some() || self.gid.is_some() || self.token.is_some();
        has_credentials & shows_token && self.is_at(peer, unmapped)
    }

    fn is_at(&self, peer: &Peer, unmapped: UnmappedIds) -> bool {
        match peer {
            Peer::Tcp { .. } => self.uid.is_none() && self.gid.is_none(),
            Peer::Unix(user) => self.is_user(user, unmapped),
        }
    }

    fn is_user(&self, user: &PeerUser, unmapped: UnmappedIds) -> bool {
        let uid_holds = self
            .uid
            .is_none_or(|uid| uid == user.uid && unmapped.uid != Some(uid));
        let gid_holds = self
            .gid
            .is_none_or(|gid| user.has_group(gid) && unmapped.gid != Some(gid));
        uid_holds && gid_holds
    }

    pub(super) fn covers(&self, id: &SecretId) -> bool {
        covers(&self.secrets, id)
    }
}

/// Whether one of `patterns` matches `id`.
pub(super) fn covers(patterns: &[Pattern], id: &SecretId) -> bool {
    patterns.iter().any(|pattern| pattern.matches(id))
}
