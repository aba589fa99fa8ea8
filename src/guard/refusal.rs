//! Every way in which the guards say no, and what is said.

crate::named! {
    /// Why somebody, or a call, was not let in.
    pub enum Refusal {
        /// Every seat is taken (`guard.connections_max`).
        HouseFull = "house_full",
        /// This shard's descriptor table is full, though the house is not: more shards would help.
        ShardFull = "shard_full",
        /// The acceptor found no free descriptor and pauses.
        NoDescriptor = "no_descriptor",
        /// More come at once than are let in (`guard.accepts_per_s`).
        TooManyArrivals = "too_many_arrivals",
        /// Too many are connected from one address (`guard.connections_per_address_max`).
        AddressFull = "address_full",
        /// Too many of one tenant are connected (`tenant_connections_max` of its plan).
        TenantFull = "tenant_full",
        /// Capacity is nearly used up: nobody new comes in.
        Critical = "critical",
        /// There are as many sessions as there may be (`guard.sessions_max`).
        SessionsFull = "sessions_full",
        /// The same of one tenant (`tenant_sessions_max` of its plan).
        TenantSessionsFull = "tenant_sessions_full",
        /// Capacity is used up: those who are in wait with new calls, too.
        Emergency = "emergency",
        /// Clients that do not read hold more memory than they may (`guard.outbox_bytes_max`), and this is one of them.
        OutboxesFull = "outboxes_full",
        /// One client sends too many bytes (`bytes_per_minute` of its plan).
        BytesRate = "bytes_rate",
        /// One client calls slow upstreams too often (`slow_calls_per_minute` of its plan).
        SlowRate = "slow_rate",
        /// One client calls sensitive tools too often (`sensitive_calls_per_minute` of its plan).
        SensitiveRate = "sensitive_rate",
        /// Too many calls come from one address (`guard.calls_per_minute_per_address`).
        AddressRate = "address_rate",
        /// One tenant's clients call too often (`tenant_calls_per_minute` of its plan).
        TenantRate = "tenant_rate",
        /// Too many calls come in all (`guard.calls_per_minute`).
        HouseRate = "house_rate",
        /// One client waits for too many answers (`conn.in_flight_max`, or `in_flight_max` of its plan).
        ClientInFlight = "client_in_flight",
        /// One tenant's clients wait for too many answers (`tenant_in_flight_max` of its plan).
        TenantInFlight = "tenant_in_flight",
        /// Too many calls wait for answers (`guard.in_flight_max`).
        InFlightFull = "in_flight_full",
        /// One client watches too many resources (256 at most).
        ClientWatches = "client_watches",
        /// Too many resources are watched (`guard.watches_max`).
        WatchesFull = "watches_full",
    }
}

crate::named! {
    /// Why a guard let somebody pass unchecked: it was broken itself.
    pub enum Lapse {
        /// As many debts are kept as may be (`guard.debtors_max`), and this one is new.
        DebtorsFull = "debtors_full",
    }
}

impl Refusal {
    /// What the refused one is told.
    pub fn message(self) -> &'static str {
        match self {
            Self::HouseFull => "the gateway is full; try again later",
            Self::ShardFull | Self::NoDescriptor => "this part of the gateway is full; try again now or later",
            Self::TooManyArrivals => "too many clients connect at once; try again a little later",
            Self::AddressFull => "too many clients are connected from your address; close some, or try again later",
            Self::TenantFull => "too many clients of your tenant are connected; close some, or try again later",
            Self::Critical => "the gateway takes nobody new until others have left; try again later",
            Self::SessionsFull => "there are too many sessions; try again later",
            Self::TenantSessionsFull => "your tenant has too many sessions; end some, or try again later",
            Self::Emergency => "the gateway takes no new calls until others are done; try again later",
            Self::OutboxesFull => "too many answers wait for clients that do not read them; read yours first",
            Self::BytesRate => "this client sends too many bytes; wait for data.retryAfterMs",
            Self::SlowRate => "this client calls slow servers too often; wait for data.retryAfterMs",
            Self::SensitiveRate => "this client calls sensitive tools too often; wait for data.retryAfterMs",
            Self::AddressRate => "too many calls come from your address; wait for data.retryAfterMs",
            Self::TenantRate => "your tenant calls too often; wait for data.retryAfterMs",
            Self::HouseRate => "too many calls come in at once; wait for data.retryAfterMs",
            Self::ClientInFlight => "this client waits for too many answers; wait for some before sending more",
            Self::TenantInFlight => "your tenant waits for too many answers; wait for some before sending more",
            Self::InFlightFull => "too many calls are waiting for answers; try again later",
            Self::ClientWatches => {
                "this client watches too many resources; unsubscribe from some before asking for more"
            }
            Self::WatchesFull => "too many resources are watched; unsubscribe from some, or try again later",
        }
    }

    /// Whether it is for asking too much in too short a time (HTTP 429), and not for want of room (503).
    #[must_use]
    pub fn is_for_haste(self) -> bool {
        match self {
            Self::TooManyArrivals
            | Self::BytesRate
            | Self::SlowRate
            | Self::SensitiveRate
            | Self::AddressRate
            | Self::TenantRate
            | Self::HouseRate
            | Self::ClientInFlight
            | Self::ClientWatches => true,
            Self::HouseFull
            | Self::ShardFull
            | Self::NoDescriptor
            | Self::AddressFull
            | Self::TenantFull
            | Self::Critical
            | Self::SessionsFull
            | Self::TenantSessionsFull
            | Self::Emergency
            | Self::OutboxesFull
            | Self::TenantInFlight
            | Self::InFlightFull
            | Self::WatchesFull => false,
        }
    }
}
