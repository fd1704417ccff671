//! `NO_PROXY`, read as Go's `httpproxy` reads it, which the official tools use.

use std::net::IpAddr;

/// The entries of `NO_PROXY`.
#[derive(Clone, Debug, Default)]
pub(super) struct Bypass(Vec<BypassEntry>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum BypassEntry {
    Everything,
    Network(IpAddr, u8),
    Address(IpAddr, Option<u16>),
    /// A domain in lower case that begins with a dot.
    Domain {
        suffix: String,
        /// Whether the domain itself counts, and not only what is below it.
        itself: bool,
        port: Option<u16>,
    },
}

impl Bypass {
    /// Reads the entries; those that can never match are left out.
    pub(super) fn parse(text: &str) -> Self {
        Self(entries(text).filter_map(|(_, entry)| entry).collect())
    }

    /// The entries of `text` that can never match a host.
    pub(super) fn useless(text: &str) -> Vec<&str> {
        entries(text)
            .filter(|(_, entry)| entry.is_none())
            .map(|(text, _)| text)
            .collect()
    }

    /// Whether `host`, which may be an address in brackets, is reached without the proxy.
    pub(super) fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        let address: Option<IpAddr> = unbracketed(&host).parse().ok();
        self.0.iter().any(|entry| match (entry, address) {
            (BypassEntry::Everything, _) => true,
            (BypassEntry::Network(network, bits), Some(address)) => {
                is_within(address, *network, *bits)
            }
            (BypassEntry::Address(other, only), Some(address)) => {
                other.to_canonical() == address.to_canonical()
                    && only.is_none_or(|only| only == port)
            }
            (
                BypassEntry::Domain {
                    suffix,
                    itself,
                    port: only,
                },
                None,
            ) => {
                let is_below = host.ends_with(suffix.as_str());
                let is_itself = *itself && suffix.strip_prefix('.') == Some(host.as_str());
                (is_below || is_itself) && only.is_none_or(|only| only == port)
            }
            _ => false,
        })
    }
}

/// Each entry as it is written, and what it means; `None` where it can never match.
fn entries(text: &str) -> impl Iterator<Item = (&str, Option<BypassEntry>)> {
    text.split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| (text, BypassEntry::parse(text)))
}

impl BypassEntry {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everything);
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits: u8 = bits.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            return (bits <= most).then_some(Self::Network(address, bits));
        }
        if let Ok(address) = unbracketed(text).parse() {
            return Some(Self::Address(address, None));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port_number(port)?)),
            None => (text, None),
        };
        if let Ok(address) = unbracketed(host).parse() {
            return Some(Self::Address(address, port));
        }
        let host = host.to_ascii_lowercase();
        let name = host.strip_prefix('*').unwrap_or(&host);
        let itself = !name.starts_with('.');
        // A star stands for whole labels.
        if itself && name.len() != host.len() {
            return None;
        }
        let suffix = if itself {
            format!(".{name}")
        } else {
            name.to_owned()
        };
        may_end_a_host(suffix.strip_prefix('.')?).then_some(Self::Domain {
            suffix,
            itself,
            port,
        })
    }
}

/// Whether a host name can be `name`, or end with a dot and it.
fn may_end_a_host(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // A last label that begins with a digit is part of an address.
    let last = name.rsplit('.').next().unwrap_or_default();
    name.split('.').all(is_label) && last.starts_with(|first: char| first.is_ascii_alphabetic())
}

fn port_number(text: &str) -> Option<u16> {
    let number: u16 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let differing = match (address.to_canonical(), network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            u128::from(address.to_bits() ^ network.to_bits()) << 96
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => address.to_bits() ^ network.to_bits(),
        _ => return false,
    };
    bits == 0 || differing >> (128 - u32::from(bits)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_is_read_as_go_reads_it() {
        const HOST: &str = "kms.hunt.test";
        for (text, host, port, covered) in [
            ("kms.hunt.test", HOST, 443, true),
            ("KMS.Hunt.Test", HOST, 443, true),
            ("hunt.test", HOST, 443, true),
            (".hunt.test", HOST, 443, true),
            ("*.hunt.test", HOST, 443, true),
            ("*.Hunt.Test:443", HOST, 443, true),
            ("*", HOST, 443, true),
            ("other.test, hunt.test", HOST, 443, true),
            (" ,, other.test ,\thunt.test ", HOST, 443, true),
            ("test", HOST, 443, true),
            ("hunt.test:443", HOST, 443, true),
            ("kms.hunt.test:443", HOST, 443, true),
            ("kms.hunt.test:443", HOST, 8443, false),
            (".hunt.test:8443", HOST, 8443, true),
            // A leading dot leaves out the domain itself.
            (".kms.hunt.test", HOST, 443, false),
            ("*.kms.hunt.test", HOST, 443, false),
            ("unt.test", HOST, 443, false),
            ("*hunt.test", HOST, 443, false),
            ("hunt.test.", HOST, 443, false),
            ("hunt.test;other.test", HOST, 443, false),
            ("", HOST, 443, false),
            ("10.0.0.0/8", "10.1.2.3", 443, true),
            ("10.0.0.0/8", "11.1.2.3", 443, false),
            ("10.0.0.77/31", "10.0.0.76", 443, true),
            ("0.0.0.0/0", "10.1.2.3", 443, true),
            ("0.0.0.0/0", "[fd00::1]", 443, false),
            ("fd00::/8", "[fd00::1]", 443, true),
            ("::/0", "[fd00::1]", 443, true),
            ("10.1.2.3", "10.1.2.3", 443, true),
            ("10.1.2.3:443", "10.1.2.3", 443, true),
            ("10.1.2.3:80", "10.1.2.3", 443, false),
            ("fd00::1", "[fd00::1]", 443, true),
            ("[fd00::1]", "[fd00::1]", 443, true),
            ("[fd00::1]:443", "[fd00::1]", 443, true),
            ("[fd00::1]:80", "[fd00::1]", 443, false),
            ("10.0.0.0/8", HOST, 443, false),
        ] {
            assert_eq!(
                Bypass::parse(text).covers(host, port),
                covered,
                "{text} {host}:{port}"
            );
        }
    }

    #[test]
    fn an_entry_that_can_never_match_is_found() {
        for useful in [
            "a.test,.a.test,*.a.test,*,a.test:443,10.0.0.0/8,10.0.0.1,10.0.0.1:443,[::1],::1,[::1]:1",
            "localhost, 127.0.0.1 ,  ,test",
        ] {
            assert_eq!(Bypass::useless(useful), [""; 0], "{useful}");
        }
        for useless in [
            "*a.test",
            "a.*.test",
            "*.",
            "a.test.",
            "a..test",
            "a.test b.test",
            "a.test;b.test",
            "https://a.test",
            "a.test/path",
            "a.test:https",
            "a.test:0443",
            "10.0.0.0/33",
            "10.0.0",
            "10.*",
            "\"a.test\"",
            "\u{5bc6}.test",
        ] {
            let text = format!("b.test,{useless}");
            assert_eq!(Bypass::useless(&text), [useless]);
        }
    }
}
