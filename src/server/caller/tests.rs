//! Every caller, with every use of every secret, against a model that shares no code with the rules.

use std::sync::Arc;

use kms_agent_core::{Pattern, SecretId, SecretRef, VersionSelector};

use super::access::decide;
use super::token::{Token, TokenStore};
use super::{
    Access, AccessRules, Caller, Client, ClientSettings, GroupLookup, Peer, PeerUser, UnmappedIds,
};

const OWN: &str = "own-token-0123456789";

const SECRETS: [&str; 8] = [
    "app/db",
    "app/",
    "app",
    "web/db",
    "a",
    "acs:kms:cn-hangzhou:1:secret/app/db",
    "acs:kms:cn-hangzhou:2:secret/app/db",
    "app/名",
];

/// Row of the table: how a client is recognised, and what it may do.
struct Row {
    name: &'static str,
    token: Option<&'static str>,
    uid: Option<u32>,
    gid: Option<u32>,
    secrets: &'static [&'static str],
    is_admin: bool,
}

const ROWS: [Row; 7] = [
    row(
        "by-token",
        Some("token-one-0123456789"),
        None,
        None,
        &["app/*"],
        false,
    ),
    row("by-user", None, Some(1001), None, &["web/*"], false),
    row(
        "by-group",
        None,
        None,
        Some(2001),
        &["a", "acs:kms:*:1:*"],
        false,
    ),
    row("by-both", None, Some(1002), Some(2002), &["app/??"], false),
    row(
        "by-all",
        Some("token-two-0123456789"),
        Some(1001),
        None,
        &["*"],
        false,
    ),
    row(
        "operator",
        Some("token-ops-0123456789"),
        None,
        None,
        &[],
        true,
    ),
    row("overflow", None, Some(65_534), None, &["*"], true),
];

const fn row(
    name: &'static str,
    token: Option<&'static str>,
    uid: Option<u32>,
    gid: Option<u32>,
    secrets: &'static [&'static str],
    is_admin: bool,
) -> Row {
    Row {
        name,
        token,
        uid,
        gid,
        secrets,
        is_admin,
    }
}

/// A caller of the table: its tokens, and user, group and supplementary group through the Unix socket.
type Shown = (&'static [&'static str], Option<(u32, u32, u32)>);

const CALLERS: [Shown; 14] = [
    (&[], None),
    (&["wrong-token-0123456789"], None),
    (&[OWN], None),
    (&["token-one-0123456789"], None),
    (&["token-two-0123456789"], None),
    (&["token-ops-0123456789"], None),
    (&["token-one-0123456789", "token-ops-0123456789"], None),
    (&[], Some((1001, 9, 9))),
    (&[], Some((1002, 9, 2002))),
    (&[], Some((1002, 2001, 9))),
    (&["token-two-0123456789"], Some((1001, 9, 2001))),
    (&["token-one-0123456789"], Some((1003, 9, 9))),
    (&[OWN], Some((65_534, 9, 9))),
    (&[], Some((65_534, 9, 9))),
];

#[derive(Debug)]
struct Supplementary(u32);

impl GroupLookup for Supplementary {
    fn groups_of(&self, _uid: u32, _gid: u32) -> Vec<u32> {
        vec![self.0]
    }
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts
        .iter()
        .map(|text| Pattern::parse(text).unwrap())
        .collect()
}

fn access(default_secrets: &[&str], group: u32) -> Access {
    let own = Arc::new(TokenStore::new(Token::parse(OWN.as_bytes()).unwrap()));
    let clients = ROWS.iter().map(|row| {
        let token = row
            .token
            .map(|token| Arc::new(own.beside(Token::parse(token.as_bytes()).unwrap())));
        let settings = ClientSettings {
            name: row.name.to_owned(),
            token_file: None,
            user: None,
            group: None,
            secrets: patterns(row.secrets),
            is_admin: row.is_admin,
        };
        Client::new(&settings, token, row.uid, row.gid)
    });
    let rules = AccessRules::new(clients.collect(), patterns(default_secrets));
    Access::new(
        Arc::clone(&own),
        rules,
        Arc::new(Supplementary(group)),
        UnmappedIds {
            uid: Some(65_534),
            gid: None,
        },
    )
}

async fn identify(access: &Access, (tokens, user): Shown) -> Option<Caller> {
    let peer = match user {
        None => Peer::Tcp { port: 1 },
        Some((uid, gid, _)) => Peer::Unix(PeerUser::new(uid, gid, None)),
    };
    access.examine(&peer).await;
    access.identify(tokens.iter().map(|token| token.as_bytes()), &peer)
}

/// The model: what the contract says, written as plain as possible.
mod model {
    use super::{OWN, ROWS, Row, Shown};

    /// Patterns as a recursive definition, which is slow and plain.
    fn is_match(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                is_match(rest, text) || (!text.is_empty() && is_match(pattern, &text[1..]))
            }
            (['?', rest @ ..], [_, left @ ..]) => is_match(rest, left),
            ([one, rest @ ..], [other, left @ ..]) => one == other && is_match(rest, left),
            _ => false,
        }
    }

    fn opens(patterns: &[&str], secret: &str) -> bool {
        patterns.iter().any(|pattern| {
            let may_be_arn = *pattern == "*" || pattern.starts_with("acs:");
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            (may_be_arn || !secret.starts_with("acs:")) && is_match(&chars(pattern), &chars(secret))
        })
    }

    fn is_row((tokens, user): Shown, row: &Row) -> bool {
        if let Some(token) = row.token
            && !tokens.contains(&token)
        {
            return false;
        }
        if row.uid.is_none() && row.gid.is_none() {
            return true;
        }
        let Some((uid, gid, supplementary)) = user else {
            return false;
        };
        row.uid.is_none_or(|wanted| wanted == uid && uid != 65_534)
            && row
                .gid
                .is_none_or(|wanted| wanted == gid || wanted == supplementary)
    }

    pub(super) fn is_known(shown: Shown) -> bool {
        shown.0.contains(&OWN) || ROWS.iter().any(|row| is_row(shown, row))
    }

    pub(super) fn may_read(shown: Shown, default: &[&str], secret: &str) -> bool {
        let by_default = shown.0.contains(&OWN) && opens(default, secret);
        by_default
            || ROWS
                .iter()
                .any(|row| is_row(shown, row) && opens(row.secrets, secret))
    }

    pub(super) fn is_admin(shown: Shown, default: &[&str]) -> bool {
        (shown.0.contains(&OWN) && default == ["*"])
            || ROWS.iter().any(|row| is_row(shown, row) && row.is_admin)
    }
}

fn secret(name: &str) -> SecretRef {
    SecretRef {
        id: SecretId::parse(name).unwrap(),
        selector: VersionSelector::CURRENT,
    }
}

#[tokio::test]
async fn every_caller_may_do_what_the_model_says_and_nothing_else() {
    let mut allowed = 0;
    for default in [&["*"][..], &["app/*", "acs:*"], &[], &["*", "a"]] {
        for shown in CALLERS {
            let group = shown.1.map_or(0, |(.., group)| group);
            let access = access(default, group);
            let caller = identify(&access, shown).await;
            assert_eq!(caller.is_some(), model::is_known(shown), "{shown:?}");
            let Some(caller) = caller else { continue };
            assert_eq!(
                caller.is_admin(),
                model::is_admin(shown, default),
                "{shown:?} {default:?}"
            );
            assert_eq!(
                access.require_admin(&caller).is_ok(),
                model::is_admin(shown, default)
            );
            for name in SECRETS {
                let expected = model::may_read(shown, default, name);
                let secret = secret(name);
                assert_eq!(
                    decide(&caller, &secret).is_ok(),
                    expected,
                    "{shown:?} {default:?} {name}"
                );
                assert_eq!(
                    caller.sees(&secret.id),
                    expected || model::is_admin(shown, default)
                );
                allowed += usize::from(expected);
            }
        }
    }
    assert!(allowed > 50, "{allowed}");
}

#[tokio::test]
async fn without_clients_the_own_token_is_the_only_caller_through_either_listener() {
    let own = Arc::new(TokenStore::new(Token::parse(OWN.as_bytes()).unwrap()));
    for (default, opens) in [(&["*"][..], true), (&["b"], false)] {
        let access = Access::new(
            Arc::clone(&own),
            AccessRules::new(Vec::new(), patterns(default)),
            Arc::new(Supplementary(0)),
            UnmappedIds::default(),
        );
        for user in [None, Some((0, 0, 0))] {
            assert!(identify(&access, (&[], user)).await.is_none());
            let caller = identify(&access, (&[OWN], user)).await.unwrap();
            assert_eq!(decide(&caller, &secret("a")).is_ok(), opens);
            assert_eq!(caller.is_admin(), opens);
        }
    }
}

#[tokio::test]
async fn refusals_are_counted_by_client() {
    let access = access(&["*"], 0);
    let caller = identify(&access, (&["token-one-0123456789"], None)).await;
    let caller = caller.unwrap();
    for _ in 0..2 {
        assert!(access.decide(&caller, &secret("web/db")).is_err());
    }
    assert!(access.decide(&caller, &secret("app/db")).is_ok());
    let refusals = access.refusals().unwrap();
    assert_eq!((refusals["by-token"], refusals["default"]), (2, 0));
}
