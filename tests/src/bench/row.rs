//! A row of the table, and how far it is from what it should be.

use crate::load::Report;
use serde::Serialize;

/// One row.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub what: String,
    /// With what setting.
    pub setting: String,
    /// The figures that have something to reach.
    pub figures: Vec<Figure>,
    /// The rest, for people.
    pub beside: String,
    /// Everything that was read off the meters, where a load was put on.
    pub report: Option<Report>,
    /// Cores that others used while it was measured.
    pub foreign_cores: Option<f64>,
}

/// One figure, and its bound.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What it is, for example `p99`.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// As measured.
    pub value: f64,
    /// What it should be; absent for figures that only inform.
    pub bound: Option<Bound>,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Figure {
    /// A figure that only informs.
    pub fn new(name: &str, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            unit,
            value,
            bound: None,
        }
    }

    /// A figure that should be so much or more.
    #[must_use]
    pub fn at_least(mut self, bound: f64) -> Self {
        self.bound = Some(Bound::AtLeast(bound));
        self
    }

    /// A figure that should be so much or less.
    #[must_use]
    pub fn at_most(mut self, bound: f64) -> Self {
        self.bound = Some(Bound::AtMost(bound));
        self
    }

    /// Returns whether it is what it should be, and when it is not, by which factor it misses.
    pub fn missed_by(&self) -> Option<f64> {
        match self.bound? {
            Bound::AtLeast(bound) if self.value < bound => Some(bound / self.value.max(f64::MIN_POSITIVE)),
            Bound::AtMost(bound) if self.value > bound => Some(self.value / bound.max(f64::MIN_POSITIVE)),
            _ => None,
        }
    }

    fn target(&self) -> String {
        let Self { name, unit, .. } = self;
        match self.bound {
            Some(Bound::AtLeast(bound)) => format!("{name} ≥ {}{unit}", short(bound)),
            Some(Bound::AtMost(bound)) => format!("{name} ≤ {}{unit}", short(bound)),
            None => String::new(),
        }
    }

    fn measured(&self) -> String {
        let Self { name, unit, value, .. } = self;
        let miss = self
            .missed_by()
            .map_or_else(String::new, |by| format!(" (**missed**, by {by:.2}×)"));
        format!("{name} {}{unit}{miss}", short(*value))
    }
}

/// Three digits are what these figures are good for.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => {
            let digits = format!("{value:.0}");
            let (sign, digits) = digits.strip_prefix('-').map_or(("", &digits[..]), |rest| ("-", rest));
            let mut out = String::new();
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index) % 3 == 0 {
                    out.push(',');
                }
                out.push(digit);
            }
            format!("{sign}{out}")
        }
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl Row {
    /// A row whose figures were read by a load.
    pub fn of(what: &str, setting: &str, report: Report, figures: Vec<Figure>) -> Self {
        let cost = &report.cost;
        let beside = format!(
            "{:.0} µs of CPU and {:.0} bytes written each, {:.0} MiB at most, {} errors",
            cost.nodes_us_per_op, cost.written_per_op, cost.peak_resident_mib, report.errors
        );
        Self {
            what: what.to_owned(),
            setting: setting.to_owned(),
            figures,
            beside,
            foreign_cores: Some(cost.foreign_cores),
            report: Some(report),
        }
    }

    /// A row of other figures.
    pub fn plain(what: &str, setting: &str, figures: Vec<Figure>) -> Self {
        Self {
            what: what.to_owned(),
            setting: setting.to_owned(),
            figures,
            beside: String::new(),
            report: None,
            foreign_cores: None,
        }
    }

    /// Says something more.
    #[must_use]
    pub fn beside(mut self, text: impl Into<String>) -> Self {
        self.beside = text.into();
        self
    }

    /// The row as Markdown.
    pub fn markdown(&self) -> String {
        let join = |parts: Vec<String>| {
            let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            parts.join(", ")
        };
        let targets = join(self.figures.iter().map(Figure::target).collect());
        let measured = join(self.figures.iter().map(Figure::measured).collect());
        let foreign = self
            .foreign_cores
            .map_or_else(|| "-".to_owned(), |cores| format!("{cores:.2}"));
        let Self {
            what, setting, beside, ..
        } = self;
        format!("| {what} | {setting} | {targets} | {measured} | {beside} | {foreign} |")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_is_said_with_its_factor() {
        let slow = Figure::new("rate", 5000.0, "/s").at_least(10_000.0);
        assert_eq!(slow.missed_by(), Some(2.0));
        assert_eq!(slow.measured(), "rate 5,000/s (**missed**, by 2.00×)");
        let late = Figure::new("p99", 75.0, " ms").at_most(50.0);
        assert_eq!(late.missed_by(), Some(1.5));
        assert_eq!(Figure::new("p99", 50.0, " ms").at_most(50.0).missed_by(), None);
        assert_eq!(Figure::new("peak", 1.0, " MiB").missed_by(), None);
        let zero = Figure::new("rate", 0.0, "/s").at_least(1.0);
        assert!(
            zero.missed_by().is_some_and(|by| by > 1e6),
            "nothing at all is a miss too"
        );
    }

    #[test]
    fn numbers_are_as_long_as_they_are_good() {
        let table = [
            (0.123, "0.12"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.0, "1,234"),
            (1_234_567.0, "1,234,567"),
        ];
        for (value, text) in table {
            assert_eq!(short(value), text);
        }
    }
}
