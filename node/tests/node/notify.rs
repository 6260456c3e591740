//! A webhook or a mail hears what it asked for, however its server fares.

use super::one_node::{One, PATIENCE, by_id, key, shell};
use sched_proto::v1::{self, schedule::Form};
use schednode::worker::executors::SmtpTls;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// A request as the server got it: its idempotency key and its body.
type Told = (String, Value);

/// Answers requests one after the other, with these statuses.
async fn hook<const N: usize>(statuses: [&'static str; N]) -> (String, UnboundedReceiver<Told>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (tx, rx) = unbounded_channel();
    tokio::spawn(async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            // The body is one line of JSON, and the last thing that comes.
            while !bytes.ends_with(b"}") {
                assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "the request broke off");
            }
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let text = String::from_utf8(bytes).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let key = head
                .lines()
                .find_map(|line| line.strip_prefix("idempotency-key: "))
                .unwrap();
            tx.send((key.to_owned(), serde_json::from_str(body).unwrap())).unwrap();
        }
    });
    (url, rx)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_hears_of_a_failure_and_of_the_recovery() {
    // As `main` does; another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut one = One::start().await;
    let (url, mut told) = hook(["500 Broken", "200 OK", "204 No Content"]).await;
    let notify = |on: v1::NotifyOn| v1::Notify {
        on: on.into(),
        to: Some(v1::notify::To::WebhookUrl(url.clone())),
    };
    let mut task = shell(Form::Manual(v1::ManualSchedule {}), "exit $SCHED_PARAM_CODE");
    task.policy = Some(v1::Policy {
        notify: vec![notify(v1::NotifyOn::Failure), notify(v1::NotifyOn::Recovery)],
        ..v1::Policy::default()
    });
    let id = one.submit(task).await.unwrap().id;
    let mut heard = Vec::new();
    // Of the first run nobody wants to hear; the failure is told twice, as the first answer is an error.
    for (number, code, requests) in [(1, "0", 0), (2, "3", 2), (3, "0", 1)] {
        let trigger = v1::TriggerRequest {
            request: key(),
            task: by_id(id),
            params: vec![v1::Param {
                key: "CODE".into(),
                value: code.into(),
            }],
        };
        one.client.trigger(trigger).await.unwrap();
        one.wait_run(id, number).await;
        for _ in 0..requests {
            heard.push(timeout(PATIENCE, told.recv()).await.unwrap().unwrap());
        }
    }
    let [first, second, third] = heard.try_into().unwrap();
    assert_eq!(first, second, "a further try says the same under the same key");
    for ((key, body), event, number, state) in [(second, "failure", 2, "FAILED"), (third, "recovery", 3, "FINISHED")] {
        assert!(key.starts_with(&format!("{id}:{number}:{event}:")), "{key}");
        assert_eq!(body["event"], event);
        assert_eq!(body["task"], id);
        assert_eq!(body["run"], format!("{id}:{number}"));
        assert_eq!(body["state"], state);
        assert_eq!(body["attempts"], 1);
        assert_eq!(body["exit_code"], if event == "failure" { 3 } else { 0 });
        assert!(
            body["scheduled_at"].is_string() && body["ended_at"].is_string(),
            "{body}"
        );
    }
    one.node.stop().await;
}

/// A relay that takes everything, one connection after the other, and passes on each message with its envelope.
async fn relay() -> (String, UnboundedReceiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tx, rx) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            stream.write_all(b"220 relay.test ESMTP\r\n").await.unwrap();
            let (mut told, mut in_data, mut line) = (Vec::new(), false, String::new());
            while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
                let text = std::mem::take(&mut line).trim_end().to_owned();
                told.push(text.clone());
                let ends = in_data && text == ".";
                if in_data && !ends {
                    continue;
                }
                in_data = text == "DATA";
                let answer = match text.as_str() {
                    "DATA" => "354 go on\r\n",
                    "QUIT" => "221 bye\r\n",
                    _ => "250 fine\r\n",
                };
                // Who has said QUIT may not wait for the answer.
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
            }
            if tx.send(told).is_err() {
                return;
            }
        }
    });
    (address, rx)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_tells_of_a_failure_and_of_every_end() {
    let (address, mut told) = relay().await;
    let mut one = One::start_with(|settings| {
        settings.smtp_relay = Some(address);
        settings.smtp_tls = Some(SmtpTls::None);
        settings.smtp_from = Some("sched@example.org".into());
    })
    .await;
    let notify = |on: v1::NotifyOn, to: &str| v1::Notify {
        on: on.into(),
        to: Some(v1::notify::To::MailTo(to.into())),
    };
    let mut task = shell(Form::Now(v1::NowSchedule {}), "exit 3");
    task.name = Some("books".into());
    task.policy = Some(v1::Policy {
        notify: vec![
            notify(v1::NotifyOn::Failure, "ann@example.org"),
            notify(v1::NotifyOn::End, "bob@example.org"),
            notify(v1::NotifyOn::Recovery, "nobody@example.org"),
        ],
        ..v1::Policy::default()
    });
    let id = one.submit(task).await.unwrap().id;
    let mut mails = Vec::new();
    for _ in 0..2 {
        mails.push(timeout(PATIENCE, told.recv()).await.unwrap().unwrap());
    }
    for (to, event) in [("ann@example.org", "failure"), ("bob@example.org", "end")] {
        let envelope = format!("RCPT TO:<{to}>");
        let mail = mails.iter().find(|mail| mail.contains(&envelope)).unwrap();
        for line in [
            "MAIL FROM:<sched@example.org>".to_owned(),
            format!("To: {to}"),
            "Auto-Submitted: auto-generated".to_owned(),
            format!("event: {event}"),
            format!("run: {id}:1"),
            "name: books".to_owned(),
            "state: FAILED".to_owned(),
            "exit_code: 3".to_owned(),
        ] {
            assert!(mail.contains(&line), "{line:?} is not among {mail:#?}");
        }
        let id = mail
            .iter()
            .find(|line| line.starts_with("Message-ID: <notify-"))
            .unwrap();
        assert!(id.contains(event), "{id}");
    }
    one.node.stop().await;
}
