//! `Configure`: changes settings of the cluster, each on its own; the last write wins.

use super::ctx::{Ctx, Stop};
use crate::codec::Kind;
use crate::command::Reply;
use crate::config::{Config, Setting};
use crate::tables::{Key, View};

pub(super) fn configure<V: View>(ctx: &mut Ctx<'_, V>, set: &Config, unset: &[Setting]) -> Result<Reply, Stop> {
    let mut config = Config::read(&*ctx.staged)?;
    for setting in unset {
        config.unset(*setting);
    }
    config.merge(set);
    if config == Config::default() {
        ctx.delete(&Key::Config);
    } else {
        ctx.put(&Key::Config, Kind::Config, &config);
    }
    Ok(Reply::Config(Box::new(config)))
}
