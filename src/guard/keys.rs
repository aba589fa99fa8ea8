//! The keys that tenants are known by: written once, kept and shown as hashes only.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// How a key begins that is written as its hash.
const HASHED: &str = "sha256:";

/// Keys as a file has them: in clear, as references to the environment, or as `sha256:` and the hash in hexadecimal. What
/// is in clear is printed as its hash, which means the same.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Keys(pub Vec<String>);

/// The SHA-256 of a key. Who compares hashes tells by the time it takes nothing of use: nobody can choose keys so that
/// their hashes come near to one that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Of what a client has shown.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Of a key as it is written in a configuration, its references replaced.
    ///
    /// # Errors
    /// What is wrong with it, without its text.
    pub(super) fn read(key: &str) -> Result<Self, &'static str> {
        if let Some(hex) = key.strip_prefix(HASHED) {
            return from_hex(hex).map(Self).ok_or("has `sha256:` without 64 hexadecimal digits behind it");
        }
        if key.is_empty() {
            return Err("is empty");
        }
        // What a header line can carry, and a list in one.
        let is_good = key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        if is_good { Ok(Self::of(key)) } else { Err("has a space, a comma or something else that cannot be sent") }
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HASHED)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} hidden]", self.0.len())
    }
}

impl Serialize for Keys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|key| {
            let is_shown = key.is_empty() || key.contains("${") || key.starts_with(HASHED);
            if is_shown { key.clone() } else { KeyHash::of(key).to_string() }
        }))
    }
}

fn from_hex(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok().filter(|_| !hex[2 * at..].starts_with('+'))?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_in_clear_and_as_its_hash() {
        let hash = KeyHash::of("abc");
        // FIPS 180-4, the first example.
        assert_eq!(hash.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(KeyHash::read("abc"), Ok(hash));
        assert_eq!(KeyHash::read(&hash.to_string()), Ok(hash));
        for wrong in ["", "a b", "a,b", "ä", "sha256:", "sha256:zz", &format!("sha256:{}", "+1".repeat(32))] {
            assert!(KeyHash::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_key_is_shown() {
        let keys = Keys(vec!["abc".into(), "${KEY}".into()]);
        assert_eq!(format!("{keys:?}"), "[2 hidden]");
        let printed = serde_json::to_string(&keys).expect("a list");
        assert_eq!(printed, format!(r#"["{}","${{KEY}}"]"#, KeyHash::of("abc")));
    }
}
