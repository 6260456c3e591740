//! `config`: the settings of the cluster.

use super::Cluster;
use crate::args::{Config, ConfigWhat};
use crate::error::CliError;
use crate::output;
use crate::view::{self, SettingView};
use sched_core::config::Setting;

pub(super) async fn config(cluster: &Cluster, args: &Config) -> Result<(), CliError> {
    let client = &cluster.client;
    let settings = match &args.what {
        ConfigWhat::List => client.config().await?,
        ConfigWhat::Get { key } => return get(cluster, key).await,
        ConfigWhat::Set { settings } => client.set_config(settings, &[]).await?,
        ConfigWhat::Unset { keys } => client.set_config(&[], keys).await?,
    };
    let settings: Vec<_> = settings.into_iter().map(SettingView::from).collect();
    output::data(cluster.global.output, &settings, |settings| view::settings(settings))
}

async fn get(cluster: &Cluster, key: &str) -> Result<(), CliError> {
    Setting::of(key).map_err(|reject| CliError::Usage(reject.to_string()))?;
    let settings = cluster.client.config().await?;
    let found = settings.into_iter().find(|setting| setting.key == key);
    let setting = found.map(SettingView::from).ok_or_else(|| {
        CliError::Usage(format!(
            "{key:?} is not a setting that this cluster knows; its release may be too old"
        ))
    })?;
    output::data(cluster.global.output, &setting, |setting| {
        format!("{}\n", setting.value)
    })
}
