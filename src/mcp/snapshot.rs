//! A session as a few bytes: written for a hand-over, read back the same.
//!
//! Format 3, all lengths in bytes: `format 1 · phase 1 · revision 1 · log level 1 · has profile 1`, then, with a profile,
//! `capabilities 2 (little endian) · name length 1 · name · version length 1 · version · declared length 2 · declared`.

use crate::mcp::method::Level;
use crate::mcp::profile::{Capability, DECLARED_MAX, NAME_MAX, Profile, Profiles, VERSION_MAX};
use crate::mcp::revision::{Era, Revision};
use crate::mcp::session::{Phase, Session};
use crate::wire::json;

const FORMAT: u8 = 3;
/// The log level of a client that has set none.
const NO_LEVEL: u8 = 255;

/// Why bytes are no snapshot of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The snapshot goes on behind the bytes.
    #[error("the snapshot ends too early")]
    Short,
    /// A format that this version of lakh does not know; 0 is none.
    #[error("snapshot format {0} is unknown; this version reads format 3")]
    Format(u8),
    /// A field has a value that it can't have.
    #[error("the snapshot's {0} is invalid")]
    Field(&'static str),
}

/// Appends the snapshot of `session`: 5 bytes, and with a profile at most 100 more and what it has declared.
pub fn encode(session: &Session, out: &mut Vec<u8>) {
    let (phase, revision) = match session.phase() {
        Phase::New => (0, 0),
        Phase::Agreed(revision) => (1, revision as u8),
        Phase::Ready(revision) => (2, revision as u8),
    };
    let profile = session.profile();
    let level = session.level().map_or(NO_LEVEL, |level| level as u8);
    out.extend_from_slice(&[FORMAT, phase, revision, level, u8::from(profile.is_some())]);
    if let Some(profile) = profile {
        out.extend_from_slice(&profile.capabilities.to_le_bytes());
        for text in [&profile.name, &profile.version] {
            debug_assert!(text.len() <= NAME_MAX.max(VERSION_MAX));
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
        debug_assert!(profile.declared.len() <= DECLARED_MAX);
        out.extend_from_slice(&(profile.declared.len() as u16).to_le_bytes());
        out.extend_from_slice(profile.declared.as_bytes());
    }
}

/// Reads the snapshot at the front of `bytes`; what follows it is returned too. The profile is shared through `profiles`,
/// and becomes the unlisted one where that table is full.
pub fn decode<'b>(bytes: &'b [u8], profiles: &mut Profiles) -> Result<(Session, &'b [u8]), Unreadable> {
    let (&format, mut rest) = bytes.split_first().ok_or(Unreadable::Short)?;
    if format != FORMAT {
        return Err(Unreadable::Format(format));
    }
    let phase = match (take_byte(&mut rest)?, take_byte(&mut rest)?) {
        (0, 0) => Phase::New,
        (1, revision) => Phase::Agreed(legacy(revision)?),
        (2, revision) => Phase::Ready(legacy(revision)?),
        _ => return Err(Unreadable::Field("phase")),
    };
    let level = match take_byte(&mut rest)? {
        NO_LEVEL => None,
        level => Some(*Level::ALL.get(usize::from(level)).ok_or(Unreadable::Field("log level"))?),
    };
    let profile = match take_byte(&mut rest)? {
        0 => None,
        1 => Some(profiles.intern(take_profile(&mut rest)?)),
        _ => return Err(Unreadable::Field("profile mark")),
    };
    Ok((Session::resumed(phase, profile, level), rest))
}

fn legacy(revision: u8) -> Result<Revision, Unreadable> {
    let known = Revision::ALL.get(usize::from(revision)).copied();
    known.filter(|known| known.era() == Era::Legacy).ok_or(Unreadable::Field("revision"))
}

fn take_profile(rest: &mut &[u8]) -> Result<Profile, Unreadable> {
    let capabilities = u16::from_le_bytes([take_byte(rest)?, take_byte(rest)?]);
    let name = take_text(rest, NAME_MAX, "client name")?;
    let version = take_text(rest, VERSION_MAX, "client version")?;
    let declared = take_declared(rest)?;
    let profile = Profile { name, version, capabilities, declared };
    match profile.can(Capability::Unlisted) && profile != Profile::unlisted() {
        true => Err(Unreadable::Field("capabilities")),
        false => Ok(profile),
    }
}

fn take_text(rest: &mut &[u8], most: usize, field: &'static str) -> Result<Box<str>, Unreadable> {
    let length = usize::from(take_byte(rest)?);
    take_long_text(rest, length, most, field)
}

fn take_declared(rest: &mut &[u8]) -> Result<Box<str>, Unreadable> {
    let length = u16::from_le_bytes([take_byte(rest)?, take_byte(rest)?]);
    let text = take_long_text(rest, length.into(), DECLARED_MAX, "declared capabilities")?;
    // It is told to servers as it is.
    let whole = text.is_empty() || text.starts_with('{') && json::check(&text).is_ok();
    whole.then_some(text).ok_or(Unreadable::Field("declared capabilities"))
}

fn take_long_text(rest: &mut &[u8], length: usize, most: usize, field: &'static str) -> Result<Box<str>, Unreadable> {
    let (text, behind) = rest.split_at_checked(length).ok_or(Unreadable::Short)?;
    *rest = behind;
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= most);
    text.map(Into::into).ok_or(Unreadable::Field(field))
}

fn take_byte(rest: &mut &[u8]) -> Result<u8, Unreadable> {
    let (&byte, behind) = rest.split_first().ok_or(Unreadable::Short)?;
    *rest = behind;
    Ok(byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn phases() -> impl Strategy<Value = Phase> {
        let legacy = || (0..4_usize).prop_map(|place| Revision::ALL[place]);
        prop_oneof![Just(Phase::New), legacy().prop_map(Phase::Agreed), legacy().prop_map(Phase::Ready)]
    }

    fn profiles() -> impl Strategy<Value = Profile> {
        let declared = proptest::sample::select(&["", r#"{"roots":{}}"#, r#"{"x":{"y":[1]}}"#][..]);
        (".{0,16}", ".{0,8}", any::<u8>().prop_map(|bits| u16::from(bits & 0x7f)), declared).prop_map(
            |(name, version, capabilities, declared)| Profile {
                name: name.into(),
                version: version.into(),
                capabilities,
                declared: declared.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn a_session_returns_as_it_was(
            phase in phases(),
            profile in proptest::option::of(profiles()),
            level in proptest::option::of(proptest::sample::select(&Level::ALL[..])),
            behind in any::<Vec<u8>>(),
        ) {
            let mut table = Profiles::new(16);
            let session = Session::resumed(phase, profile.map(|profile| table.intern(profile)), level);
            let mut bytes = Vec::new();
            encode(&session, &mut bytes);
            let length = bytes.len();
            bytes.extend_from_slice(&behind);
            let (read, rest) = decode(&bytes, &mut table).unwrap();
            prop_assert_eq!(&read, &session);
            prop_assert_eq!(rest, &behind[..]);
            for short in 0..length {
                prop_assert_eq!(decode(&bytes[..short], &mut table), Err(Unreadable::Short));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(head in (0..4_u8, 0..6_u8, 0..10_u8, 0..3_u8), rest in "[\0-\x08a]{0,24}") {
            let bytes = [&[FORMAT, head.0, head.1, head.2, head.3], rest.as_bytes()].concat();
            let mut table = Profiles::new(4);
            if let Ok((session, rest)) = decode(&bytes, &mut table) {
                let mut again = Vec::new();
                encode(&session, &mut again);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - rest.len()]);
            }
        }
    }

    #[test]
    fn what_no_session_can_be_is_refused_by_name() {
        let mut table = Profiles::new(4);
        let mut read = |bytes: &[u8]| decode(bytes, &mut table).unwrap_err();
        assert_eq!(read(&[1, 0, 0, 255, 0]), Unreadable::Format(1));
        assert_eq!(read(&[3, 3, 0, 255, 0]), Unreadable::Field("phase"));
        assert_eq!(read(&[3, 0, 1, 255, 0]), Unreadable::Field("phase"));
        assert_eq!(read(&[3, 2, 4, 255, 0]), Unreadable::Field("revision"));
        assert_eq!(read(&[3, 0, 0, 8, 0]), Unreadable::Field("log level"));
        assert_eq!(read(&[3, 0, 0, 255, 2]), Unreadable::Field("profile mark"));
        assert_eq!(read(&[3, 0, 0, 255, 1, 0, 0, 1, 0xff, 0]), Unreadable::Field("client name"));
        let long = [&[3, 0, 0, 255, 1, 0, 0, 0, 33][..], &[b'v'; 33]].concat();
        assert_eq!(read(&long), Unreadable::Field("client version"));
        assert_eq!(read(&[3, 0, 0, 255, 1, 0, 0, 0, 0, 1, 0, b'{']), Unreadable::Field("declared capabilities"));
    }
}
