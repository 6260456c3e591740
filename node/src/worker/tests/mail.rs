use super::*;
use crate::worker::attempt::Finished;
use crate::worker::stop::{Cause, Stopper};
use crate::worker::tests::{Bench, job};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sched_core::run::Verdict;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the server does when it has the message.
#[derive(Clone, Copy)]
enum Manner {
    /// Answers the line that begins so with this, everything else well.
    Answers(&'static str, &'static str),
    /// Takes everything, and never answers the end of the message.
    Hangs,
}

const WELL: Manner = Manner::Answers("?", "");

/// A relay for one connection. Returns every line it was told, the message with them.
async fn relay(manner: Manner) -> (Relay, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, manner).await
    });
    let relay = Relay {
        host: "127.0.0.1".into(),
        port,
        tls: SmtpTls::None,
        ca: None,
        login: None,
    };
    (relay, served)
}

/// Like [`relay`], with TLS from the first byte or after STARTTLS, under a certificate of the authority in `tests/tls`.
async fn guarded_relay(tls: SmtpTls) -> (Relay, JoinHandle<Vec<String>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let chain = CertificateDer::pem_slice_iter(include_bytes!("tls/relay.pem"));
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/relay.key")).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain.collect::<Result<_, _>>().unwrap(), key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        if tls == SmtpTls::StartTls {
            let mut plain = BufReader::new(&mut stream);
            plain.write_all(b"220 relay.test ESMTP\r\n").await.unwrap();
            let mut line = String::new();
            for (begins, answer) in [
                ("EHLO", "250-relay.test\r\n250 STARTTLS\r\n"),
                ("STARTTLS", "220 go on\r\n"),
            ] {
                line.clear();
                plain.read_line(&mut line).await.unwrap();
                assert!(line.starts_with(begins), "{line:?} is told in the clear");
                plain.write_all(answer.as_bytes()).await.unwrap();
            }
        }
        match acceptor.accept(stream).await {
            Ok(stream) => converse(stream, WELL, tls == SmtpTls::Tls).await,
            // The other side does not trust the certificate.
            Err(_) => Vec::new(),
        }
    });
    let relay = Relay {
        host: "127.0.0.1".into(),
        port,
        tls,
        ca: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/src/worker/tests/tls/authority.pem").into()),
        login: None,
    };
    (relay, served)
}

async fn serve(stream: TcpStream, manner: Manner) -> Vec<String> {
    converse(stream, manner, true).await
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, manner: Manner, greets: bool) -> Vec<String> {
    let mut stream = BufReader::new(stream);
    let (mut told, mut in_data) = (Vec::new(), false);
    if greets {
        stream.write_all(b"220 relay.test ESMTP\r\n").await.unwrap();
    }
    let mut line = String::new();
    loop {
        line.clear();
        // The other side may break off: that it did is seen by what it told.
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return told;
        }
        let text = line.trim_end().to_owned();
        told.push(text.clone());
        let is_end = in_data && text == ".";
        if in_data && !is_end {
            continue;
        }
        in_data = text == "DATA";
        let answer = match manner {
            Manner::Answers(begin, answer) if text.starts_with(begin) => answer,
            Manner::Hangs if is_end => continue,
            _ if text.starts_with("EHLO") => "250-relay.test\r\n250 AUTH PLAIN",
            _ if text.starts_with("AUTH") => "235 welcome",
            _ if text == "DATA" => "354 go on",
            _ if text == "QUIT" => "221 bye",
            _ => "250 queued as 4711",
        };
        if stream.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
            return told;
        }
    }
}

fn mail() -> Action {
    Action::Mail {
        from: Some("ops@example.org".into()),
        to: vec!["ann@example.org".into(), "bob@example.org".into()],
        cc: vec!["cy@example.org".into()],
        subject: "Bücher".into(),
        text: "The books\n.are closed.\n".into(),
    }
}

fn options(relay: Relay) -> MailOptions {
    MailOptions {
        relay: Some(relay),
        cluster: Arc::new(|| "c0ffee".to_owned()),
        ..MailOptions::default()
    }
}

async fn run(options: MailOptions, action: Action) -> Finished {
    Bench::mailing(options).run(&job(3, action)).await
}

fn reason(finished: &Finished) -> &str {
    match &finished.result.verdict {
        Verdict::Failure { reason } | Verdict::DelayMe { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_mail_arrives_with_everything_in_it() {
    let (relay, served) = relay(WELL).await;
    let finished = run(options(relay), mail()).await;
    assert_eq!(finished.result.verdict, Verdict::Success);
    assert_eq!(finished.result.exit_code, Some(250));
    let output = String::from_utf8_lossy(&finished.result.output_tail).into_owned();
    assert!(
        output.contains("<run-7-3@c0ffee.sched.invalid> taken by 127.0.0.1: 250 queued as 4711"),
        "{output}"
    );
    let told = served.await.unwrap();
    for line in [
        "MAIL FROM:<ops@example.org>",
        "RCPT TO:<ann@example.org>",
        "RCPT TO:<bob@example.org>",
        "RCPT TO:<cy@example.org>",
        "Message-ID: <run-7-3@c0ffee.sched.invalid>",
        "From: ops@example.org",
        "To: ann@example.org, bob@example.org",
        "Cc: cy@example.org",
        "Subject: =?utf-8?b?QsO8Y2hlcg==?=",
        "Date: Tue, 14 Nov 2023 22:13:20 +0000",
        "Auto-Submitted: auto-generated",
        "The books",
        // A leading dot is doubled on the wire.
        "..are closed.",
    ] {
        assert!(told.iter().any(|told| told == line), "{line:?} is not among {told:#?}");
    }
}

#[tokio::test]
async fn what_the_relay_refuses_for_good_fails_and_what_it_puts_off_is_delayed() {
    for (line, answer, code, delayed) in [
        ("MAIL", "550 not you", 550, false),
        ("RCPT", "550 nobody here", 550, false),
        (".", "554 looks bad", 554, false),
        ("MAIL", "421 busy", 421, true),
        ("RCPT", "450 greylisted", 450, true),
        (".", "452 disk full", 452, true),
    ] {
        let (relay, served) = relay(Manner::Answers(line, answer)).await;
        let finished = run(options(relay), mail()).await;
        assert_eq!(finished.result.exit_code, Some(code), "{answer}");
        let is_delayed = matches!(finished.result.verdict, Verdict::DelayMe { delay_ms: 300_000, .. });
        assert_eq!(is_delayed, delayed, "{answer}: {:?}", finished.result.verdict);
        assert!(
            reason(&finished).contains(&answer[4..]),
            "{:?}",
            finished.result.verdict
        );
        served.await.unwrap();
    }
}

#[tokio::test]
async fn a_relay_that_hangs_or_is_not_there_is_a_failure_that_says_so() {
    let (relay, _served) = relay(Manner::Hangs).await;
    let finished = run(
        MailOptions {
            timeout: Duration::from_millis(700),
            ..options(relay.clone())
        },
        mail(),
    )
    .await;
    assert!(
        reason(&finished).contains("within 700 ms"),
        "{:?}",
        finished.result.verdict
    );
    // Nobody listens there: the port is held by a socket that does not.
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    drop(holder);
    let finished = run(options(Relay { port, ..relay }), mail()).await;
    let reason = reason(&finished).to_owned();
    assert!(
        reason.contains(&format!("127.0.0.1:{port} did not take it")),
        "{reason}"
    );
}

#[tokio::test]
async fn a_cancelled_mail_ends_at_once() {
    let (relay, _served) = relay(Manner::Hangs).await;
    let bench = Bench::mailing(options(relay));
    let stopper = Stopper::new();
    stopper.raise(Urgency::Terminate, Cause::Cancelled);
    let finished = bench.runner.run(&job(1, mail()), &stopper).await;
    assert_eq!(finished.result.verdict, Verdict::Cancelled);
}

#[tokio::test]
async fn what_is_not_set_up_is_named() {
    let finished = run(MailOptions::default(), mail()).await;
    assert!(
        reason(&finished).contains("--smtp-relay"),
        "{:?}",
        finished.result.verdict
    );
    let (relay, _served) = relay(WELL).await;
    let mut nameless = mail();
    if let Action::Mail { from, .. } = &mut nameless {
        *from = None;
    }
    let finished = run(options(relay.clone()), nameless.clone()).await;
    assert!(
        reason(&finished).contains("--smtp-from"),
        "{:?}",
        finished.result.verdict
    );
    // A relay without TLS is not used when TLS is asked for.
    let guarded = Relay {
        tls: SmtpTls::StartTls,
        ..relay.clone()
    };
    let finished = run(options(guarded), mail()).await;
    assert!(
        matches!(finished.result.verdict, Verdict::Failure { .. }),
        "{:?}",
        finished.result.verdict
    );
    let locked = Relay {
        login: Some(("u".into(), "/no/such/file".into())),
        ..relay
    };
    let finished = run(options(locked), mail()).await;
    assert!(
        reason(&finished).contains("smtp_password_file /no/such/file"),
        "{:?}",
        finished.result.verdict
    );
}

#[tokio::test]
async fn the_default_sender_and_the_password_file_are_used() {
    let (relay, served) = relay(WELL).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let mut nameless = mail();
    if let Action::Mail { from, .. } = &mut nameless {
        *from = None;
    }
    let options = MailOptions {
        from: Some("sched@example.org".into()),
        ..options(Relay {
            login: Some(("u".into(), file)),
            ..relay
        })
    };
    let finished = run(options, nameless).await;
    assert_eq!(finished.result.verdict, Verdict::Success);
    let told = served.await.unwrap();
    assert!(told.contains(&"MAIL FROM:<sched@example.org>".to_owned()), "{told:#?}");
    // Base 64 of a zero byte, `u`, a zero byte and `secret`.
    assert!(told.contains(&"AUTH PLAIN AHUAc2VjcmV0".to_owned()), "{told:#?}");
}

#[tokio::test]
async fn a_mail_goes_through_tls_to_a_relay_whose_authority_is_named() {
    for tls in [SmtpTls::StartTls, SmtpTls::Tls] {
        let (relay, served) = guarded_relay(tls).await;
        let finished = run(options(relay), mail()).await;
        assert_eq!(finished.result.verdict, Verdict::Success, "{tls:?}");
        let told = served.await.unwrap();
        for line in [
            "MAIL FROM:<ops@example.org>",
            "Message-ID: <run-7-3@c0ffee.sched.invalid>",
        ] {
            assert!(told.iter().any(|told| told == line), "{line:?} is not among {told:#?}");
        }
    }
}

#[tokio::test]
async fn nothing_is_told_to_a_relay_that_cannot_be_trusted() {
    for (ca, host) in [(false, "127.0.0.1"), (true, "localhost")] {
        let (relay, served) = guarded_relay(SmtpTls::StartTls).await;
        let distrusted = Relay {
            ca: relay.ca.filter(|_| ca),
            // Its certificate is not for this name.
            host: host.into(),
            ..relay
        };
        let finished = run(options(distrusted), mail()).await;
        assert!(
            reason(&finished).contains("certificate"),
            "{:?}",
            finished.result.verdict
        );
        assert_eq!(served.await.unwrap(), Vec::<String>::new());
    }
}
