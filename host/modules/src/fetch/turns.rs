//! Who may work now: so many at once over all, and so many of each group, so that one tenant or one dead server holds back
//! nobody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bound over all, and one for each group.
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    each: usize,
    groups: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// The right to work, given back when it is dropped.
pub(crate) struct Turn {
    all: Option<OwnedSemaphorePermit>,
    _group: Option<OwnedSemaphorePermit>,
    /// Keeps the group known while somebody works in it.
    _semaphore: Arc<Semaphore>,
}

impl Turns {
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            each,
            groups: Mutex::default(),
        }
    }

    /// Waits for a turn. The group's comes first: who waits for it holds nothing that others wait for.
    pub(crate) async fn take(&self, group: &str) -> Turn {
        let semaphore = self.group(group);
        // Neither semaphore is ever closed.
        let of_group = semaphore.clone().acquire_owned().await.ok();
        let of_all = self.all.clone().acquire_owned().await.ok();
        Turn {
            all: of_all,
            _group: of_group,
            _semaphore: semaphore,
        }
    }

    fn group(&self, name: &str) -> Arc<Semaphore> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = groups.get(name).and_then(Weak::upgrade) {
            return known;
        }
        groups.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(Semaphore::new(self.each));
        groups.insert(name.to_owned(), Arc::downgrade(&new));
        new
    }
}

impl Turn {
    /// Counts in its group alone from now on: others may begin.
    pub(crate) fn make_room(&mut self) {
        drop(self.all.take());
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    /// Whether a turn is to be had at once.
    async fn has_turn(turns: &Turns, group: &str) -> Option<Turn> {
        let mut take = pin!(turns.take(group));
        std::future::poll_fn(|context| {
            Poll::Ready(match take.as_mut().poll(context) {
                Poll::Ready(turn) => Some(turn),
                Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn a_full_group_holds_back_no_other() {
        let turns = Turns::new(3, 2);
        let first = has_turn(&turns, "a").await;
        let second = has_turn(&turns, "a").await;
        assert!(first.is_some() && second.is_some());
        assert!(has_turn(&turns, "a").await.is_none());
        let other = has_turn(&turns, "b").await;
        assert!(other.is_some());
        assert!(
            has_turn(&turns, "c").await.is_none(),
            "three at once over all"
        );
        drop(first);
        assert!(has_turn(&turns, "a").await.is_some());
    }

    #[tokio::test]
    async fn who_takes_long_makes_room_for_others_and_none_of_its_group() {
        let turns = Turns::new(1, 1);
        let mut long = has_turn(&turns, "a").await;
        assert!(has_turn(&turns, "b").await.is_none());
        long.iter_mut().for_each(Turn::make_room);
        assert!(has_turn(&turns, "a").await.is_none());
        assert!(has_turn(&turns, "b").await.is_some());
    }

    #[tokio::test]
    async fn groups_are_forgotten_when_nobody_works_in_them() {
        let turns = Turns::new(8, 1);
        for group in 0..100 {
            drop(turns.take(&group.to_string()).await);
        }
        assert!(turns.groups.lock().expect("no panic").len() <= 2);
    }
}
