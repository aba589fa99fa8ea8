//! What each profile asks for, in numbers: who comes, what is called, who leaves, and for how long.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::Profile;
use crate::cli::simulate::drive::Drive;
use crate::cli::simulate::{Args, Dialect, Error, key_of};

/// Load over what the slow server can take.
const OVERLOAD: f64 = 5.0;
/// Tenants of an overload with `--tenants`: with ten, the fair share of one times [`GREED`] is the same load as without.
const TENANTS: u32 = 10;
/// What the greedy tenant asks for, over what each of the others does.
const GREED: f64 = 50.0;
/// Calls that may wait before the slow server, for each that it has in hand: a call that comes last waits so many of its
/// service times.
const QUEUE_PER_SLOT: u32 = 4;
/// An order is cut into parts of this length, so that a long run is told minute by minute.
const PART: Duration = Duration::from_secs(60);
/// Client numbers of a ramp, for 4,000 of them.
const RAMP: [u32; 6] = [100, 250, 500, 1_000, 2_000, 4_000];
/// Of a ramp's or a burst's clients, each calls once a second.
const CALLS_PER_CLIENT_S: f64 = 1.0;
/// What a run may last at most.
const HOURS_MAX: f64 = 168.0;

/// A profile in numbers.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli::simulate) struct Play {
    pub(super) acts: Vec<Act>,
    /// Client numbers that are used, over all acts.
    pub(in crate::cli::simulate) clients: u32,
    /// Clients that the gateway may hold.
    pub(in crate::cli::simulate) seats: u32,
    /// Tenants that the clients are spread over; 0: none.
    pub(in crate::cli::simulate) tenants: u32,
    pub(in crate::cli::simulate) dialect: Dialect,
    /// The server behind the gateway, if it is a slow one.
    pub(in crate::cli::simulate) slow: Option<Slow>,
}

impl Play {
    /// How long its loads last together.
    pub(super) fn lasts(&self) -> Duration {
        Duration::from_millis(self.acts.iter().map(|act| act.drive.ms).sum())
    }
}

/// A part of a profile.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Act {
    pub(super) name: String,
    /// Clients that are in before it begins.
    pub(super) come: u32,
    pub(super) drive: Drive,
}

/// A server that takes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli::simulate) struct Slow {
    /// Calls that it handles at once.
    pub(in crate::cli::simulate) slots: u32,
    /// How long it handles each.
    pub(in crate::cli::simulate) service: Duration,
}

impl Slow {
    /// Calls a second that it can answer.
    pub(in crate::cli::simulate) fn capacity(self) -> f64 {
        f64::from(self.slots) / self.service.as_secs_f64()
    }

    pub(super) fn queue_max(self) -> u32 {
        self.slots * QUEUE_PER_SLOT
    }

    /// What a call may take that comes last into a full queue, half a service time spare.
    pub(super) fn deadline(self) -> Duration {
        self.service * (QUEUE_PER_SLOT + 1) + self.service / 2
    }

    /// The gateway's configuration with this server behind it.
    pub(in crate::cli::simulate) fn configuration(self, address: SocketAddr, tenants: u32) -> String {
        let mut text = format!(
            "[upstreams.slow]\ntcp = \"{address}\"\nin_flight_max = {}\nqueue_max = {}\ndeadline_ms = {}\n",
            self.slots,
            self.queue_max(),
            self.deadline().as_millis()
        );
        for tenant in 0..tenants {
            let _ = write!(text, "\n[tenants.tenant-{tenant}]\nkeys = [\"{}\"]\n", key_of(tenant));
        }
        text
    }
}

/// What `profile` asks for, with what was typed.
pub(in crate::cli::simulate) fn play(args: &Args, profile: Profile) -> Result<Play, Error> {
    fits(args, profile)?;
    let clients = args.connections.unwrap_or(match profile {
        Profile::Ramp => 4_000,
        Profile::Burst => 2_000,
        Profile::Churn => 30_000,
        Profile::Soak => 10_000,
        Profile::Storm => 100_000,
        Profile::Overload => 1_000,
    });
    let usual = match profile {
        Profile::Burst | Profile::Ramp => 120.0,
        Profile::Churn => 300.0,
        Profile::Overload => 60.0,
        Profile::Soak => 3_600.0,
        Profile::Storm => 0.0,
    };
    let seconds = args.hours.map(|hours| hours * 3_600.0).or(args.seconds).unwrap_or(usual);
    if !(0.0..=HOURS_MAX * 3_600.0).contains(&seconds) {
        return Err(Error::Usage(format!("{seconds} seconds must be from 0 to those of {HOURS_MAX} hours")));
    }
    let whole = Duration::from_secs_f64(seconds);
    let mut play = Play { acts: Vec::new(), clients, seats: clients, tenants: 0, dialect: args.dialect, slow: None };
    match profile {
        Profile::Ramp => play.acts = ramp(clients, whole),
        Profile::Burst => {
            play.acts = burst(clients, whole);
            play.clients = clients * 2;
        }
        Profile::Churn => {
            // A thirtieth of all a second, at most 1,000; those of a second may be counted as in while they leave.
            let rate = f64::from(clients.div_ceil(30).min(1_000));
            let drive = Drive { turnover_per_s: rate, total: clients, ..Drive::default() };
            play.acts = parts("churn", clients, whole, drive);
            play.seats = clients + clients.div_ceil(30).min(1_000);
        }
        Profile::Soak => {
            let (calls, rate) = (f64::from(clients) / 10.0, f64::from(clients) / 1_000.0);
            let drive = Drive { calls_per_s: calls, turnover_per_s: rate, total: clients, ..Drive::default() };
            play.acts = parts("soak", clients, whole, drive);
            play.seats = clients + clients.div_ceil(30);
        }
        Profile::Storm => {
            let drive = Drive { cut: true, total: clients, ..Drive::default() };
            play.acts = vec![Act { name: "storm".into(), come: clients, drive }];
        }
        Profile::Overload => overload(args, whole, &mut play),
    }
    Ok(play)
}

/// What was typed for another profile, or cannot be had with this one.
fn fits(args: &Args, profile: Profile) -> Result<(), Error> {
    let overload = profile == Profile::Overload;
    let calls = !matches!(profile, Profile::Storm);
    let wrong = [
        (args.tenants && !overload, "--tenants is for --profile overload"),
        (
            (args.slots.is_some() || args.service_ms.is_some()) && !overload,
            "--slots and --service-ms are for --profile overload",
        ),
        (args.hours.is_some() && profile != Profile::Soak, "--hours is for --profile soak"),
        (args.seconds.is_some() && !calls, "--profile storm is over when all are back"),
        (
            calls && args.dialect.is_http(),
            "this profile speaks tcp, ws or mixed; only --profile storm speaks http and listen",
        ),
        (
            args.target.is_some() && matches!(profile, Profile::Burst | Profile::Overload),
            "this profile needs a gateway of its own, not a --target",
        ),
    ];
    match wrong.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, why)) => Err(Error::Usage(why.into())),
        None => Ok(()),
    }
}

fn ramp(clients: u32, whole: Duration) -> Vec<Act> {
    let of = |usual: u32| (u64::from(usual) * u64::from(clients)).div_ceil(4_000) as u32;
    let ms = millis(whole / RAMP.len() as u32);
    let users = RAMP.map(of);
    let act = |users: u32| Act {
        name: format!("{users} users"),
        come: users,
        drive: Drive { ms, calls_per_s: f64::from(users) * CALLS_PER_CLIENT_S, total: users, ..Drive::default() },
    };
    users.map(act).into()
}

fn burst(seats: u32, whole: Duration) -> Vec<Act> {
    let beside = millis(whole / 6);
    let act = |name: &str, ms, total| Act {
        name: name.into(),
        come: seats,
        drive: Drive {
            ms,
            calls_per_s: f64::from(seats) * CALLS_PER_CLIENT_S,
            total,
            give_up: true,
            ..Drive::default()
        },
    };
    // Afterwards those who were refused are no more wanted in: they have numbers above all that are.
    vec![act("before", beside, seats), act("burst", millis(whole), seats * 2), act("after", beside, seats)]
}

fn parts(name: &str, clients: u32, whole: Duration, drive: Drive) -> Vec<Act> {
    let mut acts = Vec::new();
    let mut left = whole;
    while acts.is_empty() || !left.is_zero() {
        let part = left.min(PART);
        left -= part;
        let name = format!("{name} {}", acts.len() + 1);
        acts.push(Act { name, come: clients, drive: Drive { ms: millis(part), ..drive } });
    }
    acts
}

fn overload(args: &Args, whole: Duration, play: &mut Play) {
    let service = Duration::from_millis(u64::from(args.service_ms.unwrap_or(1_000)));
    let slow = Slow { slots: args.slots.unwrap_or(16), service };
    if args.tenants {
        // One of each at least.
        play.clients = play.clients.max(TENANTS);
        play.seats = play.clients;
    }
    let mut drive = Drive {
        ms: millis(whole),
        calls_per_s: OVERLOAD * slow.capacity(),
        total: play.clients,
        deadline_ms: millis(slow.deadline()),
        ..Drive::default()
    };
    if args.tenants {
        let fair = slow.capacity() / f64::from(TENANTS);
        drive.calls_per_s = fair * f64::from(TENANTS - 1);
        drive.greedy_per_s = fair * GREED;
        play.tenants = TENANTS;
        // The only dialect of one connection in which a client says on whose account it asks.
        play.dialect = Dialect::Ws;
    }
    play.acts = vec![Act { name: "overload".into(), come: play.clients, drive }];
    play.slow = Some(slow);
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::typed;

    fn of(line: &str) -> Result<Play, Error> {
        let args: Args = typed(&format!("--profile {line}"));
        play(&args, args.profile.expect("named"))
    }

    #[test]
    fn the_published_loads_are_the_default_ones() {
        let ramp = of("ramp").expect("fits");
        assert_eq!((ramp.acts[0].come, ramp.acts[5].come, ramp.acts.len()), (100, 4_000, 6));
        let burst = of("burst").expect("fits");
        assert_eq!((burst.seats * 2, burst.acts[1].drive.total, burst.acts[1].drive.ms), (4_000, 4_000, 120_000));
        let churn = of("churn").expect("fits");
        let ms: u64 = churn.acts.iter().map(|act| act.drive.ms).sum();
        assert_eq!((churn.clients, churn.acts[0].drive.turnover_per_s, ms), (30_000, 1_000.0, 300_000));
        let storm = of("storm").expect("fits");
        assert!(storm.clients == 100_000 && storm.seats == 100_000 && storm.acts[0].drive.cut);
    }

    #[test]
    fn an_overload_is_five_times_what_the_server_takes_also_with_tenants() {
        let plain = of("overload --slots 8 --service-ms 500").expect("fits");
        assert_eq!((plain.acts[0].drive.calls_per_s, plain.acts[0].drive.deadline_ms), (80.0, 2_750));
        let drive = of("overload --tenants").expect("fits").acts[0].drive;
        assert!((drive.greedy_per_s - 80.0).abs() < 1e-9 && (drive.calls_per_s - 9.0 * 1.6).abs() < 1e-9, "{drive:?}");
        assert!((drive.greedy_per_s * 9.0 / drive.calls_per_s - 50.0).abs() < 1e-9);
    }

    #[test]
    fn a_soak_may_last_a_part_of_an_hour_and_is_told_by_the_minute() {
        let acts = of("soak --hours 0.025").expect("fits").acts;
        assert_eq!(acts.iter().map(|act| act.drive.ms).collect::<Vec<_>>(), [60_000, 30_000]);
        for odd in ["soak --hours=-1", "soak --hours nan", "soak --hours 1e9"] {
            assert!(matches!(of(odd), Err(Error::Usage(_))), "{odd}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        for (line, word) in [
            ("churn --tenants", "--tenants"),
            ("ramp --slots 4", "--slots"),
            ("churn --hours 1", "--hours"),
            ("storm --seconds 4", "storm"),
            ("ramp --dialect http", "http"),
            ("burst --target 127.0.0.1:9", "--target"),
        ] {
            assert!(of(line).expect_err(line).to_string().contains(word), "{line}");
        }
        assert!(of("storm --dialect http").is_ok());
    }

    #[test]
    fn the_configuration_names_the_server_and_each_tenant() {
        let slow = Slow { slots: 16, service: Duration::from_secs(1) };
        let text = slow.configuration(SocketAddr::from(([127, 0, 0, 1], 9)), 2);
        let read: toml::Table = text.parse().expect("TOML");
        assert_eq!(read["upstreams"]["slow"]["queue_max"].as_integer(), Some(64));
        assert_eq!(read["upstreams"]["slow"]["deadline_ms"].as_integer(), Some(5_500));
        assert_eq!(read["tenants"].as_table().map(toml::Table::len), Some(2));
    }
}
