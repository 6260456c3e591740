//! One seed, from its first node to its verdict.

use crate::actor::Actor;
use crate::client::{Answers, Client};
use crate::faults::{Seat, Targets, Temper};
use crate::recorder::Recorder;
use crate::verdict;
use sim_ground::{Chance, Mutant, World};
use sim_node::host::{Host, Setup, client_address};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};
use std::time::Duration;
use tokio::runtime::{Builder, RngSeed};
use tokio::time::{Instant, sleep};

/// After the end of all faults the cluster must be at rest within this time: a lease, and what was under way.
const REST_MAX: Duration = Duration::from_secs(45);
/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(250);

/// What came of a seed.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Which.
    pub(crate) seed: u64,
    /// What is wrong; empty when nothing is.
    pub(crate) findings: Vec<String>,
    /// A hash of everything that happened, and of how many events.
    pub(crate) trace: (u64, u64),
    /// The event log.
    pub(crate) log: String,
    /// Entries whose tables were checked.
    pub(crate) states: u64,
    /// Processes started.
    pub(crate) starts: u64,
    /// Calls of clients.
    pub(crate) calls: usize,
    /// From the end of all faults until the cluster was at rest, in milliseconds.
    pub(crate) rest_ms: Option<u64>,
}

/// Runs one seed, with a mutant of the product or without.
///
/// # Panics
/// The runtime cannot be made.
#[allow(clippy::expect_used, reason = "without a runtime there is nothing to run")]
pub(crate) fn seed(seed: u64, mutant: Option<Mutant>) -> Outcome {
    hear_panics();
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
        .build()
        .expect("a runtime");
    let outcome = runtime.block_on(live(seed, mutant));
    drop(runtime);
    World::end();
    outcome
}

/// Panics of tasks would end their tasks and nothing else.
fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            World::panicked(&info.to_string());
            before(info);
        }));
    });
}

async fn live(seed: u64, mutant: Option<Mutant>) -> Outcome {
    let world = World::begin(seed, mutant);
    let mut chance = world.split();
    let recorder = Arc::new(Recorder::default());
    {
        let recorder = recorder.clone();
        world.watch(move |world, changes| recorder.compare(world, changes));
    }
    let setup = Setup {
        nodes: if chance.permille(200) { 5 } else { 3 },
        snapshot_entries: chance.range(5, 100),
        log_keep_entries: chance.below(25),
    };
    let temper = Temper::draw(&mut chance);
    world.note(format!("{setup:?}, {temper:?}"));
    let hosts: Vec<Arc<Host>> = (1..=setup.nodes).map(|id| Host::new(id, setup)).collect();
    for host in &hosts {
        host.start().await;
    }
    let nodes: Vec<String> = (1..=setup.nodes).map(client_address).collect();
    let actors: Vec<Arc<Actor>> = (1..=chance.range(2, 4))
        .map(|n| Actor::new(format!("w{n}"), nodes.clone(), temper.slots(), recorder.clone()))
        .collect();
    let seats = actors.iter().cloned().map(Seat::new).collect();
    let answers = Arc::new(Answers::default());
    (1..=chance.range(1, 4)).for_each(|number| Client::start(number, setup.nodes, temper, &answers));
    let far = if chance.permille(300) {
        chance.range(1, setup.nodes + 1)
    } else {
        0
    };
    let targets = Targets {
        temper,
        far,
        world: world.clone(),
        hosts: hosts.clone(),
        seats,
    };
    // Some faults fall into the forming of the cluster.
    let end = Instant::now() + Duration::from_millis(chance.range(15_000, 45_000));
    targets.clone().trouble(end, chance.clone()).await;
    // What trouble has begun ends by itself, and nothing of it comes after the end.
    if world.is_sound() {
        sleep(Duration::from_secs(7)).await;
    }
    targets.heal().await;
    let healed = Instant::now();
    sleep(Duration::from_millis(chance.range(0, 3_000))).await;
    answers.closing.store(true, Ordering::SeqCst);
    let rest_ms = rest(&world, &targets, &recorder, &actors, &answers, healed).await;
    let leader = hosts.iter().find(|host| host.leads()).and_then(|host| host.replica());
    if let Some(leader) = leader
        && let Err(fault) = verdict::judge(&world, &leader.view(), &answers, &recorder)
    {
        world.finding(fault.to_string());
    }
    Outcome {
        seed,
        findings: world.findings(),
        trace: world.trace(),
        log: world.log(),
        states: world.checks(),
        starts: recorder.count(),
        calls: answers.calls.load(Ordering::SeqCst),
        rest_ms,
    }
}

/// Waits until the cluster is at rest; returns how long that took.
async fn rest(
    world: &World,
    targets: &Targets,
    recorder: &Recorder,
    actors: &[Arc<Actor>],
    answers: &Answers,
    healed: Instant,
) -> Option<u64> {
    loop {
        sleep(LOOK).await;
        targets.keep_up().await;
        let Some(why) = verdict::unrest(world, &targets.hosts, recorder, actors, answers) else {
            world.note("at rest");
            return u64::try_from(healed.elapsed().as_millis()).ok();
        };
        if healed.elapsed() > REST_MAX || !world.is_sound() {
            if world.is_sound() {
                world.finding(format!(
                    "not at rest {} s after the last fault: {why}",
                    REST_MAX.as_secs()
                ));
            }
            return None;
        }
    }
}

/// Runs seeds on all processors; stops at the first `failures_max` that fail.
pub(crate) fn seeds(
    seeds: impl Iterator<Item = u64> + Send,
    mutant: Option<Mutant>,
    failures_max: usize,
) -> Vec<Outcome> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let seeds = std::sync::Mutex::new(seeds);
    let outcomes = std::sync::Mutex::new(Vec::new());
    let locked = |outcomes: &std::sync::Mutex<Vec<Outcome>>| {
        let outcomes = outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        outcomes.iter().filter(|outcome| !outcome.findings.is_empty()).count()
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while locked(&outcomes) < failures_max {
                    let next = seeds.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                    let Some(next) = next else { return };
                    let mut outcome = seed(next, mutant);
                    if outcome.findings.is_empty() && std::env::var_os("SIM_LOG").is_none() {
                        // Nobody reads it, and there are many.
                        outcome.log.clear();
                        outcome.log.shrink_to_fit();
                    }
                    outcomes
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push(outcome);
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Draws seeds from one.
pub(crate) fn derived(from: u64) -> impl Iterator<Item = u64> + Send {
    let mut chance = Chance::new(from);
    std::iter::from_fn(move || Some(chance.number() >> 32))
}
