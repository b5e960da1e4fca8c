//! The errors of the driver that the link distinguishes, and how its users map them.

use std::io;

use redis::{ErrorKind, RedisError};

/// One block for each error: the error, and below it the result of each user.
const TABLE: &str = include_str!("driver_errors.txt");

/// Compares the mapping of `user` for each error of the driver with its line in the committed table.
///
/// # Panics
///
/// If a line differs, with the table as it would be.
#[track_caller]
pub fn assert_driver_errors(user: &str, describe: impl Fn(RedisError) -> String) {
    let mut table = String::new();
    let mut error = "";
    for line in TABLE.lines() {
        let is_of_user = line.trim_start().split_once(": ").is_some_and(|(name, _)| name == user);
        if line.starts_with(' ') && is_of_user {
            table += &format!("  {user}: {}", describe(driver_error(error)));
        } else {
            if !line.starts_with(' ') {
                error = line;
            }
            table += line;
        }
        table.push('\n');
    }
    assert!(table == TABLE, "{user} makes something else of an error of the driver:\n{table}");
}

/// The error that a line names: an answer of the server, an error of I/O, or a kind of the driver.
fn driver_error(name: &str) -> RedisError {
    if name.starts_with(['-', '$']) {
        let answer = redis::parse_redis_value(format!("{name}\r\n").as_bytes());
        return match answer {
            Ok(answer) => answer.extract_error().expect_err("the answer is an error"),
            Err(error) => error,
        };
    }
    let kind = match name {
        "io TimedOut" => return io::Error::from(io::ErrorKind::TimedOut).into(),
        "io BrokenPipe" => return io::Error::from(io::ErrorKind::BrokenPipe).into(),
        "io ConnectionRefused" => return io::Error::from(io::ErrorKind::ConnectionRefused).into(),
        "io UnexpectedEof" => return io::Error::from(io::ErrorKind::UnexpectedEof).into(),
        "kind Parse" => ErrorKind::Parse,
        "kind AuthenticationFailed" => ErrorKind::AuthenticationFailed,
        "kind UnexpectedReturnType" => ErrorKind::UnexpectedReturnType,
        "kind InvalidClientConfig" => ErrorKind::InvalidClientConfig,
        "kind Client" => ErrorKind::Client,
        "kind MasterNameNotFoundBySentinel" => ErrorKind::MasterNameNotFoundBySentinel,
        "kind EmptySentinelList" => ErrorKind::EmptySentinelList,
        "kind ClusterConnectionNotFound" => ErrorKind::ClusterConnectionNotFound,
        "kind RESP3NotSupported" => ErrorKind::RESP3NotSupported,
        _ => panic!("{name} is no error of the driver"),
    };
    RedisError::from((kind, "text"))
}
