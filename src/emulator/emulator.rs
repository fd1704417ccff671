//! Handle of a running emulator.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fault::Fault;
use crate::options::Options;
use crate::serve::serve;
#[cfg(feature = "tls")]
use crate::serve::tls::Tls;
use crate::state::action::Action;
use crate::state::call::RecordedCall;
use crate::state::key::{AccessKey, SessionCredentials};
use crate::state::metadata::MetadataSettings;
use crate::state::random::Draw;
use crate::state::secret::{PutSecret, SecretState};
use crate::state::{Identity, Services};
use crate::wire::refusal::InvalidOrder;

/// A running emulator. Dropping it closes the port and every connection.
pub struct Emulator {
    shared: Arc<Services>,
    address: SocketAddr,
    ca_pem: Option<String>,
    /// Dropped to stop the server.
    stop: Option<watch::Sender<()>>,
    task: JoinHandle<()>,
}

impl Emulator {
    /// Listens on 127.0.0.1 and serves on the current Tokio runtime, which needs I/O and time.
    pub fn start(options: Options) -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let draw = Draw::open()?;
        let access_key = match options.access_key {
            Some(key) => key,
            None => AccessKey::draw(&draw),
        };
        #[cfg(feature = "tls")]
        let (acceptor, ca_pem) = if options.tls {
            let tls = Tls::generate(options.names)?;
            (Some(tls.acceptor), Some(tls.ca_pem))
        } else {
            (None, None)
        };
        #[cfg(not(feature = "tls"))]
        let (acceptor, ca_pem) = (None, None);
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;

        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let identity = Identity {
            region: options.region,
            account_id: options.account_id,
            endpoint: address.to_string(),
            base_url: format!("{scheme}://{address}"),
            control_api: options.control_api,
        };
        let shared = Arc::new(Services::new(draw, access_key, identity));
        let (stop, stopped) = watch::channel(());
        let task = runtime.spawn(serve(Arc::clone(&shared), listener, acceptor, stopped));
        Ok(Self {
            shared,
            address,
            ca_pem,
            stop: Some(stop),
            task,
        })
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the base URL, such as `http://127.0.0.1:4711`.
    pub fn base_url(&self) -> &str {
        &self.shared.base_url
    }

    /// Returns host and port, such as `127.0.0.1:4711`.
    pub fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    /// Returns the certificate that clients must trust; `None` without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Returns the region.
    pub fn region(&self) -> &str {
        &self.shared.region
    }

    /// Returns the account.
    pub fn account_id(&self) -> &str {
        &self.shared.account_id
    }

    /// Returns the first access key, valid from startup.
    pub fn access_key(&self) -> &AccessKey {
        &self.shared.access_key
    }

    /// Adds a version of a secret and returns its id.
    pub fn put_secret(&self, secret: PutSecret) -> Result<String, InvalidOrder> {
        self.shared.put_secret(secret)
    }

    /// Removes a secret with all versions; returns false if it does not exist.
    pub fn delete_secret(&self, name: &str) -> bool {
        self.shared.state().secrets.delete(name)
    }

    /// Denies a secret to every caller, whether it exists or not.
    pub fn deny_secret(&self, name: &str) {
        self.set_secret_state(name, SecretState::Denied);
    }

    /// Sets the state of a secret.
    pub fn set_secret_state(&self, name: &str, state: SecretState) {
        self.shared.state().secrets.set_state(name, state);
    }

    /// Adds a fault rule after the existing ones.
    pub fn fault(&self, fault: Fault) -> Result<(), InvalidOrder> {
        self.shared.state().faults.add(fault)
    }

    /// Removes all fault rules. Requests under way keep their fault.
    pub fn clear_faults(&self) {
        self.shared.state().faults.clear();
    }

    /// Returns the calls since startup or the last reset, oldest first; at most the newest 100,000.
    pub fn calls(&self) -> Vec<RecordedCall> {
        self.shared.state().calls.list()
    }

    /// Returns the number of calls of one kind since startup or the last reset.
    pub fn count_calls(&self, action: Action) -> u64 {
        self.shared.state().calls.count(action)
    }

    /// Clears the recorded calls.
    pub fn clear_calls(&self) {
        self.shared.state().calls.clear();
    }

    /// Returns the number of accepted connections since startup.
    pub fn connections_accepted(&self) -> u64 {
        self.shared.connections()
    }

    /// Resets everything but the count of connections.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Adds or replaces a long-lived key.
    pub fn add_access_key(&self, key: AccessKey) {
        self.shared.state().keys.add(key, true);
    }

    /// Creates a random long-lived key.
    pub fn issue_access_key(&self) -> AccessKey {
        let key = AccessKey::draw(&self.shared.draw);
        self.add_access_key(key.clone());
        key
    }

    /// Issues a temporary key, as STS does.
    pub fn issue_session(&self) -> SessionCredentials {
        self.shared.state().issue_session(&self.shared.draw, None)
    }

    /// Enables or disables a key; returns false if its id is unknown.
    pub fn set_access_key_enabled(&self, id: &str, enabled: bool) -> bool {
        self.shared.state().keys.set_enabled(id, enabled)
    }

    /// Removes a long-lived or temporary key; returns false if its id is unknown.
    pub fn revoke_access_key(&self, id: &str) -> bool {
        self.shared.state().keys.revoke(id)
    }

    /// Sets the lifetime of temporary keys issued from now on; `None` lets the client choose.
    pub fn set_session_lifetime(&self, lifetime: Option<Duration>) {
        self.shared.state().session_lifetime = lifetime;
    }

    /// Sets the services' clock so many seconds ahead of the machine's.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.shared.state().clock_offset = seconds;
    }

    /// Changes the settings of the metadata service.
    pub fn set_metadata(&self, settings: MetadataSettings) {
        self.shared.state().metadata.settings = settings;
    }

    /// Registers an OIDC token. From now on only registered ones are accepted.
    pub fn register_oidc_token(&self, token: impl Into<String>) {
        self.shared.state().trust.register_token(token.into());
    }

    /// Registers a role. From now on only registered ones exist.
    pub fn register_role(&self, arn: impl Into<String>) {
        self.shared.state().trust.register_role(arn.into());
    }

    /// Stops the emulator. Afterwards the port is free and every connection is closed.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        // The task does not panic, and only this handle cancels it.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator")
            .field("base_url", &self.base_url())
            .finish_non_exhaustive()
    }
}
