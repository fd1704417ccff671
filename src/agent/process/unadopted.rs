//! Systems whose processes are adopted by none.

/// Nothing to do.
pub(crate) async fn reap() {
    std::future::ready(()).await;
}
