//! Files of tasks: many, applied again, and wrong in every way.

use crate::{LIMIT, rows};
use anyhow::{Result, ensure};
use sched_tests::cli::{self, USAGE};
use sched_tests::{Cluster, Plan, scenario};

/// Three documents of all kinds.
const FILE: &str = r#"
name: nightly
labels: {team: billing}
schedule: {cron: "0 2 * * *", tz: Europe/Zurich}
action: {command: [/bin/true]}
policy: {tries: 3, retry_delay: 10s, overlap: skip}
---
- name: ping
  schedule: {every: 5m}
  action: {http: "GET http://127.0.0.1:1/"}
- name: once
  schedule: {in: 1h}
  action: {sample: ok}
"#;

#[test]
fn a_file_is_applied_by_name_and_again() {
    scenario(Plan::nodes(3), LIMIT, async |cluster| {
        let path = write(cluster, "tasks.yaml", FILE)?;
        let first = cluster.json(&["enqueue", "-f", &path]).await?;
        ensure!(rows(&first)?.len() == 3, "{first}");
        let again = cluster.json(&["enqueue", "-f", &path]).await?;
        let ids = |document: &serde_json::Value| {
            document
                .as_array()
                .map(|rows| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>())
        };
        ensure!(ids(&first) == ids(&again), "{first} and {again}");
        ensure!(rows(&cluster.json(&["list"]).await?)?.len() == 3, "nothing was added");

        let endpoints = cluster.endpoints().join(",");
        let json = br#"[{"name": "four", "schedule": {"manual": true}, "action": {"sample": "ok"}}]"#;
        cli::run(&endpoints, &["enqueue", "-f", "-"], Some(json))
            .await?
            .done()?;
        ensure!(
            rows(&cluster.json(&["list"]).await?)?.len() == 4,
            "one more, from standard input"
        );
        Ok(())
    });
}

#[test]
fn a_wrong_file_says_where_and_stores_nothing() {
    scenario(Plan::nodes(1), LIMIT, async |cluster| {
        let good = "{name: good, schedule: {in: 1h}, action: {sample: ok}}";
        for (name, text, parts) in [
            (
                "unknown.yaml",
                format!("{good}\n---\n{{name: b, schedul: {{in: 1h}}, action: {{sample: ok}}}}\n"),
                &["unknown.yaml", "schedul"][..],
            ),
            (
                "cron.yaml",
                format!("- {good}\n- {{name: b, schedule: {{cron: '99 * * * *'}}, action: {{sample: ok}}}}\n"),
                &["cron.yaml", "2", "99"],
            ),
            (
                "name.yaml",
                format!(
                    "- {good}\n- {{name: {}, schedule: {{in: 1h}}, action: {{sample: ok}}}}\n",
                    "n".repeat(257)
                ),
                &["name.yaml", "name", "256"],
            ),
            (
                "none.yaml",
                "- {name: b, schedule: {in: 1h}}\n".to_owned(),
                &["none.yaml", "action"],
            ),
            (
                "two.yaml",
                "- {schedule: {in: 1h, every: 1h}, action: {sample: ok}}\n".to_owned(),
                &["two.yaml", "schedule"],
            ),
            ("broken.yaml", "- {name: [}".to_owned(), &["broken.yaml"]),
            ("broken.json", "{\"name\": ".to_owned(), &["broken.json"]),
            ("empty.yaml", String::new(), &["empty.yaml"]),
        ] {
            let path = write(cluster, name, &text)?;
            cluster.cli(&["enqueue", "-f", &path]).await?.failed(USAGE, parts)?;
        }
        cluster
            .cli(&["enqueue", "-f", "/no/such/file.yaml"])
            .await?
            .failed(USAGE, &["/no/such/file.yaml"])?;
        let list = cluster.json(&["list"]).await?;
        ensure!(rows(&list)?.is_empty(), "something was stored: {list}");
        Ok(())
    });
}

fn write(cluster: &Cluster, name: &str, text: &str) -> Result<String> {
    let path = cluster.file(name);
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}
