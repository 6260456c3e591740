//! Linearizability: is there an order of the calls on a task, each at an instant between its sending and its answer, in which one
//! copy of the task, taking one call at a time, would have given these answers?
//!
//! The search is that of Wing and Gong with Lowe's memory of configurations already refuted, written out here: it has to know calls
//! without an answer, which may take effect at any later time or never, and the crates at hand either do not or bring a benchmark
//! harness along.

use super::history::{Call, History, Operation, Told};
use super::report::{Class, Report};
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

/// Configurations looked at per task before the search gives up. Calls without an answer multiply them; a history that needs more
/// has too many on one task, and is rejected.
const CONFIGURATIONS_MAX: usize = 2_000_000;

/// What came of the search for one task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// There is one.
    Found,
    /// There is none; the calls that could be put in order at best, and the first that could not be.
    None { ordered: usize, stuck: String },
    /// The bound was met first.
    Undecided,
}

pub(super) fn judge(history: &History, report: &mut Report) {
    let mut by_key: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        by_key.entry(&operation.key).or_default().push(operation);
    }
    for (key, operations) in by_key {
        report.figures.operations += operations.len() as u64;
        let calls = operations.len();
        match order(operations) {
            Order::Found => {}
            Order::None { ordered, stuck } => {
                let detail = format!("{calls} calls, at most {ordered} can be put in an order; then there is {stuck}");
                report.accuse(Class::NotLinearizable, key, detail);
            }
            Order::Undecided => {
                report.figures.operations_undecided += 1;
                report.reject(format!(
                    "{key}: no order found among {calls} calls within {CONFIGURATIONS_MAX} steps"
                ));
            }
        }
    }
}

/// One copy of the task, as the API promises it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Register {
    task: Option<Record>,
    // Ids are given in ascending order.
    id_max: u64,
    // Answers under request keys that are used again; a refusal is not remembered.
    remembered: BTreeMap<Rc<str>, Option<u64>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Record {
    /// Absent until an answer has told it: it was made by a submit without an answer.
    id: Option<u64>,
    generation: u64,
    paused: Option<Rc<str>>,
    at_ms: Option<i64>,
}

impl Record {
    /// Whether this may be the record of that id; it is from then on.
    fn is(&mut self, id: u64, id_max: &mut u64) -> bool {
        match self.id {
            Some(known) => known == id,
            None if id > *id_max => {
                self.id = Some(id);
                *id_max = id;
                true
            }
            None => false,
        }
    }
}

/// Takes a call and says whether it may have been answered so. An unknown answer agrees with all.
fn take(copy: &mut Register, call: &Call, told: &Told, repeated: &HashSet<&str>) -> bool {
    if let Some(request) = request(call)
        && let Some(answer) = copy.remembered.get_mut(request)
    {
        return match (told, &answer) {
            (Told::Unknown, _) => true,
            (Told::Done { id }, Some(known)) => id == known,
            (Told::Done { id }, None) => {
                *answer = Some(*id);
                // The record that this very call made, if it is still there.
                match &mut copy.task {
                    Some(record) if record.id.is_none() => record.is(*id, &mut copy.id_max),
                    _ => true,
                }
            }
            _ => false,
        };
    }
    let agreed = carry_out(copy, call, told);
    if let Some(done) = agreed
        && done
        && let Some(request) = request(call).filter(|request| repeated.contains(request))
    {
        let id = match told {
            Told::Done { id } => Some(*id),
            _ => None,
        };
        copy.remembered.insert(request.into(), id);
    }
    agreed.is_some()
}

fn request(call: &Call) -> Option<&str> {
    match call {
        Call::Get => None,
        Call::Submit { request, .. }
        | Call::Pause { request, .. }
        | Call::Resume { request }
        | Call::Dequeue { request }
        | Call::Move { request, .. } => Some(request),
    }
}

/// Whether the answer fits, and if so whether the call changed anything.
fn carry_out(copy: &mut Register, call: &Call, told: &Told) -> Option<bool> {
    let Register { task, id_max, .. } = copy;
    match call {
        Call::Submit { at_ms, .. } => submit(task, id_max, *at_ms, told),
        Call::Get => get(task, id_max, told).then_some(false),
        // Every other call is about a task that is there. One that is computed from the task may have found it and come too late.
        Call::Move { .. } | Call::Resume { .. } if task.is_none() && *told == Told::WrongState => Some(false),
        _ if task.is_none() => matches!(told, Told::NotFound | Told::Unknown).then_some(false),
        _ => change(task, id_max, call, told),
    }
}

fn submit(task: &mut Option<Record>, id_max: &mut u64, at_ms: Option<i64>, told: &Told) -> Option<bool> {
    if let Some(record) = task {
        return match told {
            Told::NameTaken { by } => record.is(*by, id_max).then_some(false),
            Told::Unknown => Some(false),
            _ => None,
        };
    }
    let id = match told {
        Told::Done { id } if *id > *id_max => {
            *id_max = *id;
            Some(*id)
        }
        Told::Unknown => None,
        _ => return None,
    };
    *task = Some(Record {
        id,
        generation: 1,
        paused: None,
        at_ms,
    });
    Some(true)
}

fn get(task: &mut Option<Record>, id_max: &mut u64, told: &Told) -> bool {
    match (task, told) {
        (_, Told::Unknown) | (None, Told::NotFound) => true,
        (
            Some(record),
            Told::Found {
                id,
                generation,
                paused,
                at_ms,
            },
        ) => {
            record.generation == *generation
                && record.paused.as_deref() == paused.as_deref()
                && record.at_ms == *at_ms
                && record.is(*id, id_max)
        }
        _ => false,
    }
}

fn change(task: &mut Option<Record>, id_max: &mut u64, call: &Call, told: &Told) -> Option<bool> {
    let record = task.as_mut()?;
    let refused = match call {
        Call::Resume { .. } if record.paused.is_none() => Some(Told::WrongState),
        Call::Move { .. } if record.at_ms.is_none() => Some(Told::WrongState),
        Call::Move {
            generation: Some(wanted),
            ..
        } if *wanted != record.generation => Some(Told::Conflict {
            actual: record.generation,
        }),
        _ => None,
    };
    if let Some(refused) = refused {
        return (*told == refused || *told == Told::Unknown).then_some(false);
    }
    match told {
        Told::Done { id } if !record.is(*id, id_max) => return None,
        Told::Done { .. } | Told::Unknown => {}
        // The leader computes from what it has read; another change may come between, and then nothing is done.
        Told::Conflict { .. } if matches!(call, Call::Resume { .. } | Call::Move { generation: None, .. }) => {
            return Some(false);
        }
        _ => return None,
    }
    record.generation += 1;
    match call {
        Call::Pause { note, .. } => record.paused = Some(note.as_str().into()),
        Call::Resume { .. } => record.paused = None,
        Call::Move { at_ms, .. } => record.at_ms = Some(*at_ms),
        Call::Dequeue { .. } => *task = None,
        Call::Submit { .. } | Call::Get => {}
    }
    Some(true)
}

/// Which calls are in the order so far.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Taken(Vec<u64>);

impl Taken {
    fn none(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    fn has(&self, index: usize) -> bool {
        self.0[index / 64] & (1 << (index % 64)) != 0
    }

    fn with(&self, index: usize) -> Self {
        let mut more = self.clone();
        more.0[index / 64] |= 1 << (index % 64);
        more
    }
}

/// Searches an order of the calls on one task.
pub(super) fn order(mut calls: Vec<&Operation>) -> Order {
    // What was certainly not done has no place in the order, and a read without an answer says nothing.
    calls.retain(|op| op.told != Told::NotDone && !(op.told == Told::Unknown && op.call == Call::Get));
    calls.sort_by_key(|op| op.called_at_us);
    let mut keys = HashSet::new();
    let repeated: HashSet<&str> = calls
        .iter()
        .filter_map(|op| request(&op.call))
        .filter(|request| !keys.insert(*request))
        .collect();
    let answered = |op: &Operation| match op.told {
        Told::Unknown => i64::MAX,
        _ => op.answered_at_us.unwrap_or(i64::MAX),
    };
    let wanted = calls.iter().filter(|op| op.told != Told::Unknown).count();
    let mut refuted: HashSet<(Taken, Register)> = HashSet::new();
    // Configurations to go on from: what is taken, the state after it, how many answered calls that is, the first not taken.
    let mut open = vec![(Taken::none(calls.len()), Register::default(), 0, 0)];
    let mut best = (0, String::from("nothing"));
    while let Some((taken, copy, ordered, first)) = open.pop() {
        if ordered == wanted {
            return Order::Found;
        }
        if refuted.len() >= CONFIGURATIONS_MAX {
            return Order::Undecided;
        }
        let first = (first..calls.len())
            .find(|index| !taken.has(*index))
            .unwrap_or(calls.len());
        // Whatever was called before the earliest answer still outstanding may be next.
        let mut until = i64::MAX;
        let mut next = Vec::new();
        for (index, op) in calls.iter().enumerate().skip(first) {
            if op.called_at_us > until {
                break;
            }
            if !taken.has(index) {
                until = until.min(answered(op));
                next.push(index);
            }
        }
        if ordered >= best.0
            && let Some(index) = next.iter().find(|index| calls[**index].told != Told::Unknown)
        {
            best = (ordered, format!("{:?} on {copy:?}", calls[*index]));
        }
        // The stack takes the last first: the call made first is tried first.
        for index in next.into_iter().rev() {
            let op = calls[index];
            let mut after = copy.clone();
            if op.called_at_us > until || !take(&mut after, &op.call, &op.told, &repeated) {
                continue;
            }
            let unknown = op.told == Told::Unknown;
            if unknown && after == copy {
                // Without an effect it may as well not have been carried out.
                continue;
            }
            let more = taken.with(index);
            if refuted.insert((more.clone(), after.clone())) {
                open.push((more, after, ordered + usize::from(!unknown), first));
            }
        }
    }
    Order::None {
        ordered: best.0,
        stuck: best.1,
    }
}
