//! What happens to nodes, workers and the network in one seed.

use crate::actor::Actor;
use sched_core::NodeId;
use sim_ground::{Chance, Port, Weather, World};
use sim_node::host::Host;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Wall clocks jump by so much, in milliseconds: what the protocol calls agreement.
const JUMPS_MS: [i64; 4] = [450, -450, 200, -100];
/// The wall clock of one node may jump by so much: its word is never a majority's.
const FAR_JUMPS_MS: [i64; 4] = [3_600_000, -3_600_000, 300_000, -300_000];

type Cut = BTreeSet<(String, String)>;

/// A worker and its current life.
pub(crate) struct Seat {
    pub(crate) actor: Arc<Actor>,
    port: Mutex<Port>,
}

impl Seat {
    pub(crate) fn new(actor: Arc<Actor>) -> Arc<Self> {
        let port = Port::new(actor.name());
        actor.live(&port);
        Arc::new(Self {
            actor,
            port: Mutex::new(port),
        })
    }

    fn port(&self) -> MutexGuard<'_, Port> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the agent, and with the machine its processes.
    fn crash(&self, machine: bool) {
        self.port().life.cancel();
        if machine {
            self.actor.kill_processes();
        }
    }

    /// Begins a life, unless there is one.
    fn start(&self) {
        let mut port = self.port();
        if port.life.is_cancelled() {
            *port = Port::new(self.actor.name());
            self.actor.live(&port);
        }
    }
}

/// What a seed makes trouble for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Temper {
    /// Everything.
    Mixed,
    /// Workers above all: runs are long, and a leader mostly lives to see a worker's lease end, with what comes of it.
    Workers,
}

impl Temper {
    /// Draws one.
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        if chance.permille(250) {
            Self::Workers
        } else {
            Self::Mixed
        }
    }

    /// Of a thousand tasks, so many run for long.
    pub(crate) fn long_permille(self) -> u64 {
        match self {
            Self::Mixed => 200,
            Self::Workers => 700,
        }
    }

    /// How many runs a worker takes at once: what has lost its worker finds room on another one.
    pub(crate) fn slots(self) -> u32 {
        match self {
            Self::Mixed => 8,
            Self::Workers => 40,
        }
    }
}

/// Who can be hit.
#[derive(Clone)]
pub(crate) struct Targets {
    pub(crate) temper: Temper,
    /// The node whose wall clock may be far off; nothing in most seeds.
    pub(crate) far: u64,
    pub(crate) world: Arc<World>,
    pub(crate) hosts: Vec<Arc<Host>>,
    pub(crate) seats: Vec<Arc<Seat>>,
}

impl Targets {
    fn host(&self, chance: &mut Chance) -> Option<Arc<Host>> {
        // The leader is hit as often as all others together.
        let leader = self.hosts.iter().find(|host| host.leads()).cloned();
        match leader {
            Some(leader) if chance.permille(500) => Some(leader),
            _ => chance.pick(&self.hosts).cloned(),
        }
    }

    fn names(&self) -> Vec<String> {
        self.hosts.iter().map(|host| host.name.clone()).collect()
    }

    /// Makes trouble until `end`.
    pub(crate) async fn trouble(self, end: Instant, mut chance: Chance) {
        // Each seed has its own temper: some are quiet enough for rare orders of events.
        let pace = chance.range(400, 4_000);
        // One that has failed needs no more.
        while Instant::now() < end && self.world.is_sound() {
            let pause = chance.range(pace / 4, pace);
            sleep(Duration::from_millis(pause)).await;
            self.strike(&mut chance);
        }
    }

    fn strike(&self, chance: &mut Chance) {
        if self.temper == Temper::Workers && chance.permille(700) {
            return self.worker(chance);
        }
        match chance.below(100) {
            0..14 => self.crash_one(chance),
            14..19 => self.crash_all(chance),
            19..24 => self.crash_some(chance),
            24..46 => self.partition(chance),
            46..54 => self.storm(chance),
            54..60 => self.jump(chance),
            60..66 => self.slow_disk(chance),
            66..70 => self.fail_sync(chance),
            70..84 => self.worker(chance),
            84..90 => self.hand_over(chance),
            90..95 => self.snapshot(chance),
            _ => self.members(chance),
        }
    }

    fn crash_for(&self, host: &Arc<Host>, ms: u64) {
        host.crash();
        let host = host.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(ms)).await;
            host.start().await;
        });
    }

    fn crash_one(&self, chance: &mut Chance) {
        if let Some(host) = self.host(chance) {
            self.crash_for(&host, chance.range(50, 6_000));
        }
    }

    /// A power cut.
    fn crash_all(&self, chance: &mut Chance) {
        self.world.note("power cut");
        for host in &self.hosts {
            self.crash_for(host, chance.range(100, 1_500));
        }
    }

    /// Several nodes shortly after each other.
    fn crash_some(&self, chance: &mut Chance) {
        for _ in 0..=self.hosts.len() / 2 {
            if let Some(host) = chance.pick(&self.hosts).cloned() {
                let (after, down) = (chance.below(300), chance.range(50, 2_000));
                let this = self.clone();
                tokio::spawn(async move {
                    sleep(Duration::from_millis(after)).await;
                    this.crash_for(&host, down);
                });
            }
        }
    }

    fn partition(&self, chance: &mut Chance) {
        let names = self.names();
        let hit = self.host(chance).map(|host| host.name.clone()).unwrap_or_default();
        let mut cut = Cut::new();
        let both = |cut: &mut Cut, a: &str, b: &str| {
            cut.insert((a.to_owned(), b.to_owned()));
            cut.insert((b.to_owned(), a.to_owned()));
        };
        let others = names.iter().filter(|name| **name != hit);
        let shape = match chance.below(7) {
            0 => {
                others.for_each(|other| both(&mut cut, &hit, other));
                "one alone among peers"
            }
            1 => {
                // From everybody, workers and clients too.
                others.for_each(|other| both(&mut cut, &hit, other));
                for name in self
                    .seats
                    .iter()
                    .map(|seat| seat.actor.name())
                    .chain(["c1", "c2", "c3"])
                {
                    both(&mut cut, &hit, name);
                }
                "one alone"
            }
            2 => {
                cut.extend(others.map(|other| (hit.clone(), other.clone())));
                "one that is not heard"
            }
            3 => {
                cut.extend(others.map(|other| (other.clone(), hit.clone())));
                "one that hears nothing"
            }
            4 => {
                let (left, right) =
                    names.split_at(1 + usize::try_from(chance.below(names.len() as u64 - 1)).unwrap_or(0));
                for a in left {
                    right.iter().for_each(|b| both(&mut cut, a, b));
                }
                "halves"
            }
            5 => {
                for (at, a) in names.iter().enumerate() {
                    for b in names.iter().filter(|b| *b != a && **b != names[(at + 1) % names.len()]) {
                        cut.insert((a.clone(), b.clone()));
                    }
                }
                "ring"
            }
            _ => {
                if let Some(seat) = chance.pick(&self.seats) {
                    names.iter().for_each(|name| both(&mut cut, seat.actor.name(), name));
                }
                "a worker"
            }
        };
        self.world.note(format!("partition: {shape}, {hit}"));
        self.cut_for("partition", cut, chance.range(300, 14_000));
    }

    fn cut_for(&self, what: &str, cut: Cut, ms: u64) {
        self.world.set_cut(what, cut);
        let (world, what) = (self.world.clone(), what.to_owned());
        tokio::spawn(async move {
            sleep(Duration::from_millis(ms)).await;
            world.note(format!("{what} heals"));
            world.set_cut(&what, Cut::new());
        });
    }

    fn storm(&self, chance: &mut Chance) {
        let weather = Weather {
            loss_permille: chance.below(200),
            repeat_permille: chance.below(150),
            delay_us_max: [2_000, 20_000, 200_000][usize::try_from(chance.below(3)).unwrap_or(0)],
        };
        self.world.note(format!("storm: {weather:?}"));
        self.world.set_weather(weather);
        let (world, ms) = (self.world.clone(), chance.range(500, 8_000));
        tokio::spawn(async move {
            sleep(Duration::from_millis(ms)).await;
            world.set_weather(Weather::default());
        });
    }

    fn jump(&self, chance: &mut Chance) {
        let far = self.hosts.iter().find(|host| host.id == self.far);
        let host = far.filter(|_| chance.permille(500)).cloned();
        let Some(host) = host.or_else(|| self.host(chance)) else {
            return;
        };
        let jumps = if host.id == self.far { FAR_JUMPS_MS } else { JUMPS_MS };
        let ms = chance.pick(&jumps).copied().unwrap_or(0);
        self.world.note(format!("{}: its clock jumps by {ms} ms", host.name));
        // One clock at a time, and the one that is far off: the majority's is what leader time is measured by.
        for other in self.hosts.iter().filter(|other| other.id != self.far) {
            self.world.set_wall_offset(&other.name, 0);
        }
        self.world.set_wall_offset(&host.name, ms);
    }

    fn slow_disk(&self, chance: &mut Chance) {
        let Some(host) = self.host(chance) else { return };
        let ms = chance.range(5, 400);
        self.world.note(format!("{}: its disk takes {ms} ms", host.name));
        host.disk.slow_down(ms);
        let after = chance.range(500, 6_000);
        tokio::spawn(async move {
            sleep(Duration::from_millis(after)).await;
            host.disk.slow_down(0);
        });
    }

    fn fail_sync(&self, chance: &mut Chance) {
        let Some(host) = self.host(chance) else { return };
        host.disk.fail_sync();
        let after = chance.range(500, 5_000);
        tokio::spawn(async move {
            sleep(Duration::from_millis(after)).await;
            // It has stopped itself, if it wrote anything.
            host.start().await;
        });
    }

    fn worker(&self, chance: &mut Chance) {
        let Some(seat) = chance.pick(&self.seats).cloned() else {
            return;
        };
        // Half of them for longer than it may keep its processes without contact.
        let from = [200, 7_000][usize::try_from(chance.below(2)).unwrap_or(0)];
        let (what, ms) = (chance.below(4), chance.range(from, 14_000));
        let name = seat.actor.name();
        if what == 3 {
            self.world.note(format!("{name}: is cut off for {ms} ms"));
            let both = |node: String| [(node.clone(), name.to_owned()), (name.to_owned(), node)];
            return self.cut_for(name, self.names().into_iter().flat_map(both).collect(), ms);
        }
        match what {
            0 => {
                self.world.note(format!("{name}: freezes for {ms} ms"));
                seat.actor.freeze(true);
            }
            1 => {
                self.world.note(format!("{name}: its agent crashes for {ms} ms"));
                seat.crash(false);
            }
            _ => {
                self.world.note(format!("{name}: its machine crashes for {ms} ms"));
                seat.crash(true);
            }
        }
        tokio::spawn(async move {
            sleep(Duration::from_millis(ms)).await;
            match what {
                0 => seat.actor.freeze(false),
                _ => seat.start(),
            }
        });
    }

    fn hand_over(&self, chance: &mut Chance) {
        let wait = Duration::from_millis(chance.range(200, 2_000));
        let leader = self.hosts.iter().find(|host| host.leads());
        if let Some(work) = leader.and_then(|host| host.hand_over(wait)) {
            self.world.note("the leadership is handed over");
            tokio::spawn(work);
        }
    }

    fn snapshot(&self, chance: &mut Chance) {
        if let Some(work) = self.host(chance).and_then(|host| host.snapshot()) {
            tokio::spawn(work);
        }
    }

    /// One voter becomes a learner, and comes back.
    fn members(&self, chance: &mut Chance) {
        let Some(out) = self.host(chance) else { return };
        let voters: Vec<NodeId> = self.hosts.iter().map(|host| NodeId(host.id)).collect();
        let fewer: Vec<NodeId> = voters.iter().copied().filter(|node| node.0 != out.id).collect();
        self.world.note(format!("{}: votes no longer", out.name));
        let (this, ms) = (self.clone(), chance.range(200, 5_000));
        tokio::spawn(async move {
            this.vote(&fewer).await;
            sleep(Duration::from_millis(ms)).await;
            this.vote(&voters).await;
        });
    }

    /// Makes these the voters, if some node leads and a quorum agrees; true when that was confirmed.
    async fn vote(&self, voters: &[NodeId]) -> bool {
        let leader = self.hosts.iter().find(|host| host.leads());
        let Some(change) = leader.and_then(|host| host.change_voters(voters.to_vec())) else {
            return false;
        };
        matches!(tokio::time::timeout(Duration::from_secs(5), change).await, Ok(true))
    }

    /// Ends all trouble.
    pub(crate) async fn heal(&self) {
        self.world.note("all faults end");
        self.world.heal_cuts();
        self.world.set_weather(Weather::default());
        for host in &self.hosts {
            self.world.set_wall_offset(&host.name, 0);
            host.disk.slow_down(0);
            host.disk.calm();
            host.start().await;
        }
        for seat in &self.seats {
            seat.actor.freeze(false);
            seat.start();
        }
        let (this, all) = (
            self.clone(),
            self.hosts.iter().map(|host| NodeId(host.id)).collect::<Vec<_>>(),
        );
        tokio::spawn(async move {
            while !this.vote(&all).await {
                sleep(Duration::from_millis(300)).await;
            }
        });
    }

    /// Starts again what stopped itself after all trouble had ended.
    pub(crate) async fn keep_up(&self) {
        for host in &self.hosts {
            host.start().await;
        }
    }
}
