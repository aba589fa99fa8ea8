//! What one call costs, and whom: the rates that apply to it.

use std::time::Duration;

use super::{Address, Debtor, Guards, Hold, Rate, Refusal, Tenant};

/// Who calls what, as far as rates care.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// Tells the client from all others that live.
    pub client: u128,
    /// On whose account.
    pub tenant: Tenant,
    /// Where it comes from, if addresses are told apart.
    pub address: Option<Address>,
    /// The server is marked `slow`.
    pub slow: bool,
    /// The tool is `sensitive`.
    pub sensitive: bool,
}

/// Debts that a call has made. None for most: then it has cost nothing, not even a look at the clock.
#[derive(Debug, Default)]
#[must_use]
pub struct Toll([Option<(Debtor, Rate)>; 5]);

impl Guards {
    /// Charges everybody whom the call concerns, or nobody.
    ///
    /// # Errors
    /// Which rate it is over, and when it would not be.
    pub fn charge(&self, asker: &Asker) -> Result<Toll, (Refusal, Duration)> {
        let account = self.accounts.of(asker.tenant);
        let client = asker.client;
        let rates = [
            (account.slow.filter(|_| asker.slow), Debtor::Slow(client), Refusal::SlowRate),
            (account.sensitive.filter(|_| asker.sensitive), Debtor::Sensitive(client), Refusal::SensitiveRate),
            match asker.address {
                Some(address) => (self.per_address, Debtor::Address(address), Refusal::AddressRate),
                None => (None, Debtor::House, Refusal::AddressRate),
            },
            (account.calls, Debtor::Tenant(asker.tenant), Refusal::TenantRate),
            (self.in_all, Debtor::House, Refusal::HouseRate),
        ];
        let mut toll = Toll::default();
        if rates.iter().all(|(rate, ..)| rate.is_none()) {
            return Ok(toll);
        }
        let now = self.now();
        for (at, (rate, debtor, refusal)) in rates.into_iter().enumerate() {
            let Some(rate) = rate else { continue };
            if let Err(hold) = self.note(debtor, rate, 1, now) {
                self.refund(toll);
                return Err((refusal, wait(hold)));
            }
            toll.0[at] = Some((debtor, rate));
        }
        Ok(toll)
    }

    /// The call is refused all the same, for another reason.
    pub fn refund(&self, toll: Toll) {
        for (debtor, rate) in toll.0.into_iter().flatten() {
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
        let Some(rate) = self.accounts.of(tenant).bytes else { return Ok(()) };
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
