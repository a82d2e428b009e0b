//! What the limits port promises, one test a promise: `limit_contract!(fixture)`.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;

use crate::limit::{Admission, Demand, Limits, Places, Window};

/// Tries of something that may fail for a while.
const MAX_TRIES: usize = 200;

/// A backend with nothing taken, and the power over its time.
#[async_trait]
pub trait LimitFixture: Send + Sync {
    /// The limits under test.
    fn limits(&self) -> Arc<dyn Limits>;
    /// Lets that much of the backend's time pass.
    async fn pass_ms(&self, ms: u64);
    /// Closes the backend and opens it again.
    async fn restart(&mut self);
}

/// Runs every promise against `$fixture`, an expression that makes a [`LimitFixture`].
#[macro_export]
macro_rules! limit_contract {
    ($fixture:expr) => {
        $crate::limit_contract!(@tests $fixture,
            a_window_admits_its_limit_and_no_more,
            a_window_slides,
            the_delay_named_is_enough,
            concurrent_demands_never_pass_the_limit,
            a_refusal_takes_nothing_anywhere,
            scopes_do_not_share,
            places_are_free_again_when_released,
            places_are_free_again_after_their_ttl,
            renewing_keeps_places,
            a_lost_place_cannot_be_renewed,
            asking_again_takes_nothing_twice,
            a_charge_counts_once,
            days_survive_a_restart,
            days_and_scopes_are_counted_apart,
        );
    };
    (@tests $fixture:expr, $($name:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::limit::contract::$name(&mut $fixture.await).await;
            }
        )+
    };
}

fn window(scope: &str, limit: u32) -> Window {
    Window { scope: scope.to_owned(), limit, window_ms: 1_000 }
}

fn demand(holder: &str, windows: &[Window], places: &[(&str, u32)]) -> Demand {
    let places =
        places.iter().map(|(scope, limit)| Places { scope: (*scope).to_owned(), limit: *limit });
    Demand {
        windows: windows.to_vec(),
        places: places.collect(),
        holder: holder.to_owned(),
        ttl_ms: 1_000,
    }
}

async fn admit(fixture: &impl LimitFixture, demand: &Demand) -> Admission {
    for _ in 0..MAX_TRIES {
        if let Ok(admission) = fixture.limits().admit(demand).await {
            return admission;
        }
    }
    panic!("no decision in {MAX_TRIES} tries")
}

async fn granted(fixture: &impl LimitFixture, demand: &Demand) -> bool {
    admit(fixture, demand).await == Admission::Granted
}

async fn renewed(fixture: &impl LimitFixture, demand: &Demand) -> bool {
    for _ in 0..MAX_TRIES {
        if let Ok(renewed) = fixture.limits().renew(demand).await {
            return renewed;
        }
    }
    panic!("not renewed in {MAX_TRIES} tries")
}

async fn release(fixture: &impl LimitFixture, demand: &Demand) {
    for _ in 0..MAX_TRIES {
        if fixture.limits().release(demand).await.is_ok() {
            return;
        }
    }
    panic!("not released in {MAX_TRIES} tries")
}

async fn charge(fixture: &impl LimitFixture, scope: &str, day: u32, charge_id: &str) -> u64 {
    for _ in 0..MAX_TRIES {
        if let Ok(total) = fixture.limits().charge(scope, day, 10, charge_id).await {
            return total;
        }
    }
    panic!("no charge in {MAX_TRIES} tries")
}

async fn spent(fixture: &impl LimitFixture, scope: &str, day: u32) -> u64 {
    for _ in 0..MAX_TRIES {
        if let Ok(total) = fixture.limits().spent(scope, day).await {
            return total;
        }
    }
    panic!("no total in {MAX_TRIES} tries")
}

/// Exactly `limit`; none at all with a limit of 0.
pub async fn a_window_admits_its_limit_and_no_more(fixture: &mut impl LimitFixture) {
    for (limit, scope) in [(0, "none"), (1, "one"), (5, "five")] {
        let mut admitted = 0;
        for n in 0..8 {
            let asked = demand(&format!("{scope}{n}"), &[window(scope, limit)], &[]);
            admitted += u32::from(granted(fixture, &asked).await);
        }
        assert_eq!(admitted, limit);
    }
}

/// Each admission is free again one window after it was taken, not before.
pub async fn a_window_slides(fixture: &mut impl LimitFixture) {
    let w = [window("s", 2)];
    assert!(granted(fixture, &demand("1", &w, &[])).await);
    fixture.pass_ms(600).await;
    assert!(granted(fixture, &demand("2", &w, &[])).await);
    fixture.pass_ms(500).await;
    assert!(granted(fixture, &demand("3", &w, &[])).await, "the first is out of the window");
    assert!(!granted(fixture, &demand("4", &w, &[])).await, "the second is still in it");
    fixture.pass_ms(600).await;
    assert!(granted(fixture, &demand("5", &w, &[])).await);
}

/// Waiting as long as it was told is enough, and something must be waited.
pub async fn the_delay_named_is_enough(fixture: &mut impl LimitFixture) {
    let w = [window("s", 1)];
    assert!(granted(fixture, &demand("1", &w, &[])).await);
    fixture.pass_ms(300).await;
    match admit(fixture, &demand("2", &w, &[])).await {
        Admission::Deferred { scope, retry_after_ms } => {
            assert_eq!(scope, "s");
            assert!((1..=700).contains(&retry_after_ms), "{retry_after_ms} ms");
            fixture.pass_ms(retry_after_ms).await;
        }
        Admission::Granted => panic!("over the limit"),
    }
    assert!(granted(fixture, &demand("2", &w, &[])).await);
}

/// Many at once get exactly the limit.
pub async fn concurrent_demands_never_pass_the_limit(fixture: &mut impl LimitFixture) {
    let fixture = &*fixture;
    let asks = (0..100).map(|n| async move {
        let asked = demand(&n.to_string(), &[window("w", 30)], &[("p", 20)]);
        granted(fixture, &asked).await
    });
    let admitted = join_all(asks).await.into_iter().filter(|granted| *granted).count();
    assert_eq!(admitted, 20);
}

/// Neither a window nor a place is taken when one of them refuses.
pub async fn a_refusal_takes_nothing_anywhere(fixture: &mut impl LimitFixture) {
    let open = window("open", 1);
    let both = demand("1", &[open.clone(), window("shut", 0)], &[("place", 1)]);
    assert!(!granted(fixture, &both).await);
    let no_place = demand("2", std::slice::from_ref(&open), &[("none", 0)]);
    assert!(!granted(fixture, &no_place).await);
    assert!(granted(fixture, &demand("3", &[open], &[("place", 1)])).await);
}

/// One scope's use is not another's.
pub async fn scopes_do_not_share(fixture: &mut impl LimitFixture) {
    for scope in ["org/a", "org/b"] {
        let asked = demand(scope, &[window(scope, 1)], &[(scope, 1)]);
        assert!(granted(fixture, &asked).await, "{scope}");
    }
}

/// A place given back is taken by the next.
pub async fn places_are_free_again_when_released(fixture: &mut impl LimitFixture) {
    let (one, two) = (demand("1", &[], &[("p", 1)]), demand("2", &[], &[("p", 1)]));
    assert!(granted(fixture, &one).await);
    assert!(!granted(fixture, &two).await);
    release(fixture, &two).await;
    assert!(!granted(fixture, &two).await, "only its holder gives a place back");
    release(fixture, &one).await;
    assert!(granted(fixture, &two).await);
}

/// A holder that died blocks nobody for longer than its ttl.
pub async fn places_are_free_again_after_their_ttl(fixture: &mut impl LimitFixture) {
    let (one, two) = (demand("1", &[], &[("p", 1)]), demand("2", &[], &[("p", 1)]));
    assert!(granted(fixture, &one).await);
    fixture.pass_ms(900).await;
    assert!(!granted(fixture, &two).await);
    fixture.pass_ms(101).await;
    assert!(granted(fixture, &two).await);
}

/// A holder that says it lives keeps its place.
pub async fn renewing_keeps_places(fixture: &mut impl LimitFixture) {
    let (one, two) = (demand("1", &[], &[("p", 1)]), demand("2", &[], &[("p", 1)]));
    assert!(granted(fixture, &one).await);
    for _ in 0..3 {
        fixture.pass_ms(800).await;
        assert!(renewed(fixture, &one).await);
        assert!(!granted(fixture, &two).await);
    }
}

/// Renewing too late says so, and takes nothing from the next holder.
pub async fn a_lost_place_cannot_be_renewed(fixture: &mut impl LimitFixture) {
    let (one, two) = (demand("1", &[], &[("p", 1)]), demand("2", &[], &[("p", 1)]));
    assert!(granted(fixture, &one).await);
    fixture.pass_ms(1_001).await;
    assert!(granted(fixture, &two).await);
    assert!(!renewed(fixture, &one).await);
    assert!(renewed(fixture, &two).await);
}

/// The same holder asking again is the same admission.
pub async fn asking_again_takes_nothing_twice(fixture: &mut impl LimitFixture) {
    let asked = demand("1", &[window("w", 2)], &[("p", 2)]);
    for _ in 0..3 {
        assert!(granted(fixture, &asked).await);
    }
    assert!(granted(fixture, &demand("2", &[window("w", 2)], &[("p", 2)])).await);
    assert!(!granted(fixture, &demand("3", &[window("w", 2)], &[])).await);
}

/// A repeated charge returns the total and adds nothing.
pub async fn a_charge_counts_once(fixture: &mut impl LimitFixture) {
    for (id, total) in [("a", 10), ("b", 20), ("a", 20), ("b", 20), ("c", 30)] {
        assert_eq!(charge(fixture, "org/acme", 20_000, id).await, total, "after {id}");
    }
}

/// Totals and what was charged outlive the process.
pub async fn days_survive_a_restart(fixture: &mut impl LimitFixture) {
    charge(fixture, "org/acme", 20_000, "a").await;
    fixture.restart().await;
    assert_eq!(spent(fixture, "org/acme", 20_000).await, 10);
    assert_eq!(charge(fixture, "org/acme", 20_000, "a").await, 10);
    assert_eq!(charge(fixture, "org/acme", 20_000, "b").await, 20);
}

/// Another day or scope starts at nothing.
pub async fn days_and_scopes_are_counted_apart(fixture: &mut impl LimitFixture) {
    charge(fixture, "org/a", 20_000, "x").await;
    charge(fixture, "org/a", 20_001, "x").await;
    charge(fixture, "org/b", 20_000, "x").await;
    for (scope, day, total) in [("org/a", 20_000, 10), ("org/b", 20_000, 10), ("org/c", 1, 0)] {
        assert_eq!(spent(fixture, scope, day).await, total, "{scope} on {day}");
    }
}
