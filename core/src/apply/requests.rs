//! Exactly once: a request that was carried out is answered from memory when it comes again.

use super::ctx::{Ctx, Stop};
use crate::codec::Kind;
use crate::command::{Item, Reject, Remembered, Reply};
use crate::ids::RequestKey;
use crate::limits;
use crate::tables::{Key, View};

type Handler<'a, V> = fn(&mut Ctx<'a, V>, &Item) -> Result<Reply, Stop>;

/// Carries a command out unless its request was answered before. Refusals are not remembered.
pub(super) fn once<'a, V: View>(ctx: &mut Ctx<'a, V>, item: &Item, handler: Handler<'a, V>) -> Result<Reply, Stop> {
    let Some(request) = &item.request else {
        return handler(ctx, item);
    };
    let now = ctx.now();
    if let RequestKey::Client { expires_at, .. } = request {
        if *expires_at <= now {
            return Err(Reject::RequestExpired {
                expired_at: *expires_at,
                now,
            }
            .into());
        }
        // Time that stands still says nothing about what lies ahead of it.
        if !ctx.timeless && expires_at.millis_since(now) > 2 * limits::REQUEST_TTL_MS {
            let problem = format!(
                "{expires_at} is more than {} ms ahead of {now}",
                2 * limits::REQUEST_TTL_MS
            );
            return Err(Reject::Invalid {
                field: "request.expires_at".into(),
                problem,
            }
            .into());
        }
    }
    let call = item.command.call();
    if let Some(known) = ctx.get::<Remembered>(&Key::Request(request), Kind::Reply)? {
        return Ok(known.for_call(call)?);
    }
    let (remembered, bound, what) = match request {
        RequestKey::Client { .. } => (ctx.meta.requests, limits::REQUESTS_MAX, "answers to recent requests"),
        RequestKey::Caller { .. } => (
            ctx.meta.caller_keys,
            limits::CALLER_KEYS_MAX,
            "request keys given by callers",
        ),
    };
    if remembered >= bound {
        let what = format!("{bound} {what} are remembered, which is the bound");
        return Err(Reject::Overloaded {
            what,
            retry_after_ms: 5000,
        }
        .into());
    }
    let reply = handler(ctx, item)?;
    let known = Remembered { call, reply };
    ctx.put(&Key::Request(request), Kind::Reply, &known);
    match request {
        RequestKey::Client { .. } => ctx.meta.requests += 1,
        RequestKey::Caller { namespace, key } => {
            ctx.put_key(&Key::CallerKeyExpiry(
                now.plus_millis(limits::CALLER_KEY_TTL_MS),
                namespace,
                key,
            ));
            ctx.meta.caller_keys += 1;
        }
    }
    Ok(known.reply)
}
