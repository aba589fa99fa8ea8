//! The catalogue as clients see it.
