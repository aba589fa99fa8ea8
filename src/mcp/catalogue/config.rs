//! The knobs of the catalogue.

use serde::{Deserialize, Serialize};

/// How what several servers offer becomes one catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CatalogueConfig {
    /// When a tool or prompt is shown as `{upstream}_{name}`; with one upstream names are never changed.
    pub prefix: Prefix,
    /// Entries on one page of a list.
    pub page_entries: usize,
    /// Bytes on one page of a list, unless its first entry alone is longer.
    pub page_bytes: usize,
    /// How long an upstream that is gone keeps its entries, in milliseconds.
    pub gone_ms: u64,
    /// Bytes of all rendered lists together; what the servers have sent is kept besides. What comes after in the order of
    /// the configuration is left out.
    pub bytes_max: usize,
}

/// When names are prefixed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prefix {
    /// Where two upstreams have the same name: both get a prefix, so that none takes the other's calls when it comes.
    #[default]
    OnCollision,
    /// Always.
    Always,
}

impl Default for CatalogueConfig {
    fn default() -> Self {
        Self {
            prefix: Prefix::OnCollision,
            // Many clients never ask for a second page, and no model reads a thousand tools.
            page_entries: 1000,
            // An answer that fits every client's limit on messages; the usual one is 4 MiB.
            page_bytes: 1 << 20,
            // Longer than a server takes to start anew, shorter than anybody waits for one that is gone for good.
            gone_ms: 300_000,
            // Some 100,000 tools of 400 bytes, which two kinds of revisions see in different words; a usual catalogue
            // takes 100 KiB.
            bytes_max: 96 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_are_read_by_name_and_an_unknown_one_is_an_error() {
        let config: CatalogueConfig = serde_json::from_str(r#"{"prefix":"always","gone_ms":5}"#).unwrap();
        assert_eq!((config.prefix, config.gone_ms, config.page_entries), (Prefix::Always, 5, 1000));
        assert!(serde_json::from_str::<CatalogueConfig>(r#"{"prefix":"never"}"#).is_err());
        assert!(serde_json::from_str::<CatalogueConfig>(r#"{"gone":5}"#).is_err());
    }
}
