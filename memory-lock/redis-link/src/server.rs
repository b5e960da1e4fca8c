//! The kind of the server, and the check that it supports the configuration.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use memory_core::store::Applied;
use redis::{RedisResult, Value};

use crate::acknowledge::Acknowledge;
use crate::config::RedisConfig;
use crate::confirmation::Confirmation;
use crate::connect::Connection;
use crate::error::{LinkError, LinkErrorKind};
use crate::info::{Info, infos};
use crate::masters::of_all_masters;
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
            let check = |mode, topology| {
                let info = info(&[(name, mode), ("redis_version", "7.2.4"), ("role", "master")]);
                check_kind(&info, topology).map_err(|error| error.to_string())
            };
            assert_eq!(check("standalone", Topology::Single), Ok(()));
            assert_eq!(check("cluster", Topology::Cluster), Ok(()));
            assert!(check("sentinel", Topology::Single).unwrap_err().contains("is a Sentinel"));
            assert!(
                check("cluster", Topology::Single).unwrap_err().contains("is a node of a Cluster")
            );
            assert!(check("standalone", Topology::Cluster).unwrap_err().contains("is no Cluster"));
        }
    }
}
