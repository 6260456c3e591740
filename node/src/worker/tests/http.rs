use super::*;
use crate::worker::attempt::Finished;
use crate::worker::stop::{Cause, Stopper};
use crate::worker::tests::{Bench, job};
use sched_core::run::Verdict;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Takes one request, answers with these bytes, and returns the request.
async fn server(answer: impl Into<Vec<u8>>) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/path?x=1", listener.local_addr().unwrap());
    let answer = answer.into();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        // The other side may have read enough.
        let _ = stream.write_all(&answer).await;
        request
    });
    (url, served)
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return String::from_utf8_lossy(&bytes).into_owned();
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
    }
}

fn get(url: &str) -> Action {
    Action::Http {
        method: "GET".into(),
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        success_statuses: Vec::new(),
        timeout_ms: 20_000,
        expect: None,
        expect_headers: Vec::new(),
    }
}

async fn run(action: Action) -> Finished {
    Bench::new().run(&job(3, action)).await
}

fn failure(reason: &str) -> Verdict {
    Verdict::Failure {
        reason: reason.to_owned(),
    }
}

#[tokio::test]
async fn statuses_are_judged_and_the_answer_is_reported() {
    let delayed = |delay_ms, status: &str| Verdict::DelayMe {
        delay_ms,
        reason: format!("answered {status} with Retry-After"),
    };
    let table: [(&str, &[u16], Verdict); 13] = [
        ("200 OK\r\n", &[], Verdict::Success),
        ("204 No Content\r\n", &[], Verdict::Success),
        ("404 Not Found\r\n", &[], failure("answered 404 Not Found")),
        ("404 Not Found\r\n", &[200, 404], Verdict::Success),
        ("200 OK\r\n", &[404], failure("answered 200 OK")),
        (
            "503 Service Unavailable\r\n",
            &[],
            failure("answered 503 Service Unavailable"),
        ),
        (
            "503 Service Unavailable\r\nRetry-After: 7\r\n",
            &[],
            delayed(7_000, "503 Service Unavailable"),
        ),
        (
            "429 Too Many Requests\r\nRetry-After: 99999999999999999999\r\n",
            &[],
            failure("answered 429 Too Many Requests"),
        ),
        (
            "429 Too Many Requests\r\nRetry-After: 9999999\r\n",
            &[],
            delayed(86_400_000, "429 Too Many Requests"),
        ),
        (
            "500 Internal Server Error\r\nRetry-After: 7\r\n",
            &[],
            failure("answered 500 Internal Server Error"),
        ),
        (
            "302 Found\r\nLocation: http://127.0.0.1:1/new\r\n",
            &[],
            failure(
                "answered 302 Found to http://127.0.0.1:1/new; redirects are not followed, name that address instead",
            ),
        ),
        (
            "302 Found\r\nLocation: http://127.0.0.1:1/new\r\n",
            &[302],
            Verdict::Success,
        ),
        // A date that is past, by the clock of the test: at once.
        (
            "503 Service Unavailable\r\nRetry-After: Fri, 06 Nov 2020 08:49:37 GMT\r\n",
            &[],
            delayed(0, "503 Service Unavailable"),
        ),
    ];
    for (head, statuses, verdict) in table {
        let body = if head.starts_with("204") {
            ""
        } else {
            "Content-Length: 5\r\n\r\nhello"
        };
        let end = if body.is_empty() { "\r\n" } else { "" };
        let (url, served) = server(format!("HTTP/1.1 {head}{body}{end}")).await;
        let mut action = get(&url);
        if let Action::Http { success_statuses, .. } = &mut action {
            *success_statuses = statuses.to_vec();
        }
        let finished = run(action).await;
        assert_eq!(finished.result.verdict, verdict, "{head}");
        assert_eq!(finished.result.exit_code, head[..3].parse().ok());
        assert_eq!(finished.result.output_tail.is_empty(), body.is_empty());
        served.await.unwrap();
    }
}

#[test]
fn retry_after_reads_seconds_and_dates() {
    let now: Timestamp = "2026-11-06T08:49:00Z".parse().unwrap();
    let table = [
        ("0", Some(0)),
        (" 12 ", Some(12_000)),
        ("Fri, 06 Nov 2026 08:49:37 GMT", Some(37_000)),
        ("Fri, 06 Nov 2026 08:48:37 GMT", Some(0)),
        ("Fri, 06 Nov 2099 08:48:37 GMT", Some(86_400_000)),
        ("soon", None),
        ("-1", None),
        ("", None),
    ];
    for (value, ms) in table {
        assert_eq!(retry_after_ms(value, now), ms, "{value}");
    }
}

#[tokio::test]
async fn the_request_is_as_asked_and_names_its_run() {
    let (url, served) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let headers = [("X-A", "1"), ("X-A", "2"), ("Content-Type", "text/plain")];
    let action = Action::Http {
        method: "POST".into(),
        url,
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        body: b"some body".to_vec(),
        success_statuses: Vec::new(),
        timeout_ms: 0,
        expect: None,
        expect_headers: Vec::new(),
    };
    assert_eq!(run(action).await.result.verdict, Verdict::Success);
    let request = served.await.unwrap();
    assert!(request.starts_with("POST /path?x=1 HTTP/1.1\r\n"), "{request}");
    for line in [
        "idempotency-key: 7:3\r\n",
        "x-a: 1\r\n",
        "x-a: 2\r\n",
        "content-type: text/plain\r\n",
        "\r\n\r\nsome body",
    ] {
        assert!(request.contains(line), "{line:?} in {request}");
    }
}

#[tokio::test]
async fn a_key_of_the_tasks_own_stands_alone() {
    let (url, served) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let mut action = get(&url);
    if let Action::Http { headers, .. } = &mut action {
        headers.push(("Idempotency-Key".into(), "mine".into()));
    }
    run(action).await;
    let request = served.await.unwrap();
    assert!(
        request.contains("idempotency-key: mine\r\n") && !request.contains("7:3"),
        "{request}"
    );
}

#[tokio::test]
async fn a_large_answer_is_cut_and_its_beginning_reported() {
    let body = [b"begin".to_vec(), vec![b'x'; 3 * 1024 * 1024]].concat();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    let (url, _served) = server([head, body].concat()).await;
    let bench = Bench::new();
    let finished = bench.run(&job(1, get(&url))).await;
    assert_eq!(finished.result.verdict, Verdict::Success);
    assert!(finished.result.output_tail.starts_with(b"begin"));
    assert_eq!(finished.result.output_tail.len(), 16 * 1024);
    assert!(bench.output(1, 0).await.starts_with(b"begin"));
    assert!(bench.output(1, BODY_BYTES_MAX as u64).await.is_empty());
}

#[tokio::test]
async fn what_does_not_work_says_why() {
    let broken = server("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        .await
        .0;
    let garbage = server("\0\x01 no such thing\r\n\r\n").await.0;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    for (url, expected) in [
        (broken.as_str(), "the answer broke off"),
        (garbage.as_str(), "error sending request"),
        (closed.as_str(), "Connection refused"),
        ("ftp://x/", "ftp://x/ is not an http or https address"),
        ("nonsense", "\"nonsense\" is not an address"),
    ] {
        let verdict = run(get(url)).await.result.verdict;
        let Verdict::Failure { reason } = verdict else {
            panic!("{url}: {verdict:?}")
        };
        assert!(reason.contains(expected), "{url}: {reason}");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_left_after_the_timeout_or_when_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut action = get(&url);
    if let Action::Http { timeout_ms, .. } = &mut action {
        *timeout_ms = 150;
    }
    assert_eq!(
        run(action).await.result.verdict,
        failure("no full answer within 150 ms")
    );
    let (bench, stopper, begin) = (Bench::new(), Stopper::new(), Instant::now());
    let (runner, signalled) = (bench.runner.clone(), stopper.clone());
    let running = tokio::spawn(async move { runner.run(&job(1, get(&url)), &signalled).await });
    let _first = listener.accept().await.unwrap();
    let _second = listener.accept().await.unwrap();
    stopper.raise(Urgency::Terminate, Cause::Cancelled);
    assert_eq!(running.await.unwrap().result.verdict, Verdict::Cancelled);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn the_body_of_a_success_must_be_as_expected() {
    for (status, body, expect, verdict) in [
        (
            "200 OK",
            "{\"status\": \"ok\"}",
            "\"status\": *\"ok\"",
            Verdict::Success,
        ),
        (
            "200 OK",
            "{\"status\": \"down\"}",
            "\"ok\"",
            failure("answered 200 OK, but the body does not match \"\\\"ok\\\"\""),
        ),
        ("200 OK", "", "^$", Verdict::Success),
        ("404 Not Found", "ok", "ok", failure("answered 404 Not Found")),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (url, _served) = server(answer).await;
        let mut action = get(&url);
        if let Action::Http { expect: expected, .. } = &mut action {
            *expected = Some(expect.to_owned());
        }
        assert_eq!(run(action).await.result.verdict, verdict, "{body}");
    }
}

#[tokio::test]
async fn the_headers_of_a_success_must_be_as_expected() {
    let expected = |name: &str, pattern: &str| (name.to_owned(), pattern.to_owned());
    let json = expected("Content-Type", "^application/json");
    for (head, expect, verdict) in [
        (
            "200 OK\r\ncontent-type: application/json; charset=utf-8",
            vec![json.clone()],
            Verdict::Success,
        ),
        // One of several values is enough.
        (
            "200 OK\r\nX-A: 1\r\nX-A: 2",
            vec![expected("x-a", "^2$")],
            Verdict::Success,
        ),
        (
            "200 OK\r\nContent-Type: text/html",
            vec![json.clone()],
            failure(
                "answered 200 OK, but header Content-Type is \"text/html\" and does not match \"^application/json\"",
            ),
        ),
        (
            "200 OK",
            vec![expected("X-A", ""), json.clone()],
            failure("answered 200 OK, but without header X-A"),
        ),
        // A failure stays what it is.
        ("404 Not Found", vec![json], failure("answered 404 Not Found")),
    ] {
        let (url, _served) = server(format!("HTTP/1.1 {head}\r\nContent-Length: 2\r\n\r\nok")).await;
        let mut action = get(&url);
        if let Action::Http { expect_headers, .. } = &mut action {
            *expect_headers = expect;
        }
        let finished = run(action).await;
        assert_eq!(finished.result.verdict, verdict, "{head}");
        assert_eq!(finished.result.output_tail, b"ok", "the body is reported all the same");
    }
}

#[tokio::test]
async fn a_date_of_retry_after_is_honoured_as_a_delay() {
    // The clock of the test begins a minute before this instant.
    for date in [
        "Tue, 14 Nov 2023 22:14:20 GMT",
        "Tuesday, 14-Nov-23 22:14:20 GMT",
        "Tue Nov 14 22:14:20 2023",
    ] {
        for status in ["429 Too Many Requests", "503 Service Unavailable"] {
            let answer = format!("HTTP/1.1 {status}\r\nRetry-After: {date}\r\nContent-Length: 0\r\n\r\n");
            let (url, _served) = server(answer).await;
            let verdict = run(get(&url)).await.result.verdict;
            let Verdict::DelayMe { delay_ms, reason } = &verdict else {
                panic!("{date}: {verdict:?}");
            };
            assert!((1..=60_000).contains(delay_ms), "{date}: {verdict:?}");
            assert_eq!(reason, &format!("answered {status} with Retry-After"));
        }
    }
}
