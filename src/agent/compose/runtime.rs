//! Runtime and its threads.

use std::time::Duration;

use kms_agent_core::run_blocking;
use tokio::runtime::Runtime;

use crate::exit::Failure;

/// Default limit of worker threads: a sidecar answers from memory, and a few threads saturate a loopback interface.
const MOST_WORKERS_BY_DEFAULT: usize = 4;

/// Limit of threads for blocking work: files are small and read one after another.
const MOST_BLOCKING_THREADS: usize = 64;

/// Lifetime of an idle thread for blocking work. It never ends, so that one exists during a shortage of threads.
const KEEP_ALIVE: Duration = Duration::from_secs(u64::MAX / 4);

/// Returns the number of worker threads; 0 selects the default.
pub(super) fn workers(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism()
            .map_or(1, std::num::NonZero::get)
            .min(MOST_WORKERS_BY_DEFAULT),
        given => given,
    }
}

/// Starts the runtime with the workers and one thread for blocking work. Panics if a worker cannot be created, so
/// [`exit_on_panic`](crate::exit::panic_hook::exit_on_panic) must be in force.
pub(super) fn start(workers: usize) -> Result<Runtime, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::failed(format!("the runtime cannot be started: {error}"))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(MOST_BLOCKING_THREADS)
        .thread_keep_alive(KEEP_ALIVE)
        .thread_name("kms-agent")
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    match runtime.block_on(run_blocking(|| ())) {
        Ok(()) => Ok(runtime),
        Err(error) => {
            // The runtime has no task to finish.
            runtime.shutdown_background();
            Err(failed(&format_args!(
                "{error}. Raise the limit on threads (TasksMax, --pids-limit), or try again later"
            )))
        }
    }
}
