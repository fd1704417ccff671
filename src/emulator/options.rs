//! Options of an emulator.

use crate::state::key::AccessKey;

/// Options of [`Emulator::start`](crate::Emulator::start).
#[derive(Clone, Debug)]
pub struct Options {
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Whether it serves HTTPS, with a certificate of a CA made for this run.
    #[cfg(feature = "tls")]
    pub tls: bool,
    /// Names in its certificate, besides those of loopback.
    #[cfg(feature = "tls")]
    pub names: Vec<String>,
    /// Whether it accepts orders at `POST /_emulator`.
    pub control_api: bool,
    /// Region of all services.
    pub region: String,
    /// Account of the instance and its secrets.
    pub account_id: String,
    /// First access key; `None` creates a random one.
    pub access_key: Option<AccessKey>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            #[cfg(feature = "tls")]
            tls: false,
            #[cfg(feature = "tls")]
            names: Vec::new(),
            control_api: false,
            region: "cn-hangzhou".to_owned(),
            account_id: "1234567890123456".to_owned(),
            access_key: None,
        }
    }
}
