//! Random commands about calendars and searches.

use super::World;
use sched_core::apply::read_record;
use sched_core::calendar::CalendarSpec;
use sched_core::codec::Kind;
use sched_core::tables::{Key, Meta};
use sched_core::{Command, TaskId};

impl World {
    /// What the leader saw, mostly.
    pub(super) fn calendar_generation(&mut self) -> u64 {
        let meta: Meta = read_record(&self.tables, &Key::Meta, Kind::Meta)
            .expect("readable")
            .unwrap_or_default();
        meta.calendar_generation - u64::from(meta.calendar_generation > 0 && self.rng.one_in(10))
    }

    pub(super) fn calendar(&mut self) -> Command {
        let (namespace, name) = ("default".to_owned(), format!("c{}", self.rng.below(4)));
        let generation = self.rng.one_in(3).then(|| self.calendar_generation());
        if self.rng.one_in(3) {
            return Command::DeleteCalendar {
                namespace,
                name,
                generation,
            };
        }
        let days = (0..self.rng.below(4)).map(|_| self.rng.below(100) as i32).collect();
        let spec = CalendarSpec::new(String::new(), "UTC".into(), days, Vec::new());
        Command::SetCalendar {
            namespace,
            name,
            calendar: Box::new(spec),
            generation,
        }
    }

    pub(super) fn searched_again(&mut self) -> Command {
        let tasks = self.tasks();
        let (task, generation) = self
            .rng
            .pick(&tasks)
            .map_or((TaskId(1), 1), |(id, status)| (id, status.generation));
        Command::SearchedAgain {
            task,
            generation,
            next: self.next_time(),
        }
    }
}
