//! How an emulator is set up.

use crate::state::key::AccessKey;

/// What [`Emulator::start`](crate::Emulator::start) is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Speak HTTPS with a certificate of a CA made for this run.
    #[cfg(feature = "tls")]
    pub tls: bool,
    /// Names that its certificate is for besides loopback's.
    #[cfg(feature = "tls")]
    pub names: Vec<String>,
    /// Take orders at `POST /_emulator`.
    pub control_api: bool,
    /// The region all three services claim to be in.
    pub region: String,
    /// The account the instance and its secrets claim to belong to.
    pub account_id: String,
    /// The first access key; `None` draws one.
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
