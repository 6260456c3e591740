//! Tells people and programs what became of runs: webhooks and mails, after the fact is committed.
//!
//! A notification changes no state and holds nothing up. It is tried some times, under one key for all tries, and what is not out when
//! the term ends is lost: who must not miss an end reads the lists.

mod notice;
mod queue;
mod sender;

use super::Term;
use crate::shared::{OrStop, Shared};
use notice::{ended, missed};
use queue::Queue;
use sched_core::Effect;
use sched_core::command::Fault;
use sender::{Sender, Sent};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Tries of one notification.
const TRIES: u32 = 5;
/// After the first try; three times as long after each further one.
const PAUSE: Duration = Duration::from_secs(1);

/// Sends notifications until the term is over.
pub(super) async fn run(shared: Arc<Shared>, term: Arc<Term>, mut effects: Receiver<Arc<[Effect]>>) {
    let sender = Arc::new(Sender::new(&shared));
    let (mut queue, mut under_way) = (Queue::default(), JoinSet::new());
    loop {
        while let Some(notice) = queue.take(Instant::now()) {
            let sender = sender.clone();
            under_way.spawn(async move {
                let sent = sender.send(&notice).await;
                (notice, sent)
            });
        }
        tokio::select! {
            batch = effects.recv() => match batch {
                Ok(batch) => take(&shared, &batch, &mut queue).or_stop(),
                Err(RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, term = term.number, "too much at once, some notifications are not sent");
                }
                // The replica has stopped; this duty is about to be.
                Err(RecvError::Closed) => std::future::pending().await,
            },
            Some(done) = under_way.join_next() => match done {
                Ok((notice, sent)) => {
                    queue.release(&notice);
                    settle(&shared, &mut queue, notice, sent);
                }
                // Only a fault in the program: the other duties go on, and the place of this one stays taken.
                Err(e) => tracing::error!(error = %e, "a notification failed inside"),
            },
            () = until(queue.next_due()) => {}
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Puts what was committed into the queue.
fn take(shared: &Shared, batch: &[Effect], queue: &mut Queue) -> Result<(), Fault> {
    let (mut view, mut dropped) = (None, 0);
    for effect in batch {
        let notices = match effect {
            Effect::RunEnded { run, recovered } => {
                ended(view.get_or_insert_with(|| shared.replica.view()), *run, *recovered)?
            }
            Effect::RunLost { run } => ended(view.get_or_insert_with(|| shared.replica.view()), *run, false)?,
            Effect::OccurrencesMissed { task, line } => {
                missed(view.get_or_insert_with(|| shared.replica.view()), *task, *line)?
            }
            _ => continue,
        };
        dropped += notices.into_iter().map(|notice| queue.push(notice)).sum::<u64>();
    }
    warn_dropped(shared, dropped);
    Ok(())
}

fn warn_dropped(shared: &Shared, dropped: u64) {
    if dropped > 0 {
        shared.counters.notices_dropped.add(dropped);
        tracing::warn!(dropped, "too many notifications wait, the oldest are not sent");
    }
}

/// Counts what was sent, and lets wait what is to be tried again.
fn settle(shared: &Shared, queue: &mut Queue, mut notice: notice::Notice, sent: Sent) {
    notice.tries += 1;
    let (key, tries) = (notice.key.clone(), notice.tries);
    match sent {
        Sent::Taken => shared.counters.notices_sent.add(1),
        Sent::Later(problem) if tries < TRIES => {
            tracing::info!(key, tries, problem, "a notification is tried again");
            let pause = PAUSE * 3u32.pow(tries - 1);
            warn_dropped(shared, queue.again(notice, Instant::now() + pause));
        }
        Sent::Later(problem) | Sent::Refused(problem) => {
            shared.counters.notices_failed.add(1);
            tracing::warn!(key, tries, problem, "a notification is given up");
        }
    }
}
