//! Thread that follows the token files while the agent runs.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kms_agent_server::{Token, TokenStore};
use tokio::sync::{Notify, oneshot};

use super::file::{self, FileStamp, Look, TokenFileId};
use super::source::{TokenSource, warnings};
use crate::exit::Failure;

/// Interval between reads of the file when no request asks for one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The same while a change in place is not settled.
const LOOK_EVERY_UNSETTLED: Duration = Duration::from_millis(500);

/// Requests can cause ten reads a second.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// Time without a change after which a file written in place counts as complete.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// The thread needs little stack.
const STACK_BYTES: usize = 256 * 1024;

/// A token file that was read, and the token that it gives.
#[derive(Debug)]
pub(crate) struct FollowedToken {
    pub(crate) path: PathBuf,
    pub(crate) store: Arc<TokenStore>,
    /// The file of the current token.
    pub(crate) file: Option<TokenFileId>,
}

impl TokenSource {
    /// Starts a thread that keeps `store` in step with the file, and the tokens of clients with theirs. The runtime's
    /// threads for blocking work may all be busy. `first` is the file of the current token.
    pub(crate) fn follow(
        &self,
        store: &Arc<TokenStore>,
        first: Option<TokenFileId>,
        clients: Vec<FollowedToken>,
    ) -> Result<Arc<Following>, Failure> {
        let own = self.path().map(|path| {
            Followed::new(FollowedToken {
                path: path.to_owned(),
                store: Arc::clone(store),
                file: first,
            })
        });
        let following = Following {
            files: Arc::new(Mutex::new(Files {
                own,
                clients: Vec::new(),
            })),
            store: Arc::clone(store),
            running: Mutex::default(),
            has_files: Notify::new(),
        };
        following.set_clients(clients)?;
        Ok(Arc::new(following))
    }
}

/// Thread that reads the token files.
#[derive(Debug)]
pub(crate) struct Following {
    /// Locked by the thread while it reads.
    files: Arc<Mutex<Files>>,
    /// Requests ask for a read through it.
    store: Arc<TokenStore>,
    /// A thread that was started before the task that waits for it.
    running: Mutex<Option<Running>>,
    /// Wakes the task once there is a file to read.
    has_files: Notify,
}

/// Token files that the thread reads.
#[derive(Debug)]
struct Files {
    /// File of the agent's own token.
    own: Option<Followed>,
    clients: Vec<Followed>,
}

#[derive(Debug)]
struct Running {
    thread: JoinHandle<()>,
    /// Closed when the thread ends.
    ended: oneshot::Receiver<()>,
}

impl Following {
    /// Returns the files of clients.
    pub(crate) fn clients(&self) -> Vec<FollowedToken> {
        let files = locked(&self.files);
        let followed = files.clients.iter().map(|it| FollowedToken {
            path: it.follower.path.clone(),
            store: Arc::clone(&it.store),
            file: it.follower.in_force,
        });
        followed.collect()
    }

    /// Replaces the files of clients, and starts the thread if this is the first file. Waits for a read in progress.
    pub(crate) fn set_clients(&self, clients: Vec<FollowedToken>) -> Result<(), Failure> {
        let mut files = locked(&self.files);
        let mut former = std::mem::take(&mut files.clients);
        files.clients = clients
            .into_iter()
            .map(|client| {
                // A known file keeps its state.
                let known = former
                    .iter()
                    .position(|it| Arc::ptr_eq(&it.store, &client.store));
                match known {
                    Some(known) => former.swap_remove(known),
                    None => Followed::new(client),
                }
            })
            .collect();
        let is_needed = files.own.is_some() || !files.clients.is_empty();
        drop(files);
        let mut running = locked(&self.running);
        if is_needed && self.store.set_followed() {
            let started = self.start().map_err(|error| {
                Failure::failed(format!(
                    "the thread that reads the token file cannot be started: {error}"
                ))
            })?;
            *running = Some(started);
            self.has_files.notify_one();
        }
        Ok(())
    }

    /// Waits until the thread ends, which only a panic causes, and passes the panic on. Starts a thread if none runs.
    pub(crate) async fn run(self: Arc<Self>) {
        if !self.store.is_followed() {
            self.has_files.notified().await;
        }
        let running = locked(&self.running).take();
        let running = match running.map_or_else(|| self.start(), Ok) {
            Ok(running) => running,
            Err(error) => std::panic::resume_unwind(Box::new(error)),
        };
        let _ = running.ended.await;
        if let Err(panic) = running.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }

    fn start(&self) -> io::Result<Running> {
        let (files, store) = (Arc::clone(&self.files), Arc::clone(&self.store));
        let (alive, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("kms-token".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let _alive = alive;
                read_forever(&files, &store);
            })?;
        Ok(Running { thread, ended })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_forever(files: &Mutex<Files>, store: &TokenStore) {
    loop {
        let began = Instant::now();
        let mut pause = LOOK_EVERY;
        store.read_source(|| {
            let mut files = locked(files);
            let Files { own, clients } = &mut *files;
            for file in own.iter_mut().chain(clients) {
                file.follower.look(&file.store, began);
                if file.follower.unsettled.is_some() {
                    pause = LOOK_EVERY_UNSETTLED;
                }
            }
        });
        store.wait_until_read_is_wanted(pause.saturating_sub(began.elapsed()));
        thread::sleep(LEAST_PAUSE.saturating_sub(began.elapsed()));
    }
}

/// A file and the token that it gives.
#[derive(Debug)]
struct Followed {
    store: Arc<TokenStore>,
    follower: Follower,
}

impl Followed {
    fn new(token: FollowedToken) -> Self {
        Self {
            store: token.store,
            follower: Follower {
                path: token.path,
                in_force: token.file,
                unsettled: None,
            },
        }
    }
}

/// State of the file.
#[derive(Debug)]
struct Follower {
    path: PathBuf,
    /// File that the current token was read from, unless it is gone.
    in_force: Option<TokenFileId>,
    unsettled: Option<Unsettled>,
}

/// Change in place that is not settled.
#[derive(Debug)]
struct Unsettled {
    stamp: FileStamp,
    token: Token,
    since: Instant,
}

impl Follower {
    /// Reads the file once. A missing, empty or invalid file leaves the old token in force.
    fn look(&mut self, store: &TokenStore, now: Instant) {
        let parsed = file::look(&self.path)
            .map_err(|error| {
                if error.is_missing() {
                    // A file that replaces it is another one, even with the same number.
                    self.in_force = None;
                }
                error.to_string()
            })
            .and_then(|look| match Token::parse(&look.bytes) {
                Ok(token) => Ok((look, token)),
                Err(error) => Err(error.to_string()),
            });
        match parsed {
            Ok((look, token)) => self.judge(store, &look, token, now),
            Err(reason) => {
                self.unsettled = None;
                if !store.is_stuck() {
                    tracing::warn!(
                        path = %self.path.display(),
                        reason,
                        "The token file cannot be used; the last token stays in force"
                    );
                }
                store.set_stuck(true);
            }
        }
    }

    fn judge(&mut self, store: &TokenStore, look: &Look, token: Token, now: Instant) {
        let is_new = !store.is_in_force(&token);
        if is_new && self.in_force == Some(look.id) && !self.has_settled(look, token, now) {
            return;
        }
        self.unsettled = None;
        self.in_force = Some(look.id);
        store.replace(token);
        if is_new {
            tracing::info!(path = %self.path.display(), "The token was replaced; the old one is no longer accepted");
        }
        for warning in warnings(look) {
            if kms_agent_trust::is_new_warning(&warning) {
                tracing::warn!(path = %self.path.display(), cause = warning, "The permissions of the token file are not safe");
            }
        }
    }

    /// Whether a change in place has been unchanged for long enough.
    fn has_settled(&mut self, look: &Look, token: Token, now: Instant) -> bool {
        match &self.unsettled {
            Some(known) if known.stamp == look.stamp && known.token == token => {
                now.duration_since(known.since) >= SETTLED_AFTER
            }
            _ => {
                self.unsettled = Some(Unsettled {
                    stamp: look.stamp,
                    token,
                    since: now,
                });
                false
            }
        }
    }
}

#[cfg(all(test, unix))]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
mod tests {
    use std::fs;

    use super::*;

    const ONE: &str = "1111111111111111";
    const TWO: &str = "2222222222222222";

    struct Bench {
        folder: tempfile::TempDir,
        store: TokenStore,
        follower: Follower,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("token");
            fs::write(&path, ONE).unwrap();
            let first = file::look(&path).unwrap();
            Self {
                store: TokenStore::new(Token::parse(ONE.as_bytes()).unwrap()),
                follower: Follower {
                    path,
                    in_force: Some(first.id),
                    unsettled: None,
                },
                folder,
                now: Instant::now(),
            }
        }

        fn look_after(&mut self, millis: u64) -> &TokenStore {
            self.now += Duration::from_millis(millis);
            self.follower.look(&self.store, self.now);
            &self.store
        }

        fn write(&self, text: &str) {
            fs::write(&self.follower.path, text).unwrap();
        }

        fn rename_over(&self, text: &str) {
            let made = self.folder.path().join("made");
            fs::write(&made, text).unwrap();
            fs::rename(made, &self.follower.path).unwrap();
        }
    }

    #[test]
    fn a_file_that_was_renamed_over_counts_at_the_first_look() {
        let mut bench = Bench::new();
        bench.rename_over(TWO);
        assert!(bench.look_after(0).admits(TWO.as_bytes()));
        assert!(!bench.store.admits(ONE.as_bytes()));
        fs::remove_file(&bench.follower.path).unwrap();
        assert!(bench.look_after(0).is_stuck());
        bench.write(ONE);
        assert!(bench.look_after(0).admits(ONE.as_bytes()));
        assert!(!bench.store.is_stuck());
    }

    #[test]
    fn a_file_written_in_place_counts_once_it_is_unchanged_for_two_seconds() {
        let mut bench = Bench::new();
        let half = "fedcba98765432100123";
        let whole = "fedcba987654321001234567";
        bench.write(half);
        for _ in 0..3 {
            assert!(!bench.look_after(500).admits(half.as_bytes()));
        }
        bench.write(whole);
        for _ in 0..4 {
            assert!(!bench.look_after(500).admits(whole.as_bytes()));
        }
        assert!(bench.store.admits(ONE.as_bytes()) && !bench.store.is_stuck());
        assert!(bench.look_after(500).admits(whole.as_bytes()));
        assert!(!bench.store.admits(ONE.as_bytes()));
    }

    #[test]
    fn an_unusable_file_leaves_the_last_token_in_force_until_it_is_as_it_was() {
        let mut bench = Bench::new();
        for bad in ["", "short", "0123456789 abcdef"] {
            bench.write(bad);
            assert!(bench.look_after(5000).is_stuck(), "{bad:?}");
            assert!(bench.store.admits(ONE.as_bytes()));
        }
        bench.write(ONE);
        assert!(!bench.look_after(0).is_stuck());
    }
}
