//! Where events may be sent: not to ourselves and not into the network that we stand in, unless the operator says so.
//!
//! A name is resolved once, every address is looked at, and the connection goes to these addresses only: a name that means something else a
//! moment later does not help.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use reqwest::Url;

/// The longest that a name is looked up.
const LOOKUP: Duration = Duration::from_secs(5);
/// The longest address of a receiver.
pub const MAX_URL: usize = 2048;

/// Why events are not sent there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not an address that events can be sent to.
    #[error("{0}")]
    Url(&'static str),
    /// Not encrypted.
    #[error("only https is used, but for hosts that CATENARY_WEBHOOK_ALLOW names")]
    Scheme,
    /// The name has no address.
    #[error("`{0}` has no address")]
    Unknown(String),
    /// An address that is not out in the world.
    #[error("{0} is not a public address, and CATENARY_WEBHOOK_ALLOW does not name it")]
    Address(IpAddr),
}

/// What the operator allows besides public addresses: hosts by name, addresses by prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    hosts: Vec<String>,
    networks: Vec<(IpAddr, u8)>,
}

impl Allowed {
    /// Reads a list with commas: `hooks.internal, 10.1.0.0/16, ::1`.
    pub fn read(list: &str) -> Result<Self, String> {
        let mut allowed = Self::default();
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (address, length) = match entry.split_once('/') {
                Some((address, length)) => (address, Some(length)),
                None => (entry, None),
            };
            match (address.parse::<IpAddr>(), length) {
                (Ok(address), length) => {
                    let most = if address.is_ipv4() { 32 } else { 128 };
                    let length = length.map_or(Ok(most), str::parse);
                    let length = length.ok().filter(|length| *length <= most);
                    let length = length.ok_or_else(|| format!("`{entry}` is not a network"))?;
                    allowed.networks.push((address, length));
                }
                (Err(_), None) if is_host(entry) => allowed.hosts.push(entry.to_ascii_lowercase()),
                (Err(_), _) => return Err(format!("`{entry}` is neither a host nor a network")),
            }
        }
        Ok(allowed)
    }

    fn has_host(&self, host: &str) -> bool {
        self.hosts.iter().any(|allowed| allowed == host)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|(network, length)| contains(*network, *length, address))
    }
}

fn is_host(text: &str) -> bool {
    text.len() <= 253 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn contains(network: IpAddr, length: u8, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let ((a, a_bits), (b, b_bits)) = (bits(network), bits(address));
    a_bits == b_bits && (length == 0 || (a ^ b) >> (128 - u32::from(length)) == 0)
}

/// An address that events may be sent to now.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where to.
    pub url: Url,
    /// The name, when it is one, and its addresses.
    pub resolved: Option<(String, Vec<SocketAddr>)>,
}

/// Looks an address up and at all that it means.
pub async fn resolve(url: &str, allowed: &Allowed) -> Result<Target, Refused> {
    let url = parse(url)?;
    let host = url.host_str().ok_or(Refused::Url("it names no host"))?.to_ascii_lowercase();
    let port = url.port_or_known_default().ok_or(Refused::Url("it names no port"))?;
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    let addresses: Vec<SocketAddr> = match literal {
        Some(address) => vec![SocketAddr::new(address, port)],
        None => look_up(&host, port).await?,
    };
    let named = allowed.has_host(&host);
    if url.scheme() != "https" && !named && !addresses.iter().all(|address| allowed.has(address.ip())) {
        return Err(Refused::Scheme);
    }
    // One that is not public is enough: which of them is used is not ours to say.
    let inside = addresses.iter().map(SocketAddr::ip).find(|ip| !is_public(*ip) && !allowed.has(*ip));
    if let Some(inside) = inside.filter(|_| !named) {
        return Err(Refused::Address(inside));
    }
    let resolved = literal.is_none().then_some((host, addresses));
    Ok(Target { url, resolved })
}

fn parse(text: &str) -> Result<Url, Refused> {
    if text.len() > MAX_URL {
        return Err(Refused::Url("it has more than 2048 bytes"));
    }
    let url = Url::parse(text).map_err(|_| Refused::Url("it is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refused::Url("it is not an https URL"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(Refused::Url("it has no user, password or fragment"));
    }
    Ok(url)
}

async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, Refused> {
    let unknown = || Refused::Unknown(host.to_owned());
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, port))).await;
    let found: Vec<SocketAddr> = found.map_err(|_| unknown())?.map_err(|_| unknown())?.collect();
    if found.is_empty() { Err(unknown()) } else { Ok(found) }
}

/// Whether an address is out in the world. What is not known to be so is not.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let special = v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_broadcast()
        || v4.is_documentation();
    // "This network", carrier-grade NAT, protocol assignments, 6to4 relays, benchmarks, reserved.
    let reserved = a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240;
    !special && !reserved
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let segments = v6.segments();
    let low = || {
        let [.., a, b] = segments;
        let ([a, b], [c, d]) = (a.to_be_bytes(), b.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        // Mapped, compatible (with it `::` and `::1`), translated (NAT64): what they stand for counts.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            is_public_v4(low())
        }
        // Local translation, discard, Teredo and other protocol assignments, documentation, 6to4.
        [0x64, 0xff9b, 1, ..] | [0x100, ..] | [0x2001, 0..0x200, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] => {
            false
        }
        // Of the rest only global unicast.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_out_in_the_world_are_public() {
        for inside in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
        for outside in
            ["1.1.1.1", "100.63.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
        {
            assert!(is_public(outside.parse().unwrap()), "{outside}");
        }
    }

    #[tokio::test]
    async fn h38_however_an_inner_address_is_written_it_is_refused() {
        for url in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://0x7f.0.0.1/",
            "https://2130706433/",
            "https://0177.0.0.1/",
            "https://127.0.0.1./",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://169.254.169.254/latest/meta-data/",
            "https://localhost/",
            "https://LOCALHOST:8440/",
            "https://100.64.0.1/",
            "https://0/",
        ] {
            let refused = resolve(url, &Allowed::default()).await.unwrap_err();
            assert!(matches!(refused, Refused::Address(_) | Refused::Unknown(_)), "{url}: {refused:?}");
        }
        for url in [
            "http://1.1.1.1/",
            "ftp://1.1.1.1/",
            "file:///etc/passwd",
            "gopher://1.1.1.1/",
            "https://user@1.1.1.1/",
            "https://1.1.1.1/#x",
            "nonsense",
            "https://",
        ] {
            assert!(resolve(url, &Allowed::default()).await.is_err(), "{url}");
        }
        assert!(resolve("https://1.1.1.1:8443/hook?x=1", &Allowed::default()).await.is_ok());
    }

    #[tokio::test]
    async fn what_the_operator_names_is_allowed_and_no_more() {
        let allowed = Allowed::read("127.0.0.0/8, hooks.internal").unwrap();
        assert!(resolve("http://127.0.0.1:9/", &allowed).await.is_ok());
        assert!(resolve("http://10.0.0.1/", &allowed).await.is_err());
        assert!(resolve("https://[::1]/", &allowed).await.is_err());
        assert!(
            resolve("https://[::ffff:127.0.0.1]/", &allowed).await.is_err(),
            "as it is named, or not at all"
        );
        assert!(resolve("http://1.1.1.1/", &allowed).await.is_err(), "plain http to nobody else");
        let localhost = Allowed::read("LocalHost").unwrap();
        assert!(resolve("http://localhost:9/", &localhost).await.is_ok());
        assert!(resolve("http://127.0.0.1:9/", &localhost).await.is_err());
        for bad in ["10.0.0.0/33", "http://x", "a b", "::/129", "10.0.0.0/x", "host/8"] {
            assert!(Allowed::read(bad).is_err(), "{bad}");
        }
        assert_eq!(Allowed::read(""), Ok(Allowed::default()));
    }
}
