//! A hashed timer wheel with one deadline per actor: set, moved and cancelled in constant time, 16 bytes an actor.

use std::time::Duration;

use crate::pool::Key;

/// How finely deadlines are kept. Coarse on purpose: they are handshakes, idle times and keep-alives, in seconds.
pub const TICK: Duration = Duration::from_millis(256);

/// A moment, in ticks since the shard began (wraps after 34 years).
pub type Tick = u32;

/// Slots of the wheel. A deadline further away than a turn of it (65 s) is looked at once a turn.
const SPOKES: u32 = 256;
/// The end of a spoke's list.
const NONE: u32 = u32::MAX;
/// Instead of a previous link: not in any list.
const UNLINKED: u32 = u32::MAX - 1;

/// An actor's place: a doubly linked list per spoke, threaded through an array by the index in the actor's key.
#[derive(Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
    generation: u32,
    /// The due tick; meaningful while linked.
    due: Tick,
}

impl Link {
    const NOT_SET: Self = Self { previous: UNLINKED, next: NONE, generation: 0, due: 0 };
}

/// The deadlines of one shard's actors.
pub struct Wheel {
    heads: Box<[u32; SPOKES as usize]>,
    links: Vec<Link>,
    /// Everything due before this tick has been fired.
    swept: Tick,
    set: usize,
}

impl Wheel {
    /// What one actor's deadline takes, set or not.
    pub const BYTES_EACH: usize = size_of::<Link>();

    /// Room for the actors 0..`actors_max`, reserved but not touched until they come.
    pub fn new(actors_max: usize) -> Self {
        Self { heads: Box::new([NONE; SPOKES as usize]), links: Vec::with_capacity(actors_max), swept: 0, set: 0 }
    }

    /// Deadlines that are set.
    pub fn len(&self) -> usize {
        self.set
    }

    /// Whether no deadline is set.
    pub fn is_empty(&self) -> bool {
        self.set == 0
    }

    /// Bytes held for the links.
    pub fn bytes(&self) -> usize {
        self.links.len() * Self::BYTES_EACH
    }

    /// Sets, or moves, the one deadline of `key` to `due`. A tick that has passed fires at the next sweep.
    pub fn set(&mut self, key: Key, due: Tick) {
        let index = key.index();
        if index as usize >= self.links.len() {
            self.links.resize(index as usize + 1, Link::NOT_SET);
        }
        self.unlink(index);
        let due = due.max(self.swept);
        let head = std::mem::replace(&mut self.heads[(due % SPOKES) as usize], index);
        if head != NONE {
            self.links[head as usize].previous = index;
        }
        self.links[index as usize] = Link { previous: NONE, next: head, generation: key.generation(), due };
        self.set += 1;
    }

    /// Forgets the deadline of `key`, if it has one.
    pub fn cancel(&mut self, key: Key) {
        if self.links.get(key.index() as usize).is_some_and(|link| link.generation == key.generation()) {
            self.unlink(key.index());
        }
    }

    /// Takes every key whose deadline is at or before `now` into `fired`.
    pub fn sweep(&mut self, now: Tick, fired: &mut Vec<Key>) {
        if now < self.swept {
            return;
        }
        // After a long pause one turn of the wheel sees every spoke.
        let first = if now - self.swept >= SPOKES { now - (SPOKES - 1) } else { self.swept };
        for tick in first..=now {
            let mut index = self.heads[(tick % SPOKES) as usize];
            while index != NONE {
                let link = self.links[index as usize];
                if link.due <= now {
                    self.unlink(index);
                    fired.push(Key::from_bits(u64::from(link.generation) << 32 | u64::from(index)));
                }
                index = link.next;
            }
        }
        self.swept = now + 1;
    }

    fn unlink(&mut self, index: u32) {
        let link = self.links[index as usize];
        if link.previous == UNLINKED {
            return;
        }
        match link.previous {
            NONE => self.heads[(link.due % SPOKES) as usize] = link.next,
            previous => self.links[previous as usize].next = link.next,
        }
        if link.next != NONE {
            self.links[link.next as usize].previous = link.previous;
        }
        self.links[index as usize] = Link::NOT_SET;
        self.set -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn key(index: u32, generation: u32) -> Key {
        Key::from_bits(u64::from(generation) << 32 | u64::from(index))
    }

    fn swept(wheel: &mut Wheel, now: Tick) -> Vec<u32> {
        let mut fired = Vec::new();
        wheel.sweep(now, &mut fired);
        fired.iter().map(|key| key.index()).collect()
    }

    #[test]
    fn a_deadline_fires_at_its_tick_and_once() {
        let mut wheel = Wheel::new(10);
        wheel.set(key(3, 1), 5);
        assert!(swept(&mut wheel, 4).is_empty());
        assert_eq!(swept(&mut wheel, 5), [3]);
        assert!(swept(&mut wheel, 1000).is_empty());
    }

    #[test]
    fn a_deadline_beyond_a_turn_waits_for_its_round() {
        let mut wheel = Wheel::new(10);
        wheel.set(key(0, 1), 5 + 3 * SPOKES);
        assert!(swept(&mut wheel, 5).is_empty());
        assert!(swept(&mut wheel, 5 + 3 * SPOKES - 1).is_empty());
        assert_eq!(swept(&mut wheel, 5 + 3 * SPOKES), [0]);
    }

    #[test]
    fn a_stale_key_cancels_nothing() {
        let mut wheel = Wheel::new(10);
        wheel.set(key(0, 2), 5);
        wheel.cancel(key(0, 1));
        assert_eq!(swept(&mut wheel, 5), [0]);
    }

    proptest! {
        /// Against a plain map: the same keys fire at the same ticks, whatever is set, moved and cancelled.
        #[test]
        fn fires_what_a_map_would(steps in prop::collection::vec((0u8..3, 0u32..20, 0u32..600), 1..200)) {
            let mut wheel = Wheel::new(20);
            let mut map = HashMap::new();
            let mut now = 0;
            let mut swept_to = 0;
            for (step, index, ahead) in steps {
                match step {
                    0 => { wheel.set(key(index, 1), now + ahead); map.insert(index, (now + ahead).max(swept_to)); }
                    1 => { wheel.cancel(key(index, 1)); map.remove(&index); }
                    _ => {
                        now += ahead;
                        swept_to = now + 1;
                        let mut fired = swept(&mut wheel, now);
                        fired.sort_unstable();
                        let mut due: Vec<u32> = map.iter().filter(|(_, due)| **due <= now).map(|(i, _)| *i).collect();
                        due.sort_unstable();
                        map.retain(|_, due| *due > now);
                        prop_assert_eq!(fired, due);
                    }
                }
                prop_assert_eq!(wheel.len(), map.len());
            }
        }
    }
}
