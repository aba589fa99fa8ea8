//! A changed configuration, put in force while clients stay: the upstreams, the catalogue, the guards with their plans and
//! tenants, the marks and levels of alarms, the log. What else has changed waits for a restart, and is named.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::inherit::Inherited;
use super::lookout::Lookout;
use super::upstreams::{Changes, Upstreams};
use crate::admin::Unreloaded;
use crate::config::{Config, Unfit};
use crate::conn::House;
use crate::guard;
use crate::meter::Host;
use crate::monitor::Profiler;
use crate::monitor::capacity::AlarmsConfig;

/// What the program around a tree lends it.
#[derive(Default)]
pub struct Ground {
    /// Reads the configuration again.
    pub reread: Option<Box<Reread>>,
    /// Puts other log directives in force.
    pub relog: Option<Box<Relog>>,
    /// Listening sockets that were there before.
    pub inherited: Option<Inherited>,
    /// Set once the process is asked to end: a start then waits for nobody.
    pub ending: Arc<AtomicBool>,
}

/// Reads a configuration, or says why it cannot.
pub type Reread = dyn Fn() -> Result<Config, String> + Send + Sync;
/// Takes log directives, or says why it does not.
pub type Relog = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// What a reload has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// The upstreams.
    #[serde(flatten)]
    pub upstreams: Changes,
    /// Other knobs that are in force now.
    pub applied: Vec<String>,
    /// Knobs that have changed and need a restart.
    pub left: Vec<String>,
}

/// Puts one configuration in force after another.
pub(super) struct Reloader {
    pub(super) ground: Ground,
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) house: Arc<House>,
    pub(super) lookout: Arc<Lookout>,
    pub(super) profiler: Arc<Mutex<Profiler>>,
    pub(super) in_force: Mutex<Config>,
}

impl Reloader {
    /// One after another: two at once would mix.
    pub(super) fn reload(&self) -> Result<Reloaded, Unreloaded> {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let reread = self.ground.reread.as_ref().ok_or(Unreloaded::NoSource)?;
        let wanted = reread().map_err(Unreloaded::Refused)?;
        let (refused, host) = (|unfit: Unfit| Unreloaded::Refused(unfit.to_string()), Host::read());
        wanted.plan(&host).map_err(refused)?;
        let mut told = Reloaded::default();
        let mut next = following(&in_force, &wanted);
        // It is checked as it will be, too: what waits for a restart may not go with what does not.
        next.plan(&host).map_err(refused)?;
        // With the knobs that are in force: a limit that waits for a restart is no reason to restart an upstream.
        let (ones, roster) = (next.upstreams().map_err(refused)?, next.roster().map_err(refused)?);
        if wanted.log != in_force.log
            && let Some(relog) = &self.ground.relog
        {
            relog(&wanted.log).map_err(Unreloaded::Refused)?;
            next.log.clone_from(&wanted.log);
        }
        let gone = self.house.follow(&next.guard, roster).map_err(|error| {
            // Who refuses has changed nothing.
            if let Some(relog) = self.ground.relog.as_ref().filter(|_| next.log != in_force.log)
                && let Err(why) = relog(&in_force.log)
            {
                tracing::error!(why, "the log directives from before are not taken back");
            }
            Unreloaded::Refused(error.to_string())
        })?;
        for tenant in gone {
            tracing::warn!(tenant, "is no tenant any more; for its clients who are in, `plans.default` is in force");
        }
        self.lookout.follow(&next);
        self.profiler.lock().unwrap_or_else(PoisonError::into_inner).follow(&next.monitor);
        told.left = wanted.difference(&next);
        told.applied = next.difference(&in_force).into_iter().filter(|knob| !knob.starts_with("upstreams.")).collect();
        let applied = self.upstreams.apply(&next, ones);
        // Also if an upstream could not be started: all else is in force, and the next reload tries that one again.
        *in_force = next;
        told.upstreams = applied.map_err(Unreloaded::Broken)?;
        for knob in &told.left {
            tracing::warn!(knob, "has changed; it is in force after a restart");
        }
        let Changes { added, removed, restarted } = &told.upstreams;
        tracing::info!(?added, ?removed, ?restarted, applied = ?told.applied, "reloaded");
        Ok(told)
    }
}

/// What is in force, with all of what is wanted that needs no restart. `log` is not in it: it may still be refused.
fn following(in_force: &Config, wanted: &Config) -> Config {
    let mut next = in_force.clone();
    (next.upstreams, next.catalogue) = (wanted.upstreams.clone(), wanted.catalogue.clone());
    next.embedded.offered = wanted.embedded.offered;
    (next.plans, next.tenants) = (wanted.plans.clone(), wanted.tenants.clone());
    next.guard = guard::Config {
        // Slots and descriptors are planned for so many, and the book of debts is laid out for so many.
        connections_max: in_force.guard.connections_max,
        debtors_max: in_force.guard.debtors_max,
        ..wanted.guard.clone()
    };
    next.capacity = wanted.capacity.clone();
    next.alarms = AlarmsConfig {
        // Who posts them is a child of the tree, or is not there.
        webhook: in_force.alarms.webhook.clone(),
        webhook_tries: in_force.alarms.webhook_tries,
        ..wanted.alarms.clone()
    };
    next.monitor = in_force.monitor.following(&wanted.monitor);
    next
}
