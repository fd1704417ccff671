//! Values of the `Host` header that a listener accepts. Other values are refused because of DNS rebinding.

use std::net::Ipv6Addr;

/// Authorities of one listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authorities {
    /// `None` accepts every value.
    port: Option<u16>,
}

impl Authorities {
    /// Authorities of the loopback listeners on `port`.
    pub(crate) const fn loopback(port: u16) -> Self {
        Self { port: Some(port) }
    }

    /// Authorities of the Unix socket, which no web page can reach.
    pub(crate) const fn any() -> Self {
        Self { port: None }
    }

    /// Whether the listener accepts this `Host`.
    pub(super) fn contain(self, host: &[u8]) -> bool {
        let Some(own_port) = self.port else {
            return true;
        };
        let split = host
            .iter()
            .rposition(|byte| *byte == b':')
            .filter(|at| !host.ends_with(b"]") && *at > 0);
        let (name, given) = match split.and_then(|at| host.split_at_checked(at)) {
            Some((name, given)) => (name, given.get(1..).unwrap_or_default()),
            None => (host, &b"80"[..]),
        };
        let own = ["localhost", "127.0.0.1", "[::1]"]
            .iter()
            .any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
        (own || is_ipv6_loopback(name)) && is_port(given, own_port)
    }

    /// Returns the sentence about a `Host` that the listener does not accept.
    pub(super) fn remedy(self) -> String {
        let port = self.port.unwrap_or_default();
        format!(
            "Ask for http://localhost:{port}, http://127.0.0.1:{port} or http://[::1]:{port}; other host names are not served."
        )
    }
}

/// Whether `name` is `::1` in brackets, in any spelling: Java writes `[0:0:0:0:0:0:0:1]`.
fn is_ipv6_loopback(name: &[u8]) -> bool {
    name.strip_prefix(b"[")
        .and_then(|name| name.strip_suffix(b"]"))
        .and_then(|name| str::from_utf8(name).ok())
        .is_some_and(|name| name.parse() == Ok(Ipv6Addr::LOCALHOST))
}

/// Whether `text` is `port` without a sign and without leading zeros.
fn is_port(text: &[u8], port: u16) -> bool {
    matches!(text.first(), Some(b'1'..=b'9'))
        && str::from_utf8(text).is_ok_and(|text| text.parse() == Ok(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_with_the_right_port_are_the_agent() {
        const AT_2025: Authorities = Authorities::loopback(2025);
        for good in [
            "localhost:2025",
            "LocalHost:2025",
            "127.0.0.1:2025",
            "[::1]:2025",
            "[0:0:0:0:0:0:0:1]:2025",
            "[0000:0000:0000:0000:0000:0000:0000:0001]:2025",
            "[::0:1]:2025",
            "[0::1]:2025",
        ] {
            assert!(AT_2025.contain(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":2025",
            "localhost",
            "localhost:",
            "localhost:2026",
            "localhost:02025",
            "localhost:+2025",
            "localhost:2025 ",
            "localhost:67561",
            "localhost.:2025",
            "127.0.0.1.evil:2025",
            "evil",
            "[::1]",
            "::1:2025",
            "0:0:0:0:0:0:0:1:2025",
            "[0:0:0:0:0:0:0:1]",
            "[0:0:0:0:0:0:0:1]:2026",
            "[0:0:0:0:0:0:0:2]:2025",
            "[::ffff:127.0.0.1]:2025",
            "[::1%lo]:2025",
            "[[::1]]:2025",
            "[::1]x:2025",
            "[localhost]:2025",
            "[127.0.0.1]:2025",
            "127.0.0.2:2025",
            "localhost:2025:2025",
            "a@localhost:2025",
        ] {
            assert!(!AT_2025.contain(bad.as_bytes()), "{bad}");
        }
        assert!(Authorities::loopback(80).contain(b"localhost"));
        assert!(Authorities::loopback(80).contain(b"[::1]"));
    }
}
