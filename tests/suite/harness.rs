//! Harness of the suite: the emulator on its own thread, mount namespaces, TLS servers and proxies, Python.

pub(crate) mod child;
pub(crate) mod cloud;
pub(crate) mod namespace;
pub(crate) mod network;
pub(crate) mod python;
