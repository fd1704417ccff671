//! Certificates, TLS servers and proxies between the agent and KMS.

mod authority;
mod front;
mod narrow;
mod proxy;

pub(crate) use self::authority::Authority;
pub(crate) use self::front::Front;
pub(crate) use self::narrow::Narrow;
pub(crate) use self::proxy::Proxy;

/// Builds a runtime for servers, which stop when it is dropped.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}
