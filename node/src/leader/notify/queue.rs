//! What waits to be sent: bounded, and fair to receivers that answer while others hang.

use super::notice::Notice;
use sched_core::task::NotifyTo;
use std::collections::VecDeque;
use tokio::time::Instant;

/// Notifications that wait; beyond it the oldest go unsent.
const WAITING_MAX: usize = 1024;
/// On their way at once.
const AT_ONCE: usize = 16;
/// On their way to one address at once: a receiver that hangs must not hold up all others.
const AT_ONCE_EACH: usize = 4;

/// Notifications that wait, and to whom some are on their way.
#[derive(Default)]
pub(super) struct Queue {
    /// With the instant before which it is not tried again.
    waiting: VecDeque<(Option<Instant>, Notice)>,
    under_way: Vec<NotifyTo>,
}

impl Queue {
    /// Adds a notification. Returns how many were dropped for it.
    pub(super) fn push(&mut self, notice: Notice) -> u64 {
        self.add(None, notice)
    }

    /// Adds one that is not to be tried before an instant. Returns how many were dropped for it.
    pub(super) fn again(&mut self, notice: Notice, not_before: Instant) -> u64 {
        self.add(Some(not_before), notice)
    }

    fn add(&mut self, not_before: Option<Instant>, notice: Notice) -> u64 {
        self.waiting.push_back((not_before, notice));
        let mut dropped = 0;
        while self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
            dropped += 1;
        }
        dropped
    }

    /// Takes the oldest notification that may go now. [`Queue::release`] must follow when it is through.
    pub(super) fn take(&mut self, now: Instant) -> Option<Notice> {
        if self.under_way.len() >= AT_ONCE {
            return None;
        }
        let may_go = |(not_before, notice): &(Option<Instant>, Notice)| {
            not_before.is_none_or(|at| at <= now) && self.is_free(&notice.to)
        };
        let index = self.waiting.iter().position(may_go)?;
        let (_, notice) = self.waiting.remove(index)?;
        self.under_way.push(notice.to.clone());
        Some(notice)
    }

    fn is_free(&self, to: &NotifyTo) -> bool {
        self.under_way.iter().filter(|other| *other == to).count() < AT_ONCE_EACH
    }

    /// Makes room for the next: this one is no longer on its way.
    pub(super) fn release(&mut self, notice: &Notice) {
        if let Some(index) = self.under_way.iter().position(|to| *to == notice.to) {
            self.under_way.swap_remove(index);
        }
    }

    /// Returns when to look again although nothing has come and nothing has ended.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if self.under_way.len() >= AT_ONCE {
            return None;
        }
        self.waiting
            .iter()
            .filter(|(_, notice)| self.is_free(&notice.to))
            .filter_map(|(not_before, _)| *not_before)
            .min()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on shall end")]
mod tests {
    use super::*;
    use std::time::Duration;

    fn notice(url: &str, key: usize) -> Notice {
        Notice {
            to: NotifyTo::Webhook { url: url.into() },
            key: key.to_string(),
            subject: String::new(),
            body: serde_json::Value::Null,
            tries: 0,
        }
    }

    #[test]
    fn the_oldest_are_dropped() {
        let mut queue = Queue::default();
        let dropped: u64 = (0..WAITING_MAX + 2)
            .map(|key| queue.push(notice("http://x", key)))
            .sum();
        assert_eq!(dropped, 2);
        assert_eq!(queue.take(Instant::now()).unwrap().key, "2");
    }

    #[test]
    fn a_receiver_that_hangs_holds_up_nobody_else() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for key in 0..100 {
            queue.push(notice("http://hangs", key));
        }
        queue.push(notice("http://answers", 100));
        let taken: Vec<_> = std::iter::from_fn(|| queue.take(now)).collect();
        let keys: Vec<_> = taken.iter().map(|notice| notice.key.as_str()).collect();
        assert_eq!(keys, ["0", "1", "2", "3", "100"]);
        queue.release(&taken[0]);
        assert_eq!(queue.take(now).unwrap().key, "4");
        assert!(queue.take(now).is_none());
    }

    #[test]
    fn all_together_are_bounded() {
        let mut queue = Queue::default();
        for key in 0..2 * AT_ONCE {
            queue.push(notice(&format!("http://{key}"), key));
        }
        assert_eq!(std::iter::from_fn(|| queue.take(Instant::now())).count(), AT_ONCE);
    }

    #[test]
    fn a_pause_is_kept_and_holds_up_nobody() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        queue.again(notice("http://x", 1), later);
        assert_eq!(queue.next_due(), Some(later));
        queue.push(notice("http://x", 2));
        assert_eq!(queue.take(now).unwrap().key, "2");
        assert!(queue.take(now).is_none());
        assert_eq!(queue.take(later).unwrap().key, "1");
    }
}
