//! The settings of the cluster.

use crate::table::Table;
use sched_client::v1;
use serde::Serialize;

/// A setting.
#[derive(Serialize, Debug, PartialEq)]
pub(crate) struct SettingView {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) built_in: String,
    /// It was set, to whatever value.
    pub(crate) set: bool,
}

impl From<v1::Setting> for SettingView {
    fn from(setting: v1::Setting) -> Self {
        let v1::Setting {
            key,
            value,
            built_in,
            set,
        } = setting;
        Self {
            key,
            value,
            built_in,
            set,
        }
    }
}

/// Lists settings.
pub(crate) fn settings(settings: &[SettingView]) -> String {
    let mut table = Table::new(&["KEY", "VALUE", "BUILT IN", "SET"]);
    for setting in settings {
        let set = if setting.set { "yes" } else { "no" };
        table.row([
            setting.key.clone(),
            setting.value.clone(),
            setting.built_in.clone(),
            set.to_owned(),
        ]);
    }
    table.render()
}
