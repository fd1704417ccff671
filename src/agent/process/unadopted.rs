//! Systems on which orphans are not adopted.

/// Nothing to do.
pub(crate) async fn reap() {
    std::future::ready(()).await;
}
