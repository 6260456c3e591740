use crate::worker::attempt::Finished;
use crate::worker::output::OutputLimits;
use crate::worker::stop::{Cause, Stopper, Urgency};
use crate::worker::tests::{Bench, command, job};
use crate::worker::wire::Job;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sched_core::run::Verdict;
use sched_core::task::{Action, ProcessLimits};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

fn edited(argv: &[&str], edit: impl FnOnce(&mut Action)) -> Job {
    let mut action = command(argv);
    edit(&mut action);
    job(1, action)
}

fn failure(reason: &str) -> Verdict {
    Verdict::Failure {
        reason: reason.to_owned(),
    }
}

fn tail(finished: &Finished) -> String {
    String::from_utf8_lossy(&finished.result.output_tail).into_owned()
}

/// Watches a process that is not our child; its end is an event.
fn watch(pid: &str) -> OwnedFd {
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

/// Waits for the end of a watched process.
async fn ended(pidfd: OwnedFd) {
    #[expect(deprecated, reason = "its successor is unsafe; an `OwnedFd` owns its descriptor")]
    let fd = tokio::io::unix::AsyncFd::with_interest(pidfd, tokio::io::Interest::READABLE).unwrap();
    let _ = tokio::time::timeout(Duration::from_secs(30), fd.readable())
        .await
        .expect("alive after 30 s")
        .unwrap();
}

#[tokio::test]
async fn exit_codes_are_judged() {
    let delay = Verdict::DelayMe {
        delay_ms: 60_000,
        reason: "exit code 75".to_owned(),
    };
    let table: [(&str, &[i32], Verdict, i32); 8] = [
        ("exit 0", &[], Verdict::Success, 0),
        ("exit 1", &[], failure("exit code 1"), 1),
        ("exit 3", &[0, 3], Verdict::Success, 3),
        ("exit 0", &[3], failure("exit code 0"), 0),
        ("exit 75", &[], delay, 75),
        ("exit 75", &[75], Verdict::Success, 75),
        ("kill -9 $$", &[], failure("ended by signal 9"), 137),
        ("kill -9 $$", &[137], failure("ended by signal 9"), 137),
    ];
    let bench = Bench::new();
    for (script, codes, verdict, code) in table {
        let job = edited(&["/bin/sh", "-c", script], |action| {
            let Action::Command { success_codes, .. } = action else {
                return;
            };
            *success_codes = codes.to_vec();
        });
        let result = bench.run(&job).await.result;
        assert_eq!(
            (result.verdict, result.exit_code),
            (verdict, Some(code)),
            "{script} {codes:?}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let bench = Bench::new();
    let missing = bench
        .run(&job(1, command(&["no-such-program", "x"])))
        .await
        .result
        .verdict;
    assert_eq!(
        missing,
        failure("\"no-such-program\" cannot be started: No such file or directory (os error 2)")
    );
    let nothing = bench.run(&job(1, command(&[]))).await.result.verdict;
    assert_eq!(nothing, failure("\"\" cannot be started: no program is named"));
    let zero = bench.run(&job(1, command(&["/bin/echo", "a\0b"]))).await.result;
    assert!(matches!(zero.verdict, Verdict::Failure { reason } if reason.contains("cannot be started")));
    let lost = edited(&["/bin/true"], |action| {
        let Action::Command { dir, .. } = action else { return };
        *dir = Some("/no/such/dir".to_owned());
    });
    let lost = bench.run(&lost).await.result.verdict;
    assert_eq!(
        lost,
        failure("the working directory /no/such/dir does not exist on this worker")
    );
}

#[tokio::test]
async fn output_and_errors_keep_their_order_in_the_tail_and_in_the_file() {
    let bench = Bench::new();
    let finished = bench
        .shell("for i in 1 2 3; do echo out $i; echo err $i >&2; done")
        .await;
    let expected = "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n";
    assert_eq!(tail(&finished), expected);
    assert_eq!(bench.output(1, 0).await, expected.as_bytes());
}

#[tokio::test]
async fn huge_binary_output_is_bounded() {
    let limits = OutputLimits {
        attempt_bytes_max: 1024 * 1024,
        ..OutputLimits::default()
    };
    let bench = Bench::with(limits, Duration::from_secs(5));
    let finished = bench
        .shell("head -c 50000000 /dev/zero; printf '\\377\\000\\376'")
        .await;
    assert_eq!(finished.result.verdict, Verdict::Success);
    assert_eq!(finished.result.output_tail.len(), 16 * 1024);
    assert!(finished.result.output_tail.ends_with(&[255, 0, 254]));
    let end = bench.output(1, 50_000_000).await;
    assert_eq!(end, [255, 0, 254]);
    let kept: u64 = std::fs::read_dir(bench.dir.path().join("output/7/1.1.more"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(kept <= 512 * 1024, "{kept}");
}

#[tokio::test]
async fn input_is_given_and_need_not_be_read() {
    let bench = Bench::new();
    let bytes: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
    for (script, expected) in [("wc -c", "200000\n"), ("true", "")] {
        let job = edited(&["/bin/sh", "-c", script], |action| {
            let Action::Command { stdin, .. } = action else { return };
            *stdin = bytes.clone();
        });
        let finished = bench.run(&job).await;
        assert_eq!(
            (finished.result.verdict.clone(), tail(&finished).trim()),
            (Verdict::Success, expected.trim())
        );
    }
    assert_eq!(
        tail(&bench.shell("cat; echo end").await),
        "end\n",
        "without input it is empty, not the worker's"
    );
}

#[tokio::test]
async fn the_environment_is_small_and_says_who_the_process_is() {
    let bench = Bench::new();
    let mut job = edited(&["/usr/bin/env"], |action| {
        let Action::Command { env, .. } = action else { return };
        env.insert("MINE".to_owned(), "1".to_owned());
        env.insert("LANG".to_owned(), "de_DE.UTF-8".to_owned());
        env.insert("SCHED_RUN".to_owned(), "forged".to_owned());
    });
    job.params = vec![("color".to_owned(), "red".to_owned())];
    let finished = bench.run(&job).await;
    let mut lines: Vec<String> = tail(&finished).lines().map(str::to_owned).collect();
    lines.sort();
    let expected = [
        "HOME=/nowhere/x",
        "LANG=de_DE.UTF-8",
        "MINE=1",
        "PATH=/usr/bin:/bin",
        "SCHED_ATTEMPT=1",
        "SCHED_PARAM_color=red",
        "SCHED_RUN=7:1",
        "SCHED_SCHEDULED_AT=2023-11-14T22:13:19.123Z",
        "SCHED_TASK=7",
        "SCHED_TOKEN=1.0",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_process_runs_in_the_workers_folder_or_where_the_task_says() {
    let bench = Bench::new();
    let work = bench.dir.path().canonicalize().unwrap();
    std::fs::create_dir(work.join("sub")).unwrap();
    for (given, expected) in [
        (None, work.clone()),
        (Some("sub"), work.join("sub")),
        (Some("/"), "/".into()),
    ] {
        let job = edited(&["/bin/sh", "-c", "pwd -P"], |action| {
            let Action::Command { dir, .. } = action else { return };
            *dir = given.map(str::to_owned);
        });
        assert_eq!(tail(&bench.run(&job).await).trim(), expected.display().to_string());
    }
}

#[tokio::test]
async fn the_time_limit_kills_the_whole_group_even_when_it_ignores_being_asked() {
    let bench = Bench::with(OutputLimits::default(), Duration::from_millis(200));
    let mut job = job(
        1,
        command(&["/bin/sh", "-c", "trap '' TERM; sleep 1000 & echo $!; wait; wait"]),
    );
    job.time_limit = Some(Duration::from_secs(3));
    let running = tokio::spawn({
        let (runner, job) = (bench.runner.clone(), job.clone());
        async move { runner.run(&job, &Stopper::new()).await }
    });
    let grandchild = watch(&String::from_utf8(bench_output(&bench).await).unwrap());
    let finished = running.await.unwrap();
    assert_eq!(
        finished.result.verdict,
        failure("killed: it ran longer than its time limit of 3000 ms")
    );
    assert_eq!(finished.result.exit_code, Some(137));
    ended(grandchild).await;
}

/// The first line of run 1, once its attempt has begun.
async fn bench_output(bench: &Bench) -> Vec<u8> {
    let run = sched_core::RunId {
        task: sched_core::TaskId(7),
        number: 1,
    };
    loop {
        match bench.runner.output.read(run, 1, 0, 0, Duration::from_secs(30)).await {
            Ok(piece) if piece.data.ends_with(b"\n") => return piece.data.to_vec(),
            _ => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn a_cancelled_process_may_end_by_itself_and_its_code_is_kept() {
    let (bench, stopper) = (Bench::new(), Stopper::new());
    let job = job(
        1,
        command(&[
            "/bin/sh",
            "-c",
            "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.1; done",
        ]),
    );
    let running = tokio::spawn({
        let (runner, stopper) = (bench.runner.clone(), stopper.clone());
        async move { runner.run(&job, &stopper).await }
    });
    assert_eq!(bench_output(&bench).await, b"ready\n");
    stopper.raise(Urgency::Terminate, Cause::Cancelled);
    let finished = running.await.unwrap();
    assert_eq!(
        (&finished.result.verdict, finished.result.exit_code),
        (&Verdict::Cancelled, Some(9))
    );
    let said = tail(&finished);
    assert!(said.starts_with("ready\n") && said.ends_with("bye\n"), "{said}");
}

#[tokio::test]
async fn what_a_process_leaves_behind_in_its_group_neither_hangs_the_run_nor_survives_it() {
    let bench = Bench::new();
    let begin = Instant::now();
    let finished = bench.shell("sleep 1000 & echo $!").await;
    assert_eq!(finished.result.verdict, Verdict::Success);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let pid = Pid::from_raw(tail(&finished).trim().parse().unwrap()).unwrap();
    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
        ended(pidfd).await;
    }
}

#[tokio::test]
async fn one_that_left_the_group_and_holds_the_output_is_not_waited_for() {
    let bench = Bench::new();
    let begin = Instant::now();
    let finished = bench.shell("setsid sleep 1000 & echo $!").await;
    assert_eq!(finished.result.verdict, Verdict::Success);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let pid = Pid::from_raw(tail(&finished).trim().parse().unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

#[tokio::test]
async fn a_process_that_closes_its_output_runs_on() {
    let bench = Bench::new();
    let finished = bench.shell("echo before; exec >&- 2>&-; sleep 0.3; exit 4").await;
    assert_eq!(
        (tail(&finished).as_str(), finished.result.exit_code),
        ("before\n", Some(4))
    );
}

#[tokio::test]
async fn an_attempt_that_is_dropped_is_killed_with_its_group() {
    let bench = Bench::new();
    let job = job(1, command(&["/bin/sh", "-c", "sleep 1000 & echo $!; wait"]));
    let running = tokio::spawn({
        let runner = bench.runner.clone();
        async move { runner.run(&job, &Stopper::new()).await }
    });
    let grandchild = watch(&String::from_utf8(bench_output(&bench).await).unwrap());
    running.abort();
    ended(grandchild).await;
}

/// Runs a script under limits.
async fn limited(script: &str, limits: ProcessLimits) -> Finished {
    let job = edited(&["/bin/sh", "-c", script], |action| {
        if let Action::Command { limits: given, .. } = action {
            *given = limits;
        }
    });
    Bench::new().run(&job).await
}

#[tokio::test]
async fn processor_time_is_limited() {
    let limits = ProcessLimits {
        cpu_s: Some(1),
        ..ProcessLimits::default()
    };
    let finished = limited("while :; do :; done", limits).await;
    assert_eq!(finished.result.verdict, failure("used up its 1 s of processor time"));
    // A process that will not hear of it is ended by force.
    let finished = limited("trap : XCPU; while :; do :; done", limits).await;
    assert_eq!(finished.result.verdict, failure("ended by signal 9"));
}

#[tokio::test]
async fn memory_is_limited() {
    let script = "dd if=/dev/zero of=/dev/null bs=256M count=1 2>&1";
    let limits = ProcessLimits {
        memory_bytes: Some(64 * 1024 * 1024),
        ..ProcessLimits::default()
    };
    let finished = limited(script, limits).await;
    assert_eq!(finished.result.verdict, failure("exit code 1"), "{}", tail(&finished));
    assert!(tail(&finished).contains("memory exhausted"), "{}", tail(&finished));
    let finished = limited(script, ProcessLimits::default()).await;
    assert_eq!(finished.result.verdict, Verdict::Success, "{}", tail(&finished));
}

#[tokio::test]
async fn open_files_are_limited() {
    let script = "exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null; echo open";
    let limits = ProcessLimits {
        files: Some(5),
        ..ProcessLimits::default()
    };
    let finished = limited(script, limits).await;
    assert!(
        matches!(finished.result.verdict, Verdict::Failure { .. }),
        "{}",
        tail(&finished)
    );
    assert!(!tail(&finished).contains("open\n"), "{}", tail(&finished));
    let finished = limited(script, ProcessLimits::default()).await;
    assert_eq!(finished.result.verdict, Verdict::Success, "{}", tail(&finished));
}

#[tokio::test]
async fn a_process_runs_as_the_user_it_is_to_run_as() {
    let as_user = |name: &str| {
        edited(&["/bin/sh", "-c", "id -un; id -Gn; echo $HOME $USER; pwd"], |action| {
            if let Action::Command { user, dir, .. } = action {
                (*user, *dir) = (Some(name.to_owned()), Some("/".to_owned()));
            }
        })
    };
    let finished = Bench::new().run(&as_user("daemon")).await;
    if !rustix::process::geteuid().is_root() {
        let Verdict::Failure { reason } = finished.result.verdict else {
            panic!("ran as another user without the right to")
        };
        assert!(reason.contains("must run as root"), "{reason}");
        return;
    }
    assert_eq!(finished.result.verdict, Verdict::Success, "{}", tail(&finished));
    assert_eq!(tail(&finished), "daemon\ndaemon\n/usr/sbin daemon\n/\n");
    let finished = Bench::new().run(&as_user("nobody-of-that-name")).await;
    assert_eq!(
        finished.result.verdict,
        failure("user \"nobody-of-that-name\" is not in /etc/passwd of this worker")
    );
}
