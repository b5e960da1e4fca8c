use std::fs;

use futures::future::join_all;
use redis::{ParsingError, RedisResult, Value, from_redis_value};

use crate::server::Server;
use crate::wait::until;

const NAME: &str = "mymaster";

/// A master, its replicas, and the sentinels that promote a replica when the master fails.
///
/// A master that does not answer for 500 ms is abandoned; a failover takes about two seconds.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Sentinels {
    /// Starts a master, two replicas and three sentinels; they know each other when this returns.
    ///
    /// # Panics
    ///
    /// If that takes more than 30 s.
    pub async fn start() -> Self {
        Self::start_with(2, 3).await
    }

    /// Starts another number of replicas and sentinels, of which most must agree.
    ///
    /// # Panics
    ///
    /// Like [`start`](Self::start).
    pub async fn start_with(replicas: usize, sentinels: usize) -> Self {
        let master = start_server(None).await;
        let port = master.port();
        let mut servers = vec![master];
        servers.extend(join_all((0..replicas).map(|_| start_server(Some(port)))).await);
        let quorum = sentinels / 2 + 1;
        let sentinels = join_all((0..sentinels).map(|_| start_sentinel(port, quorum))).await;
        let group = Self { servers, sentinels };
        group.wait_until_healthy().await;
        group
    }

    /// `redis+sentinel://127.0.0.1:<port>,.../?master=mymaster`, of all sentinels.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<_> =
            self.sentinels.iter().map(|it| format!("127.0.0.1:{}", it.port())).collect();
        format!("redis+sentinel://{}/?master={NAME}", hosts.join(","))
    }

    /// All servers, whether master or replica at the moment.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The master, once all running sentinels agree on one that runs and knows that it is the master.
    ///
    /// # Panics
    ///
    /// If that takes more than 30 s.
    pub async fn current_master(&self) -> &Server {
        until("master", async || self.master().await).await
    }

    /// Kills the master, and returns it. The next one is elected when
    /// [`current_master`](Self::current_master) returns.
    ///
    /// # Panics
    ///
    /// If there is no master.
    pub async fn kill_master(&self) -> &Server {
        let master = self.current_master().await;
        master.kill();
        master
    }

    /// Starts a server again, as a replica of the current master, or a sentinel with its previous state.
    ///
    /// # Panics
    ///
    /// If there is no other master within 30 s.
    pub async fn restart(&self, server: &Server) {
        if self.sentinels.iter().any(|it| it.port() == server.port()) {
            server.restart().await;
            hurry(server).await;
            return;
        }
        server.kill();
        let master = self.current_master().await;
        server.restart_with(&replica_of(master.port())).await;
    }

    /// Waits until all running sentinels agree on the master, know each other, and see all servers, the
    /// replicas of which are in sync. Killed servers and sentinels must have been restarted.
    ///
    /// # Panics
    ///
    /// If that takes more than 30 s.
    pub async fn wait_until_healthy(&self) {
        until("healthy group of sentinels", async || self.health().await).await;
    }

    async fn master(&self) -> Result<&Server, String> {
        let mut agreed = None;
        for sentinel in self.sentinels.iter().filter(|it| it.is_running()) {
            let command = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
            let found: RedisResult<(String, u16)> = sentinel.try_query(&command).await;
            let (_, port) = found.map_err(|error| error.to_string())?;
            if *agreed.get_or_insert(port) != port {
                return Err("the sentinels do not agree".to_owned());
            }
        }
        let port = agreed.ok_or("no sentinel runs")?;
        let master = self.servers.iter().find(|it| it.port() == port);
        let master = master.ok_or_else(|| format!("an unknown master at {port}"))?;
        if !master.is_running() {
            return Err(format!("the sentinels still believe in {port}, which is down"));
        }
        let info = master.info("replication").await?;
        match info.get("role") {
            Some(role) if role == "master" => Ok(master),
            role => Err(format!("the chosen {port} is still {role:?}")),
        }
    }

    async fn health(&self) -> Result<(), String> {
        let master = self.master().await?;
        let replicas = self.servers.len() - 1;
        let others = self.sentinels.len() - 1;
        for server in self.servers.iter().filter(|it| it.port() != master.port()) {
            let info = server.info("replication").await?;
            let says = |name: &str, value: &str| info.get(name).is_some_and(|it| it == value);
            let port = master.port().to_string();
            if !says("master_port", &port) || !says("master_link_status", "up") {
                return Err(format!("{} does not follow the master: {info:?}", server.url()));
            }
        }
        for sentinel in &self.sentinels {
            let seen = |kind: &'static str| async move {
                let found: RedisResult<Value> = sentinel.try_query(&["SENTINEL", kind, NAME]).await;
                found.and_then(|found| Ok(flags(found)?)).map_err(|error| error.to_string())
            };
            // Any other flag indicates a fault, or a failover that has not ended yet.
            let expected = [
                ("MASTER", "master", 1),
                ("REPLICAS", "slave", replicas),
                ("SENTINELS", "sentinel", others),
            ];
            for (kind, flag, count) in expected {
                let flags = seen(kind).await?;
                if flags.len() != count || flags.iter().any(|it| it != flag) {
                    return Err(format!("{} sees {kind} as {flags:?}", sentinel.url()));
                }
            }
        }
        Ok(())
    }
}

/// The flags of each instance in the answer of `SENTINEL MASTER`, `REPLICAS` or `SENTINELS`.
fn flags(answer: Value) -> Result<Vec<String>, ParsingError> {
    let one = |fields: Vec<String>| fields.iter().skip_while(|it| *it != "flags").nth(1).cloned();
    match answer {
        Value::Array(items) if !matches!(items.first(), Some(Value::BulkString(_))) => items
            .into_iter()
            .filter_map(|item| from_redis_value(item).map(one).transpose())
            .collect(),
        single => Ok(one(from_redis_value(single)?).into_iter().collect()),
    }
}

async fn start_server(master: Option<u16>) -> Server {
    // The default waits 5 s for more replicas before the first is served.
    let mut args = vec!["--repl-diskless-sync-delay".to_owned(), "0".to_owned()];
    let server = |args: Vec<String>| async move {
        Server::start_with(&args.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    args.extend(master.into_iter().flat_map(replica_of));
    server(args).await
}

fn replica_of(master: u16) -> Vec<String> {
    vec!["--replicaof".to_owned(), "127.0.0.1".to_owned(), master.to_string()]
}

/// A sentinel keeps what it learns in its configuration file.
async fn start_sentinel(master: u16, quorum: usize) -> Server {
    let sentinel = Server::start_by(|port, dir| {
        let file = dir.join("sentinel.conf");
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", dir.display()),
            format!("sentinel monitor {NAME} 127.0.0.1 {master} {quorum}"),
            format!("sentinel down-after-milliseconds {NAME} 500"),
            // An election without a winner is repeated after twice this time.
            format!("sentinel failover-timeout {NAME} 2000"),
            format!("sentinel parallel-syncs {NAME} 5"),
        ];
        fs::write(&file, lines.join("\n")).expect("a configuration file");
        vec![file.display().to_string(), "--sentinel".to_owned()]
    })
    .await;
    hurry(&sentinel).await;
    sentinel
}

/// Makes a sentinel poll more often than by default, since Redis 7.0.
///
/// By default it sends its first ping only 500 ms after it has connected, the same time after which
/// it would abandon the new master, so each failover could cause another. It considers a replica lost
/// that has not answered 5 pings, and polls them each second.
async fn hurry(sentinel: &Server) {
    let command = [
        ["SENTINEL", "DEBUG"],
        ["ping-period", "250"],
        ["info-period", "100"],
        ["publish-period", "100"],
        ["ask-period", "100"],
    ];
    let hurried: RedisResult<Value> = sentinel.try_query(command.as_flattened()).await;
    // An older one is slower.
    if let Err(error) = hurried {
        assert!(error.to_string().contains("subcommand"), "{error}");
    }
}
