//! Checks that text which comes in pieces is UTF-8, failing as soon as it can't be any more.

/// The unfinished character at the end of the last piece.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Utf8 {
    bytes: [u8; 3],
    len: u8,
}

impl Utf8 {
    /// `length 1 · bytes 3`, zero where no byte is.
    pub(super) fn to_bytes(self) -> [u8; 4] {
        let mut bytes = [self.len, 0, 0, 0];
        let len = usize::from(self.len);
        bytes[1..=len].copy_from_slice(&self.bytes[..len]);
        bytes
    }

    /// What [`Self::to_bytes`] gave; nothing if the bytes are no beginning of a character.
    pub(super) fn from_bytes([len, bytes @ ..]: [u8; 4]) -> Option<Self> {
        let (character, behind) = bytes.split_at_checked(len.into())?;
        let begun = match std::str::from_utf8(character) {
            Ok(_) => character.is_empty(),
            Err(error) => error.valid_up_to() == 0 && error.error_len().is_none(),
        };
        (begun && behind.iter().all(|&byte| byte == 0)).then_some(Self { bytes, len })
    }

    /// Whether the text is still UTF-8 with this piece; with the `last` one, whether it is complete.
    pub(super) fn push(&mut self, piece: &[u8], last: bool) -> bool {
        let Some(taken) = self.finish_character(piece) else {
            return false;
        };
        match simdutf8::compat::from_utf8(&piece[taken..]) {
            Ok(_) => {}
            Err(error) if error.error_len().is_some() => return false,
            Err(error) => {
                let rest = &piece[taken + error.valid_up_to()..];
                self.bytes[..rest.len()].copy_from_slice(rest);
                self.len = rest.len() as u8;
            }
        }
        !last || self.len == 0
    }

    /// Completes the character that the last piece broke off; how many bytes it took, `None` if it is none.
    fn finish_character(&mut self, piece: &[u8]) -> Option<usize> {
        if self.len == 0 {
            return Some(0);
        }
        let had = usize::from(self.len);
        let mut character = [0; 4];
        character[..had].copy_from_slice(&self.bytes[..had]);
        for (taken, &byte) in piece.iter().enumerate() {
            let len = had + taken + 1;
            // An unfinished character has at most 3 bytes, and with the fourth it is finished or wrong.
            character[len - 1] = byte;
            match std::str::from_utf8(&character[..len]) {
                Ok(_) => {
                    self.len = 0;
                    return Some(taken + 1);
                }
                Err(error) if error.error_len().is_some() => return None,
                Err(_) => {}
            }
        }
        // All of the piece was taken, and the character still wants more.
        let len = had + piece.len();
        self.bytes.copy_from_slice(&character[..3]);
        self.len = len as u8;
        Some(piece.len())
    }
}
