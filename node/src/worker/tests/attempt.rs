use super::*;
use crate::worker::tests::{Bench, job, sample};
use sched_core::task::Action;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_time_limit_ends_an_attempt_as_a_failure() {
    let mut long = sample(1, 100 * SECOND);
    long.time_limit = Some(2 * SECOND);
    let finished = Bench::new().run(&long).await;
    let reason = "killed: it ran longer than its time limit of 2000 ms".to_owned();
    assert_eq!(finished.result.verdict, Verdict::Failure { reason });
    assert_eq!(finished.result.ended_at.millis_since(finished.result.started_at), 2000);
    long.time_limit = Some(101 * SECOND);
    assert_eq!(Bench::new().run(&long).await.result.verdict, Verdict::Success);
}

#[tokio::test(start_paused = true)]
async fn samples_succeed_and_fail_as_told() {
    let fails = job(
        1,
        Action::Sample {
            succeed: false,
            duration_ms: 5,
            payload: vec![0; 100],
        },
    );
    let finished = Bench::new().run(&fails).await;
    assert_eq!(
        finished.result.verdict,
        Verdict::Failure {
            reason: "told to fail".to_owned()
        }
    );
    assert_eq!(
        (finished.result.exit_code, finished.result.output_tail),
        (None, Vec::new())
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_cancelled_says_so() {
    let (bench, stopper) = (Bench::new(), Stopper::new());
    stopper.raise(Urgency::Terminate, Cause::Cancelled);
    let finished = bench.runner.run(&sample(1, SECOND), &stopper).await;
    assert_eq!(
        (finished.result.verdict, finished.reason),
        (Verdict::Cancelled, "cancelled".to_owned())
    );
}
