//! Commands for all masters of a Cluster, or for the one server.

use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use redis::{Cmd, RedisResult, Value};

use crate::connect::Connection;

/// The answers of all masters of a Cluster, or that of the one server.
pub(crate) async fn of_all_masters(
    connection: &mut Connection,
    cmd: &Cmd,
) -> RedisResult<Vec<Value>> {
    let Connection::Cluster(cluster) = connection else {
        return Ok(vec![connection.send(cmd).await?]);
    };
    let routing =
        RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None::<ResponsePolicy>));
    match cluster.route_command(cmd.clone(), routing).await?.extract_error()? {
        Value::Map(answers) => {
            answers.into_iter().map(|(_, answer)| answer.extract_error()).collect()
        }
        answer => Ok(vec![answer]),
    }
}

/// The names of the masters of a Cluster.
async fn masters(connection: &mut Connection) -> RedisResult<Vec<(String, u16)>> {
    let Connection::Cluster(cluster) = connection else { return Ok(Vec::new()) };
    let routing =
        RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None::<ResponsePolicy>));
    let Value::Map(answers) = cluster.route_command(redis::cmd("PING"), routing).await? else {
        return Ok(Vec::new());
    };
    let names = answers.into_iter().filter_map(|(name, _)| match name {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    });
    Ok(names
        .filter_map(|name| {
            let (host, port) = name.rsplit_once(':')?;
            Some((host.to_owned(), port.parse().ok()?))
        })
        .collect())
}

/// Passes on all keys that match, by `SCAN` at every master.
pub(crate) async fn scan(
    connection: &mut Connection,
    pattern: &str,
    mut each: impl FnMut(String),
) -> RedisResult<()> {
    let nodes = masters(connection).await?;
    let mut places: Vec<Option<(String, u16)>> = nodes.into_iter().map(Some).collect();
    if places.is_empty() {
        places.push(None);
    }
    for place in places {
        let mut cursor = "0".to_owned();
        loop {
            let mut cmd = redis::cmd("SCAN");
            cmd.arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1_000);
            let answer = match (&place, &mut *connection) {
                (Some((host, port)), Connection::Cluster(cluster)) => {
                    let node = redis::cluster_routing::SingleNodeRoutingInfo::ByAddress {
                        host: host.clone(),
                        port: *port,
                    };
                    cluster.route_command(cmd, RoutingInfo::SingleNode(node)).await?
                }
                (_, connection) => connection.send(&cmd).await?,
            };
            let (next, found): (String, Vec<Vec<u8>>) = redis::from_redis_value(answer)?;
            // A key that is not text is not one of ours.
            found.into_iter().filter_map(|key| String::from_utf8(key).ok()).for_each(&mut each);
            if next == "0" {
                break;
            }
            cursor = next;
        }
    }
    Ok(())
}

/// The keys of a call and the types of their values. An error names the conflicting key by them.
pub(crate) async fn types_of(connection: &mut Connection, call: &Cmd) -> String {
    let mut arguments = call.args_iter().filter_map(|argument| match argument {
        redis::Arg::Simple(bytes) => Some(bytes.to_vec()),
        _ => None,
    });
    let count = arguments.nth(2).and_then(|count| String::from_utf8(count).ok()?.parse().ok());
    let mut found = Vec::new();
    for key in arguments.take(count.unwrap_or(0)) {
        let kind = connection.send(redis::cmd("TYPE").arg(&key)).await;
        if let Ok(Value::SimpleString(kind)) = kind
            && kind != "none"
        {
            found.push(format!("{} is a {kind}", String::from_utf8_lossy(&key)));
        }
    }
    found.join(", ")
}
