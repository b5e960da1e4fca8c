//! Making connections: to one server, to a Cluster, or to the master that Sentinels name.

use std::sync::Arc;

use futures::stream::{FuturesUnordered, StreamExt};
use memory_core::store::Applied;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::SingleNodeRoutingInfo;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError as DriverError, RedisResult, Value,
};

use crate::config::RedisConfig;
use crate::error::{LinkError, LinkErrorKind};
use crate::push::Pushes;
use crate::server::ChannelKind;
use crate::url::{Sentinel, Target};

/// A connection that many requests share.
#[derive(Clone)]
pub(crate) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    pub(crate) async fn send(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Server(server) => server.req_packed_command(cmd).await?,
            Self::Cluster(cluster) => cluster.req_packed_command(cmd).await?,
        };
        answer.extract_error()
    }

    /// Several commands in a row; in a Cluster, all to the node of the first one's key.
    pub(crate) async fn send_all(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let count = commands.len();
        match self {
            Self::Server(server) => server.req_packed_commands(commands, 0, count).await,
            Self::Cluster(cluster) => cluster.req_packed_commands(commands, 0, count).await,
        }
    }

    /// The command at the node to which a slot is moving.
    pub(crate) async fn send_asking(&mut self, cmd: &Cmd, node: &str) -> RedisResult<Value> {
        let Self::Cluster(cluster) = self else { return self.send(cmd).await };
        let Some((host, port)) = node.rsplit_once(':') else {
            return cluster.req_packed_command(cmd).await;
        };
        let (host, port) = (host.to_owned(), port.parse().unwrap_or_default());
        let mut both = redis::pipe();
        both.cmd("ASKING").add_command(cmd.clone());
        let route = SingleNodeRoutingInfo::ByAddress { host, port };
        let answers = cluster.route_pipeline(both, 1, 1, route).await?;
        answers.into_iter().next_back().unwrap_or(Value::Nil).extract_error()
    }

    pub(crate) async fn subscribe(&mut self, channel: &str, kind: ChannelKind) -> RedisResult<()> {
        match self {
            Self::Server(server) => server.subscribe(channel).await,
            Self::Cluster(cluster) => match kind {
                ChannelKind::Sharded => cluster.ssubscribe(channel).await,
                ChannelKind::Global => cluster.subscribe(channel).await,
            },
        }
    }
}

/// Connects to the server that a configuration names.
///
/// The Sentinels are asked concurrently: the driver's client asks one after the other, so a Sentinel that
/// hangs would delay every failover.
pub(crate) async fn connect(
    config: &RedisConfig,
    pushes: &Arc<Pushes>,
    number: u64,
) -> Result<Connection, LinkError> {
    #[cfg(feature = "tls")]
    choose_cryptography();
    let connecting = async {
        match &config.target {
            Target::Server(server) => to_server(config, (**server).clone(), pushes, number).await,
            Target::Cluster(nodes) => to_cluster(config, nodes, pushes, number).await,
            Target::Sentinel(sentinel) => to_master(config, sentinel, pushes, number).await,
        }
    };
    match tokio::time::timeout(config.connect_timeout(), connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(LinkError::not_reached(&config.target, config.connect_timeout())),
    }
}

fn driver_config(config: &RedisConfig) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.connect_timeout()))
        .set_response_timeout(Some(config.response_timeout()))
}

async fn to_server(
    config: &RedisConfig,
    server: ConnectionInfo,
    pushes: &Arc<Pushes>,
    number: u64,
) -> Result<Connection, LinkError> {
    let place = server.addr().to_string();
    let failed = |error| LinkError::connecting(&place, error);
    let client = Client::open(server).map_err(failed)?;
    let driver = driver_config(config).set_push_sender(pushes.receiver(number));
    let connection = client.get_multiplexed_async_connection_with_config(&driver).await;
    connection.map(Connection::Server).map_err(failed)
}

async fn to_cluster(
    config: &RedisConfig,
    nodes: &[ConnectionInfo],
    pushes: &Arc<Pushes>,
    number: u64,
) -> Result<Connection, LinkError> {
    let place = config.target.to_string();
    let failed = |error| LinkError::connecting(&place, error);
    // Retries are ours: the driver's would send a command again after a dropped connection, and return `Ok`
    // for a command that was applied twice.
    let client = ClusterClientBuilder::new(nodes.iter().cloned())
        .retries(0)
        // A node that does not answer must leave time for the others: the driver waits for all nodes of the
        // URL first, and then for all nodes that they name.
        .connection_timeout(config.connect_timeout() / 4)
        .response_timeout(config.response_timeout())
        .use_protocol(ProtocolVersion::RESP3)
        .push_sender(pushes.receiver(number))
        .build()
        .map_err(failed)?;
    client.get_async_connection().await.map(Connection::Cluster).map_err(failed)
}

async fn to_master(
    config: &RedisConfig,
    sentinel: &Sentinel,
    pushes: &Arc<Pushes>,
    number: u64,
) -> Result<Connection, LinkError> {
    let ask = async |node| {
        let server = master_by(config, sentinel, node).await?;
        let connection = to_server(config, server, pushes, number).await?;
        // A Sentinel may not have heard of a failover yet; another may have.
        match is_master(&connection).await {
            true => Ok(connection),
            false => Err(LinkError::no_master(&sentinel.master)),
        }
    };
    let mut asked: FuturesUnordered<_> = sentinel.nodes.iter().map(ask).collect();
    let mut last = None;
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(connection) => return Ok(connection),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| LinkError::no_master(&sentinel.master)))
}

async fn is_master(connection: &Connection) -> bool {
    let role = connection.clone().send(&redis::cmd("ROLE")).await;
    match role {
        Ok(Value::Array(parts)) => {
            matches!(parts.first(), Some(Value::BulkString(role)) if role == b"master")
        }
        // The user has no right to ask. The server refuses writes if it is a replica.
        _ => true,
    }
}

/// The master's address, as this Sentinel knows it.
async fn master_by(
    config: &RedisConfig,
    sentinel: &Sentinel,
    node: &ConnectionAddr,
) -> Result<ConnectionInfo, LinkError> {
    let failed = |error| LinkError::connecting(&format!("the Sentinel {node}"), error);
    let mut user = RedisConnectionInfo::default();
    if let Some(name) = &sentinel.user {
        user = user.set_username(name);
    }
    if let Some(password) = &sentinel.password {
        user = user.set_password(password);
    }
    let info = node.clone().into_connection_info().map_err(failed)?.set_redis_settings(user);
    let client = Client::open(info).map_err(failed)?;
    let connection =
        client.get_multiplexed_async_connection_with_config(&driver_config(config)).await;
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("GET-MASTER-ADDR-BY-NAME").arg(&sentinel.master);
    let answer = connection.map_err(failed)?.req_packed_command(&ask).await.map_err(failed)?;
    let Ok(Value::Array(parts)) = answer.extract_error() else {
        return Err(LinkError::no_master(&sentinel.master));
    };
    let mut parts = parts.into_iter().map(|part| match part {
        Value::BulkString(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        _ => String::new(),
    });
    let host = parts.next().unwrap_or_default();
    let port = parts.next().and_then(|port| port.parse().ok());
    let Some(port) = port else { return Err(LinkError::no_master(&sentinel.master)) };
    let addr = match node {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } if sentinel.tls => {
            let (insecure, tls_params) = (*insecure, tls_params.clone());
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    Ok(sentinel.server.clone().set_addr(addr))
}

/// With several cryptography providers in a build, rustls needs an explicit choice.
#[cfg(feature = "tls")]
fn choose_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have chosen a provider meanwhile, which is just as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// The node that a redirection names.
pub(crate) fn asked_node(error: &DriverError) -> Option<String> {
    error.redirect_node().map(|(node, _slot)| node.to_owned())
}

impl LinkError {
    fn no_master(name: &str) -> Self {
        let detail = format!(
            "no Sentinel names a reachable master `{name}`; check `master=` of the URL, or wait for the \
             failover"
        );
        Self::new(LinkErrorKind::Unreachable, Applied::No, detail)
    }

    fn not_reached(target: &Target, after: std::time::Duration) -> Self {
        let detail = format!(
            "{target} did not answer within {after:.1?}; check the address and that it runs"
        );
        Self::new(LinkErrorKind::Unreachable, Applied::No, detail)
    }
}
