//! Token that authenticates applications.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

/// Length of a token, in characters.
pub const TOKEN_LENGTH: RangeInclusive<usize> = 16..=1024;

/// Time that a request with another token waits for the next read of the token source: at most 100 ms until the read
/// begins, and the read itself.
const READ_LIMIT: Duration = Duration::from_millis(150);

/// A valid token. Only its digest is kept.
#[derive(Clone, Copy)]
pub struct Token {
    digest: [u8; 32],
}

/// Reason why a text is not a token. It contains only the length of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Only white space.
    #[error("it is empty")]
    Empty,
    /// Outside [`TOKEN_LENGTH`].
    #[error("it has {0} characters; 16 to 1024 are needed")]
    Length(usize),
    /// Characters that are not visible ASCII.
    #[error(
        "it holds characters other than visible ASCII (a blank or line break inside, or a letter outside ASCII)"
    )]
    NotVisibleAscii,
}

impl Token {
    /// Reads a token; white space around it is ignored.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidToken> {
        let text = text.trim_ascii();
        if text.is_empty() {
            Err(InvalidToken::Empty)
        } else if !text.iter().all(u8::is_ascii_graphic) {
            Err(InvalidToken::NotVisibleAscii)
        } else if !TOKEN_LENGTH.contains(&text.len()) {
            Err(InvalidToken::Length(text.len()))
        } else {
            Ok(Self::shown(text))
        }
    }

    /// Returns what a caller shows as its token, whatever it is.
    pub(crate) fn shown(bytes: &[u8]) -> Self {
        Self {
            digest: Sha256::digest(bytes).into(),
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

/// Current token, which may be replaced at any time.
#[derive(Debug)]
pub struct TokenStore {
    current: ArcSwap<Token>,
    /// The token source has no valid token; the last one stays in force.
    stuck: AtomicBool,
    /// Shared by the tokens that one thread reads.
    reads: Arc<SourceReads>,
}

/// Reads of the token source, which requests may ask for.
#[derive(Debug)]
struct SourceReads {
    /// The source can change, and a thread reads it.
    is_followed: AtomicBool,
    is_wanted: Mutex<bool>,
    wanted: Condvar,
    /// Number of reads that have begun.
    begun: AtomicU64,
    /// Value of `begun` for the last completed read.
    done: watch::Sender<u64>,
    /// Learns when one of the tokens was replaced.
    changed: watch::Sender<()>,
}

impl TokenStore {
    /// Starts with `token`.
    pub fn new(token: Token) -> Self {
        Self {
            current: ArcSwap::from_pointee(token),
            stuck: AtomicBool::new(false),
            reads: Arc::new(SourceReads {
                is_followed: AtomicBool::new(false),
                is_wanted: Mutex::new(false),
                wanted: Condvar::new(),
                begun: AtomicU64::new(0),
                done: watch::Sender::new(0),
                changed: watch::Sender::new(()),
            }),
        }
    }

    /// Starts another store with `token`, whose source is read together with this one's.
    #[must_use]
    pub fn beside(&self, token: Token) -> Self {
        Self {
            current: ArcSwap::from_pointee(token),
            stuck: AtomicBool::new(false),
            reads: Arc::clone(&self.reads),
        }
    }

    /// Puts `token` in force; the old one is no longer accepted.
    pub fn replace(&self, token: Token) {
        self.current.store(token.into());
        self.stuck.store(false, Ordering::Relaxed);
        self.note_change();
    }

    /// Wakes the requests that wait, so that their rights are decided again.
    pub(super) fn note_change(&self) {
        self.reads.changed.send_replace(());
    }

    /// Returns a receiver that learns when this token, or one beside it, was replaced.
    pub(super) fn changed(&self) -> watch::Receiver<()> {
        self.reads.changed.subscribe()
    }

    /// Notes whether the token source has no valid token.
    pub fn set_stuck(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::Relaxed);
    }

    /// Whether the token source has no valid token.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    /// Whether `candidate` is the token. Digests are compared in constant time, so that the time depends neither on content
    /// nor on length.
    pub fn admits(&self, candidate: &[u8]) -> bool {
        self.is_in_force(&Token::shown(candidate))
    }
}

/// Methods for requests.
impl TokenStore {
    /// Waits for a read of the token source that begins after this call, so that a caller that has just read a new token
    /// there is not refused. All waiting requests share it. Returns at once where no thread reads the source.
    pub(crate) async fn wait_for_read(&self) {
        let reads = &self.reads;
        if !self.is_followed() {
            return;
        }
        let mut done = reads.done.subscribe();
        let already_begun = reads.begun.load(Ordering::SeqCst);
        *reads
            .is_wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        reads.wanted.notify_one();
        let later = done.wait_for(|done| *done > already_begun);
        // After the limit the request is judged by the current token.
        let _ = tokio::time::timeout(READ_LIMIT, later).await;
    }
}

/// Methods for the thread that reads the source.
impl TokenStore {
    /// Notes that a thread reads the source from now on, at once when a request asks for it. Returns `false` if it was
    /// noted before.
    pub fn set_followed(&self) -> bool {
        !self.reads.is_followed.swap(true, Ordering::Relaxed)
    }

    /// Whether a thread reads the source.
    pub fn is_followed(&self) -> bool {
        self.reads.is_followed.load(Ordering::Relaxed)
    }

    /// Whether `token` is the current one.
    pub fn is_in_force(&self, token: &Token) -> bool {
        **self.current.load() == *token
    }

    /// Reads the source by `read`, for all requests that wait.
    pub fn read_source(&self, read: impl FnOnce()) {
        let reads = &self.reads;
        *reads
            .is_wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = false;
        let begun = reads.begun.fetch_add(1, Ordering::SeqCst) + 1;
        read();
        reads.done.send_replace(begun);
    }

    /// Blocks until a request asks for a read, or for `limit`.
    pub fn wait_until_read_is_wanted(&self, limit: Duration) {
        let is_wanted = self
            .reads
            .is_wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .reads
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
    async fn a_request_waits_for_a_read_that_begins_after_it() {
        let old = Token::parse(b"0123456789abcdef").unwrap();
        let new = Token::parse(b"fedcba9876543210").unwrap();
        let store = Arc::new(TokenStore::new(old));
        // No thread reads the source: no wait.
        store.wait_for_read().await;
        assert!(store.set_followed() && !store.set_followed());
        let waiting = tokio::spawn({
            let store = Arc::clone(&store);
            async move {
                store.wait_for_read().await;
                store.admits(b"fedcba9876543210")
            }
        });
        let reading = tokio::task::spawn_blocking({
            let store = Arc::clone(&store);
            move || {
                store.wait_until_read_is_wanted(Duration::from_secs(30));
                store.read_source(|| store.replace(new));
            }
        });
        reading.await.unwrap();
        assert!(waiting.await.unwrap() || store.is_in_force(&new));
        assert!(store.admits(b"fedcba9876543210"));
    }

    #[tokio::test]
    async fn a_source_that_hangs_holds_a_request_for_a_moment_only() {
        let store = TokenStore::new(Token::parse(b"0123456789abcdef").unwrap());
        assert!(store.set_followed() && !store.set_followed());
        // No read comes, and this returns.
        store.wait_for_read().await;
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
    fn what_is_not_a_token_is_refused_with_its_reason() {
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
