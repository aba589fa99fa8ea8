//! Bytes to frames to envelopes: every byte format a client may speak, pure (no socket, no clock, no thread).
//!
//! A connection's bytes meet the files in this order: [`dialect`] (what is spoken here?), [`http`] (the upgrade),
//! [`ws`] or [`line`](mod@line) (where a message ends), [`envelope`] (what the message is), [`json`] (what is inside it).

use serde::{Deserialize, Serialize};

/// Declares an enum whose variants have names (for counters and logs) and can be listed.
///
/// `meter` has the same for its tallies, but stands on the same floor, and two rooms on one floor never meet.
macro_rules! listed {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of [`index`](Self::index).
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The variant's place in [`ALL`](Self::ALL).
            pub fn index(self) -> usize {
                self as usize
            }

            /// The variant's name in counters and logs.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

pub mod dialect;
pub mod envelope;
pub mod http;
pub mod json;
pub mod line;
pub mod sse;
pub mod ws;

/// How much of a client's bytes is taken in, and from where a browser may come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Longest message, in bytes: a line without its end, or a WebSocket message with all its fragments.
    pub message_bytes_max: usize,
    /// Longest payload of one WebSocket frame, in bytes.
    pub frame_bytes_max: usize,
    /// Longest head of an HTTP request, in bytes, request line and blank line included.
    pub head_bytes_max: usize,
    /// Values of `Host` accepted besides the loopback ones; with or without a port; `*` accepts any.
    pub hosts_allowed: Vec<String>,
    /// Values of `Origin` accepted besides the loopback ones, as `scheme://host[:port]`; `*` accepts any.
    pub origins_allowed: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Room for a picture in base64 in a tool's arguments; what is larger belongs in a resource.
            message_bytes_max: 4 << 20,
            // No smaller than a message: SDK clients don't fragment.
            frame_bytes_max: 4 << 20,
            // What nginx and Node take; room for the cookies of a browser.
            head_bytes_max: 16 << 10,
            // Loopback only: a page that rebinds its name to 127.0.0.1 must not reach a developer's tools.
            hosts_allowed: Vec::new(),
            origins_allowed: Vec::new(),
        }
    }
}

impl Config {
    /// What this allows on a WebSocket.
    pub fn rules(&self, role: ws::Role) -> ws::Rules {
        ws::Rules { role, frame_bytes_max: self.frame_bytes_max, message_bytes_max: self.message_bytes_max }
    }
}

/// Checks UTF-8, with the check that is the faster one for the length.
pub(crate) fn utf8(bytes: &[u8]) -> Option<&str> {
    if bytes.len() < 64 { std::str::from_utf8(bytes).ok() } else { simdutf8::basic::from_utf8(bytes).ok() }
}
