//! What may lie between the agent and KMS: certificates, a server that speaks TLS, a proxy.

mod authority;
mod front;
mod narrow;
mod proxy;

pub(crate) use self::authority::Authority;
pub(crate) use self::front::Front;
pub(crate) use self::narrow::Narrow;
pub(crate) use self::proxy::Proxy;

/// A runtime for servers that live as long as it does.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}
