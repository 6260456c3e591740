//! A client repeats calls through elections; none is carried out twice.

use anyhow::{Result, ensure};
use sched_client::{Client, ClientError, Options, Page, TaskFilter};
use sched_proto::v1;
use sched_tests::{Cluster, Plan, eventually, scenario, tasks};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Callers at once.
const CALLERS: usize = 32;
/// Leaders killed under them.
const KILLS: usize = 3;
/// Label under which a task carries its number.
const LABEL: &str = "call";
/// Tasks accepted between two kills.
const BETWEEN: usize = 500;

/// What all callers share.
struct Course {
    client: Client,
    stop: AtomicBool,
    accepted: AtomicUsize,
}

#[test]
fn a_call_repeated_over_an_election_is_carried_out_once() {
    scenario(Plan::nodes(3), Duration::from_secs(180), async |cluster| {
        let options = Options {
            deadline: Duration::from_secs(20),
            ..Options::default()
        };
        let client = Client::with_options(cluster.endpoints(), options)?;
        let course = Arc::new(Course {
            client,
            stop: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
        });
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            callers.spawn(call(caller, Arc::clone(&course)));
        }
        for _ in 0..KILLS {
            progress(&course).await?;
            let leader = cluster.leader().await?;
            cluster.kill9(leader).await?;
            progress(&course).await?;
            cluster.start(leader)?;
            cluster.ready().await?;
        }
        course.stop.store(true, Ordering::Relaxed);
        let mut accepted = BTreeMap::new();
        while let Some(calls) = callers.join_next().await {
            accepted.extend(calls??);
        }
        let held = held(cluster).await?;
        for (number, ids) in &held {
            ensure!(
                ids.len() == 1,
                "call {number} was carried out {} times: {ids:?}",
                ids.len()
            );
        }
        for (number, id) in &accepted {
            ensure!(
                held.get(number).is_some_and(|ids| ids == &[*id]),
                "call {number} was acknowledged as {id} and is gone"
            );
        }
        println!(
            "{KILLS} leaders killed under {CALLERS} callers: {} calls acknowledged, each carried out once",
            accepted.len()
        );
        Ok(())
    });
}

/// Enqueues until told to stop; a call that fails is given up, and may have been carried out once.
async fn call(caller: usize, course: Arc<Course>) -> Result<Vec<(String, u64)>> {
    let mut accepted = Vec::new();
    let mut number = 0;
    while !course.stop.load(Ordering::Relaxed) {
        let name = format!("{caller}-{number}");
        number += 1;
        let mut task = tasks::task(tasks::at(tasks::now_ms() + 24 * 3600 * 1000), tasks::sample(0, 64));
        task.labels.insert(LABEL.to_owned(), name.clone());
        match course.client.submit(tasks::submission(task)?).await {
            Ok(reply) => {
                accepted.push((name, reply.id));
                course.accepted.fetch_add(1, Ordering::Relaxed);
            }
            Err(error @ ClientError::Unreachable { .. }) => eprintln!("call {name}: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(accepted)
}

async fn progress(course: &Course) -> Result<()> {
    let before = course.accepted.load(Ordering::Relaxed);
    eventually("calls are acknowledged", Duration::from_secs(30), async || {
        let since = course.accepted.load(Ordering::Relaxed) - before;
        ensure!(since >= BETWEEN, "{since} of {BETWEEN}");
        Ok(())
    })
    .await
}

async fn held(cluster: &Cluster) -> Result<BTreeMap<String, Vec<u64>>> {
    let client = cluster.client()?;
    let mut held: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut page = Page {
        limit: 1000,
        cursor: String::new(),
    };
    loop {
        let reply: v1::ListTasksReply = client.tasks(&TaskFilter::default(), &page).await?;
        for task in reply.tasks {
            let name = task.spec.and_then(|spec| spec.labels.get(LABEL).cloned());
            held.entry(name.unwrap_or_default()).or_default().push(task.id);
        }
        if reply.cursor.is_empty() {
            return Ok(held);
        }
        page.cursor = reply.cursor;
    }
}
