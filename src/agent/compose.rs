//! Startup and shutdown of the agent: its parts, in the order of their dependencies.

mod background;
pub(crate) mod callers;
mod data_keys;
pub(crate) mod files;
mod findings;
mod listen;
mod reload;
mod runtime;
mod source;
#[cfg(unix)]
mod unix_socket;

use std::sync::Arc;

use kms_agent_cache::metric::{ReadMetrics, StoreMetrics};
use kms_agent_cache::observed::ObservedBackend;
use kms_agent_cache::{Prefetch, SecretService, SystemClock, Tasks};
use kms_agent_core::registry::BackendContext;
use kms_agent_core::{CacheBackend, Clock, Timeline};
use kms_agent_files::{FileSpec, Files};
use kms_agent_kms::{Environment, KmsMetrics, KmsSource};
use kms_agent_server::caller::UnmappedIds;
use kms_agent_server::{App, HttpMetrics, Listeners, TokenStore};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use self::background::Background;
use self::callers::{Callers, OpenClients};
use self::data_keys::DataKeys;
use self::findings::Findings;
use self::reload::Reloader;
use self::source::Sources;
#[cfg(unix)]
use self::unix_socket::NamedSocket;
use crate::config::{Config, ConfigFile};
use crate::exit::Failure;
use crate::exit::panic_hook;
use crate::platform::{Endings, Hangups};
use crate::process::harden::{self, Circumstances};
use crate::process::reach::Reach;
use crate::process::supervisor::Supervisor;
use crate::process::{id_map, orphan, rehearsal, signal};
use crate::telemetry::{self, Log};
use crate::token::file::TokenFileId;
use crate::token::source::TokenSource;

/// An agent whose files and sockets are open and whose process is hardened, before any thread exists.
#[derive(Debug)]
pub(crate) struct Prepared {
    config: Config,
    /// File of the config, which is read again on SIGHUP.
    file: Option<ConfigFile>,
    environment: Environment,
    token: TokenStore,
    /// The file that the token was read from.
    token_file: Option<TokenFileId>,
    token_source: TokenSource,
    clients: OpenClients,
    unmapped: UnmappedIds,
    listeners: Listeners,
    #[cfg(unix)]
    socket: Option<NamedSocket>,
    log: telemetry::OpenLog,
    rust_log: Option<String>,
    workers: usize,
    /// Paths that the process may open from now on.
    reach: Reach,
    supervisor: Supervisor,
    findings: Findings,
    files: Vec<FileSpec>,
}

impl Prepared {
    /// Opens listeners and files, and gives up the rights that this needs.
    pub(crate) fn open(
        config: Config,
        file: Option<ConfigFile>,
        environment: Environment,
        token_source: TokenSource,
        rust_log: Option<String>,
    ) -> Result<Self, Failure> {
        // The port comes first, while the descriptors of the service manager are the only ones.
        let opened = listen::open(config.server.http_port, &token_source)?;
        #[cfg(unix)]
        let mut socket = NamedSocket::open(&config.server.socket)?;

        // Nothing after this needs a capability.
        let circumstances = Circumstances {
            connections: config.server.http.max_conn,
            is_trial: file.is_none(),
        };
        let mut warnings = harden::give_up_capabilities(circumstances);

        let files = files::resolve(&config.files).map_err(Failure::config)?;

        // Every file is opened as it will be opened later, so that problems show at startup.
        let log = telemetry::OpenLog::open(&config.log);
        let first = token_source
            .open()
            .map_err(|failure| rehearsal::explain(failure, token_source.path()))?;
        let clients = OpenClients::open(&config.clients, first.file)?;
        let unmapped = id_map::unmapped();
        let supervisor = Supervisor::from_environment();
        let workers = runtime::workers(config.server.worker_threads);
        let path = file.as_ref().map(|file| file.path.as_path());
        let reach = Reach::open(&config, path, &environment, token_source.path());
        warnings.extend(rehearsal::rehearse(&reach, &config.log.target));

        // Landlock and the filter of system calls bind this thread and later ones, so the runtime comes after them.
        let (reach, more) = harden::confine(reach, circumstances);
        warnings.extend(more);
        Ok(Self {
            file,
            environment,
            token: TokenStore::new(first.token),
            token_file: first.file,
            token_source,
            unmapped,
            findings: Findings {
                config: config
                    .warnings
                    .iter()
                    .cloned()
                    .chain(callers::namespace_warning(&config, unmapped))
                    .collect(),
                hardening: warnings,
                files: [&first.warnings[..], &clients.warnings[..]].concat(),
                missing: reach.missing().to_owned(),
                unused_port: opened.unused_port,
            },
            clients,
            #[cfg(unix)]
            listeners: opened
                .listeners
                .and_unix(socket.as_mut().and_then(NamedSocket::take_listener)),
            #[cfg(not(unix))]
            listeners: opened.listeners,
            #[cfg(unix)]
            socket,
            log,
            rust_log,
            workers,
            reach,
            supervisor,
            files,
            config,
        })
    }

    /// Returns the port of the listeners.
    pub(crate) fn port(&self) -> u16 {
        self.listeners.port()
    }

    /// Starts the runtime and runs the agent until a signal ends it. `ready` is called once it serves.
    pub(crate) fn run(self, ready: impl FnOnce()) -> Result<(), Failure> {
        let (runtime, log) = panic_hook::exit_on_panic(|| -> Result<_, Failure> {
            let runtime = runtime::start(self.workers)?;
            Ok((runtime, Log::start(self.log, self.rust_log)?))
        })?;
        // Dropped last, so that the last lines are written.
        let log = Arc::new(log);
        self.findings.log(self.listeners.port());
        let result = runtime.block_on(async {
            let (endings, hangups) = listen_for_signals(self.file.is_some())?;

            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let mut registry = Registry::with_prefix("kms_agent");
            register_build(&mut registry);
            log.register(&mut registry);
            let data_keys = DataKeys::new(Arc::clone(&clock));
            let backend = open_backend(&self.config, Arc::clone(&clock), &data_keys).await?;
            let tasks = Tasks::register(&mut registry, Arc::clone(&clock));
            let sources = Sources {
                tasks: Arc::clone(&tasks),
                environment: self.environment,
                clock: Arc::clone(&clock),
                metrics: KmsMetrics::register(&mut registry),
                resumed: backend.info().resumed.map(|resumed| resumed.scope),
            };
            kms_agent_kms::log_warnings(&self.config.kms, &sources.environment);
            let (source, maintenance) = sources.open(&self.config.kms);
            data_keys.set(Arc::clone(&source) as _);
            let service = service(
                &self.config,
                backend,
                source,
                Arc::clone(&clock),
                &mut registry,
            );
            let token = Arc::new(self.token);
            let files = Files::new(Arc::clone(&service), self.files);
            let secrets = &self.config.server.http.default_secrets;
            let (access, followed) = self.clients.into_access(secrets, &token, self.unmapped);
            let app = Arc::new(App {
                started_at: service.timeline().now(),
                service: Arc::clone(&service),
                prefetch: Prefetch::new(self.config.cache.prefetch.clone()),
                access: Arc::clone(&access),
                files: Box::new(files::Report(Arc::clone(&files))),
                settings: self.config.server.http.clone(),
                metrics: HttpMetrics::register(&mut registry),
                tasks: Arc::clone(&tasks),
                registry,
            });

            let supervisor = Arc::new(self.supervisor);
            let mut background = Background::new(tasks);
            keep_loading(&mut background, &app, &files);
            background.keep("orphans", orphan::reap);
            let following = self
                .token_source
                .follow(&token, self.token_file, followed)?;
            background.keep("token", {
                let following = Arc::clone(&following);
                move || Arc::clone(&following).run()
            });
            let reloader = Reloader {
                config: self.config,
                sources,
                data_keys,
                service,
                files: Arc::clone(&files),
                log: Arc::clone(&log),
                maintenance,
                reach: self.reach,
                callers: Arc::new(Callers {
                    access,
                    own: token,
                    own_file: self.token_file,
                    following,
                }),
                supervisor: Arc::clone(&supervisor),
                is_reloading: false,
            };
            background.keep("reload", reloader.runner(hangups.zip(self.file)));
            #[cfg(unix)]
            self.socket.iter().for_each(NamedSocket::log_ready);
            run(
                app,
                background,
                files,
                self.listeners,
                endings,
                supervisor,
                ready,
            )
            .await
        });
        // Tasks that still run have no use any more.
        runtime.shutdown_background();
        result
    }
}

/// Starts to listen for signals: those that end the agent, and SIGHUP where a config can be reloaded.
fn listen_for_signals(can_reload: bool) -> Result<(Endings, Option<Hangups>), Failure> {
    let no_signals = |error| Failure::failed(format!("signals cannot be listened for: {error}"));
    let endings = Endings::listen().map_err(no_signals)?;
    let hangups = can_reload.then(Hangups::listen).transpose();
    Ok((endings, hangups.map_err(no_signals)?))
}

/// Keeps the tasks that maintain cache and files.
fn keep_loading(background: &mut Background, app: &App, files: &Arc<Files>) {
    background.keep("maintenance", {
        let service = Arc::clone(&app.service);
        move || Arc::clone(&service).maintain()
    });
    background.keep("prefetch", {
        let (prefetch, service) = (Arc::clone(&app.prefetch), Arc::clone(&app.service));
        move || Arc::clone(&prefetch).run(Arc::clone(&service))
    });
    background.keep("files", {
        let files = Arc::clone(files);
        move || Arc::clone(&files).run()
    });
}

async fn open_backend(
    config: &Config,
    clock: Arc<dyn Clock>,
    data_keys: &Arc<DataKeys>,
) -> Result<Arc<dyn CacheBackend>, Failure> {
    let context = BackendContext {
        capacity: config.cache.size,
        clock,
        data_keys: Some(Arc::clone(data_keys) as _),
    };
    Ok(config.cache.backend.config.open(context).await?)
}

/// Returns the read path, made of backend, source and policy.
fn service(
    config: &Config,
    backend: Arc<dyn CacheBackend>,
    source: Arc<KmsSource>,
    clock: Arc<dyn Clock>,
    registry: &mut Registry,
) -> Arc<SecretService> {
    let cache = &config.cache;
    let timeline = match backend.info().resumed {
        Some(resumed) => {
            if clock.wall() < resumed.wall_at {
                tracing::warn!(
                    last.run = resumed.wall_at.to_rfc3339(),
                    "The wall clock is behind that of the previous run; stored entries count as expired, and are served \
                     only while KMS cannot be reached. Set the clock"
                );
            }
            Timeline::resume(clock, &resumed)
        }
        None => Timeline::new(clock),
    };
    let store_metrics = StoreMetrics::register(registry);
    SecretService::new(
        Arc::new(ObservedBackend::new(
            backend,
            timeline.clone(),
            store_metrics,
        )),
        source,
        timeline,
        cache.policy.clone(),
        cache.size,
        ReadMetrics::register(registry),
    )
}

/// Serves until the first signal, finishes requests in flight and closes. The second signal stops the agent at once.
async fn run(
    app: Arc<App>,
    mut background: Background,
    files: Arc<Files>,
    listeners: Listeners,
    endings: Endings,
    supervisor: Arc<Supervisor>,
    ready: impl FnOnce(),
) -> Result<(), Failure> {
    for address in listeners.addresses() {
        tracing::info!(target: telemetry::READY, "listening on {address}");
    }
    let port = listeners.port();
    supervisor.ready(&format!("listening on 127.0.0.1:{port}"));
    ready();
    background.keep("watchdog", {
        let supervisor = Arc::clone(&supervisor);
        move || {
            let supervisor = Arc::clone(&supervisor);
            async move { supervisor.run_watchdog(port).await }
        }
    });
    let stop = CancellationToken::new();
    let gracefully = async {
        let served = kms_agent_server::serve(Arc::clone(&app), listeners, stop.clone()).await;
        background.stop().await;
        files.stop().await;
        let closed = app.service.close().await;
        served.map_err(|error| Failure::failed(format!("the listeners failed: {error}")))?;
        closed.map_err(|error| Failure::failed(with_cause(&error)))
    };
    tokio::select! {
        result = gracefully => {
            tracing::info!("Stopped");
            result
        }
        () = signal::watch(endings, || {
            supervisor.stopping();
            stop.cancel();
        }) => Ok(()),
    }
}

/// Returns an error and its cause in one line.
fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// `build{version} 1`
fn register_build(registry: &mut Registry) {
    let build = Family::<[(&str, &str); 1], Gauge>::default();
    build
        .get_or_create(&[("version", env!("CARGO_PKG_VERSION"))])
        .set(1);
    registry.register("build", "The version that runs", build);
}
