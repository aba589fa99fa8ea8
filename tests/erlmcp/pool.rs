//! The pools.

use lakh::pool::{Config, Full, Pool};

/// As large as a connection's state may be; with a niche, as it has.
struct State {
    id: u64,
    _metadata: Option<Box<str>>,
    _rest: [u64; 11],
}

impl State {
    fn new(id: u64) -> Self {
        Self { id, _metadata: None, _rest: [0; 11] }
    }
}

#[test]
fn pool_initialization() {
    let pool = Pool::<State>::new(Config::default());
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.available), (0, 1_000));
    assert_eq!((stats.reused, stats.created, stats.refused), (0, 0, 0));
    assert!(pool.is_empty());
    let slots = 1_000 * Pool::<State>::SLOT_BYTES;
    assert!((slots..slots * 5 / 4).contains(&pool.bytes()), "{} bytes for 1,000 slots", pool.bytes());

    let none = Pool::<State>::new(Config { preallocated: 0, maximum: 10 });
    assert_eq!((none.stats().available, none.bytes()), (0, 0));
    let capped = Pool::<State>::new(Config { preallocated: 1_000, maximum: 10 });
    assert_eq!(capped.stats().available, 10);
}

#[test]
fn pool_acquire_release() {
    let mut pool = Pool::new(Config { preallocated: 100, maximum: 200 });
    let keys: Vec<_> = (0..200).map(|id| pool.acquire(State::new(id)).expect("room").keep()).collect();
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.available), (200, 0));
    assert_eq!((stats.reused, stats.created), (100, 100));

    let Err(Full(refused)) = pool.acquire(State::new(200)) else { panic!("201 in a pool of 200") };
    assert_eq!((refused.id, pool.stats().refused), (200, 1));

    for (id, key) in keys.iter().enumerate() {
        assert_eq!(pool.release(*key).map(|state| state.id), Some(id as u64));
        assert!(pool.release(*key).is_none(), "released twice");
    }
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.available), (0, 200));
}

#[test]
fn pool_reuse_efficiency() {
    let mut pool = Pool::new(Config::default());
    let mut bytes_of_first_wave = 0;
    for wave in 0..20 {
        let keys: Vec<_> = (0..5_000).map(|id| pool.acquire(State::new(id)).expect("room").keep()).collect();
        keys.iter().for_each(|key| drop(pool.release(*key)));
        if wave == 0 {
            bytes_of_first_wave = pool.bytes();
        }
    }
    let stats = pool.stats();
    assert_eq!(stats.created, 4_000, "only the first wave makes slots, and not the preallocated ones");
    assert!(stats.reuse_ratio() > 0.90, "reuse ratio {}", stats.reuse_ratio());
    assert_eq!(pool.bytes(), bytes_of_first_wave);
}
