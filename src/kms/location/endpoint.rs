//! Hosts that the fetcher talks to, as an operator writes them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::location::region::Region;

/// The address of the metadata service of Alibaba Cloud, which speaks plain HTTP.
const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);

/// Description of a valid endpoint.
pub(crate) const ALLOWED: &str =
    "a host, or an https:// URL without path (http:// only for 127.0.0.0/8, [::1] and localhost)";

/// As [`ALLOWED`], for the metadata service.
pub(crate) const METADATA_ALLOWED: &str = "a host, or a URL without path (http:// only for 127.0.0.0/8, [::1], localhost and 100.100.100.200)";

/// Scheme, host and port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    secure: bool,
    host: Host,
    /// Only where it is not the scheme's own.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Name(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl Endpoint {
    /// Reads a host or a URL. What is wrong is said without repeating the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_where(text, ALLOWED, Host::is_loopback, true)
    }

    /// As [`parse`](Self::parse), for the metadata service: its own address may be spoken to in plain text
    /// too, and a bare host is, where that is allowed.
    pub fn parse_metadata(text: &str) -> Result<Self, String> {
        let plain = |host: &Host| host.is_loopback() || *host == Host::V4(METADATA_ADDRESS);
        Self::parse_where(text, METADATA_ALLOWED, plain, false)
    }

    /// The public gateway of KMS in `region`.
    pub(crate) fn kms(region: &Region) -> Self {
        Self::official(format!("kms.{region}.aliyuncs.com"))
    }

    /// The gateway of KMS in `region` that a VPC reaches without the internet.
    pub(crate) fn kms_vpc(region: &Region) -> Self {
        Self::official(format!("kms-vpc.{region}.aliyuncs.com"))
    }

    /// The public gateway of STS, the one of a region, or that region's inner one.
    pub(crate) fn sts(region: Option<&Region>, inner: bool) -> Self {
        Self::official(match region {
            None => "sts.aliyuncs.com".to_owned(),
            Some(region) if inner => format!("sts-vpc.{region}.aliyuncs.com"),
            Some(region) => format!("sts.{region}.aliyuncs.com"),
        })
    }

    /// The metadata service of Alibaba Cloud.
    pub(crate) fn metadata() -> Self {
        Self {
            secure: false,
            host: Host::V4(METADATA_ADDRESS),
            port: None,
        }
    }

    fn official(name: String) -> Self {
        Self {
            secure: true,
            host: Host::Name(name),
            port: None,
        }
    }

    fn parse_where(
        text: &str,
        allowed: &str,
        plain_allowed: impl Fn(&Host) -> bool,
        secure_by_default: bool,
    ) -> Result<Self, String> {
        let wrong = || format!("must be {allowed}");
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let (host, port) = split_port(rest.strip_suffix('/').unwrap_or(rest)).ok_or_else(wrong)?;
        let host = Host::parse(host).ok_or_else(wrong)?;
        let secure = match scheme.as_deref() {
            Some("https") => true,
            Some("http") if plain_allowed(&host) => false,
            None => secure_by_default || !plain_allowed(&host),
            Some(_) => return Err(wrong()),
        };
        Ok(Self {
            secure,
            host,
            port: port.filter(|port| *port != if secure { 443 } else { 80 }),
        })
    }

    /// Host, with its port where that is not the default: what is sent as `Host`, and signed.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.to_string(),
        }
    }

    /// `https://host[:port]`, without a slash at its end.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// The name that must be looked up; an address needs none.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::V4(_) | Host::V6(_) => None,
        }
    }

    /// Whether it is this very machine, to which no proxy leads.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host.is_loopback()
    }

    /// The region in the name of a shared gateway, `kms[-vpc].<region>.aliyuncs.com`.
    pub(crate) fn region(&self) -> Option<Region> {
        let Host::Name(name) = &self.host else {
            return None;
        };
        let (service, rest) = name.split_once('.')?;
        if !matches!(service, "kms" | "kms-vpc") {
            return None;
        }
        Region::parse(rest.strip_suffix(".aliyuncs.com")?).ok()
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            return inner.strip_suffix(']')?.parse().ok().map(Self::V6);
        }
        if let Ok(address) = text.parse() {
            return Some(Self::V4(address));
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        // A last label that begins with a digit would be taken for an oddly written IPv4 address.
        let last = text.rsplit('.').next()?;
        (text.len() <= 253
            && text.split('.').all(label)
            && last.starts_with(|first: char| first.is_ascii_alphabetic()))
        .then(|| Self::Name(text.to_ascii_lowercase()))
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost",
            Self::V4(address) => address.is_loopback(),
            Self::V6(address) => address.is_loopback(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// `None` for a port that is none.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    match text.rsplit_once(':') {
        // The colons of an address without a port.
        Some(_) if text.ends_with(']') => Some((text, None)),
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            let port: u16 = port.parse().ok()?;
            (port != 0).then_some((host, Some(port)))
        }
        Some(_) => None,
        None => Some((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Option<String> {
        Endpoint::parse(text).ok().map(|endpoint| endpoint.origin())
    }

    #[test]
    fn a_host_or_url_is_accepted_in_every_usual_spelling() {
        for (text, wanted) in [
            (
                "kms.cn-hangzhou.aliyuncs.com",
                "https://kms.cn-hangzhou.aliyuncs.com",
            ),
            ("HTTPS://Kms.Example.COM/", "https://kms.example.com"),
            ("kms.example.com:443", "https://kms.example.com"),
            ("kms.example.com:8443", "https://kms.example.com:8443"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://127.9.8.7:9000/", "http://127.9.8.7:9000"),
            ("http://[::1]:9000", "http://[::1]:9000"),
            ("http://localhost:443", "http://localhost:443"),
            ("10.0.0.1", "https://10.0.0.1"),
            ("[fe80::1]", "https://[fe80::1]"),
        ] {
            assert_eq!(origin(text).as_deref(), Some(wanted), "{text}");
        }
    }

    #[test]
    fn anything_that_is_more_or_less_than_a_host_is_refused_without_being_repeated() {
        for text in [
            "",
            "/",
            "https://",
            "ftp://kms.example.com",
            "http://kms.example.com",
            "http://100.100.100.200",
            "http://127.0.0.1.example.com",
            "https://user:pass@kms.example.com",
            "https://kms.example.com/path",
            "https://kms.example.com//",
            "https://kms.example.com?x=1",
            "https://kms.example.com#x",
            "kms.example.com:0",
            "kms.example.com:65536",
            "kms.example.com:",
            "kms.example.com:+1",
            "http://127.1",
            "0x7f.1",
            "a..b",
            "a b",
            "[::1",
            "::1",
            "kms.example.com\n",
        ] {
            let error = Endpoint::parse(text).expect_err(text);
            assert_eq!(error, format!("must be {ALLOWED}"), "{text}");
        }
    }

    #[test]
    fn the_metadata_service_may_be_spoken_to_in_plain_text() {
        let metadata = |text| Endpoint::parse_metadata(text).map(|endpoint| endpoint.origin());
        assert_eq!(
            metadata("100.100.100.200").as_deref(),
            Ok("http://100.100.100.200")
        );
        assert_eq!(
            metadata("http://127.0.0.1:1").as_deref(),
            Ok("http://127.0.0.1:1")
        );
        assert_eq!(
            metadata("metadata.example.com").as_deref(),
            Ok("https://metadata.example.com")
        );
        assert!(metadata("http://metadata.example.com").is_err());
        assert_eq!(Endpoint::metadata().origin(), "http://100.100.100.200");
    }

    #[test]
    fn the_region_is_read_from_the_name_of_a_shared_gateway_only() {
        let region = |text| {
            Endpoint::parse(text)
                .ok()
                .and_then(|endpoint| endpoint.region())
                .map(|region| region.to_string())
        };
        assert_eq!(
            region("kms.cn-hangzhou.aliyuncs.com").as_deref(),
            Some("cn-hangzhou")
        );
        assert_eq!(
            region("kms-vpc.cn-beijing-finance-1.aliyuncs.com:8443").as_deref(),
            Some("cn-beijing-finance-1")
        );
        for other in [
            "kst-hzz65f176a0ogplgq.cryptoservice.kms.aliyuncs.com",
            "kms.aliyuncs.com",
            "kms.cn-hangzhou.example.com",
            "127.0.0.1",
        ] {
            assert_eq!(region(other), None, "{other}");
        }
    }

    #[test]
    fn official_hosts_follow_the_region() {
        let region = Region::parse("cn-shanghai").expect("a region");
        assert_eq!(
            Endpoint::kms(&region).origin(),
            "https://kms.cn-shanghai.aliyuncs.com"
        );
        assert_eq!(
            Endpoint::sts(None, true).origin(),
            "https://sts.aliyuncs.com"
        );
        assert_eq!(
            Endpoint::sts(Some(&region), false).origin(),
            "https://sts.cn-shanghai.aliyuncs.com"
        );
        assert_eq!(
            Endpoint::sts(Some(&region), true).origin(),
            "https://sts-vpc.cn-shanghai.aliyuncs.com"
        );
    }
}
