//! On whose account a client asks: who the tenants are, and what each has left of its plan.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::door::if_limited;
use super::keys::{KeyHash, Keys};
use super::{Plan, Rate, Refusal, Seats};

/// A tenant, by its place among the configured ones; 0 is everybody who is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(pub u16);

/// What of a tenant's plan matters in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Its part of what is there, against the others' weights.
    pub weight: u16,
    /// Higher ones are served first; equal ones share by weight.
    pub priority: u8,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: 1, priority: 0 }
    }
}

/// The knobs of `[tenants.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantConfig {
    /// Its plan, one of `[plans]`.
    pub plan: String,
    /// What its clients show, in clear, as `${VARIABLE}`, or as `sha256:` and the hash in hexadecimal.
    pub keys: Keys,
}

impl Default for TenantConfig {
    fn default() -> Self {
        Self { plan: EVERYBODY.into(), keys: Keys::default() }
    }
}

/// The plan of everybody who is not known, and how they are called together.
pub const EVERYBODY: &str = "default";

/// Who the tenants are, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// Names and plans by [`Tenant`].
    tenants: Vec<(String, Plan)>,
    keys: HashMap<KeyHash, Tenant>,
}

/// The accounts of all tenants.
pub struct Accounts {
    all: Vec<Account>,
    keys: HashMap<KeyHash, Tenant>,
}

/// What one tenant may, and what is in use of it.
pub struct Account {
    /// Its name in the configuration.
    pub name: Box<str>,
    pub(super) slow: Option<Rate>,
    pub(super) sensitive: Option<Rate>,
    pub(super) bytes: Option<Rate>,
    pub(super) calls: Option<Rate>,
    /// Calls of one client that may wait, if that is not as for everybody.
    pub(super) client_in_flight_max: Option<usize>,
    /// What it gets in a queue.
    pub share: Share,
    /// Its connections: counted also while they are not limited, as they may be after a reload.
    pub connections: Arc<Seats>,
    /// Its sessions over HTTP, as its connections.
    pub sessions: Arc<Seats>,
    /// Where its calls take their places: within those of the house.
    pub in_flight: Arc<Seats>,
    /// Whether those are its own.
    limits_in_flight: bool,
    /// Configured, and not only remembered for those of its clients who are in.
    is_known: bool,
}

/// More tenants have come and gone than have a number.
#[derive(Debug, thiserror::Error)]
#[error("over 65535 tenants have come and gone since the start; restart to know more")]
pub struct TooManyTenants;

impl Default for Roster {
    fn default() -> Self {
        Self { tenants: vec![(EVERYBODY.into(), Plan::default())], keys: HashMap::new() }
    }
}

impl Roster {
    /// Reads what is configured; `expand` replaces the references in a text.
    ///
    /// # Errors
    /// Everything that is wrong with it, without any key.
    pub fn read(
        plans: &BTreeMap<String, Plan>,
        tenants: &BTreeMap<String, TenantConfig>,
        expand: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Self, Vec<String>> {
        let (mut roster, mut wrong) = (Self::default(), Vec::new());
        if let Some(plan) = plans.get(EVERYBODY) {
            roster.tenants[0].1 = plan.clone();
        }
        let zero = plans.iter().filter(|(_, plan)| plan.weight == 0);
        wrong.extend(zero.map(|(name, _)| format!("`plans.{name}.weight` is 0: it would never be served; raise it")));
        for (name, config) in tenants {
            let Ok(place) = u16::try_from(roster.tenants.len()) else {
                wrong.push(format!("`tenants.{name}` is one of over 65535; leave some"));
                break;
            };
            let Some(plan) = plans.get(&config.plan) else {
                wrong.push(format!("`tenants.{name}.plan` is {:?}, and there is no such plan", config.plan));
                continue;
            };
            roster.tenants.push((name.clone(), plan.clone()));
            for (at, key) in config.keys.0.iter().enumerate() {
                let read = expand(key).and_then(|key| KeyHash::read(&key).map_err(Into::into));
                match read.map(|hash| roster.keys.insert(hash, Tenant(place))) {
                    Ok(None) => {}
                    Ok(Some(Tenant(other))) => {
                        let other = &roster.tenants[usize::from(other)].0;
                        wrong.push(format!("`tenants.{name}.keys[{at}]` is a key of `tenants.{other}`, too"));
                    }
                    Err(why) => wrong.push(format!("`tenants.{name}.keys[{at}]` {why}")),
                }
            }
        }
        if wrong.is_empty() { Ok(roster) } else { Err(wrong) }
    }
}

impl Accounts {
    /// `in_flight`: the places of the house for calls that wait.
    pub(super) fn new(roster: Roster, in_flight: &Arc<Seats>) -> Self {
        let open = |(name, plan): &(String, Plan)| Account::new(name, plan, in_flight, None);
        Self { all: roster.tenants.iter().map(open).collect(), keys: roster.keys }
    }

    /// The same with another roster. Whoever is there still, or was there once, has the number that it had, and what is in use
    /// of its seats. Those who are no more are named, once.
    pub(super) fn follow(&self, roster: Roster, in_flight: &Arc<Seats>) -> Result<(Self, Vec<String>), TooManyTenants> {
        let Roster { tenants, keys } = roster;
        let known: HashMap<&str, usize> = self.all.iter().zip(0..).skip(1).map(|(one, at)| (&*one.name, at)).collect();
        let mut plans: Vec<(&str, Option<&Plan>)> = self.all.iter().map(|one| (&*one.name, None)).collect();
        let mut numbers = Vec::with_capacity(tenants.len());
        for (place, (name, plan)) in tenants.iter().enumerate() {
            // The first is everybody, whatever others are called.
            let at = if place == 0 { 0 } else { known.get(name.as_str()).copied().unwrap_or(plans.len()) };
            if at == plans.len() {
                plans.push((name, None));
            }
            plans[at].1 = Some(plan);
            numbers.push(Tenant(u16::try_from(at).map_err(|_| TooManyTenants)?));
        }
        let everybodys = &tenants[0].1;
        let gone = self.all.iter().zip(&plans).filter(|(one, (_, plan))| one.is_known && plan.is_none());
        let gone = gone.map(|(one, _)| one.name.to_string()).collect();
        let open = |(at, (name, plan)): (usize, &(&str, Option<&Plan>))| {
            let account = Account::new(name, plan.unwrap_or(everybodys), in_flight, self.all.get(at));
            Account { is_known: plan.is_some(), ..account }
        };
        let all = plans.iter().enumerate().map(open).collect();
        let keys = keys.into_iter().map(|(key, Tenant(place))| (key, numbers[usize::from(place)])).collect();
        Ok((Self { all, keys }, gone))
    }

    /// Whether anybody's bytes are limited.
    pub(super) fn weigh(&self) -> bool {
        self.all.iter().any(|account| account.bytes.is_some())
    }

    /// Whether anybody is known by a key: else nobody needs to look for one.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whose key this is, if anybody's.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<Tenant> {
        self.keys.get(&KeyHash::of(key)).copied()
    }

    /// The tenant of that name, also one that is no more.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Tenant> {
        self.all.iter().zip(0..).skip(1).find(|(account, _)| &*account.name == name).map(|(_, number)| Tenant(number))
    }

    /// A tenant's account.
    #[must_use]
    pub fn of(&self, tenant: Tenant) -> &Account {
        // Nobody makes a tenant but [`Self::find`]; what is none is everybody.
        self.all.get(usize::from(tenant.0)).unwrap_or(&self.all[0])
    }

    /// All of them, the first for everybody who is not known.
    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.all.iter()
    }
}

impl Account {
    /// `before`: the same one's account by another plan, which ends; what is in use of it goes on being so.
    pub(super) fn new(name: &str, plan: &Plan, in_flight: &Arc<Seats>, before: Option<&Self>) -> Self {
        let seats = |before: Option<&Arc<Seats>>, max: usize, full| {
            let seats = before.map_or_else(|| Seats::within(0, full, []), Arc::clone);
            seats.set_max(if_limited(max));
            seats
        };
        let own = before.filter(|before| before.limits_in_flight).map(|before| &before.in_flight);
        Self {
            name: name.into(),
            slow: Rate::per_minute(plan.slow_calls_per_minute),
            sensitive: Rate::per_minute(plan.sensitive_calls_per_minute),
            bytes: Rate::per_minute(plan.bytes_per_minute),
            calls: Rate::per_minute(plan.tenant_calls_per_minute),
            client_in_flight_max: (plan.in_flight_max > 0).then_some(plan.in_flight_max),
            share: Share { weight: plan.weight, priority: plan.priority },
            connections: seats(before.map(|it| &it.connections), plan.tenant_connections_max, Refusal::TenantFull),
            sessions: seats(before.map(|it| &it.sessions), plan.tenant_sessions_max, Refusal::TenantSessionsFull),
            limits_in_flight: plan.tenant_in_flight_max > 0,
            in_flight: match plan.tenant_in_flight_max {
                0 => Arc::clone(in_flight),
                max => {
                    let new = || Seats::within(max, Refusal::TenantInFlight, [Arc::clone(in_flight)]);
                    let seats = own.map_or_else(new, Arc::clone);
                    seats.set_max(max);
                    seats
                }
            },
            is_known: true,
        }
    }

    /// What of it is limited, by name.
    pub fn limited(&self) -> impl Iterator<Item = (&str, &'static str, &Seats)> {
        let all = [
            ("connections", &self.connections, self.connections.max() < usize::MAX),
            ("sessions", &self.sessions, self.sessions.max() < usize::MAX),
            ("calls_in_flight", &self.in_flight, self.limits_in_flight),
        ];
        let limited = all.into_iter().filter(|(_, _, is_limited)| *is_limited && self.is_known);
        limited.map(|(of, seats, _)| (&*self.name, of, &**seats))
    }

    /// Calls of one client that may wait; `everybodys` where its plan does not say.
    #[must_use]
    pub fn client_in_flight_max(&self, everybodys: usize) -> usize {
        self.client_in_flight_max.unwrap_or(everybodys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Roster, String> {
        #[derive(Deserialize)]
        struct File {
            plans: BTreeMap<String, Plan>,
            #[serde(default)]
            tenants: BTreeMap<String, TenantConfig>,
        }
        let file: File = toml::from_str(text).expect("knobs");
        let expand = |text: &str| match text {
            "${NONE}" => Err("refers to ${NONE}, which is not set".to_owned()),
            text => Ok(text.replace("${KEY}", "secret")),
        };
        Roster::read(&file.plans, &file.tenants, &expand).map_err(|wrong| wrong.join("\n"))
    }

    #[test]
    fn tenants_are_known_by_any_of_their_keys_and_others_are_everybody() {
        let text = "[plans.default]\nslow_calls_per_minute = 5\n[plans.gold]\nweight = 4\npriority = 2\n\
                    [tenants.a]\nplan = \"gold\"\nkeys = [\"${KEY}\", \"other\"]\n[tenants.b]\nkeys = [\"b\"]";
        let accounts = Accounts::new(read(text).expect("a roster"), &Seats::new(9));
        assert_eq!([accounts.find("secret"), accounts.find("other")], [Some(Tenant(1)); 2]);
        assert_eq!((accounts.find("b"), accounts.find("c"), accounts.find("")), (Some(Tenant(2)), None, None));
        let [a, b, nobody] = [1, 2, 0].map(|place| accounts.of(Tenant(place)));
        assert_eq!((&*a.name, a.share), ("a", Share { weight: 4, priority: 2 }));
        assert_eq!((&*b.name, b.share), ("b", Share::default()));
        assert_eq!((&*nobody.name, nobody.slow), (EVERYBODY, Rate::per_minute(5)));
        assert_eq!(accounts.of(Tenant(77)).name, nobody.name);
    }

    #[test]
    fn what_is_wrong_is_told_at_once_and_without_a_key() {
        let text = "[plans.default]\nweight = 0\n[tenants.a]\nkeys = [\"hush\", \"${NONE}\", \"a b\"]\n\
                    [tenants.b]\nkeys = [\"hush\"]\n[tenants.c]\nplan = \"lead\"";
        let told = read(text).expect_err("much is wrong");
        for words in [
            "`plans.default.weight` is 0",
            "`tenants.a.keys[1]` refers to ${NONE}",
            "`tenants.a.keys[2]` has a space",
            "`tenants.b.keys[0]` is a key of `tenants.a`, too",
            "`tenants.c.plan` is \"lead\"",
        ] {
            assert!(told.contains(words), "{words} in {told}");
        }
        assert!(!told.contains("hush"), "{told}");
    }
}
