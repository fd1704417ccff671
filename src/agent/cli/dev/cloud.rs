//! Emulator on a thread of its own.

use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use kms_agent_core::shortage;
use kms_agent_emulator::{AccessKey, Emulator, Options, PutSecret};
use tokio::sync::oneshot;

use super::kept::{Kept, Version};
use crate::exit::Failure;

/// Running emulator. Dropping it stops the emulator.
pub(super) struct Cloud {
    pub(super) base_url: String,
    pub(super) port: u16,
    pub(super) access_key: AccessKey,
    /// Secrets to keep for the next run.
    pub(super) versions: Vec<Version>,
    /// Dropped first: the thread ends when its other end is gone.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Address, key and secrets of a running emulator.
type Started = Result<(String, u16, AccessKey, Vec<Version>), Failure>;

impl Cloud {
    /// Starts an emulator with what is kept of an earlier run, and with `secrets`. A secret with a new value gets a new
    /// version.
    pub(super) fn start(
        kept: Option<&Kept>,
        secrets: Vec<(String, String)>,
    ) -> Result<Self, Failure> {
        let options = Options {
            port: kept.map_or(0, |kept| kept.port),
            access_key: kept.map(|kept| kept.access_key.clone()),
            ..Options::default()
        };
        let versions = kept.map_or_else(Vec::new, |kept| kept.versions.clone());
        let (started, starting) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("emulator".to_owned())
            .spawn(move || {
                if let Err(failure) = emulate(options, versions, secrets, stopped, &started) {
                    // The receiver is gone once startup has succeeded.
                    let _ = started.send(Err(failure));
                }
            })
            .map_err(|error| {
                Failure::failed(format!(
                    "the emulator's thread cannot be started: {error}. {}",
                    shortage::remedy(&error)
                ))
            })?;
        let (base_url, port, access_key, versions) = starting
            .recv()
            .unwrap_or_else(|_| Err(Failure::failed("the emulator ended at once")))?;
        Ok(Self {
            base_url,
            port,
            access_key,
            versions,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread of the emulator has printed its panic.
            let _ = thread.join();
        }
    }
}

fn emulate(
    options: Options,
    versions: Vec<Version>,
    secrets: Vec<(String, String)>,
    stopped: oneshot::Receiver<()>,
    started: &mpsc::SyncSender<Started>,
) -> Result<(), Failure> {
    let fail = |error: &dyn std::fmt::Display| {
        Failure::failed(format!("the emulator cannot be started: {error}"))
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| fail(&error))?;
    runtime.block_on(async {
        let emulator = start(options).map_err(|error| fail(&error))?;
        let mut all = versions;
        for version in &all {
            let order = PutSecret::new(&version.name, &version.value);
            emulator
                .put_secret(order.version_id(&version.id))
                .map_err(|error| fail(&error))?;
        }
        for (name, value) in secrets {
            let current = all.iter().rfind(|version| version.name == name);
            if current.is_some_and(|version| version.value == value) {
                continue;
            }
            let id = emulator
                .put_secret(PutSecret::new(&name, &value))
                .map_err(|error| Failure::usage(format!("--secret {name}: {error}")))?;
            all.push(Version { name, id, value });
        }
        let _ = started.send(Ok((
            emulator.base_url().to_owned(),
            emulator.address().port(),
            emulator.access_key().clone(),
            all,
        )));
        // The thread has ended in either case.
        let _ = stopped.await;
        emulator.stop().await;
        Ok(())
    })
}

/// Starts it on its port, or on a free one where another process has that.
fn start(options: Options) -> io::Result<Emulator> {
    match Emulator::start(options.clone()) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && options.port != 0 => {
            Emulator::start(Options { port: 0, ..options })
        }
        result => result,
    }
}
