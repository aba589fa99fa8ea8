//! Our own `requestState`: which parked call a retry resumes, signed, so that nobody invents one (spec 2026-07-28
//! basic/patterns/mrtr#server-requirements-basic-workflow).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What states are signed with. One for each process: a state does not outlive the call that is parked in it.
pub struct Secret([u8; 32]);

/// What a state says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The number of the parked call.
    pub number: u64,
    /// Until when it may be resumed, on the clock of whoever parked it.
    pub expires: Duration,
}

crate::named! {
    /// Why a state is refused.
    pub enum Unacceptable {
        /// Not ours, not whole, or of another server behind us.
        Forged = "forged",
        /// Too late.
        Expired = "expired",
    }
}

const CLAIM_BYTES: usize = 16;
const MAC_BYTES: usize = 32;
/// Length of a state, in bytes.
pub const STATE_BYTES: usize = (CLAIM_BYTES + MAC_BYTES) / 3 * 4;

impl Secret {
    /// `random` must come from the system's source of randomness.
    #[must_use]
    pub const fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// The state for a call parked at `server`. Characters of base64url only: it needs no escapes in JSON.
    #[must_use]
    pub fn seal(&self, server: &str, claim: Claim) -> String {
        let mut bytes = [0; CLAIM_BYTES + MAC_BYTES];
        bytes[..8].copy_from_slice(&claim.number.to_be_bytes());
        let millis = u64::try_from(claim.expires.as_millis()).unwrap_or(u64::MAX);
        bytes[8..CLAIM_BYTES].copy_from_slice(&millis.to_be_bytes());
        let mac = self.mac(server, &bytes[..CLAIM_BYTES]).finalize().into_bytes();
        bytes[CLAIM_BYTES..].copy_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a state says, at the time `now` of the clock that [`Claim::expires`] is on.
    ///
    /// # Errors
    /// Unless we made it for this server, and not too long ago. Forgeries take the same time wherever they differ.
    pub fn open(&self, server: &str, state: &str, now: Duration) -> Result<Claim, Unacceptable> {
        let mut bytes = [0; CLAIM_BYTES + MAC_BYTES];
        if state.len() != STATE_BYTES || URL_SAFE_NO_PAD.decode_slice(state, &mut bytes) != Ok(bytes.len()) {
            return Err(Unacceptable::Forged);
        }
        let (claim, mac) = bytes.split_at(CLAIM_BYTES);
        self.mac(server, claim).verify_slice(mac).map_err(|_| Unacceptable::Forged)?;
        let word = |at: usize| claim[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let claim = Claim { number: word(0), expires: Duration::from_millis(word(8)) };
        if now < claim.expires { Ok(claim) } else { Err(Unacceptable::Expired) }
    }

    fn mac(&self, server: &str, claim: &[u8]) -> Hmac<Sha256> {
        // HMAC fills a short key with zeros itself (RFC 2104, section 2).
        let mut key = [0; 64];
        key[..32].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&key.into());
        mac.update(claim);
        mac.update(server.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: Claim = Claim { number: 7 << 20, expires: Duration::from_millis(900) };

    #[test]
    fn a_state_says_what_was_sealed_until_it_expires() {
        let secret = Secret::new([7; 32]);
        let state = secret.seal("files", CLAIM);
        assert_eq!(state.len(), STATE_BYTES);
        assert_eq!(secret.open("files", &state, Duration::from_millis(899)), Ok(CLAIM));
        assert_eq!(secret.open("files", &state, Duration::from_millis(900)), Err(Unacceptable::Expired));
    }

    #[test]
    fn a_state_with_any_byte_changed_is_forged() {
        let secret = Secret::new([7; 32]);
        let state = secret.seal("files", CLAIM);
        for at in 0..state.len() {
            let mut bytes = state.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(bytes).unwrap();
            assert_eq!(secret.open("files", &forged, Duration::ZERO), Err(Unacceptable::Forged), "{at}");
        }
        for forged in ["", "x", &state[1..], &format!("{state}A"), &"x".repeat(10_000), &"\u{e9}".repeat(32)] {
            assert_eq!(secret.open("files", forged, Duration::ZERO), Err(Unacceptable::Forged), "{forged}");
        }
    }

    #[test]
    fn a_state_of_another_server_or_process_is_forged() {
        let state = Secret::new([7; 32]).seal("files", CLAIM);
        assert_eq!(Secret::new([7; 32]).open("memory", &state, Duration::ZERO), Err(Unacceptable::Forged));
        assert_eq!(Secret::new([8; 32]).open("files", &state, Duration::ZERO), Err(Unacceptable::Forged));
    }
}
