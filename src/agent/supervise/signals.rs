//! Signals to this process, in the order of their arrival.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Signals that ask a process to end.
pub(super) const ASK_TO_END: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];

/// Other signals that are passed on to the child.
const PASSED_ON: [Signal; 5] = [
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::WINCH,
    Signal::IO,
];

/// Signals that are listened for.
#[derive(Debug)]
pub(super) struct Signals {
    arrived: mpsc::UnboundedReceiver<Signal>,
    continued: Arc<AtomicBool>,
}

impl Signals {
    /// Starts to listen. Needs a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        let (sender, arrived) = mpsc::unbounded_channel();
        let ignored = Ignored::read();
        let ours = [Signal::CHILD, Signal::CONT];
        let passed_on = ASK_TO_END.into_iter().chain(PASSED_ON);
        for it in ours
            .into_iter()
            .chain(passed_on.filter(|it| !ignored.contains(*it)))
        {
            let mut stream = signal(SignalKind::from_raw(it.as_raw()))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() && sender.send(it).is_ok() {}
            });
        }
        let continued = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(Signal::CONT.as_raw(), Arc::clone(&continued))?;
        Ok(Self { arrived, continued })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Signal {
        match self.arrived.recv().await {
            Some(signal) => signal,
            // The tasks above hold the senders for as long as the runtime lives.
            None => std::future::pending().await,
        }
    }

    /// Forgets that this process was continued.
    pub(super) fn forget_continued(&self) {
        self.continued.store(false, Ordering::SeqCst);
    }

    /// Whether this process was continued since [`forget_continued`](Self::forget_continued).
    pub(super) fn was_continued(&self) -> bool {
        self.continued.load(Ordering::SeqCst)
    }
}

/// Signals that this process was started to ignore, as by `nohup`. A handler would end that, for the child too.
struct Ignored(u64);

impl Ignored {
    fn read() -> Self {
        // Systems without this file: none is known.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        Self(mask.unwrap_or(0))
    }

    fn contains(&self, signal: Signal) -> bool {
        self.0 & (1 << (signal.as_raw() - 1)) != 0
    }
}
