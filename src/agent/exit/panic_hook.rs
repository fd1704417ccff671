//! Panic hook: a panic becomes a log line or exit code 1, never a hang or another exit code.

use std::any::Any;
use std::io::Write;
use std::panic::{Location, PanicHookInfo};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};

use kms_agent_core::panic;

use crate::exit::Failure;

/// Main thread, whose panic ends the process.
static MAIN: OnceLock<ThreadId> = OnceLock::new();

/// Threads are being started. Unwinding would wait forever for those that already run.
static STARTING: AtomicBool = AtomicBool::new(false);

/// Formatted messages that name the resource that is short. Any other message could contain a value.
const SHORTAGES: [&str; 3] = [
    "OS can't spawn worker thread",
    "failed to spawn",
    "failed to create",
];

/// Installs the hook. To be called first, on the main thread.
pub(crate) fn install() {
    MAIN.get_or_init(|| thread::current().id());
    std::panic::set_hook(Box::new(handle));
}

/// Runs `start`, which starts threads: a panic of any thread ends the process meanwhile.
pub(crate) fn exit_on_panic<T>(start: impl FnOnce() -> T) -> T {
    STARTING.store(true, Ordering::SeqCst);
    let started = start();
    STARTING.store(false, Ordering::SeqCst);
    started
}

fn handle(info: &PanicHookInfo<'_>) {
    if panic::is_contained() {
        return;
    }
    let message = message(info.payload());
    let location = info.location().map(Location::to_string).unwrap_or_default();
    let is_starting = STARTING.load(Ordering::SeqCst);
    if is_starting || MAIN.get() == Some(&thread::current().id()) {
        end(&match message {
            PanicMessage::Shortage(text) => format!(
                "the process cannot go on: {text}. Raise the limit on threads (TasksMax, --pids-limit) or \
                 descriptors (LimitNOFILE), or try again later"
            ),
            PanicMessage::Defect(text) => {
                format!("this is a defect of the agent: panicked at {location}: {text}")
            }
        });
    }
    let cause = message.text();
    if tracing::dispatcher::has_been_set() {
        let current = thread::current();
        tracing::error!(
            thread = current.name().unwrap_or("unnamed"),
            location,
            cause,
            "A thread panicked"
        );
    } else {
        // Without a log, the line goes to stderr.
        let _ = writeln!(
            std::io::stderr(),
            "error: a thread panicked at {location}: {cause}"
        );
    }
}

/// Ends the process at once: unwinding runs destructors, and those of a runtime wait for its threads.
#[expect(
    clippy::exit,
    reason = "a panic must end with exit code 1, and promptly"
)]
fn end(line: &str) -> ! {
    static ENDING: AtomicBool = AtomicBool::new(false);
    while ENDING.swap(true, Ordering::SeqCst) {
        // Another thread has reported the reason.
        thread::park();
    }
    let _ = Failure::failed(line.replace(['\n', '\r'], " ")).report();
    std::process::exit(i32::from(crate::exit::FAILED))
}

/// Message of a panic without any value.
#[derive(Debug, PartialEq, Eq)]
enum PanicMessage<'a> {
    /// Names the resource that is short.
    Shortage(&'a str),
    /// Written in the source, or withheld.
    Defect(&'a str),
}

impl<'a> PanicMessage<'a> {
    fn text(&self) -> &'a str {
        match self {
            Self::Shortage(text) | Self::Defect(text) => text,
        }
    }
}

fn message(payload: &(dyn Any + Send)) -> PanicMessage<'_> {
    if let Some(literal) = payload.downcast_ref::<&'static str>() {
        return PanicMessage::Defect(literal);
    }
    payload
        .downcast_ref::<String>()
        .filter(|text| SHORTAGES.iter().any(|known| text.starts_with(known)))
        .map_or(PanicMessage::Defect("its message is withheld"), |text| {
            PanicMessage::Shortage(text)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literals_and_shortages_are_shown() {
        assert_eq!(message(&"a literal"), PanicMessage::Defect("a literal"));
        let shortage = "OS can't spawn worker thread: Resource temporarily unavailable".to_owned();
        assert_eq!(message(&shortage), PanicMessage::Shortage(&shortage));
        let withheld = PanicMessage::Defect("its message is withheld");
        assert_eq!(message(&format!("no member in {}", "hunter2")), withheld);
        assert_eq!(message(&7), withheld);
    }
}
