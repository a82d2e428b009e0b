//! Shares the node's places for calls among accounts, so that one that answers slowly
//! leaves room for the others.
//!
//! An account may hold as many places as are free (a dynamic threshold): alone it gets half,
//! `n` slow ones together get `n / (n + 1)`, and a newcomer always finds some.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aof_shared::ids::{InstanceName, PlatformName, TenantId};
use aof_shared::message::Address;

type Key = (TenantId, PlatformName, InstanceName);

/// The places.
#[derive(Debug)]
pub(crate) struct Room {
    places: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<Key, usize>,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    room: Arc<Room>,
    key: Key,
}

impl Room {
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { places, taken: Mutex::default() })
    }

    /// A place for a call to `to`; `None` when its account holds its share.
    pub(crate) fn enter(self: &Arc<Self>, to: &Address) -> Option<Seat> {
        let key = (to.tenant.clone(), to.platform.clone(), to.instance.clone());
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = taken.by.get(&key).copied().unwrap_or(0);
        if mine >= self.places - taken.all {
            return None;
        }
        taken.all += 1;
        taken.by.insert(key.clone(), mine + 1);
        Some(Seat { room: Arc::clone(self), key })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        let mine = taken.by.get(&self.key).copied().unwrap_or(1);
        if mine <= 1 {
            taken.by.remove(&self.key);
        } else {
            taken.by.insert(self.key.clone(), mine - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(instance: &str) -> Address {
        Address {
            tenant: TenantId::default(),
            platform: PlatformName::slack(),
            instance: InstanceName::new(instance).expect("a name"),
            channel: "C1".to_owned(),
            thread: None,
        }
    }

    #[test]
    fn slow_accounts_leave_room_for_others() {
        let room = Room::new(12);
        let fill =
            |name: &str| -> Vec<Seat> { std::iter::from_fn(|| room.enter(&to(name))).collect() };
        let first = fill("a");
        assert_eq!(first.len(), 6, "alone it gets half");
        let second = fill("b");
        assert_eq!(second.len(), 3);
        assert!(!fill("c").is_empty(), "a newcomer finds some");
        drop(first);
        assert!(room.enter(&to("a")).is_some(), "places come back");
    }
}
