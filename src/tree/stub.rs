//! Stands in for an upstream's life until that is there.

use std::sync::Arc;

use tokio::sync::watch;

use crate::actor::News;
use crate::upstream::config::Knobs;
use crate::upstream::link::Target;
use crate::upstream::{Loudness, Standing, Upstream};

pub(super) struct Shared {
    pub(super) offers: Box<dyn Fn(&Arc<Upstream>, Standing) + Send + Sync>,
    pub(super) spread: Box<dyn Fn(News) + Send + Sync>,
    pub(super) loudness: Arc<Loudness>,
}

pub(super) async fn live(
    _upstream: Arc<Upstream>,
    _target: Target,
    _knobs: Knobs,
    _shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let _ = stop.wait_for(|stop| *stop).await;
}
