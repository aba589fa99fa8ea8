//! How much of a resource one more client takes, as measured since the house was emptiest, and at how many it is full.

use serde::Serialize;

use super::Figure;

/// What was measured of one resource.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slope {
    /// With the fewest clients seen, the least that was in use then.
    idle: Option<Point>,
    /// With the most clients, or nearly so, as seen last.
    full: Option<Point>,
    /// The most clients seen.
    most: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    clients: u64,
    used: u64,
}

/// When a resource is full, by what was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fill {
    /// What each client took of it, in its unit.
    pub per_client: f64,
    /// With how many clients more than at the fewest that was measured.
    pub over_clients: u64,
    /// With how many clients it is full. Nothing where clients take none of it.
    pub at_clients: Option<u64>,
}

impl Slope {
    /// Takes in what is in use with so many clients.
    pub(super) fn record(&mut self, clients: u64, used: u64) {
        let point = Point { clients, used };
        match &mut self.idle {
            Some(idle) if clients > idle.clients => {}
            // The least: what is in use while nobody is there may be what those who left have left behind.
            Some(idle) if clients == idle.clients => idle.used = idle.used.min(used),
            idle => *idle = Some(point),
        }
        // Not only at the very most: else a load that came after the clients would never be seen.
        self.most = self.most.max(clients);
        if clients >= self.most - self.most / 10 {
            self.full = Some(point);
        }
    }

    /// What follows for a limit, once at least `clients_min` more clients were there than at the fewest.
    pub(super) fn fill(&self, figure: &Figure, clients_min: u64) -> Option<Fill> {
        let (idle, full) = (self.idle?, self.full?);
        let over_clients = full.clients.checked_sub(idle.clients).filter(|&over| over >= clients_min.max(1))?;
        let per_client = (full.used as f64 - idle.used as f64) / over_clients as f64;
        let room = figure.limit as f64 - idle.used as f64;
        let at_clients = (per_client > 0.0).then(|| idle.clients + (room.max(0.0) / per_client) as u64);
        Some(Fill { per_client, over_clients, at_clients })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::capacity::Resource;

    fn slope(points: impl IntoIterator<Item = (u64, u64)>) -> Slope {
        let mut slope = Slope::default();
        points.into_iter().for_each(|(clients, used)| slope.record(clients, used));
        slope
    }

    fn figure(limit: u64) -> Figure {
        Figure::new(Resource::Memory, 0, limit)
    }

    #[test]
    fn what_was_there_before_the_clients_is_not_theirs() {
        // 9 MB idle, 300 bytes each.
        let measured = slope((0..=100).map(|step| (step * 1_000, 9_000_000 + step * 300_000)));
        let fill = measured.fill(&figure(69_000_000), 1_000).expect("measured");
        assert_eq!((fill.per_client, fill.over_clients, fill.at_clients), (300.0, 100_000, Some(200_000)));
    }

    #[test]
    fn too_few_clients_say_nothing() {
        assert_eq!(slope([(0, 5), (999, 9_999)]).fill(&figure(1), 1_000), None);
        assert!(slope([(0, 5), (1_000, 9_999)]).fill(&figure(1), 1_000).is_some());
        assert_eq!(slope([]).fill(&figure(1), 0), None);
        // A resource that came up while the clients were there.
        assert_eq!(slope([(50_000, 5), (50_500, 9_999)]).fill(&figure(1), 1_000), None);
    }

    #[test]
    fn a_load_that_comes_later_is_seen_and_one_that_leaves_with_the_clients_is_not_forgotten() {
        let measured = slope([(0, 0), (10_000, 10), (9_500, 500), (10, 0), (0, 0)]);
        let fill = measured.fill(&figure(1_000), 1_000).expect("measured");
        assert_eq!((fill.over_clients, fill.at_clients), (9_500, Some(19_000)));
    }

    #[test]
    fn what_clients_take_none_of_is_never_full_by_them() {
        let fill = slope([(0, 50), (10_000, 50)]).fill(&figure(100), 1_000).expect("measured");
        assert_eq!((fill.per_client, fill.at_clients), (0.0, None));
        let freed = slope([(0, 50), (10_000, 20)]).fill(&figure(100), 1_000).expect("measured");
        assert_eq!(freed.at_clients, None);
    }
}
