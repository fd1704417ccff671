//! The token that applications prove themselves with.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How long a token may be, in characters.
pub const TOKEN_LENGTH: RangeInclusive<usize> = 16..=1024;

/// A valid token. Only its digest is kept.
#[derive(Clone, Copy)]
pub struct Token {
    digest: [u8; 32],
}

/// Why a text is no token. Says nothing of the text but its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Nothing but white space.
    #[error("it is empty")]
    Empty,
    /// Outside [`TOKEN_LENGTH`].
    #[error("it has {0} characters; 16 to 1024 are needed")]
    Length(usize),
    /// Something else than visible ASCII.
    #[error(
        "it holds characters other than visible ASCII (a blank or line break inside, or a letter outside ASCII)"
    )]
    NotVisibleAscii,
}

impl Token {
    /// Reads a token; white space around it is not part of it.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidToken> {
        let text = text.trim_ascii();
        if text.is_empty() {
            Err(InvalidToken::Empty)
        } else if !text.iter().all(u8::is_ascii_graphic) {
            Err(InvalidToken::NotVisibleAscii)
        } else if !TOKEN_LENGTH.contains(&text.len()) {
            Err(InvalidToken::Length(text.len()))
        } else {
            Ok(Self {
                digest: Sha256::digest(text).into(),
            })
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(<redacted>)")
    }
}

/// The token in force, which may be replaced at any moment.
#[derive(Debug)]
pub struct TokenStore {
    current: ArcSwap<Token>,
    /// The source of tokens gives none at the moment; the last one stays in force.
    stuck: AtomicBool,
}

impl TokenStore {
    /// Begins with `token`.
    pub fn new(token: Token) -> Self {
        Self {
            current: ArcSwap::from_pointee(token),
            stuck: AtomicBool::new(false),
        }
    }

    /// Puts `token` in force; the old one ends.
    pub fn replace(&self, token: Token) {
        self.current.store(token.into());
        self.stuck.store(false, Ordering::Relaxed);
    }

    /// Notes whether the source of tokens gives an unusable one.
    pub fn set_stuck(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::Relaxed);
    }

    /// Whether the source of tokens gives an unusable one.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    /// Whether `candidate` is the token. Digests are compared, in constant time, so that neither content nor
    /// length shows in how long it takes.
    pub fn admits(&self, candidate: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(candidate).into();
        digest.ct_eq(&self.current.load().digest).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_a_token_is_not_part_of_it() {
        let store = TokenStore::new(Token::parse(b" 0123456789abcdef\n").unwrap());
        assert!(store.admits(b"0123456789abcdef"));
        assert!(!store.admits(b"0123456789abcdef\n"));
        assert!(!store.admits(b"0123456789abcdeF"));
        assert!(!store.admits(b""));
    }

    #[test]
    fn what_is_no_token_is_refused_with_its_reason() {
        assert_eq!(Token::parse(b" \n").unwrap_err(), InvalidToken::Empty);
        assert_eq!(Token::parse(b"short").unwrap_err(), InvalidToken::Length(5));
        assert_eq!(
            Token::parse(&[b'a'; 1025]).unwrap_err(),
            InvalidToken::Length(1025)
        );
        for bad in [
            "0123456789 abcdef",
            "0123456789äabcdef",
            "0123456789\nabcdef",
        ] {
            assert_eq!(
                Token::parse(bad.as_bytes()).unwrap_err(),
                InvalidToken::NotVisibleAscii
            );
        }
    }

    #[test]
    fn a_replaced_token_ends() {
        let store = TokenStore::new(Token::parse(b"0123456789abcdef").unwrap());
        store.replace(Token::parse(b"fedcba9876543210").unwrap());
        assert!(!store.admits(b"0123456789abcdef"));
        assert!(store.admits(b"fedcba9876543210"));
    }

    #[test]
    fn debug_shows_nothing() {
        let token = Token::parse(b"0123456789abcdef").unwrap();
        assert_eq!(format!("{token:?}"), "Token(<redacted>)");
    }
}
