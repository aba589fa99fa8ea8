//! The source addresses of the clients: loopback has 16 million, and each has some 28,000 ports.

use std::net::Ipv4Addr;

use super::script::mix;

/// Clients per source address: far below the ephemeral ports (28,232 by default), so that the kernel finds a free one
/// at the first try, and so that the TIME_WAIT of an earlier wave or run is not in the way.
pub(super) const CLIENTS_PER_ADDRESS: u32 = 4_000;

/// The address that client `number` of `wave` connects from: 127.1.0.1 to 127.254.255.254, other ones for every wave
/// and, by `seed`, for every run.
pub(super) fn of(number: u32, wave: u32, seed: u64) -> Ipv4Addr {
    const WAVE: u64 = 1 << 12;
    let block = u64::from(number / CLIENTS_PER_ADDRESS) + u64::from(wave) * WAVE + (mix(seed) >> 24);
    let d = 1 + (block % 254) as u8;
    let c = (block / 254 % 256) as u8;
    let b = 1 + (block / 254 / 256 % 254) as u8;
    Ipv4Addr::new(127, b, c, d)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_million_clients_spread_evenly_and_a_second_wave_comes_from_elsewhere() {
        let mut clients: HashMap<Ipv4Addr, u32> = HashMap::new();
        for number in 0..1_000_000 {
            *clients.entry(of(number, 0, 42)).or_default() += 1;
        }
        assert_eq!(clients.len(), 250);
        assert!(clients.values().all(|count| *count == CLIENTS_PER_ADDRESS));
        assert!((0..1_000_000).step_by(1_000).all(|number| !clients.contains_key(&of(number, 1, 42))));
        assert!(
            clients
                .keys()
                .all(|address| address.octets()[0] == 127 && address.octets()[3] != 0 && address.octets()[3] != 255)
        );
    }
}
