//! Tests of the object pool, against a plain map as its model.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use proptest::prelude::*;

fn pool<T>(preallocated: usize, maximum: usize) -> Pool<T> {
    Pool::new(Config { preallocated, maximum })
}

/// Counts its drops.
struct Tenant<'c>(&'c Cell<usize>);

impl Drop for Tenant<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_slot_costs_four_bytes_and_a_bit_over_a_value_with_a_niche() {
    struct State(#[allow(dead_code)] Box<u8>, #[allow(dead_code)] [u64; 12]);
    assert_eq!(Pool::<State>::SLOT_BYTES, size_of::<State>() + 4);
    let full = pool::<State>(100_000, 100_000);
    let over_values = full.bytes() - 100_000 * size_of::<State>();
    assert!(over_values <= 100_000 * 5, "{over_values} bytes of books for 100,000 slots");
}

#[test]
fn the_maximum_is_the_maximum() {
    for maximum in [1, 511, 512, 513, 1_300] {
        let mut pool = pool(maximum / 2, maximum);
        let keys: Vec<_> = (0..maximum).map(|n| pool.acquire(n).expect("room").keep()).collect();
        assert_eq!(pool.len(), maximum);
        assert_eq!(pool.acquire(maximum).err(), Some(Full(maximum)));
        assert_eq!(pool.stats().refused, 1);
        assert_eq!(pool.release(keys[maximum / 2]), Some(maximum / 2));
        assert!(pool.acquire(0).is_ok());
    }
    assert!(pool(0, 0).acquire(0).is_err());
}

#[test]
fn a_stale_key_finds_nothing() {
    let mut pool = pool(0, 10);
    let stale = pool.acquire(1).expect("room").keep();
    assert_eq!(pool.release(stale), Some(1));
    assert_eq!(pool.release(stale), None);
    let fresh = pool.acquire(2).expect("room").keep();
    assert_eq!(stale.index(), fresh.index());
    assert!(pool.get(stale).is_none() && pool.get_mut(stale).is_none() && pool.lease(stale).is_none());
    assert_eq!(pool.get(fresh), Some(&2));
}

#[test]
fn bits_that_never_were_a_key_find_nothing() {
    let mut pool = pool(3, 10);
    let _ = pool.acquire(1).expect("room").keep();
    for bits in [u64::MAX, 1, 2, 3, 511, 512, 1 << 32, u64::from(u32::MAX)] {
        assert!(pool.get(Key::from_bits(bits)).is_none() && pool.lease(Key::from_bits(bits)).is_none());
    }
}

#[test]
fn a_dropped_lease_frees_slot_and_value() {
    let drops = Cell::new(0);
    let mut pool = pool(0, 1);
    drop(pool.acquire(Tenant(&drops)).expect("room"));
    assert_eq!((drops.get(), pool.len()), (1, 0));
    let key = pool.acquire(Tenant(&drops)).expect("room").keep();
    assert_eq!((drops.get(), pool.len()), (1, 1));
    drop(pool.lease(key));
    assert_eq!((drops.get(), pool.len()), (2, 0));
}

#[test]
fn a_panic_inside_a_lease_returns_the_slot() {
    let drops = Cell::new(0);
    let mut pool = pool(0, 1);
    let key = pool.acquire(Tenant(&drops)).expect("room").keep();
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let _actor = pool.lease(key).expect("current");
        std::panic::resume_unwind(Box::new("the actor's own fault"));
    }));
    assert!(ran.is_err());
    assert_eq!((drops.get(), pool.len(), pool.stats().available), (1, 0, 1));
    assert!(pool.lease(key).is_none());
    assert!(pool.acquire(Tenant(&drops)).is_ok());
}

#[test]
fn a_value_whose_drop_panics_still_frees_its_slot() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("in drop"));
        }
    }
    let mut pool = pool(0, 1);
    let key = pool.acquire(Bomb).expect("room").keep();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(pool.lease(key)))).is_err());
    assert_eq!((pool.len(), pool.stats().available), (0, 1));
    std::mem::forget(pool.acquire(Bomb).expect("room").release());
    assert!(pool.is_empty());
}

#[test]
fn shrink_gives_back_empty_pages_and_keys_of_before_stay_stale() {
    let mut pool = pool(600, 5_000);
    let keys: Vec<_> = (0..4_000).map(|n| pool.acquire(n).expect("room").keep()).collect();
    let before = pool.bytes();
    for key in &keys[..3_999] {
        pool.release(*key);
    }
    let given_back = pool.shrink();
    assert_eq!(pool.bytes(), before - given_back);
    assert!(given_back > 2_500 * size_of::<Option<i32>>());
    assert_eq!(pool.get(keys[3_999]), Some(&3_999));
    assert!(pool.stats().available >= 600);
    assert_eq!(pool.shrink(), 0);

    let again: Vec<_> = (0..4_000).map(|n| pool.acquire(n).expect("room").keep()).collect();
    assert!(keys[..3_999].iter().all(|&key| pool.get(key).is_none()));
    assert!(again.iter().zip(0..).all(|(&key, n)| pool.get(key) == Some(&n)));
    assert!(again.iter().all(|key| key.index() < 5_000));
}

#[test]
fn a_walk_by_next_key_may_release_on_its_way() {
    let mut pool = pool(2_000, 2_000);
    let keys: Vec<_> = (0..1_500).map(|n| pool.acquire(n).expect("room").keep()).collect();
    keys.iter().step_by(3).for_each(|&key| assert!(pool.release(key).is_some()));
    let (mut seen, mut at) = (Vec::new(), None);
    while let Some(key) = pool.next_key(at) {
        seen.extend(pool.release(key));
        at = Some(key);
    }
    assert_eq!(seen, (0..1_500).filter(|n| n % 3 != 0).collect::<Vec<_>>());
    assert!(pool.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Acquire(u16),
    Release(usize),
    DropLease(usize),
    Change(usize, u16),
    Shrink,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<u16>().prop_map(Step::Acquire),
        3 => any::<usize>().prop_map(Step::Release),
        2 => any::<usize>().prop_map(Step::DropLease),
        2 => (any::<usize>(), any::<u16>()).prop_map(|(at, value)| Step::Change(at, value)),
        1 => Just(Step::Shrink),
    ]
}

proptest! {
    #[test]
    fn behaves_as_a_map(
        steps in prop::collection::vec(step(), 1..400), preallocated in 0_usize..40, maximum in 1_usize..120,
        first in 0_usize..1_200,
    ) {
        // A full first wave of up to three pages leaves, so that the steps run over used pages and holes.
        let mut pool = pool(preallocated, maximum + first);
        let wave: Vec<_> = (0..first).map(|_| pool.acquire(0).expect("room").keep()).collect();
        wave.iter().for_each(|&key| assert!(pool.release(key).is_some()));
        let mut model = HashMap::new();
        let mut keys: Vec<Key> = wave; // All ever handed out: most are stale.
        for step in steps {
            match step {
                Step::Acquire(value) => match pool.acquire(value) {
                    Ok(lease) => {
                        let key = lease.keep();
                        keys.push(key);
                        prop_assert_eq!(model.insert(key, value), None);
                    }
                    Err(Full(_)) => prop_assert_eq!(model.len(), maximum + first),
                },
                Step::Release(at) if !keys.is_empty() => {
                    let key = keys[at % keys.len()];
                    prop_assert_eq!(pool.release(key), model.remove(&key));
                }
                Step::DropLease(at) if !keys.is_empty() => {
                    let key = keys[at % keys.len()];
                    prop_assert_eq!(pool.lease(key).is_some(), model.remove(&key).is_some());
                }
                Step::Change(at, value) if !keys.is_empty() => {
                    let key = keys[at % keys.len()];
                    let (ours, theirs) = (pool.get_mut(key), model.get_mut(&key));
                    prop_assert_eq!(ours.is_some(), theirs.is_some());
                    if let (Some(ours), Some(theirs)) = (ours, theirs) {
                        (*ours, *theirs) = (value, value);
                    }
                }
                Step::Shrink => _ = pool.shrink(),
                _ => {}
            }
            prop_assert_eq!(pool.len(), model.len());
        }
        prop_assert_eq!(pool.iter().map(|(key, &value)| (key, value)).collect::<HashMap<_, _>>(), model);
        prop_assert!(pool.keys().is_sorted());
        let stats = pool.stats();
        let existing: usize = pool.pages.iter().map(Vec::len).sum();
        prop_assert_eq!(stats.in_use + stats.available, existing as u64);
        prop_assert!(existing <= maximum + first);
    }
}
