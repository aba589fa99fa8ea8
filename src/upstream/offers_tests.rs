//! Offers as upstreams come, change and go.
