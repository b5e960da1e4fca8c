//! The kind of the server, and the check that it supports the configuration.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use memory_core::store::Applied;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use redis::{Cmd, RedisResult, Value};

use crate::acknowledge::Acknowledge;
use crate::config::RedisConfig;
use crate::connect::Connection;
use crate::error::{LinkError, LinkErrorKind};
use crate::url::Target;

/// The server's report about itself. The masters of a Cluster are reported together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStatus {
    /// The software and its version, such as `redis 7.0.15`.
    pub version: String,
    /// The role of the server.
    pub role: ServerRole,
    /// The number of connected replicas.
    pub replicas: u32,
    /// The data that survives a restart: `append-only file`, or `snapshots at most`.
    pub persistence: String,
    /// The policy by which the server evicts keys when it is out of memory.
    pub eviction_policy: String,
}

/// The role of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerRole {
    /// It accepts writes.
    Master,
    /// It follows a master.
    Replica,
    /// A Cluster with this many masters.
    Cluster {
        /// The number of masters.
        masters: u32,
    },
}

impl fmt::Display for ServerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master => f.write_str("master"),
            Self::Replica => f.write_str("replica"),
            Self::Cluster { masters: 1 } => f.write_str("cluster of 1 master"),
            Self::Cluster { masters } => write!(f, "cluster of {masters} masters"),
        }
    }
}

/// The way in which a write is confirmed after it was applied.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Confirmation {
    Replicas { count: u32, within: Duration },
    Disk { within: Duration },
}

impl Confirmation {
    pub(crate) fn command(self) -> Cmd {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        match self {
            Self::Replicas { count, within } => {
                redis::cmd("WAIT").arg(count).arg(millis(within)).take()
            }
            Self::Disk { within } => redis::cmd("WAITAOF").arg(1).arg(0).arg(millis(within)).take(),
        }
    }

    /// The number of confirmations that were requested, and the number that arrived.
    pub(crate) fn counts(self, answer: &Value) -> (u32, u32) {
        let int = |value: Option<&Value>| match value {
            Some(Value::Int(number)) => u32::try_from(*number).unwrap_or_default(),
            _ => 0,
        };
        match (self, answer) {
            (Self::Replicas { count, .. }, answer) => (count, int(Some(answer))),
            (Self::Disk { .. }, Value::Array(parts)) => (1, int(parts.first())),
            (Self::Disk { .. }, _) => (1, 0),
        }
    }

    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Replicas { .. } => "replicas",
            Self::Disk { .. } => "disks",
        }
    }
}

/// The facts that a link needs.
pub(crate) struct Facts {
    pub(crate) confirmation: Option<Confirmation>,
    pub(crate) channels: ChannelKind,
}

/// How a channel reaches its subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChannelKind {
    /// Over every node.
    Global,
    /// Over the nodes of the channel's slot (Redis 7.0).
    Sharded,
}

/// The servers that the configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topology {
    Single,
    Cluster,
}

/// Refuses a server that would break a guarantee.
pub(crate) async fn examine(
    connection: &mut Connection,
    config: &RedisConfig,
) -> Result<Facts, LinkError> {
    let topology = match config.target {
        Target::Cluster(_) => Topology::Cluster,
        Target::Server(_) | Target::Sentinel(_) => Topology::Single,
    };
    let infos = match infos(connection).await {
        Ok(infos) => infos,
        Err(error) => {
            let error = LinkError::connecting(&config.target.to_string(), error);
            // Some servers use another name.
            if !matches!(error.kind(), LinkErrorKind::NotPermitted | LinkErrorKind::Refused) {
                return Err(error);
            }
            tracing::warn!(
                "the server does not let this user see INFO, so its eviction policy and role were not checked"
            );
            Vec::new()
        }
    };
    let mut version = None;
    for info in &infos {
        check_kind(info, topology)?;
        check_policy(info)?;
        version = version.min(Some(info.version())).or(Some(info.version()));
    }
    let channels = match topology {
        Topology::Cluster if version.is_some_and(|version| version >= (7, 0)) => {
            ChannelKind::Sharded
        }
        Topology::Cluster | Topology::Single => ChannelKind::Global,
    };
    let within = config.response_timeout() / 4 * 3;
    let confirmation = match config.acknowledge() {
        Acknowledge::Memory => None,
        Acknowledge::Replicas(count) => {
            for info in &infos {
                let replicas = info.number("connected_slaves");
                if replicas < count {
                    return Err(LinkError::config(format!(
                        "`replicas={count}` cannot be given: the server has {replicas}; connect more \
                         replicas to it, or ask for fewer"
                    )));
                }
            }
            Some(Confirmation::Replicas { count, within })
        }
        Acknowledge::Disk => on_disk(connection, &infos, version, within).await?,
    };
    if let Some(confirmation) = confirmation {
        // Nothing was written yet, so it is answered at once, if the server has the command and the user
        // has the right to use it.
        connection.send(&confirmation.command()).await.map_err(|error| {
            let error = LinkError::connecting(&config.target.to_string(), error);
            match error.kind() {
                LinkErrorKind::NotPermitted | LinkErrorKind::Refused | LinkErrorKind::Other => LinkError::config(
                    "the server does not let this user wait for confirmations; permit WAIT or WAITAOF, \
                     or ask for none",
                ),
                _ => error,
            }
        })?;
    }
    Ok(Facts { confirmation, channels })
}

/// The way in which a write reaches the disk before it counts.
async fn on_disk(
    connection: &mut Connection,
    infos: &[Info],
    version: Option<(u32, u32)>,
    within: Duration,
) -> Result<Option<Confirmation>, LinkError> {
    infos.iter().try_for_each(check_loaded)?;
    if infos.iter().any(|info| info.get("aof_enabled") != "1") {
        return Err(LinkError::config(
            "`fsync=always` cannot be given: the server keeps no append-only file; set `appendonly yes`",
        ));
    }
    let ask = redis::cmd("CONFIG").arg("GET").arg("appendfsync").take();
    let answers = of_all_masters(connection, &ask).await.unwrap_or_default();
    let always = |answer: Value| {
        let settings: RedisResult<HashMap<String, String>> =
            redis::from_redis_value(answer).map_err(Into::into);
        settings.is_ok_and(|it| it.get("appendfsync").is_some_and(|when| when == "always"))
    };
    if !answers.is_empty() && answers.into_iter().all(always) {
        return Ok(None);
    }
    if version.is_some_and(|version| version >= (7, 2)) {
        return Ok(Some(Confirmation::Disk { within }));
    }
    Err(LinkError::config(
        "`fsync=always` cannot be given: the server knows no WAITAOF (Redis 7.2); set `appendfsync \
         always` there, or upgrade it",
    ))
}

fn check_kind(info: &Info, topology: Topology) -> Result<(), LinkError> {
    let refuse = |problem: &str| Err(LinkError::config(format!("the server {problem}")));
    match info.mode() {
        "sentinel" => refuse("is a Sentinel; write redis+sentinel://...?master=NAME"),
        "cluster" if topology == Topology::Single => {
            refuse("is a node of a Cluster; write redis+cluster://")
        }
        mode if topology == Topology::Cluster && !mode.is_empty() && mode != "cluster" => {
            refuse("is no Cluster; write redis://")
        }
        _ if info.version() < (6, 2) => refuse(&format!(
            "is too old ({}); Redis 6.2 or Valkey is needed",
            info.get("redis_version")
        )),
        _ if info.get("role") == "slave" => {
            refuse("is a replica; connect to its master, or by redis+sentinel://")
        }
        _ => Ok(()),
    }
}

/// While a server loads its data, it reports that it keeps no append-only file.
fn check_loaded(info: &Info) -> Result<(), LinkError> {
    if info.get("loading") != "1" {
        return Ok(());
    }
    Err(LinkError::new(
        LinkErrorKind::Busy,
        Applied::No,
        "the server is loading its data; try again",
    ))
}

fn check_policy(info: &Info) -> Result<(), LinkError> {
    let policy = info.get("maxmemory_policy");
    if policy.starts_with("allkeys-") {
        return Err(LinkError::config(format!(
            "the server may drop any key when it is out of memory (maxmemory-policy {policy}), and memories \
             with it; set maxmemory-policy to noeviction"
        )));
    }
    if policy.starts_with("volatile-") {
        tracing::warn!(
            policy,
            "out of memory, the server may drop memories and leases before their TTL; noeviction does not"
        );
    }
    Ok(())
}

pub(crate) async fn status(connection: &mut Connection) -> Result<ServerStatus, LinkError> {
    let infos = infos(connection).await?;
    let Some(first) = infos.first() else { return Err(LinkError::odd_answer()) };
    let software = if first.get("valkey_version").is_empty() { "redis" } else { "valkey" };
    let number = match first.get("valkey_version") {
        "" => first.get("redis_version"),
        version => version,
    };
    let persistence =
        if first.get("aof_enabled") == "1" { "append-only file" } else { "snapshots at most" };
    let role = match (connection, first.get("role")) {
        (Connection::Cluster(_), _) => {
            ServerRole::Cluster { masters: u32::try_from(infos.len()).unwrap_or(u32::MAX) }
        }
        (Connection::Server(_), "slave") => ServerRole::Replica,
        (Connection::Server(_), _) => ServerRole::Master,
    };
    Ok(ServerStatus {
        version: format!("{software} {number}"),
        role,
        replicas: infos.iter().map(|info| info.number("connected_slaves")).sum(),
        persistence: persistence.to_owned(),
        eviction_policy: riskiest_policy(&infos).to_owned(),
    })
}

/// Of several masters, the policy that evicts most.
fn riskiest_policy(infos: &[Info]) -> &str {
    let policies = || infos.iter().map(|info| info.get("maxmemory_policy"));
    let risky = |prefix| policies().find(|policy| policy.starts_with(prefix));
    risky("allkeys-").or_else(|| risky("volatile-")).or_else(|| policies().next()).unwrap_or("")
}

/// The fields of `INFO`, by name.
struct Info(HashMap<String, String>);

impl Info {
    /// Standalone, cluster or sentinel. Valkey 8 has another name for the field.
    fn mode(&self) -> &str {
        match self.get("redis_mode") {
            "" => self.get("server_mode"),
            mode => mode,
        }
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> u32 {
        self.get(name).parse().unwrap_or_default()
    }

    /// Major and minor. Valkey reports the version of Redis that it is compatible with.
    fn version(&self) -> (u32, u32) {
        let mut parts = self.get("redis_version").split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

/// `INFO` of all masters.
async fn infos(connection: &mut Connection) -> RedisResult<Vec<Info>> {
    let answers = of_all_masters(connection, &redis::cmd("INFO")).await?;
    let texts = answers.into_iter().map(|answer| match answer {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::VerbatimString { text, .. } => text,
        _ => String::new(),
    });
    let pairs = |text: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    };
    Ok(texts.map(|text| Info(pairs(&text))).collect())
}

/// The answers of all masters of a Cluster, or that of the one server.
async fn of_all_masters(connection: &mut Connection, cmd: &Cmd) -> RedisResult<Vec<Value>> {
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

/// The keys of a call and the types of their values, for an error that must name the conflicting key.
pub(crate) async fn types_of(connection: &mut Connection, call: &Cmd) -> String {
    let mut arguments = call.args_iter().filter_map(|argument| match argument {
        redis::Arg::Simple(bytes) => Some(bytes.to_vec()),
        _ => None,
    });
    let count = arguments.nth(2).and_then(|count| String::from_utf8(count).ok()?.parse().ok());
    let mut told = Vec::new();
    for key in arguments.take(count.unwrap_or(0)) {
        let kind = connection.send(redis::cmd("TYPE").arg(&key)).await;
        if let Ok(Value::SimpleString(kind)) = kind
            && kind != "none"
        {
            told.push(format!("{} is a {kind}", String::from_utf8_lossy(&key)));
        }
    }
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(lines: &[(&str, &str)]) -> Info {
        Info(lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// Redis 8.0.2 reports `loading:1` and `aof_enabled:0` after a restart, and `aof_enabled:1` once it is
    /// done.
    #[test]
    fn loading_server_is_busy_and_has_a_disk() {
        let error = check_loaded(&info(&[("loading", "1"), ("aof_enabled", "0")])).unwrap_err();
        assert_eq!(error.kind(), &LinkErrorKind::Busy);
        assert!(error.is_retryable());
        assert_eq!(error.applied(), Applied::No);
        assert!(check_loaded(&info(&[("loading", "0"), ("aof_enabled", "1")])).is_ok());
    }

    #[test]
    fn riskiest_policy_of_all_masters_counts() {
        let policy = |policies: &[&str]| {
            let infos: Vec<_> =
                policies.iter().map(|it| info(&[("maxmemory_policy", it)])).collect();
            riskiest_policy(&infos).to_owned()
        };
        assert_eq!(policy(&[]), "");
        assert_eq!(policy(&["noeviction", "volatile-ttl"]), "volatile-ttl");
        assert_eq!(policy(&["volatile-ttl", "noeviction", "allkeys-lru"]), "allkeys-lru");
        assert_eq!(policy(&["noeviction", "noeviction"]), "noeviction");
    }

    /// Valkey 8.0.1 reports `server_mode` where Redis reports `redis_mode`.
    #[test]
    fn server_mode_is_known_by_either_name() {
        for name in ["redis_mode", "server_mode"] {
            let told = |mode, topology| {
                let info = info(&[(name, mode), ("redis_version", "7.2.4"), ("role", "master")]);
                check_kind(&info, topology).map_err(|error| error.to_string())
            };
            assert_eq!(told("standalone", Topology::Single), Ok(()));
            assert_eq!(told("cluster", Topology::Cluster), Ok(()));
            assert!(told("sentinel", Topology::Single).unwrap_err().contains("is a Sentinel"));
            assert!(
                told("cluster", Topology::Single).unwrap_err().contains("is a node of a Cluster")
            );
            assert!(told("standalone", Topology::Cluster).unwrap_err().contains("is no Cluster"));
        }
    }

    const WITHIN: Duration = Duration::from_millis(1_500);

    /// `WAITAOF` returns the numbers of local disks and of replicas that have the write; `WAIT` returns one
    /// number.
    #[test]
    fn only_numeric_confirmations_are_counted() {
        let (disk, replicas) = (
            Confirmation::Disk { within: WITHIN },
            Confirmation::Replicas { count: 2, within: WITHIN },
        );
        let ints =
            |numbers: &[i64]| Value::Array(numbers.iter().copied().map(Value::Int).collect());
        for (confirmation, answer, counts) in [
            (disk, ints(&[1, 0]), (1, 1)),
            (disk, ints(&[0, 3]), (1, 0)),
            (disk, ints(&[]), (1, 0)),
            (disk, Value::Int(1), (1, 0)),
            (disk, Value::Array(vec![Value::Nil, Value::Int(1)]), (1, 0)),
            (disk, Value::Nil, (1, 0)),
            (replicas, Value::Int(2), (2, 2)),
            (replicas, Value::Int(0), (2, 0)),
            (replicas, Value::Int(-1), (2, 0)),
            (replicas, ints(&[2, 2]), (2, 0)),
            (replicas, Value::Nil, (2, 0)),
        ] {
            assert_eq!(confirmation.counts(&answer), counts, "{confirmation:?}: {answer:?}");
        }
    }

    #[test]
    fn confirmation_wait_is_local_and_bounded() {
        let packed = |confirmation: Confirmation| {
            let packed = confirmation.command().get_packed_command();
            String::from_utf8(packed).unwrap().replace("\r\n", " ")
        };
        let disk = packed(Confirmation::Disk { within: WITHIN });
        assert_eq!(disk, "*4 $7 WAITAOF $1 1 $1 0 $4 1500 ");
        // A timeout of zero would mean without limit.
        let replicas = packed(Confirmation::Replicas { count: 2, within: Duration::ZERO });
        assert_eq!(replicas, "*3 $4 WAIT $1 2 $1 1 ");
    }
}
