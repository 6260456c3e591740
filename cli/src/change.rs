//! A task with what somebody wants changed, and all else as it was.
//!
//! The stored task is written out as a document, what is given is laid over it, and the result is read like any other document. What a
//! document cannot hold exactly (bytes that are no text) and what is not touched is taken from the stored task itself.

use crate::args::Update;
use crate::build::{Builder, FORMS, Problem, forms_of};
use crate::document::{TaskDocument, check, document_of};
use crate::input::{ActionInput, ScheduleInput};
use sched_core::task::{Action, TaskSpec};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Kinds of actions, by the field that says which.
const KINDS: [&str; 4] = ["command", "http", "sample", "mail"];
/// Parts of a document that have fields of their own.
const PARTS: [&str; 3] = ["schedule", "action", "policy"];

/// The task as it shall be.
pub(crate) struct Changed {
    pub(crate) spec: TaskSpec,
    /// See [`sched_client::Update::starts_when_accepted`].
    pub(crate) starts_when_accepted: bool,
}

/// Returns the stored task with what is given and without what is to be left out.
pub(crate) fn changed(stored: &TaskSpec, args: &Update, builder: &Builder<'_>) -> Result<Changed, Problem> {
    let stored = TaskSpec {
        policy: stored.policy.clone().only_stated(),
        ..stored.clone()
    };
    let mut merged = value(&document_of(&stored))?;
    let given = value(&given(args))?;
    if given == value(&TaskDocument::default())? && args.unset.is_empty() {
        return Err(problem(
            "update",
            "names nothing to change; expected for example --tries 3",
        ));
    }
    make_room(&mut merged, args);
    merge(&mut merged, given);
    for field in &args.unset {
        leave_out(&mut merged, field)?;
    }
    let document: TaskDocument = read(merged)?;
    let is_unset = |part: &str| args.unset.iter().any(|field| field.starts_with(part));
    let (mut schedule, mut bounds) = (stored.schedule.clone(), stored.bounds.clone());
    let mut starts_when_accepted = false;
    if args.schedule != ScheduleInput::default() || is_unset("schedule.") {
        let built = builder.schedule(&document.schedule, document.name.as_deref().unwrap_or_default())?;
        (schedule, starts_when_accepted) = (built.schedule, built.starts_when_accepted);
        bounds = builder.bounds(&document.schedule)?;
    }
    let mut action = stored.action.clone();
    if args.action != ActionInput::default() || is_unset("action.") {
        action = built_action(&document.action, args, builder)?;
        keep_content(&mut action, &stored.action, args);
    }
    let spec = TaskSpec {
        name: document.name.clone(),
        labels: document.labels.iter().cloned().collect(),
        owner: document.owner.clone(),
        description: document.description.clone(),
        policy: builder.policy(&document.policy)?,
        schedule,
        action,
        bounds,
        namespace: stored.namespace,
    };
    check(&spec, builder.origin)?;
    Ok(Changed {
        spec,
        starts_when_accepted,
    })
}

fn given(args: &Update) -> TaskDocument {
    TaskDocument {
        name: args.task.name.clone(),
        labels: args.task.label.clone(),
        owner: args.task.owner.clone().unwrap_or_default(),
        description: args.task.description.clone().unwrap_or_default(),
        schedule: args.schedule.clone(),
        action: args.action.clone(),
        policy: args.policy.clone(),
        ..TaskDocument::default()
    }
}

/// Takes out what the new form of the schedule and the new kind of the action leave no place for.
fn make_room(merged: &mut Value, args: &Update) {
    let given = serde_json::to_value(&args.schedule).unwrap_or_default();
    if let (Some(form), Some(schedule)) = (
        FORMS.into_iter().find(|form| given.get(form).is_some()),
        object(merged, "schedule"),
    ) {
        schedule.retain(|field, _| {
            let is_other_form = FORMS.contains(&field.as_str()) && field != form;
            !is_other_form && forms_of(field).is_none_or(|forms| forms.contains(&form))
        });
    }
    let given = serde_json::to_value(&args.action).unwrap_or_default();
    if let (Some(kind), Some(action)) = (
        KINDS.into_iter().find(|kind| given.get(kind).is_some()),
        object(merged, "action"),
    ) && !action.contains_key(kind)
    {
        action.clear();
    }
}

fn object<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    value.get_mut(key).and_then(Value::as_object_mut)
}

/// Lays one value over another: mappings by their keys, everything else as a whole.
fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

/// Takes a field out, by its name in a document.
fn leave_out(merged: &mut Value, field: &str) -> Result<(), Problem> {
    let mut path: Vec<&str> = field.split('.').collect();
    let last = path.pop().unwrap_or_default();
    let is_field = match path.as_slice() {
        [] => !PARTS.contains(&last) && is_known::<TaskDocument>(None, last),
        ["labels"] => true,
        [part] if PARTS.contains(part) => is_known::<TaskDocument>(Some(part), last),
        ["action", "env"] | ["policy", "require" | "prefer"] => true,
        ["action", "mail"] => ["to", "cc", "from", "subject", "text"].contains(&last),
        _ => false,
    };
    if !is_field {
        let what = format!(
            "{field:.100?} is not a field of a task document; expected for example policy.tries, schedule.until, action.dir, owner or labels.team"
        );
        return Err(problem("--unset", what));
    }
    let mut at = Some(merged);
    for part in path {
        at = at.and_then(|value| value.get_mut(part));
    }
    if let Some(fields) = at.and_then(Value::as_object_mut) {
        fields.remove(last);
    }
    Ok(())
}

/// Whether a document has such a field: read with it, it is refused by its value at most, not by its name.
fn is_known<D: DeserializeOwned>(part: Option<&str>, field: &str) -> bool {
    let fields = Value::Object(Map::from_iter([(field.to_owned(), Value::Null)]));
    let whole = match part {
        Some(part) => Value::Object(Map::from_iter([(part.to_owned(), fields)])),
        None => fields,
    };
    match serde_json::from_value::<D>(whole) {
        Ok(_) => true,
        Err(error) => !error.to_string().starts_with("unknown field"),
    }
}

/// Reads the action. Text that was stored is no flag: a leading `@` names no file in it.
fn built_action(document: &ActionInput, args: &Update, builder: &Builder<'_>) -> Result<Action, Problem> {
    let mut input = document.clone();
    input.stdin = args.action.stdin.clone();
    input.body = args.action.body.clone();
    input.mail.text = args.action.mail.text.clone();
    builder.action(&input)
}

/// Takes over the content that is neither given nor left out.
fn keep_content(action: &mut Action, stored: &Action, args: &Update) {
    let keeps = |given: &Option<String>, field: &str| given.is_none() && !args.unset.iter().any(|unset| unset == field);
    match (action, stored) {
        (Action::Command { stdin, .. }, Action::Command { stdin: before, .. })
            if keeps(&args.action.stdin, "action.stdin") =>
        {
            stdin.clone_from(before);
        }
        (Action::Http { body, .. }, Action::Http { body: before, .. }) if keeps(&args.action.body, "action.body") => {
            body.clone_from(before);
        }
        (Action::Mail { text, .. }, Action::Mail { text: before, .. })
            if keeps(&args.action.mail.text, "action.mail.text") =>
        {
            text.clone_from(before);
        }
        _ => {}
    }
}

fn value(document: &TaskDocument) -> Result<Value, Problem> {
    serde_json::to_value(document).map_err(|error| problem("task", error.to_string()))
}

fn read(merged: Value) -> Result<TaskDocument, Problem> {
    serde_json::from_value(merged).map_err(|error| problem("task", error.to_string()))
}

fn problem(field: &str, what: impl Into<String>) -> Problem {
    Problem {
        field: field.to_owned(),
        what: what.into(),
    }
}
