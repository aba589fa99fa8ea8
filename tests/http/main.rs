//! Streamable HTTP through the real wire: sessions, streams, both eras, and what must be refused.

#[path = "../peer/mod.rs"]
mod peer;

mod legacy;
mod letters;
mod modern;
mod old;
mod refused;
mod streams;
