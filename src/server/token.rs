//! The token that applications prove themselves with.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

/// How long a token may be, in characters.
pub const TOKEN_LENGTH: RangeInclusive<usize> = 16..=1024;

/// How long a request with another token may wait for a look at the token's source: until one may begin, which is
/// 100 ms at most, and for the reading itself.
const LOOK_LIMIT: Duration = Duration::from_millis(150);

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

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.digest.ct_eq(&other.digest).into()
    }
}

impl Eq for Token {}

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
    looks: Looks,
}

/// Looks at the source of tokens, which requests may ask for.
#[derive(Debug)]
struct Looks {
    /// The source is one that changes, and a thread looks at it.
    is_followed: AtomicBool,
    is_wanted: Mutex<bool>,
    wanted: Condvar,
    /// How many have begun.
    begun: AtomicU64,
    /// How many had begun when the last one ended.
    done: watch::Sender<u64>,
}

impl TokenStore {
    /// Begins with `token`.
    pub fn new(token: Token) -> Self {
        Self {
            current: ArcSwap::from_pointee(token),
            stuck: AtomicBool::new(false),
            looks: Looks {
                is_followed: AtomicBool::new(false),
                is_wanted: Mutex::new(false),
                wanted: Condvar::new(),
                begun: AtomicU64::new(0),
                done: watch::Sender::new(0),
            },
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

/// The side of requests.
impl TokenStore {
    /// Waits for a look at the source of tokens that begins from now on, so that whoever has just read a new token
    /// there is not refused. Everybody who waits shares it. Ends at once where nothing follows the source.
    pub(crate) async fn wait_for_look(&self) {
        let looks = &self.looks;
        if !looks.is_followed.load(Ordering::Relaxed) {
            return;
        }
        let mut done = looks.done.subscribe();
        let already_begun = looks.begun.load(Ordering::SeqCst);
        *looks
            .is_wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        looks.wanted.notify_one();
        let later = done.wait_for(|done| *done > already_begun);
        // Too late is as good as never: the request is judged all the same.
        let _ = tokio::time::timeout(LOOK_LIMIT, later).await;
    }
}

/// The side of the thread that looks at the source.
impl TokenStore {
    /// From now on a thread looks at the source, at once when a request wants it to.
    pub fn set_followed(&self) {
        self.looks.is_followed.store(true, Ordering::Relaxed);
    }

    /// Whether `token` is the one in force.
    pub fn is_in_force(&self, token: &Token) -> bool {
        **self.current.load() == *token
    }

    /// Looks at the source by `look`, for all requests that wait.
    pub fn look(&self, look: impl FnOnce()) {
        let looks = &self.looks;
        *looks
            .is_wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = false;
        let begun = looks.begun.fetch_add(1, Ordering::SeqCst) + 1;
        look();
        looks.done.send_replace(begun);
    }

    /// Blocks until a request wants a look, or for `limit`.
    pub fn wait_until_look_is_wanted(&self, limit: Duration) {
        let is_wanted = self
            .looks
            .is_wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .looks
            .wanted
            .wait_timeout_while(is_wanted, limit, |is_wanted| !*is_wanted);
        drop(waited);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_request_waits_for_a_look_that_begins_after_it() {
        let old = Token::parse(b"0123456789abcdef").unwrap();
        let new = Token::parse(b"fedcba9876543210").unwrap();
        let store = Arc::new(TokenStore::new(old));
        // Nothing follows it: no wait.
        store.wait_for_look().await;
        store.set_followed();
        let waiting = tokio::spawn({
            let store = Arc::clone(&store);
            async move {
                store.wait_for_look().await;
                store.admits(b"fedcba9876543210")
            }
        });
        let looking = tokio::task::spawn_blocking({
            let store = Arc::clone(&store);
            move || {
                store.wait_until_look_is_wanted(Duration::from_secs(30));
                store.look(|| store.replace(new));
            }
        });
        looking.await.unwrap();
        assert!(waiting.await.unwrap() || store.is_in_force(&new));
        assert!(store.admits(b"fedcba9876543210"));
    }

    #[tokio::test]
    async fn a_source_that_hangs_holds_a_request_for_a_moment_only() {
        let store = TokenStore::new(Token::parse(b"0123456789abcdef").unwrap());
        store.set_followed();
        // Nobody looks, and this ends.
        store.wait_for_look().await;
    }

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
