//! From a config to running parts, in the order in which they depend on each other, and back again.

use std::sync::Arc;

use kms_agent_core::metric::{ReadMetrics, StoreMetrics};
use kms_agent_core::observed::ObservedBackend;
use kms_agent_core::registry::BackendContext;
use kms_agent_core::{Clock, SecretService, SystemClock, Timeline};
use kms_agent_kms::{Environment, KmsMetrics, KmsSource};
use kms_agent_server::{App, HttpMetrics, Listeners, TokenStore};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::exit::Failure;
use crate::process::harden;
use crate::process::signal::Endings;
use crate::telemetry;
use crate::token::source::TokenSource;

/// The most worker threads that are started without being asked for: a sidecar answers from memory, and a few
/// threads saturate a loopback interface.
const MOST_WORKERS_BY_DEFAULT: usize = 4;

/// An agent whose files and sockets are open and whose process is hardened, before any thread exists.
#[derive(Debug)]
pub(crate) struct Prepared {
    config: Config,
    environment: Environment,
    token: TokenStore,
    token_source: TokenSource,
    listeners: Listeners,
    log: telemetry::Opened,
    rust_log: Option<String>,
    warnings: harden::Warnings,
}

impl Prepared {
    /// Opens what must be open before the process gives up its rights, and gives them up.
    pub(crate) fn open(
        config: Config,
        environment: Environment,
        token_source: TokenSource,
        rust_log: Option<String>,
    ) -> Result<Self, Failure> {
        let log = telemetry::Opened::open(&config.log);
        let token = TokenStore::new(token_source.open()?);
        let listeners = Listeners::open(config.server.http_port)
            .map_err(|error| Failure::failed(error.to_string()))?;
        let warnings = harden::harden(&config.folders());
        Ok(Self {
            config,
            environment,
            token,
            token_source,
            listeners,
            log,
            rust_log,
            warnings,
        })
    }

    /// The port applications will find the agent at.
    pub(crate) fn port(&self) -> u16 {
        self.listeners.port()
    }

    /// Starts the runtime and runs the agent until a signal ends it. `ready` is called once it serves.
    pub(crate) fn run(self, ready: impl FnOnce()) -> Result<(), Failure> {
        let runtime = runtime(self.config.server.worker_threads)?;
        // Dropped last, so that the last words are written.
        let _log = self.log.start(self.rust_log.as_deref())?;
        for warning in &self.warnings {
            tracing::warn!(
                cause = warning.as_str(),
                "The process is hardened less than it should be"
            );
        }
        let result = runtime.block_on(async {
            let endings = Endings::listen().map_err(|error| {
                Failure::failed(format!("signals cannot be listened for: {error}"))
            })?;
            let token = Arc::new(self.token);
            let agent =
                Agent::open(&self.config, self.environment, token, self.token_source).await?;
            agent.run(self.listeners, endings, ready).await
        });
        // What still runs belongs to nobody any more.
        runtime.shutdown_background();
        result
    }
}

/// The running parts.
struct Agent {
    app: Arc<App>,
    service: Arc<SecretService>,
    /// What runs beside the server for as long as it runs.
    background: JoinSet<()>,
}

impl Agent {
    async fn open(
        config: &Config,
        environment: Environment,
        token: Arc<TokenStore>,
        token_source: TokenSource,
    ) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let timeline = Timeline::new(Arc::clone(&clock));
        let mut registry = Registry::with_prefix("kms_agent");
        register_build(&mut registry);

        let context = BackendContext {
            capacity: config.cache.size,
            clock: Arc::clone(&clock),
        };
        let backend = config
            .cache
            .backend
            .config
            .open(context)
            .await
            .map_err(|error| Failure::config(error.to_string()))?;
        let store_metrics = StoreMetrics::register(&mut registry);
        let backend = Arc::new(ObservedBackend::new(
            backend,
            timeline.clone(),
            store_metrics,
        ));

        let source = KmsSource::new(
            config.kms.clone(),
            &environment,
            Arc::clone(&clock),
            KmsMetrics::register(&mut registry),
        );
        let service = SecretService::new(
            backend,
            Arc::clone(&source) as _,
            timeline,
            config.cache.policy.clone(),
            config.cache.size,
            ReadMetrics::register(&mut registry),
        );

        let mut background = JoinSet::new();
        background.spawn({
            let service = Arc::clone(&service);
            async move { service.maintain().await }
        });
        background.spawn(async move { source.maintain().await });
        background.spawn(token_source.watch(Arc::clone(&token), clock));

        let metrics = HttpMetrics::register(&mut registry);
        let app = Arc::new(App {
            service: Arc::clone(&service),
            token,
            settings: config.server.http.clone(),
            registry,
            metrics,
        });
        Ok(Self {
            app,
            service,
            background,
        })
    }

    /// Serves until the first signal, finishes what is in flight and closes. The second signal ends it at once.
    async fn run(
        mut self,
        listeners: Listeners,
        endings: Endings,
        ready: impl FnOnce(),
    ) -> Result<(), Failure> {
        for address in listeners.addresses() {
            tracing::info!(target: telemetry::READY, "listening on {address}");
        }
        ready();
        let stop = CancellationToken::new();
        let gracefully = async {
            let served =
                kms_agent_server::serve(Arc::clone(&self.app), listeners, stop.clone()).await;
            self.background.shutdown().await;
            let closed = self.service.close().await;
            served.map_err(|error| Failure::failed(format!("the listeners failed: {error}")))?;
            closed.map_err(|error| Failure::failed(error.to_string()))
        };
        tokio::select! {
            result = gracefully => {
                tracing::info!("Stopped");
                result
            }
            () = endings.watch(stop.clone()) => Ok(()),
        }
    }
}

fn runtime(worker_threads: usize) -> Result<Runtime, Failure> {
    let workers = match worker_threads {
        0 => std::thread::available_parallelism()
            .map_or(1, std::num::NonZero::get)
            .min(MOST_WORKERS_BY_DEFAULT),
        given => given,
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("kms-agent")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the runtime cannot be started: {error}")))
}

/// `build{version} 1`
fn register_build(registry: &mut Registry) {
    let build = Family::<[(&str, &str); 1], Gauge>::default();
    build
        .get_or_create(&[("version", env!("CARGO_PKG_VERSION"))])
        .set(1);
    registry.register("build", "The version that runs", build);
}
