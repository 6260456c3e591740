use super::*;

fn base() -> Settings {
    Settings {
        data_dir: Some("/tmp/d".into()),
        ..Settings::default()
    }
}

#[test]
fn everything_but_the_data_folder_has_a_default_and_is_loopback() {
    let config = Config::resolve(base()).unwrap();
    assert_eq!(config.listen.to_string(), LISTEN_DEFAULT);
    assert_eq!(config.peer_listen.to_string(), PEER_LISTEN_DEFAULT);
    assert_eq!(
        (config.advertise.as_str(), config.peer_advertise.as_str()),
        (LISTEN_DEFAULT, PEER_LISTEN_DEFAULT)
    );
    assert_eq!(config.name, config.advertise);
    assert!(!config.insecure);
    assert!(matches!(
        Config::resolve(Settings::default()),
        Err(ConfigError::Missing {
            setting: "data_dir",
            ..
        })
    ));
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let s = |v: &str| Some(v.to_owned());
    let list = |v: &[&str]| Some(v.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
    let cases: Vec<(Settings, &str, &str)> = vec![
        (
            Settings {
                listen: s("0.0.0.0:7400"),
                ..base()
            },
            "listen",
            "--insecure",
        ),
        (
            Settings {
                peer_listen: s("0.0.0.0:7500"),
                ..base()
            },
            "peer_listen",
            "--insecure",
        ),
        (
            Settings {
                listen: s("7400"),
                ..base()
            },
            "listen",
            "host:port",
        ),
        (
            Settings {
                listen: s("127.0.0.1:99999"),
                ..base()
            },
            "listen",
            "host:port",
        ),
        (
            Settings {
                listen: s("127.0.0.1:1"),
                peer_listen: s("127.0.0.1:1"),
                ..base()
            },
            "peer_listen",
            "same",
        ),
        (
            Settings {
                listen: s("0.0.0.0:1"),
                insecure: Some(true),
                ..base()
            },
            "advertise",
            "host:port",
        ),
        (
            Settings {
                advertise: s("nowhere"),
                ..base()
            },
            "advertise",
            "host:port",
        ),
        (
            Settings {
                advertise: s("a b:1"),
                ..base()
            },
            "advertise",
            "host:port",
        ),
        (
            Settings {
                peer_advertise: s("x:0"),
                ..base()
            },
            "peer_advertise",
            "host:port",
        ),
        (
            Settings {
                initial_cluster: list(&["a:1", "b"]),
                ..base()
            },
            "initial_cluster",
            "host:port",
        ),
        (
            Settings {
                initial_cluster: list(&["a:1", "a:1"]),
                ..base()
            },
            "initial_cluster",
            "twice",
        ),
        (
            Settings {
                initial_cluster: list(&["a:1", "b:1"]),
                ..base()
            },
            "initial_cluster",
            "does not contain this node",
        ),
        (
            Settings {
                initial_cluster: list(&["127.0.0.1:7500"]),
                join: list(&["b:1"]),
                ..base()
            },
            "join",
            "excludes",
        ),
        (
            Settings {
                slots: Some(10_001),
                ..base()
            },
            "slots",
            "at most 10000",
        ),
        (
            Settings {
                labels: list(&["gpu"]),
                ..base()
            },
            "labels",
            "key=value",
        ),
        (
            Settings {
                labels: list(&["a=1", "a=2"]),
                ..base()
            },
            "labels",
            "twice",
        ),
        (
            Settings {
                name: s(&"n".repeat(257)),
                ..base()
            },
            "name",
            "256",
        ),
        (
            Settings {
                name: s("a\nb"),
                ..base()
            },
            "name",
            "control",
        ),
        (
            Settings {
                smtp_relay: s("mail.example.org"),
                ..base()
            },
            "smtp_relay",
            "host:port",
        ),
        (
            Settings {
                smtp_from: s("Sched <sched@example.org>"),
                ..base()
            },
            "smtp_from",
            "sched@example.org",
        ),
        (
            Settings {
                smtp_user: s("u"),
                ..base()
            },
            "smtp_user",
            "smtp_relay",
        ),
        (
            Settings {
                smtp_relay: s("mail:587"),
                smtp_user: s("u"),
                ..base()
            },
            "smtp_user",
            "smtp_password_file",
        ),
        (
            Settings {
                smtp_relay: s("mail:587"),
                smtp_password_file: Some("/etc/hostname".into()),
                ..base()
            },
            "smtp_password_file",
            "smtp_user",
        ),
        (
            Settings {
                smtp_relay: s("mail:587"),
                smtp_user: s("u"),
                smtp_password_file: Some("/no/such/file".into()),
                ..base()
            },
            "smtp_password_file",
            "can read",
        ),
        (
            Settings {
                smtp_relay: s("mail:25"),
                smtp_tls: Some(SmtpTls::None),
                smtp_user: s("u"),
                smtp_password_file: Some("/etc/hostname".into()),
                ..base()
            },
            "smtp_tls",
            "starttls",
        ),
        (
            Settings {
                smtp_ca: Some("/etc/hostname".into()),
                ..base()
            },
            "smtp_ca",
            "smtp_relay",
        ),
        (
            Settings {
                smtp_relay: s("mail:587"),
                smtp_ca: Some("/no/such/file".into()),
                ..base()
            },
            "smtp_ca",
            "can read",
        ),
        (
            Settings {
                smtp_relay: s("mail:587"),
                smtp_ca: Some("/etc/hostname".into()),
                ..base()
            },
            "smtp_ca",
            "-----BEGIN CERTIFICATE-----",
        ),
        (
            Settings {
                smtp_relay: s("mail:25"),
                smtp_tls: Some(SmtpTls::None),
                smtp_ca: Some("/etc/hostname".into()),
                ..base()
            },
            "smtp_ca",
            "starttls",
        ),
        (
            Settings {
                heartbeat_ms: Some(0),
                ..base()
            },
            "heartbeat_ms",
            "10 to",
        ),
        (
            Settings {
                election_timeout_ms_min: Some(140),
                ..base()
            },
            "election_timeout_ms_min",
            "three heartbeats",
        ),
        (
            Settings {
                election_timeout_ms_max: Some(250),
                ..base()
            },
            "election_timeout_ms_max",
            "more than 250",
        ),
        (
            Settings {
                disk_reserve_mib: Some(u64::MAX),
                ..base()
            },
            "disk_reserve_mib",
            "at most",
        ),
        (
            Settings {
                connections_max: Some(0),
                ..base()
            },
            "connections_max",
            "at least 1",
        ),
        (
            Settings {
                calls_max: Some(0),
                ..base()
            },
            "calls_max",
            "at least 1",
        ),
        (
            Settings {
                log: s("a=b=c"),
                ..base()
            },
            "log",
            "expected",
        ),
    ];
    for (settings, setting, part) in cases {
        let text = match Config::resolve(settings.clone()) {
            Err(e) => e.to_string(),
            Ok(_) => panic!("accepted: {settings:?}"),
        };
        assert!(
            text.starts_with(setting) && text.contains(part),
            "{text:?} should name {setting} and say {part:?}"
        );
    }
}

#[test]
fn a_source_that_counts_more_wins_setting_by_setting() {
    let flags = Settings {
        listen: Some("127.0.0.1:1".into()),
        ..Settings::default()
    };
    let file = Settings {
        listen: Some("127.0.0.1:2".into()),
        slots: Some(3),
        ..base()
    };
    let config = Config::resolve(flags.or(file)).unwrap();
    assert_eq!((config.listen.port(), config.slots), (1, 3));
}

#[test]
fn another_address_is_served_when_that_is_asked_for() {
    let settings = Settings {
        listen: Some("0.0.0.0:7400".into()),
        peer_listen: Some("0.0.0.0:7500".into()),
        advertise: Some("n1:7400".into()),
        peer_advertise: Some("n1:7500".into()),
        initial_cluster: Some(vec!["n1:7500".into(), " n2:7500".into(), String::new()]),
        insecure: Some(true),
        ..base()
    };
    let config = Config::resolve(settings).unwrap();
    assert_eq!(config.initial_cluster, ["n1:7500", "n2:7500"]);
    assert_eq!(config.name, "n1:7400");
}

#[test]
fn the_ports_that_the_system_chose_are_advertised() {
    let settings = Settings {
        listen: Some("127.0.0.1:0".into()),
        peer_listen: Some("127.0.0.1:0".into()),
        peer_advertise: Some("n1:7500".into()),
        ..base()
    };
    let mut config = Config::resolve(settings).unwrap();
    config.bound("127.0.0.1:41".parse().unwrap(), "127.0.0.1:42".parse().unwrap());
    assert_eq!(
        (config.advertise.as_str(), config.peer_advertise.as_str()),
        ("127.0.0.1:41", "n1:7500")
    );
    assert_eq!((config.name.as_str(), config.peer_listen.port()), ("127.0.0.1:41", 42));
}

#[test]
fn files_with_unknown_keys_or_other_types_are_refused_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    for (text, part) in [
        ("data_dir = '/d'\nlistn = 'x'", "listn"),
        ("slots = 'many'", "line 1"),
        ("slots = -1", "line 1"),
        ("= 3", "line 1"),
        ("log_format = 'xml'", "xml"),
    ] {
        std::fs::write(&path, text).unwrap();
        let text = read_file(&path).unwrap_err().to_string();
        assert!(text.contains(part) && text.contains("node.toml"), "{text}");
    }
    assert!(read_file(&dir.path().join("none.toml")).is_err());
}

#[test]
fn what_is_printed_reads_back_as_the_same_configuration() {
    let settings = Settings {
        labels: Some(vec!["zone=a".into(), "disk=ssd".into()]),
        initial_cluster: Some(vec![PEER_LISTEN_DEFAULT.into()]),
        log_format: Some(LogFormat::Json),
        ..base()
    };
    let config = Config::resolve(settings).unwrap();
    let text = to_toml(&config);
    let again: Settings = toml::from_str(&text).unwrap();
    assert_eq!(Config::resolve(again).unwrap(), config);
    for line in ["# --data-dir, SCHED_DATA_DIR", "# Labels of the worker", "slots = 64"] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    assert!(to_json(&config).contains("\"labels\":[\"disk=ssd\",\"zone=a\"]"));
}

#[test]
fn a_relay_is_taken_apart() {
    let relay = |address: &str, user: Option<&str>| {
        let settings = Settings {
            smtp_relay: Some(address.into()),
            smtp_user: user.map(str::to_owned),
            smtp_password_file: user.map(|_| "/etc/hostname".into()),
            ..base()
        };
        Config::resolve(settings).unwrap().mail_relay().unwrap()
    };
    let plain = relay("[::1]:2525", None);
    assert_eq!(
        (plain.host.as_str(), plain.port, plain.tls),
        ("::1", 2525, SmtpTls::StartTls)
    );
    assert_eq!(plain.login, None);
    let login = relay("mail.example.org:587", Some("u"));
    assert_eq!(login.login, Some(("u".to_owned(), "/etc/hostname".into())));
    assert_eq!(Config::resolve(base()).unwrap().mail_relay(), None);
}

#[test]
fn variables_that_look_like_a_setting_are_told() {
    let names = ["SCHED_LISTEN", "SCHED_LISTN", "SCHED_ENDPOINT", "SCHED_PARAM_X", "PATH"];
    assert_eq!(unknown_variables(names.into_iter().map(str::to_owned)), ["SCHED_LISTN"]);
}
