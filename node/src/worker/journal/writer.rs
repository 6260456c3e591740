//! The thread that owns the file: takes whatever waits, makes it durable, says so.

use super::Event;
use super::file::JournalFile;
use super::record::Record;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// How long what nobody waits for may wait for something to share a sync with.
const LINGER: Duration = Duration::from_secs(1);

/// What the thread is to do.
pub(super) enum Order {
    Write(Record),
    Renew,
}

impl Order {
    /// Whether somebody waits for it.
    fn is_urgent(&self) -> bool {
        match self {
            Order::Write(record) => record.mark().is_some(),
            Order::Renew => true,
        }
    }
}

#[derive(Default)]
struct State {
    /// Bounded by what the worker may hold: each attempt has at most a few records here.
    orders: Vec<Order>,
    urgent: bool,
    closed: bool,
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes of the queue.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where orders are given.
pub(super) enum Writer {
    Thread {
        queue: Arc<Queue>,
        thread: Option<JoinHandle<()>>,
    },
    /// Carried out by whoever gives them.
    Inline(Mutex<Option<Box<Scribe>>>),
}

/// Carries orders out until the first error.
pub(super) struct Scribe {
    file: Option<JournalFile>,
    events: UnboundedSender<Event>,
}

impl Writer {
    pub(super) fn start(file: JournalFile, events: UnboundedSender<Event>, inline: bool) -> io::Result<Self> {
        let mut scribe = Scribe {
            file: Some(file),
            events,
        };
        if inline {
            return Ok(Writer::Inline(Mutex::new(Some(Box::new(scribe)))));
        }
        let queue = Arc::new(Queue::default());
        let orders = queue.clone();
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            while let Some(orders) = next(&orders) {
                scribe.carry_out(orders);
            }
        })?;
        Ok(Writer::Thread {
            queue,
            thread: Some(thread),
        })
    }

    pub(super) fn give(&self, order: Order) {
        match self {
            Writer::Thread { queue, .. } => {
                let mut state = queue.lock();
                state.urgent |= order.is_urgent();
                state.orders.push(order);
                drop(state);
                queue.wake.notify_one();
            }
            Writer::Inline(scribe) => {
                let mut scribe = scribe.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(scribe) = scribe.as_mut() {
                    scribe.carry_out(vec![order]);
                }
            }
        }
    }

    /// Carries out what waits, and ends the thread.
    pub(super) fn close(&mut self) {
        match self {
            Writer::Thread { queue, thread } => {
                queue.lock().closed = true;
                queue.wake.notify_one();
                if let Some(thread) = thread.take()
                    && thread.join().is_err()
                {
                    tracing::error!("the thread that writes the journal has failed");
                }
            }
            Writer::Inline(scribe) => *scribe.get_mut().unwrap_or_else(PoisonError::into_inner) = None,
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// Waits for orders; `None` when there are no more.
fn next(queue: &Queue) -> Option<Vec<Order>> {
    let mut state = queue.lock();
    loop {
        if state.urgent || state.closed {
            state.urgent = false;
            if state.orders.is_empty() && state.closed {
                return None;
            }
            return Some(std::mem::take(&mut state.orders));
        }
        if state.orders.is_empty() {
            state = queue.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let (woken, timeout) = queue
            .wake
            .wait_timeout(state, LINGER)
            .unwrap_or_else(PoisonError::into_inner);
        state = woken;
        state.urgent |= timeout.timed_out();
    }
}

impl Scribe {
    fn carry_out(&mut self, orders: Vec<Order>) {
        let mut records = Vec::with_capacity(orders.len());
        for order in orders {
            match order {
                Order::Write(record) => records.push(record),
                Order::Renew => {
                    self.append(std::mem::take(&mut records));
                    self.renew();
                }
            }
        }
        self.append(records);
    }

    fn append(&mut self, records: Vec<Record>) {
        let Some(file) = self.file.as_mut().filter(|_| !records.is_empty()) else {
            return;
        };
        match file.append(records) {
            Ok(marks) => {
                let position = file.position;
                self.tell(Event::Durable { marks, position });
            }
            Err(e) => self.fail(&e),
        }
    }

    fn renew(&mut self) {
        let Some(file) = &mut self.file else { return };
        match file.renew() {
            Ok(()) => {
                let (journal, position) = (file.journal, file.position);
                self.tell(Event::Renewed { journal, position });
                self.append(vec![Record::Opening { number: rand::random() }]);
            }
            Err(e) => self.fail(&e),
        }
    }

    /// What is on disk after a failed write or sync is not known, so nothing is written behind it.
    fn fail(&mut self, error: &io::Error) {
        self.file = None;
        tracing::error!(error = %error, "the worker's journal cannot be written: the worker takes no more work");
        self.tell(Event::Failed(error.to_string()));
    }

    fn tell(&self, event: Event) {
        // An agent that is gone acts on nothing any more.
        let _ = self.events.send(event);
    }
}
