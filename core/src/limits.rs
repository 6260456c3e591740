//! Every bound of the product that the state machine keeps, each with its reason.

/// Longest task, namespace, label, worker or owner name in bytes: fits an index key many times over.
pub const NAME_BYTES_MAX: usize = 256;
/// Most labels a task may carry: each costs an index entry.
pub const LABELS_MAX: usize = 32;
/// Longest description or pause note in bytes.
pub const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Largest action (argv, environment, body together) in bytes: it is replicated to every node.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// The part of a run's output that travels with its result, in bytes.
pub const OUTPUT_TAIL_BYTES_MAX: usize = 16 * 1024;
/// Result of a remote worker, in bytes: it is replicated to every node.
pub const RESULT_BYTES_MAX: usize = 16 * 1024;
/// Queues that one worker serves.
pub const WORKER_QUEUES_MAX: usize = 32;
/// Commands in one log entry: bounds the time of one apply.
pub const ENTRY_COMMANDS_MAX: usize = 1024;
/// Bytes of commands in one log entry: well below the peers' message limit.
pub const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Largest single encoded record or entry accepted when decoding; one command may exceed the entry target, never this.
pub const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Items of one `Fire`, `Assign`, `Due`, `Drain` or `Retain`: a round of a leader duty is bounded.
pub const ROUND_ITEMS_MAX: usize = 512;
/// Runs of one task that one `Fire` may create.
pub const FIRE_RUNS_MAX: usize = 64;
/// Runs of one session that one `SessionExpire` moves.
pub const EXPIRE_RUNS_MAX: usize = 512;
/// Runs of one task alive at once (queued behind each other or overlapping); beyond it an occurrence is skipped, visibly.
pub const LIVE_RUNS_MAX: usize = 1000;
/// How long answers to requests of the client library are remembered.
pub const REQUEST_TTL_MS: i64 = 10 * 60 * 1000;
/// How long answers under a key given by the caller are remembered.
pub const CALLER_KEY_TTL_MS: i64 = 24 * 60 * 60 * 1000;
/// Answers remembered at once; at the bound, calls are refused with a retry delay, never forgotten early.
pub const REQUESTS_MAX: u64 = 20_000_000;
/// Keys given by callers remembered at once.
pub const CALLER_KEYS_MAX: u64 = 1_000_000;
/// Tokens one session may report as held when it opens.
pub const HELD_TOKENS_MAX: usize = 10_000;
/// Slots one worker may offer.
pub const WORKER_SLOTS_MAX: u32 = 10_000;
/// Ended tasks kept in all, unless the cluster is told otherwise: at some kilobytes each, a few gigabytes on every node.
pub const ENDED_TASKS_DEFAULT: u64 = 1_000_000;
/// Ended runs of one task that one step deletes because they are more than it keeps: normally one, more only after its policy changed.
pub const PRUNE_MAX: u32 = 64;
/// Tasks that are looked at for a cycle when a task is made to wait for others.
pub const CYCLE_SEARCH_MAX: usize = 1000;
/// LOST runs of one task: beyond it the oldest counts as failed.
pub const LOST_RUNS_MAX: usize = 1000;
/// Openings of a session that one `SessionOpen` names: those that were not answered, and one more.
pub const OPENINGS_MAX: usize = 64;
/// Losses of workers after which a run fails as `worker_lost`, so that a poisonous task cannot take down worker after worker.
pub const LOSSES_MAX: u32 = 5;
/// An occurrence that comes due while there is no leader is late, not missed, up to this age.
pub const LATE_NOT_MISSED_MS: i64 = 15_000;
/// Attempts described one by one in a run's record; older ones are only counted.
pub const ATTEMPTS_KEPT_MAX: usize = 8;
/// Runs of a group that one change lets go on: normally one, more only when tasks of a group state different limits.
pub const ADMIT_MAX: usize = 16;
/// Largest limit of a group.
pub const GROUP_LIMIT_MAX: u32 = 100_000;
/// Tasks that one task may wait for.
pub const PARENTS_MAX: usize = 100;
/// Tasks that may wait for one task: they are released in one step.
pub const DEPENDENTS_MAX: u32 = 1000;
/// Occurrences that one backfill creates.
pub const BACKFILL_MAX: usize = 1000;
/// Ledger lines kept per task besides its runs.
pub const LEDGER_LINES_MAX: u64 = 100;
/// Parameters of a manual trigger.
pub const TRIGGER_PARAMS_MAX: usize = 32;
/// How far ahead of the state's time an instant may lie: 400 years.
pub const HORIZON_MS: i64 = 400 * 366 * 24 * 60 * 60 * 1000;
/// Longest duration of a policy: ten years.
pub const DURATION_MS_MAX: u64 = 10 * 366 * 24 * 60 * 60 * 1000;
/// Most tries of one run.
pub const TRIES_MAX: u32 = 1000;
/// Recipients of one mail, copies included: relays commonly take 100 in one go.
pub const MAIL_RECIPIENTS_MAX: usize = 100;
/// Longest mail address in bytes, as SMTP has it.
pub const MAIL_ADDRESS_BYTES_MAX: usize = 254;
/// Longest subject of a mail in bytes: the longest line that a mail may have.
pub const MAIL_SUBJECT_BYTES_MAX: usize = 998;
/// Longest regular expression for the body of an answer, in bytes.
pub const EXPECT_BYTES_MAX: usize = 1024;
/// Headers that one answer can be asked to have.
pub const EXPECT_HEADERS_MAX: usize = 16;
/// Longest name of a user: what the systems themselves allow.
pub const USER_BYTES_MAX: usize = 32;
/// Least address space that a process can be limited to, in bytes: below it not even a shell is loaded.
pub const PROCESS_MEMORY_BYTES_MIN: u64 = 1024 * 1024;
/// Fewest open files that a process can be limited to: input, output, errors, and one to load itself from.
pub const PROCESS_FILES_MIN: u32 = 4;
/// Delays that executors may ask for in one round of tries, whatever the policy allows: one that asks for none at all is not asked for ever.
pub const DELAYS_MAX: u32 = 10_000;
/// Calendars of one namespace: a list of them is one answer.
pub const CALENDARS_MAX: u64 = 100;
/// Calendars of all namespaces: with the bound of each, some hundred MiB at most.
pub const CALENDARS_TOTAL_MAX: u64 = 2000;
/// Days and intervals of one calendar, together: a day of every week for forty years. A calendar is one record.
pub const CALENDAR_ENTRIES_MAX: usize = 2000;
/// Calendars that one task may name: each is asked about each occurrence.
pub const TASK_CALENDARS_MAX: usize = 8;
/// Tasks that are named when a calendar cannot be deleted because of them.
pub const CALENDAR_USERS_NAMED_MAX: usize = 5;
/// Notifications of one task: the policy is copied into its status.
pub const NOTIFY_MAX: usize = 4;
/// Longest address of a webhook in bytes.
pub const NOTIFY_URL_BYTES_MAX: usize = 1024;
/// Workers that are drained, gone ones too: far more than anybody repairs at a time.
pub const DRAINED_WORKERS_MAX: usize = 1000;
