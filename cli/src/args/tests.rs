use super::*;
use clap::CommandFactory as _;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from([&["schedcli"], line].concat())
}

#[test]
fn what_makes_sense_is_taken() {
    for line in [
        &["enqueue", "--in", "1s", "--sample", "ok"][..],
        &[
            "enqueue",
            "--rrule",
            "FREQ=DAILY",
            "--rrule",
            "FREQ=WEEKLY",
            "--",
            "ls",
            "--all",
        ],
        &["enqueue", "--priority", "-5", "--http", "GET http://x/"],
        &["enqueue", "-f", "-"],
        &["enqueue", "-f", "x.yaml", "--wait", "-o", "json"],
        &["--endpoint", "a:1,b:2", "status"],
        &["status", "--endpoint", "a:1"],
        &["list", "--state", "queued", "--label", "a=b", "--limit", "0"],
        &["runs", "--state", "failed"],
        &["next", "--cron", "@daily", "-n", "3"],
        &["show", "spool"],
        &["clear-spool", "--yes"],
    ] {
        if let Err(error) = parse(line) {
            panic!("{line:?}: {error}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        &[][..],
        &["enqueue"],
        &["enqueue", "--in", "1s"],
        &["enqueue", "--in", "1s", "--at", "x", "--sample", "ok"],
        &["enqueue", "--sample", "ok", "--http", "x"],
        &["enqueue", "--sample", "ok", "--", "ls"],
        &["enqueue", "-f", "x", "--sample", "ok"],
        &["enqueue", "-f", "x", "--every", "1s"],
        &["enqueue", "-f", "x", "--name", "n"],
        &["enqueue", "-f", "x", "--tries", "2"],
        &["enqueue", "--priority", "1000", "--sample", "ok"],
        &["enqueue", "--label", "nonsense", "--sample", "ok"],
        &["enqueue", "--overlap", "maybe", "--sample", "ok"],
        &["enqueue", "ls"],
        &["move", "1"],
        &["move", "1", "--at", "x", "--in", "y"],
        &["dequeue"],
        &["list", "--state", "SLEEPING"],
        &["next"],
        &["next", "--cron", "x", "-n", "0"],
        &["show"],
        &["completions", "cmd.exe"],
        &["frobnicate"],
    ] {
        let error = parse(line).expect_err(&format!("{line:?}"));
        assert_eq!(error.exit_code(), 2, "{line:?}");
    }
}

/// Where a field stands in a task document, by the heading of its flag.
fn place(heading: &str, flag: &str) -> Option<String> {
    let field = flag.replace('-', "_");
    match heading.split_whitespace().next()? {
        "Schedule" => Some(format!("schedule.{field}")),
        "Action" => Some(match flag {
            "mail-to" | "mail-cc" | "mail-from" => format!("action.mail.{}", &flag["mail-".len()..]),
            "subject" | "text" => format!("action.mail.{flag}"),
            _ => format!("action.{field}"),
        }),
        "Policies" => Some(format!("policy.{field}")),
        // The namespace is a global flag; several labels are a mapping.
        "Task" if flag == "label" => Some("labels".to_owned()),
        "Task" => Some(field),
        _ => None,
    }
}

/// Returns the table of all flags of `enqueue`, each with its field, having asked the reader of documents whether it knows it.
fn table() -> String {
    let command = Cli::command();
    let enqueue = command.find_subcommand("enqueue").expect("the verb");
    let mut table = String::from("| flag | field | meaning |\n|---|---|---|\n");
    for arg in enqueue.get_arguments() {
        let heading = arg.get_help_heading().unwrap_or_default();
        let name = arg.get_long().unwrap_or("command");
        let Some(place) = place(heading, name) else { continue };
        let text = place
            .rsplit('.')
            .fold("null".to_owned(), |inner, part| format!("{{\"{part}\": {inner}}}"));
        let error = crate::document::read("x.json", &text).err().unwrap_or_default();
        assert!(!error.contains("unknown field"), "{place}: {error}");
        let value = arg.get_value_names().filter(|_| arg.get_action().takes_values());
        let value = value.map(|names| format!(" {}", names.join(" "))).unwrap_or_default();
        let flag = match arg.get_long() {
            Some(long) => format!("--{long}{value}"),
            None => format!("-- {}", value.trim()),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let cell = |text: &str| text.replace('|', "\\|");
        table.push_str(&format!("| `{}` | `{place}` | {} |\n", cell(&flag), cell(&help)));
    }
    table
}

#[test]
fn the_page_about_tasks_lists_every_flag_and_field() {
    const MARK: &str = "from the program itself. -->\n\n";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tasks.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let (text, listed) = page.split_once(MARK).expect("the mark");
    let table = table();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{text}{MARK}{table}")).expect("writable");
        return;
    }
    assert_eq!(listed, table, "run `make golden` and read the diff");
}
