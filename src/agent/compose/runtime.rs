//! The runtime and its threads.

use std::time::Duration;

use kms_agent_core::run_blocking;
use tokio::runtime::Runtime;

use crate::exit::Failure;

/// The most worker threads that are started without being asked for: a sidecar answers from memory, and a few
/// threads saturate a loopback interface.
const MOST_WORKERS_BY_DEFAULT: usize = 4;

/// The most threads for blocking work: files are small and read one after another.
const MOST_BLOCKING_THREADS: usize = 64;

/// How long an idle thread for blocking work stays. It is never given back, so that there is one during a shortage
/// of threads.
const KEEP_ALIVE: Duration = Duration::from_secs(u64::MAX / 4);

/// How many worker threads there will be; 0 asks for the default.
pub(super) fn workers(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism()
            .map_or(1, std::num::NonZero::get)
            .min(MOST_WORKERS_BY_DEFAULT),
        given => given,
    }
}

/// Starts the runtime with all threads that it needs: the workers and one for blocking work. Panics where a worker
/// cannot be made, so [`exit_on_panic`](crate::exit::panic_hook::exit_on_panic) must be in force.
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
            // It has nothing to finish.
            runtime.shutdown_background();
            Err(failed(&format_args!(
                "{error}. Raise the limit on threads (TasksMax, --pids-limit), or try again later"
            )))
        }
    }
}
