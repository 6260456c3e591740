use super::*;
use clap::CommandFactory as _;
use wrong_values::WRONG;

#[path = "../../tests/command_line/wrong_values.rs"]
mod wrong_values;

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
        &["update", "1", "--queue", "q", "--http", "x"],
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
        "Schedule" if flag == "calendar" => Some("schedule.calendars".to_owned()),
        "Schedule" => Some(format!("schedule.{field}")),
        "Action" => Some(match flag {
            "mail-to" | "mail-cc" | "mail-from" => format!("action.mail.{}", &flag["mail-".len()..]),
            "subject" | "text" => format!("action.mail.{flag}"),
            _ => format!("action.{field}"),
        }),
        "Policies" => Some(format!("policy.{field}")),
        "Global" if flag == "namespace" => Some(field),
        // Several labels are a mapping.
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
    // The namespace is a flag of every verb.
    for arg in enqueue.get_arguments().chain(command.get_arguments()) {
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
    compare("tasks.md", &table());
}

/// Compares the end of a page with what the program says, or rewrites it.
fn compare(page: &str, table: &str) {
    const MARK: &str = "from the program itself. -->\n\n";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(page);
    let page = std::fs::read_to_string(&path).expect("the page");
    let (text, listed) = page.split_once(MARK).expect("the mark");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{text}{MARK}{table}")).expect("writable");
        return;
    }
    assert_eq!(listed, table, "run `make golden` and read the diff");
}

/// Flags whose values cannot be wrong, or are known to be only by a cluster: verb, flag, why.
const ANYTHING: &[(&str, &str, &str)] = &[
    ("enqueue", "dir", "a folder is one of the worker's"),
    ("enqueue", "description", "any text"),
    ("pause", "note", "any text"),
    ("shutdown", "message", "any text"),
    (
        "update",
        "unset",
        "looked up in the task, once it is read; tested with the verb",
    ),
    ("list", "cursor", "the cluster's own"),
    ("runs", "cursor", "the cluster's own"),
    ("show spool", "cursor", "the cluster's own"),
    ("next", "name", "any text is hashed"),
    ("calendar set", "description", "any text"),
    ("workers", "cursor", "the cluster says which it has given"),
    ("workers drain", "note", "any text"),
    ("calendar import", "description", "any text"),
];

/// Returns every flag of every verb that takes a value, under the words of its verb.
fn flags_with_values(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
    for arg in command.get_arguments() {
        if let Some(long) = arg.get_long()
            && arg.get_action().takes_values()
        {
            found.push((path.to_owned(), long.to_owned()));
        }
    }
    for verb in command.get_subcommands() {
        let path = format!("{path} {}", verb.get_name());
        flags_with_values(verb, path.trim(), found);
    }
}

#[test]
fn each_flag_that_takes_a_value_has_a_wrong_one_in_the_table() {
    let mut flags = Vec::new();
    flags_with_values(&Cli::command(), "", &mut flags);
    assert!(flags.len() > 90, "{} flags", flags.len());
    // The structures of `update` are those of `enqueue`.
    let stands = |verb: &str, flag: &str| {
        WRONG.iter().any(|row| (row.verb, row.flag) == (verb, flag))
            || ANYTHING.iter().any(|row| (row.0, row.1) == (verb, flag))
    };
    let known = |verb: &str, flag: &str| stands(verb, flag) || verb == "update" && stands("enqueue", flag);
    let missing: Vec<_> = flags.iter().filter(|(verb, flag)| !known(verb, flag)).collect();
    assert!(
        missing.is_empty(),
        "add rows to cli/tests/command_line/wrong_values.rs: {missing:?}"
    );
    let is_flag = |verb: &str, flag: &str| flags.iter().any(|known| *known == (verb.to_owned(), flag.to_owned()));
    for (verb, flag) in WRONG
        .iter()
        .map(|row| (row.verb, row.flag))
        .chain(ANYTHING.iter().map(|row| (row.0, row.1)))
    {
        assert!(
            is_flag(verb, flag),
            "{verb} --{flag} is in the table and does not exist"
        );
    }
}

/// Returns the field that a flag of `enqueue` is in a document.
fn field_of(flag: &str) -> Option<String> {
    let command = Cli::command();
    let enqueue = command.find_subcommand("enqueue").expect("the verb");
    let arg = enqueue.get_arguments().find(|arg| arg.get_long() == Some(flag))?;
    place(arg.get_help_heading().unwrap_or_default(), flag)
}

/// Writes a value where a path leads to; a number is one, what is written `K=V` a mapping.
fn write_into(document: &mut serde_json::Value, path: &str, value: &str) {
    let mut place = document;
    for part in path.split('.') {
        place = &mut place[part];
    }
    *place = match (value.parse::<i64>(), value.split_once('=')) {
        (Ok(number), _) => number.into(),
        _ if path == "policy.retry_factor" => serde_json::json!(value.parse::<f64>().expect("a number")),
        (_, Some((key, value))) if matches!(path, "labels" | "action.env") || path.ends_with("require") => {
            serde_json::json!({ key: value })
        }
        _ => value.into(),
    };
}

/// Reads the rows about `enqueue` as documents: each message names the field, the value, and what would be right.
#[test]
fn each_wrong_value_of_a_document_is_named_with_its_field_and_a_right_one() {
    let zones = crate::when::SystemZones::open();
    let context = crate::document::Context {
        zones: &zones,
        now: sched_core::Timestamp::EPOCH,
        namespace: "default",
        folder: std::path::Path::new("/"),
    };
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for row in WRONG.iter().filter(|row| row.verb == "enqueue") {
        // Files are read for flags only; of the pairs and numbers in lists, and the id of a request, the reader of documents and the
        // client have tests of their own.
        let elsewhere = [
            "env",
            "require",
            "prefer",
            "label",
            "success-code",
            "http-status",
            "request-id",
            "file",
            "name",
            // Whatever stands in a document is a value.
            "payload",
        ];
        if row.value.starts_with('@') || elsewhere.contains(&row.flag) {
            continue;
        }
        let mut document = serde_json::json!({});
        let mut words = row.beside.split_whitespace();
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some("") => write_into(&mut document, "action.command", "ls"),
                Some(flag) => {
                    let field = field_of(flag).expect("a field");
                    write_into(&mut document, &field, words.next().expect("a value"));
                }
                None => {}
            }
        }
        if let Some(command) = document["action"].get_mut("command") {
            *command = serde_json::json!([command.clone()]);
        }
        if document["action"].is_null() {
            document["action"] = serde_json::json!({});
        }
        let field = field_of(row.flag).expect("a field");
        write_into(&mut document, &field, row.value);
        let yaml = serde_norway::to_string(&document).expect("writes");
        let read = crate::document::read("x.yaml", &yaml);
        let problem = read.and_then(|tasks| match tasks[0].build(&context) {
            Ok(_) => Ok(()),
            Err(problem) => Err(problem.to_string()),
        });
        checked += 1;
        let said = problem.err().unwrap_or_default();
        let last = field.rsplit('.').next().unwrap_or_default();
        if !said.contains(last) || !said.contains(row.shown) || !said.contains(row.right) {
            wrong.push(format!(
                "{yaml}expected {last}, {:?}, {:?}: {said:?}",
                row.shown, row.right
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 40, "{checked} rows");
}

/// Adds a line for each verb below a command that does something itself.
fn list_verbs(command: &clap::Command, name: &str, table: &mut String) {
    for verb in command.get_subcommands() {
        let name = format!("{name}{}", verb.get_name());
        if verb.is_subcommand_required_set() {
            list_verbs(verb, &format!("{name} "), table);
            continue;
        }
        // The flags of a task have a table of their own.
        let of_a_task = ["Schedule", "Action", "Task", "Policies"];
        let flags: Vec<String> = verb
            .get_arguments()
            .filter(|arg| {
                let heading = arg
                    .get_help_heading()
                    .and_then(|heading| heading.split_whitespace().next());
                heading.is_none_or(|heading| !of_a_task.contains(&heading)) && arg.get_id() != "help"
            })
            .map(|arg| {
                let value = arg.get_value_names().filter(|_| arg.get_action().takes_values());
                let value = value.map(|names| names.join(" ")).unwrap_or_default();
                let flag = match arg.get_long() {
                    Some(long) => format!("--{long} {value}"),
                    None => value,
                };
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                format!("`{}`: {help}", flag.trim()).replace('|', "\\|")
            })
            .collect();
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        table.push_str(&format!("| `{name}` | {about} | {} |\n", flags.join("<br>")));
        // One that does something itself and has verbs below it.
        list_verbs(verb, &format!("{name} "), table);
    }
}

#[test]
fn the_page_about_commands_lists_every_verb_and_flag() {
    let mut table = String::from("| verb | what it does | arguments and flags |\n|---|---|---|\n");
    list_verbs(&Cli::command(), "", &mut table);
    compare("commands.md", &table);
}
