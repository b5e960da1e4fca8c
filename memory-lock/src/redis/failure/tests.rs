use super::*;

/// One row for each error that is told apart.
#[test]
fn errors_are_classified_by_what_a_caller_can_do() {
    use Applied::{NotApplied, Unknown};
    let said = |line: &str| {
        let value = redis::parse_redis_value(line.as_bytes()).unwrap();
        let error = value.extract_error().unwrap_err();
        let fault = RedisFault::from(error);
        (fault.failure.clone(), fault.applied)
    };
    for (line, failure) in [
        ("-READONLY You can't write against a read only replica.\r\n", RedisFailure::ReadOnly),
        ("-NOPERM this user has no permissions\r\n", RedisFailure::NotPermitted),
        ("-NOAUTH Authentication required.\r\n", RedisFailure::Authentication),
        ("-WRONGPASS invalid\r\n", RedisFailure::Authentication),
        ("-LOADING Redis is loading\r\n", RedisFailure::Busy),
        ("-TRYAGAIN Multiple keys\r\n", RedisFailure::Busy),
        ("-CLUSTERDOWN Hash slot not served\r\n", RedisFailure::Busy),
        ("-MASTERDOWN Link with MASTER is down\r\n", RedisFailure::Busy),
        ("-CROSSSLOT Keys in request don't hash to the same slot\r\n", RedisFailure::Other),
        ("-MOVED 3999 127.0.0.1:6381\r\n", RedisFailure::Busy),
        ("-ASK 3999 127.0.0.1:6381\r\n", RedisFailure::Busy),
        ("-BUSY Redis is busy running a script\r\n", RedisFailure::Busy),
        ("-NOREPLICAS Not enough good replicas\r\n", RedisFailure::Busy),
        ("-MISCONF Redis is configured to save\r\n", RedisFailure::Refused),
        ("-OOM command not allowed\r\n", RedisFailure::Full),
        ("-WRONGTYPE Operation against a key\r\n", RedisFailure::Corrupt),
        ("-ERR user_script:9: CORRUPT k is odd script: ab, on @x:1.\r\n", RedisFailure::Corrupt),
        ("-ERR user_script:9: NEWER 7 script: ab\r\n", RedisFailure::Newer { found: 7 }),
        (
            "-ERR Error running script (call to f_a): @user_script: 7: -READONLY You can't write\r\n",
            RedisFailure::ReadOnly,
        ),
        (
            "-ERR Error running script (call to f_a): @user_script: 7: -MISCONF Redis is configured\r\n",
            RedisFailure::Refused,
        ),
        (
            "-ERR Error running script (call to f_a): @user_script: 7: -NOREPLICAS Not enough\r\n",
            RedisFailure::Busy,
        ),
        (
            "-ERR Error running script (call to f_a): @user_script: 7: -OOM command not allowed\r\n",
            RedisFailure::Full,
        ),
        (
            "-ERR Error running script (call to f_a): @user_script: 7: -WRONGTYPE Operation\r\n",
            RedisFailure::Corrupt,
        ),
        (
            "-ERR Error running script (call to f_a): @user_script: 7: -NOPERM User x\r\n",
            RedisFailure::NotPermitted,
        ),
        ("-ERR ACL failure in script: User x has no permissions\r\n", RedisFailure::NotPermitted),
        ("-ERR anything else\r\n", RedisFailure::Other),
        ("-ODD anything else\r\n", RedisFailure::Other),
    ] {
        assert_eq!(said(line), (failure, NotApplied), "{line}");
    }
    let dropped = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    let fault = RedisFault::from(RedisError::from(dropped));
    assert_eq!((fault.failure, fault.applied), (RedisFailure::Broken, Unknown));
    let half = redis::parse_redis_value(b"$12\r\nhalf").unwrap_err();
    assert_eq!(RedisFault::from(half).applied, Unknown, "half an answer proves nothing");
}

#[test]
fn driver_errors_become_lock_errors() {
    memory_redis_testkit::assert_driver_errors("lock", |error| {
        let error = RedisFault::from(error).into_lock_error(LockOperation::Acquire);
        let applied = match error.applied() {
            Applied::NotApplied => "not applied",
            Applied::Unknown => "applied unknown",
        };
        let retryable = if error.is_retryable() { "retryable" } else { "final" };
        format!("{:?}, {applied}, {retryable}: {error}", error.kind())
    });
}

/// An error of the server in these words.
fn said(line: &str) -> RedisError {
    let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
    value.extract_error().unwrap_err()
}

#[test]
fn refusals_that_are_mended_differently_say_so() {
    for (line, detail) in [
        (
            "NOPERM this user has no permissions",
            "the server's access rules do not permit this; give the user the commands and keys",
        ),
        ("NOAUTH x", "the server does not accept the user or password; check those of the URL"),
        ("MISCONF x", "the server cannot save to its disk and takes no writes; mend its disk"),
        ("CROSSSLOT x", "keys of one request lie in several slots"),
        ("ERR x", "the server answered with an error"),
        ("BUSY x", "the server is running a long script; try again"),
        (
            "NOREPLICAS x",
            "the server has fewer good replicas than `min-replicas-to-write`; try again",
        ),
    ] {
        assert_eq!(RedisFault::from(said(line)).detail(), detail, "{line}");
    }
}

#[test]
fn errors_of_the_driver_are_classified_too() {
    use Applied::{NotApplied, Unknown};
    let kind = |kind| RedisError::from((kind, "text"));
    let io = |kind| RedisError::from(std::io::Error::from(kind));
    for (error, failure, applied, detail) in [
        (
            kind(ErrorKind::AuthenticationFailed),
            RedisFailure::Authentication,
            NotApplied,
            "the server does not accept the user or password; check those of the URL",
        ),
        (
            kind(ErrorKind::InvalidClientConfig),
            RedisFailure::Config,
            NotApplied,
            "the URL cannot be used; see the source of this error",
        ),
        (
            kind(ErrorKind::EmptySentinelList),
            RedisFailure::Config,
            NotApplied,
            "the URL cannot be used; see the source of this error",
        ),
        (
            kind(ErrorKind::MasterNameNotFoundBySentinel),
            RedisFailure::Unreachable,
            NotApplied,
            "no Sentinel that answers knows a master of this name; check `master=` of the URL",
        ),
        (
            kind(ErrorKind::ClusterConnectionNotFound),
            RedisFailure::Unreachable,
            Unknown,
            "no node of the Cluster is reachable for this slot",
        ),
        (
            kind(ErrorKind::RESP3NotSupported),
            RedisFailure::Config,
            NotApplied,
            "the server is too old; Redis 6.2 or Valkey is needed",
        ),
        (
            io(std::io::ErrorKind::TimedOut),
            RedisFailure::NoAnswer(Duration::ZERO),
            Unknown,
            "no answer in time",
        ),
        (
            kind(ErrorKind::Client),
            RedisFailure::Broken,
            Unknown,
            "the link broke before the answer came; the same request may be sent again",
        ),
    ] {
        let fault = RedisFault::from(error);
        assert_eq!((fault.failure(), fault.applied()), (&failure, applied), "{detail}");
        assert_eq!((fault.detail(), fault.to_string().as_str()), (detail, detail));
        assert!(fault.redis_error().is_some() && fault.source().is_some());
        assert!(fault.into_source().is_some());
    }
}

#[test]
fn a_connection_that_fails_has_sent_nothing() {
    let io = || RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
    let late = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
    let odd = || RedisError::from((ErrorKind::Parse, "text"));
    for (error, failure, detail) in [
        (
            io(),
            RedisFailure::Unreachable,
            "h:1 cannot be connected to; check the address, that it runs, and whether it expects \
             TLS",
        ),
        (
            late(),
            RedisFailure::Unreachable,
            "h:1 cannot be connected to; check the address, that it runs, and whether it expects \
             TLS",
        ),
        (odd(), RedisFailure::Unreachable, "h:1 does not answer like Redis; check the address"),
        (
            said("ERR unknown command 'HELLO'"),
            RedisFailure::Refused,
            "h:1 refuses the connection; see the source of this error, and check the URL",
        ),
        (
            said("WRONGPASS invalid"),
            RedisFailure::Authentication,
            "the server does not accept the user or password; check those of the URL",
        ),
        (
            said("ERR This instance has cluster support disabled"),
            RedisFailure::Config,
            "the server is no Cluster; write redis://",
        ),
    ] {
        let fault = RedisFault::connecting("h:1", error);
        assert_eq!((fault.failure(), fault.detail()), (&failure, detail));
        assert_eq!(fault.applied(), Applied::NotApplied, "{detail}");
    }
}

#[test]
fn a_failure_becomes_a_lock_error_with_all_that_is_known() {
    let after = Duration::from_secs(2);
    for (failure, kind, retryable) in [
        (RedisFailure::Unreachable, LockErrorKind::Unavailable, true),
        (RedisFailure::Broken, LockErrorKind::Unavailable, true),
        (RedisFailure::NotConfirmed { wanted: 1, confirmed: 0 }, LockErrorKind::Unavailable, true),
        (RedisFailure::NoAnswer(after), LockErrorKind::NoAnswer { after }, true),
        (RedisFailure::Busy, LockErrorKind::Busy, true),
        (RedisFailure::Authentication, LockErrorKind::Authentication, false),
        (RedisFailure::NotPermitted, LockErrorKind::Authentication, false),
        (RedisFailure::Refused, LockErrorKind::Refused, false),
        (RedisFailure::ReadOnly, LockErrorKind::Refused, false),
        (RedisFailure::Full, LockErrorKind::Refused, false),
        (RedisFailure::Corrupt, LockErrorKind::Corrupt, false),
        (RedisFailure::Newer { found: 7 }, LockErrorKind::Corrupt, false),
        (RedisFailure::Config, LockErrorKind::InvalidOptions, false),
        (RedisFailure::Other, LockErrorKind::Backend, false),
    ] {
        for applied in [Applied::NotApplied, Applied::Unknown] {
            let mut fault = RedisFault::new(failure.clone(), applied, "the text");
            assert_eq!(fault.is_retryable(), retryable, "{failure:?}");
            assert!(fault.source().is_none());
            fault.set_source(said("ERR x"));
            let error = fault.into_lock_error(LockOperation::Release);
            assert_eq!(error.kind(), &kind);
            assert_eq!(error.operation(), LockOperation::Release);
            assert_eq!((error.applied(), error.is_retryable()), (applied, retryable));
            assert!(error.to_string().ends_with(": the text"), "{error}");
            assert!(error.source().is_some());
        }
    }
}

#[test]
fn what_we_find_out_ourselves_says_what_it_is() {
    use Applied::{NotApplied, Unknown};
    let after = Duration::from_millis(1_500);
    for (fault, failure, applied, detail) in [
        (
            RedisFault::no_answer(after),
            RedisFailure::NoAnswer(after),
            Unknown,
            "no answer within 1.5s; check that the server is reachable and not overloaded",
        ),
        (
            RedisFault::odd_answer(),
            RedisFailure::Other,
            Unknown,
            "the answer has an unknown form; check that this is a Redis or Valkey server",
        ),
        (
            RedisFault::corrupt("`k` is odd"),
            RedisFailure::Corrupt,
            NotApplied,
            "`k` is odd; use another prefix, or remove the key",
        ),
        (
            RedisFault::newer(7),
            RedisFailure::Newer { found: 7 },
            NotApplied,
            "written by a newer version",
        ),
        (RedisFault::config("bad"), RedisFailure::Config, NotApplied, "bad"),
    ] {
        assert_eq!((fault.failure(), fault.applied()), (&failure, applied));
        assert_eq!(fault.detail(), detail);
    }
}

#[test]
fn a_foreign_type_is_told_without_its_key_until_the_key_is_added() {
    let mut fault = RedisFault::from(said("WRONGTYPE Operation against a key"));
    assert!(!fault.names_a_key());
    fault.set_failure(RedisFailure::Busy, "`k` is odd".into());
    assert!(fault.names_a_key());
    assert_eq!((fault.failure(), fault.detail()), (&RedisFailure::Busy, "`k` is odd"));
}

#[test]
fn a_damaged_key_is_named() {
    let line = "-ERR user_script:9: CORRUPT p:{1}:lease:x does not hold a lease of ours script: \
                ab, on @user_script:9.\r\n";
    let value = redis::parse_redis_value(line.as_bytes()).unwrap();
    let fault = RedisFault::from(value.extract_error().unwrap_err());
    assert_eq!(
        fault.to_string(),
        "p:{1}:lease:x does not hold a lease of ours; use another prefix, or remove the key"
    );
}

#[test]
fn what_stands_around_the_message_of_a_script_is_not_told() {
    for line in ["ERR x: CORRUPT k is odd", "ERR x: CORRUPT k is odd, script: ab, on @x:1."] {
        let fault = RedisFault::from(said(line));
        assert_eq!(fault.detail(), "k is odd; use another prefix, or remove the key", "{line}");
    }
}

#[test]
fn long_words_of_a_server_are_cut() {
    let long = "語".repeat(1 << 20);
    for (line, failure) in [
        (format!("ERR {long}"), RedisFailure::Other),
        (format!("{long} odd"), RedisFailure::Other),
        (format!("ODD {long}"), RedisFailure::Other),
        (format!("READONLY {long}"), RedisFailure::ReadOnly),
        (format!("WRONGPASS {long}"), RedisFailure::Authentication),
        (format!("LOADING {long}"), RedisFailure::Busy),
        (format!("ERR x: CORRUPT {long}"), RedisFailure::Corrupt),
    ] {
        let fault = RedisFault::from(said(&line));
        assert_eq!(fault.failure(), &failure);
        assert!(fault.to_string().len() <= MAX_ERROR_TEXT);
        let source = fault.source().unwrap().to_string();
        assert!(source.len() < 4 << 10, "{}", source.len());
        assert!(format!("{fault:?}").len() < 16 << 10);
        let error = fault.into_lock_error(LockOperation::Acquire);
        assert!(error.to_string().len() < 4 << 10);
        assert!(error.source().unwrap().to_string().len() < 4 << 10);
    }
    // What could not be parsed is quoted.
    let odd = redis::parse_redis_value("?".repeat(1 << 20).as_bytes()).unwrap_err();
    assert!(RedisFault::from(odd).source().unwrap().to_string().len() < 4 << 10);
}
