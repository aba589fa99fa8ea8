//! Where a client comes from, as far as limits tell addresses apart.

use std::net::IpAddr;

/// An IPv4 address, or the first 64 bits of an IPv6 one: whoever has one of these has all that begin so (RFC 4291,
/// section 2.5.4), and would otherwise be as many clients as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address(u64);

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            // No host has an IPv6 address that begins with 32 zero bits, but for ::1 (RFC 4291, section 2.5).
            IpAddr::V4(ip) => Self(u64::from(u32::from(ip))),
            IpAddr::V6(ip) => Self((u128::from(ip) >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn who_can_have_both_is_one() {
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:0:0:1"));
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
        for (one, other) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8:0:1::1"), ("::1", "127.0.0.1")] {
            assert_ne!(address(one), address(other));
        }
    }
}
