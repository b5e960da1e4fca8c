use super::*;

/// One row for each error that has a distinct kind or text.
#[test]
fn errors_of_the_server_are_classified() {
    use Applied::{No, Unknown};
    let said = |line: &str| {
        let value = redis::parse_redis_value(line.as_bytes()).unwrap();
        let error = value.extract_error().unwrap_err();
        let error = LinkError::from(error);
        (error.kind.clone(), error.applied)
    };
    for (line, kind) in [
        ("-READONLY You can't write against a read only replica.\r\n", LinkErrorKind::ReadOnly),
        ("-NOPERM this user has no permissions\r\n", LinkErrorKind::NotPermitted),
        ("-NOAUTH Authentication required.\r\n", LinkErrorKind::Authentication),
        ("-WRONGPASS invalid\r\n", LinkErrorKind::Authentication),
        ("-LOADING Redis is loading\r\n", LinkErrorKind::Busy),
        ("-TRYAGAIN Multiple keys\r\n", LinkErrorKind::Busy),
        ("-CLUSTERDOWN Hash slot not served\r\n", LinkErrorKind::Busy),
        ("-MASTERDOWN Link with MASTER is down\r\n", LinkErrorKind::Busy),
        ("-CROSSSLOT Keys in request don't hash to the same slot\r\n", LinkErrorKind::Other),
        ("-MOVED 3999 127.0.0.1:6381\r\n", LinkErrorKind::Busy),
        ("-ASK 3999 127.0.0.1:6381\r\n", LinkErrorKind::Busy),
        ("-BUSY Redis is busy running a script\r\n", LinkErrorKind::Busy),
        ("-NOREPLICAS Not enough good replicas\r\n", LinkErrorKind::Busy),
        ("-MISCONF Redis is configured to save\r\n", LinkErrorKind::Refused),
        ("-OOM command not allowed\r\n", LinkErrorKind::Full),
        ("-WRONGTYPE Operation against a key\r\n", LinkErrorKind::Corrupt),
        ("-ERR user_script:9: CORRUPT k is odd script: ab, on @x:1.\r\n", LinkErrorKind::Corrupt),
        ("-ERR user_script:9: NEWER 7 script: ab\r\n", LinkErrorKind::Newer { found: 7 }),
        (
            "-ERR Error running script (call to f_a): @user_script: 7: -READONLY You can't write\r\n",
            LinkErrorKind::ReadOnly,
        ),
        (
            "-ERR Error running script (call to f_a): @user_script: 7: -MISCONF Redis is configured\r\n",
            LinkErrorKind::Refused,
        ),
        (
            "-ERR Error running script (call to f_a): @user_script: 7: -NOREPLICAS Not enough\r\n",
            LinkErrorKind::Busy,
        ),
        (
            "-ERR Error running script (call to f_a): @user_script: 7: -OOM command not allowed\r\n",
            LinkErrorKind::Full,
        ),
        (
            "-ERR Error running script (call to f_a): @user_script: 7: -WRONGTYPE Operation\r\n",
            LinkErrorKind::Corrupt,
        ),
        (
            "-ERR Error running script (call to f_a): @user_script: 7: -NOPERM User x\r\n",
            LinkErrorKind::NotPermitted,
        ),
        ("-ERR ACL failure in script: User x has no permissions\r\n", LinkErrorKind::NotPermitted),
        ("-ERR anything else\r\n", LinkErrorKind::Other),
        ("-ODD anything else\r\n", LinkErrorKind::Other),
    ] {
        assert_eq!(said(line), (kind, No), "{line}");
    }
    let dropped = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    let error = LinkError::from(DriverError::from(dropped));
    assert_eq!((error.kind, error.applied), (LinkErrorKind::Broken, Unknown));
    let half = redis::parse_redis_value(b"$12\r\nhalf").unwrap_err();
    assert_eq!(LinkError::from(half).applied, Unknown, "half an answer proves nothing");
}

/// An error of the server with this text.
fn said(line: &str) -> DriverError {
    let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
    value.extract_error().unwrap_err()
}

#[test]
fn refusals_name_their_remedy() {
    for (line, detail) in [
        (
            "NOPERM this user has no permissions",
            "the server's access rules do not permit this; give the user the commands and keys",
        ),
        ("NOAUTH x", "the server does not accept the user or password; check those of the URL"),
        ("MISCONF x", "the server cannot save to its disk and takes no writes; fix its disk"),
        (
            "CROSSSLOT x",
            "the keys of one request are in several slots of the Cluster; report this as a bug",
        ),
        ("ERR x", "the server answered with an error; see the source of this error"),
        ("BUSY x", "the server is running a long script; try again"),
        (
            "NOREPLICAS x",
            "the server has fewer good replicas than `min-replicas-to-write`; try again",
        ),
    ] {
        assert_eq!(LinkError::from(said(line)).detail(), detail, "{line}");
    }
}

#[test]
fn errors_of_the_driver_are_classified() {
    use Applied::{No, Unknown};
    let kind = |kind| DriverError::from((kind, "text"));
    let io = |kind| DriverError::from(std::io::Error::from(kind));
    for (error, kind, applied, detail) in [
        (
            kind(ErrorKind::AuthenticationFailed),
            LinkErrorKind::Authentication,
            No,
            "the server does not accept the user or password; check those of the URL",
        ),
        (
            kind(ErrorKind::InvalidClientConfig),
            LinkErrorKind::Config,
            No,
            "the URL cannot be used; see the source of this error",
        ),
        (
            kind(ErrorKind::EmptySentinelList),
            LinkErrorKind::Config,
            No,
            "the URL cannot be used; see the source of this error",
        ),
        (
            kind(ErrorKind::MasterNameNotFoundBySentinel),
            LinkErrorKind::Unreachable,
            No,
            "no Sentinel that answers knows a master of this name; check `master=` of the URL",
        ),
        (
            kind(ErrorKind::ClusterConnectionNotFound),
            LinkErrorKind::Unreachable,
            Unknown,
            "no node of the Cluster is reachable for this slot; check that a master serves it",
        ),
        (
            kind(ErrorKind::RESP3NotSupported),
            LinkErrorKind::Config,
            No,
            "the server is too old; Redis 6.2 or Valkey is needed",
        ),
        (
            io(std::io::ErrorKind::TimedOut),
            LinkErrorKind::NoAnswer(Duration::ZERO),
            Unknown,
            "no answer in time",
        ),
        (
            kind(ErrorKind::Client),
            LinkErrorKind::Broken,
            Unknown,
            "the link broke before the answer came; the same request may be sent again",
        ),
    ] {
        let error = LinkError::from(error);
        assert_eq!((error.kind(), error.applied()), (&kind, applied), "{detail}");
        assert_eq!((error.detail(), error.to_string().as_str()), (detail, detail));
        assert!(error.redis_error().is_some() && error.source().is_some());
        assert!(error.into_source().is_some());
    }
}

#[test]
fn failed_connection_has_sent_nothing() {
    let io = || DriverError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
    let late = || DriverError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
    let odd = || DriverError::from((ErrorKind::Parse, "text"));
    for (error, kind, detail) in [
        (
            io(),
            LinkErrorKind::Unreachable,
            "h:1 cannot be connected to; check the address, that it runs, and whether it expects \
             TLS",
        ),
        (
            late(),
            LinkErrorKind::Unreachable,
            "h:1 cannot be connected to; check the address, that it runs, and whether it expects \
             TLS",
        ),
        (odd(), LinkErrorKind::Unreachable, "h:1 does not answer like Redis; check the address"),
        (
            said("ERR unknown command 'HELLO'"),
            LinkErrorKind::Refused,
            "h:1 refuses the connection; see the source of this error, and check the URL",
        ),
        (
            said("WRONGPASS invalid"),
            LinkErrorKind::Authentication,
            "the server does not accept the user or password; check those of the URL",
        ),
        (
            said("ERR This instance has cluster support disabled"),
            LinkErrorKind::Config,
            "the server is no Cluster; write redis://",
        ),
    ] {
        let error = LinkError::connecting("h:1", error);
        assert_eq!((error.kind(), error.detail()), (&kind, detail));
        assert_eq!(error.applied(), Applied::No, "{detail}");
    }
}

#[test]
fn own_errors_have_their_kinds() {
    use Applied::{No, Unknown};
    let after = Duration::from_millis(1_500);
    for (error, kind, applied, detail) in [
        (
            LinkError::no_answer(after),
            LinkErrorKind::NoAnswer(after),
            Unknown,
            "no answer within 1.5s; check that the server is reachable and not overloaded",
        ),
        (
            LinkError::odd_answer(),
            LinkErrorKind::Other,
            Unknown,
            "the answer has an unknown form; check that this is a Redis or Valkey server",
        ),
        (
            LinkError::corrupt("`k` is odd"),
            LinkErrorKind::Corrupt,
            No,
            "`k` is odd; use another prefix, or remove the key",
        ),
        (
            LinkError::newer(7),
            LinkErrorKind::Newer { found: 7 },
            No,
            "written by a newer version; upgrade this program",
        ),
        (LinkError::config("bad"), LinkErrorKind::Config, No, "bad"),
    ] {
        assert_eq!((error.kind(), error.applied()), (&kind, applied));
        assert_eq!(error.detail(), detail);
    }
}

#[test]
fn foreign_type_gets_its_key_later() {
    let mut error = LinkError::from(said("WRONGTYPE Operation against a key"));
    assert!(!error.names_a_key());
    error.set_kind(LinkErrorKind::Busy, "`k` is odd".into());
    assert!(error.names_a_key());
    assert_eq!((error.kind(), error.detail()), (&LinkErrorKind::Busy, "`k` is odd"));
}

#[test]
fn damaged_key_is_named() {
    let line = "-ERR user_script:9: CORRUPT p:{1}:lease:x does not hold a lease of ours script: \
                ab, on @user_script:9.\r\n";
    let value = redis::parse_redis_value(line.as_bytes()).unwrap();
    let error = LinkError::from(value.extract_error().unwrap_err());
    assert_eq!(
        error.to_string(),
        "p:{1}:lease:x does not hold a lease of ours; use another prefix, or remove the key"
    );
}

#[test]
fn place_in_the_script_is_left_out() {
    for line in ["ERR x: CORRUPT k is odd", "ERR x: CORRUPT k is odd, script: ab, on @x:1."] {
        let error = LinkError::from(said(line));
        assert_eq!(error.detail(), "k is odd; use another prefix, or remove the key", "{line}");
    }
}

#[test]
fn long_words_of_a_server_are_cut() {
    let long = "語".repeat(1 << 20);
    for (line, kind) in [
        (format!("ERR {long}"), LinkErrorKind::Other),
        (format!("{long} odd"), LinkErrorKind::Other),
        (format!("ODD {long}"), LinkErrorKind::Other),
        (format!("READONLY {long}"), LinkErrorKind::ReadOnly),
        (format!("WRONGPASS {long}"), LinkErrorKind::Authentication),
        (format!("LOADING {long}"), LinkErrorKind::Busy),
        (format!("ERR x: CORRUPT {long}"), LinkErrorKind::Corrupt),
    ] {
        let error = LinkError::from(said(&line));
        assert_eq!(error.kind(), &kind);
        assert!(error.to_string().len() <= MAX_ERROR_TEXT);
        let source = error.source().unwrap().to_string();
        assert!(source.len() < 4 << 10, "{}", source.len());
        assert!(format!("{error:?}").len() < 16 << 10);
    }
    // The error quotes the input that could not be parsed.
    let odd = redis::parse_redis_value("?".repeat(1 << 20).as_bytes()).unwrap_err();
    assert!(LinkError::from(odd).source().unwrap().to_string().len() < 4 << 10);
}
