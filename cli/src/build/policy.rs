//! The policies of a task, as people wrote them.

use super::{Builder, Problem};
use crate::input::{DeliveryWord, OnDisconnectWord, OverlapWord, PolicyInput};
use crate::notify;
use sched_core::task::{
    Delivery, Group, Missed, NONE, Notify, OnDisconnect, Overlap, Placement, Policy, PolicyField, Retention, Stated,
    Tries,
};
use std::collections::BTreeMap;

impl Builder<'_> {
    /// Reads the policies; what is absent gets its default.
    pub(crate) fn policy(&self, input: &PolicyInput) -> Result<Policy, Problem> {
        let default = Policy::default();
        let duration = |field: &str, text: &Option<String>, default: u64| match text {
            Some(text) => self.duration("policy", field, text),
            None => Ok(default),
        };
        let kept = duration("keep_for", &input.keep_for, default.retention.finished_age_ms_max)?;
        Ok(Policy {
            stated: stated(input),
            grace_ms: duration("grace", &input.grace, default.grace_ms)?,
            missed: self.missed(input.missed.as_deref())?,
            catch_up_every_ms: self.catch_up_every(input)?,
            overlap: match input.overlap {
                None => default.overlap,
                Some(OverlapWord::Allow) => Overlap::Allow,
                Some(OverlapWord::Skip) => Overlap::Skip,
                Some(OverlapWord::QueueOne) => Overlap::QueueOne,
                Some(OverlapWord::QueueAll) => Overlap::QueueAll,
                Some(OverlapWord::Replace) => Overlap::Replace,
            },
            tries: Tries {
                max: input.tries.unwrap_or(default.tries.max),
                delay_ms: duration("retry_delay", &input.retry_delay, default.tries.delay_ms)?,
                factor_percent: self.factor(input.retry_factor, default.tries.factor_percent)?,
                delay_ms_max: duration("retry_delay_max", &input.retry_delay_max, default.tries.delay_ms_max)?,
                put_off_ms_max: duration("put_off_max", &input.put_off_max, default.tries.put_off_ms_max)?,
            },
            delivery: match input.delivery {
                None => None,
                Some(DeliveryWord::AtLeastOnce) => Some(Delivery::AtLeastOnce),
                Some(DeliveryWord::AtMostOnce) => Some(Delivery::AtMostOnce),
            },
            on_disconnect: input.on_disconnect.map(|word| match word {
                OnDisconnectWord::Kill => OnDisconnect::Kill,
                OnDisconnectWord::Continue => OnDisconnect::Continue,
            }),
            lost_hold_ms: duration("lost_hold", &input.lost_hold, default.lost_hold_ms)?,
            time_limit_ms: match input.time_limit.as_deref() {
                Some(NONE) | None => None,
                Some(text) => Some(self.duration("policy", "time_limit", text)?),
            },
            priority: input.priority.unwrap_or(default.priority),
            retention: Retention {
                finished_max: input.keep_finished.unwrap_or(default.retention.finished_max),
                failed_max: input.keep_failed.unwrap_or(default.retention.failed_max),
                finished_age_ms_max: kept,
                failed_age_ms_max: duration("keep_failed_for", &input.keep_failed_for, kept)?,
            },
            group: input.group.as_deref().map(|text| self.group(text)).transpose()?,
            placement: Placement {
                require: self.labels("require", &input.require)?,
                prefer: self.labels("prefer", &input.prefer)?,
            },
            notify: input
                .notify
                .iter()
                .map(|text| self.notify(text))
                .collect::<Result<_, _>>()?,
        })
    }

    fn notify(&self, text: &str) -> Result<Notify, Problem> {
        notify::read(text).ok_or_else(|| self.problem("policy", "notify", notify::expected(text)))
    }

    fn group(&self, text: &str) -> Result<Group, Problem> {
        let parts = text
            .rsplit_once(':')
            .and_then(|(name, limit)| Some((name, limit.trim().parse().ok()?)));
        match parts {
            Some((name, limit)) => Ok(Group {
                name: name.to_owned(),
                limit,
            }),
            None => Err(self.problem(
                "policy",
                "group",
                format!("{text:?} is not NAME:LIMIT, for example reports:2"),
            )),
        }
    }

    fn labels(&self, field: &str, pairs: &[(String, String)]) -> Result<BTreeMap<String, String>, Problem> {
        let mut labels = BTreeMap::new();
        for (label, value) in pairs {
            if labels.insert(label.clone(), value.clone()).is_some() {
                return Err(self.problem("policy", field, format!("{label:?} is given twice")));
            }
        }
        Ok(labels)
    }

    fn missed(&self, text: Option<&str>) -> Result<Missed, Problem> {
        let missed = text.map_or(Ok(Missed::default()), str::parse);
        missed.map_err(|what| self.problem("policy", "missed", what))
    }

    fn catch_up_every(&self, input: &PolicyInput) -> Result<u64, Problem> {
        let Some(text) = &input.catch_up_every else {
            return Ok(0);
        };
        // Where nothing is said of missed runs, the cluster's default may be all:N.
        if input
            .missed
            .as_deref()
            .is_some_and(|missed| !missed.starts_with("all:"))
        {
            let missed = self.origin.name("policy", "missed");
            let what = format!("means something only together with {missed} all:N");
            return Err(self.problem("policy", "catch_up_every", what));
        }
        self.duration("policy", "catch_up_every", text)
    }

    fn factor(&self, factor: Option<f64>, default: u32) -> Result<u32, Problem> {
        match factor {
            None => Ok(default),
            // Within these bounds the cast is exact to the hundredth.
            Some(factor) if (1.0..=100.0).contains(&factor) => Ok((factor * 100.0).round() as u32),
            Some(factor) => Err(self.problem(
                "policy",
                "retry_factor",
                format!("{factor} is not within 1 to 100; expected for example 1.5"),
            )),
        }
    }
}

/// What is given is stated, even where it is what the cluster would do anyway.
fn stated(input: &PolicyInput) -> Stated {
    let mut stated = Stated::default();
    for field in PolicyField::ALL {
        let is_given = match field {
            PolicyField::Grace => input.grace.is_some(),
            PolicyField::Missed => input.missed.is_some(),
            PolicyField::Overlap => input.overlap.is_some(),
            PolicyField::Tries => input.tries.is_some(),
            PolicyField::RetryDelay => input.retry_delay.is_some(),
            PolicyField::RetryFactor => input.retry_factor.is_some(),
            PolicyField::RetryDelayMax => input.retry_delay_max.is_some(),
            PolicyField::TimeLimit => input.time_limit.is_some(),
            PolicyField::Priority => input.priority.is_some(),
            PolicyField::KeepFinished => input.keep_finished.is_some(),
            PolicyField::KeepFailed => input.keep_failed.is_some(),
            PolicyField::KeepFor => input.keep_for.is_some(),
            PolicyField::KeepFailedFor => input.keep_failed_for.is_some(),
            PolicyField::PutOffMax => input.put_off_max.is_some(),
            PolicyField::CatchUpEvery => input.catch_up_every.is_some(),
        };
        stated.set(field, is_given);
    }
    stated
}
