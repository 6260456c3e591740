//! Settings of the whole cluster: the defaults of policies that a task does not state, and how much is kept. They are replicated.
//!
//! A default is resolved when a task is accepted, and stored in the task: changing a default changes no task that exists.

use crate::apply::read_record;
use crate::codec::Kind;
use crate::command::{Fault, Reject};
use crate::limits;
use crate::tables::{Key, View};
use crate::task::{Policy, PolicyField};
use serde::{Deserialize, Serialize};

/// What was set. What was not has the value that is built in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Config {
    /// Those that are stated are set.
    policy: Policy,
    /// Ended tasks kept in all; the oldest go first.
    keep_ended_tasks: Option<u64>,
}

/// A setting. The order of the variants is on disk: new ones go to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Setting {
    /// The default of a policy, under the name that it has in a task document.
    Policy(PolicyField),
    /// How many ended tasks are kept.
    KeepEndedTasks,
}

const KEEP_ENDED_TASKS: &str = "keep_ended_tasks";

impl Setting {
    /// Returns all settings, in the order in which they are listed.
    pub fn all() -> impl Iterator<Item = Setting> {
        PolicyField::ALL
            .into_iter()
            .map(Setting::Policy)
            .chain([Setting::KeepEndedTasks])
    }

    /// Returns its key.
    pub fn key(self) -> &'static str {
        match self {
            Setting::Policy(field) => field.as_str(),
            Setting::KeepEndedTasks => KEEP_ENDED_TASKS,
        }
    }

    /// Returns the setting with a key.
    ///
    /// # Errors
    /// Names the known keys, and the one that was probably meant.
    pub fn of(key: &str) -> Result<Self, Reject> {
        if let Some(setting) = Setting::all().find(|setting| setting.key() == key) {
            return Ok(setting);
        }
        let known: Vec<&str> = Setting::all().map(Setting::key).collect();
        let meant = nearest(key, &known).map(|meant| format!("; did you mean {meant:?}?"));
        Err(invalid(
            "config",
            format!(
                "{key:.100?} is not a setting{} Known are: {}",
                meant.as_deref().unwrap_or("."),
                known.join(", ")
            ),
        ))
    }
}

fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Reject {
    Reject::Invalid {
        field: field.into(),
        problem: problem.into(),
    }
}

impl Config {
    /// Returns what is set now.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn read(view: &impl View) -> Result<Self, Fault> {
        Ok(read_record(view, &Key::Config, Kind::Config)?.unwrap_or_default())
    }

    /// Sets a value, given as text as a task document has it.
    ///
    /// # Errors
    /// Names the key, the text, and what would be accepted. Nothing is changed.
    pub fn set(&mut self, setting: Setting, text: &str) -> Result<(), Reject> {
        let field = format!("config.{}", setting.key());
        match setting {
            Setting::Policy(of) => {
                let mut policy = self.policy.clone();
                policy.state(of, text).map_err(|problem| invalid(&field, problem))?;
                crate::validate::policy_defaults(&policy).map_err(|problem| invalid(&field, problem))?;
                self.policy = policy;
            }
            Setting::KeepEndedTasks => match text.trim().parse() {
                Ok(count) if count >= 1 => self.keep_ended_tasks = Some(count),
                _ => {
                    let problem = format!(
                        "{text:?} is not a number from 1; expected for example {}",
                        limits::ENDED_TASKS_DEFAULT
                    );
                    return Err(invalid(field, problem));
                }
            },
        }
        Ok(())
    }

    /// Gives a setting the value that is built in.
    pub fn unset(&mut self, setting: Setting) {
        match setting {
            Setting::Policy(field) => {
                self.policy.take(field, &Policy::default());
                self.policy.stated.set(field, false);
            }
            Setting::KeepEndedTasks => self.keep_ended_tasks = None,
        }
    }

    /// Takes over what is set in another.
    pub fn merge(&mut self, other: &Config) {
        for field in other.policy.stated.iter() {
            self.policy.take(field, &other.policy);
            self.policy.stated.set(field, true);
        }
        self.keep_ended_tasks = other.keep_ended_tasks.or(self.keep_ended_tasks);
    }

    /// Whether a setting is set, to whatever value.
    pub fn is_set(&self, setting: Setting) -> bool {
        match setting {
            Setting::Policy(field) => self.policy.stated.contains(field),
            Setting::KeepEndedTasks => self.keep_ended_tasks.is_some(),
        }
    }

    /// Returns the value of a setting, as text.
    pub fn value(&self, setting: Setting) -> String {
        match setting {
            Setting::Policy(field) => self.policy_defaults().text_of(field),
            Setting::KeepEndedTasks => self.ended_tasks_max().to_string(),
        }
    }

    /// Returns the policies that a task has which states none.
    pub fn policy_defaults(&self) -> Policy {
        let mut policy = self.policy.clone();
        policy.fill(None, &Policy::default());
        policy
    }

    /// Returns how many ended tasks are kept.
    pub fn ended_tasks_max(&self) -> u64 {
        self.keep_ended_tasks.unwrap_or(limits::ENDED_TASKS_DEFAULT)
    }
}

/// Returns the word that is probably meant: at most two of its letters are wrong, of a long one a third.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // Longer words than any that is known are not measured: the cost is the product of the lengths.
    if word.len() > 2 * limits::NAME_BYTES_MAX {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let near = known.iter().map(|other| (distance(&word, other), *other)).min()?;
    (near.0 <= (near.1.len() / 3).max(2)).then_some(near.1)
}

/// Counts the letters to add, to leave out or to change.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones_and_the_nearest() {
        for (key, meant) in [
            ("trys", Some("tries")),
            ("retry-delay", Some("retry_delay")),
            ("keepfinished", Some("keep_finished")),
            ("OVERLAP", Some("overlap")),
            ("sleep_interval", None),
            ("", None),
        ] {
            let problem = Setting::of(key).unwrap_err().to_string();
            assert!(problem.contains("retry_delay_max, time_limit"), "{problem}");
            match meant {
                Some(meant) => assert!(problem.contains(&format!("did you mean {meant:?}?")), "{problem}"),
                None => assert!(!problem.contains("did you mean"), "{problem}"),
            }
        }
        for setting in Setting::all() {
            assert_eq!(Setting::of(setting.key()), Ok(setting));
        }
    }

    #[test]
    fn values_are_checked_like_those_of_a_task() {
        let mut config = Config::default();
        for (key, text, expected) in [
            ("tries", "0", "expected 1 to 1000"),
            ("tries", "many", "expected for example 3"),
            ("priority", "101", "expected -100 to 100"),
            ("grace", "1", "duration"),
            ("grace", "99999d", "more than"),
            ("time_limit", "0s", "leave it out"),
            ("missed", "all:5000", "expected 1 to 1000"),
            ("keep_finished", "1000000", "at most 100000"),
            ("keep_ended_tasks", "0", "from 1"),
        ] {
            let problem = config.set(Setting::of(key).unwrap(), text).unwrap_err().to_string();
            assert!(problem.starts_with(&format!("config.{key}: ")), "{problem}");
            assert!(problem.contains(expected), "{problem}");
        }
        assert_eq!(config, Config::default());
    }

    #[test]
    fn what_is_set_is_merged_and_what_is_unset_is_as_built_in() {
        let set = |pairs: &[(&str, &str)]| {
            let mut config = Config::default();
            for (key, text) in pairs {
                config.set(Setting::of(key).unwrap(), text).unwrap();
            }
            config
        };
        let mut config = set(&[("tries", "3"), ("keep_for", "1d")]);
        config.merge(&set(&[("tries", "4"), ("keep_ended_tasks", "10")]));
        assert_eq!(config.policy_defaults().tries.max, 4);
        assert_eq!(config.value(Setting::Policy(PolicyField::KeepFailedFor)), "1d");
        assert_eq!(config.ended_tasks_max(), 10);
        config.unset(Setting::Policy(PolicyField::Tries));
        config.unset(Setting::Policy(PolicyField::KeepFor));
        config.unset(Setting::KeepEndedTasks);
        assert_eq!(config, Config::default());
    }
}
