//! What one call costs, and whom: the rates that apply to it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Address, Debtor, Guards, Hold, Rate, Refusal, Tenant};

/// Who calls what, as far as rates care.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// Tells the client from all others that live.
    pub client: u128,
    /// On whose account.
    pub tenant: Tenant,
    /// Where it comes from, where that is told apart.
    pub address: Option<Address>,
    /// The server is marked `slow`.
    pub slow: bool,
    /// The tool is `sensitive`.
    pub sensitive: bool,
}

/// Debts that a call has made. None for most: then it has cost nothing, not even a look at the clock.
#[derive(Debug, Default)]
#[must_use]
pub struct Toll(Vec<(Debtor, Rate)>);

impl Guards {
    /// Charges everybody whom the call concerns, or nobody.
    ///
    /// # Errors
    /// Which rate it is over, and when it would not be.
    pub fn charge(&self, asker: &Asker) -> Result<Toll, (Refusal, Duration)> {
        let rules = self.rules();
        let account = rules.accounts.of(asker.tenant);
        let (is_rated, client) = (asker.slow || asker.sensitive, asker.client);
        if !is_rated && account.calls.is_none() && rules.in_all.is_none() && rules.per_address.is_none() {
            return Ok(Toll::default());
        }
        let address = asker.address.zip(rules.per_address);
        let rates = [
            account.slow.filter(|_| asker.slow).map(|rate| (Debtor::Slow(client), rate, Refusal::SlowRate)),
            account
                .sensitive
                .filter(|_| asker.sensitive)
                .map(|rate| (Debtor::Sensitive(client), rate, Refusal::SensitiveRate)),
            address.map(|(address, rate)| (Debtor::Address(address), rate, Refusal::AddressRate)),
            account.calls.map(|rate| (Debtor::Tenant(asker.tenant), rate, Refusal::TenantRate)),
            rules.in_all.map(|rate| (Debtor::House, rate, Refusal::HouseRate)),
        ];
        let (mut toll, now) = (Toll::default(), self.now());
        for (debtor, rate, refusal) in rates.into_iter().flatten() {
            if let Err(hold) = self.note(debtor, rate, 1, now) {
                self.refund(toll);
                return Err((refusal, wait(hold)));
            }
            toll.0.push((debtor, rate));
        }
        Ok(toll)
    }

    /// The call is refused all the same, for another reason.
    pub fn refund(&self, toll: Toll) {
        for (debtor, rate) in toll.0 {
            self.debts.refund(debtor, rate, 1);
        }
    }

    /// Charges a client for bytes that it has sent.
    ///
    /// # Errors
    /// When they are too many, with the time after which they would not be.
    pub fn weigh(
        &self,
        client: impl FnOnce() -> u128,
        tenant: Tenant,
        bytes: usize,
    ) -> Result<(), (Refusal, Duration)> {
        if !self.weighs.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Some(rate) = self.rules().accounts.of(tenant).bytes else { return Ok(()) };
        let noted = self.note(Debtor::Bytes(client()), rate, bytes as u64, self.now());
        noted.map_err(|hold| (Refusal::BytesRate, wait(hold)))
    }
}

fn wait(hold: Hold) -> Duration {
    match hold {
        Hold::Wait(time) => time,
        // More at once than in a whole minute: the knobs do not allow that.
        Hold::Never => Duration::from_secs(60),
    }
}
