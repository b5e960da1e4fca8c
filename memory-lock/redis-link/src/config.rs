//! The server and its settings: the URL, as a value.

use std::fmt;
use std::time::Duration;

use memory_core::lease::LeaseDomain;

use crate::acknowledge::Acknowledge;
use crate::error::LinkError;
use crate::keyspace::Keyspace;
use crate::url::{self, Target};

/// The server to connect to, and the settings of the connection.
///
/// | URL | |
/// | --- | --- |
/// | `redis://[user:password@]host[:port][/db]` | one server; Valkey too |
/// | `rediss://...` | over TLS; `#insecure` accepts any certificate (feature `tls`) |
/// | `redis+unix:///path/to/socket?db=0` | one server, by a Unix socket |
/// | `redis+cluster://[user:password@]a:6379,b:6379` | a Cluster; `rediss+cluster://` over TLS |
/// | `redis+sentinel://[user:password@]a:26379,b:26379[/db]?master=name` | the master that the Sentinels name; `sentinel_user` and `sentinel_password` are for the Sentinels themselves |
///
/// The query of each URL may contain settings: `prefix`, `connect_timeout`, `response_timeout` (such as
/// `500ms` or `2s`), `replicas=1` ([`Acknowledge::Replicas`]) or `fsync=always` ([`Acknowledge::Disk`]).
///
/// ```
/// use memory_redis_link::RedisConfig;
///
/// let config = RedisConfig::from_url("redis://localhost/2?prefix=agents&replicas=1")?;
/// assert_eq!(config.prefix(), "agents");
/// # Ok::<(), memory_redis_link::LinkError>(())
/// ```
#[derive(Clone)]
pub struct RedisConfig {
    pub(crate) target: Target,
    prefix: String,
    connect_timeout: Duration,
    response_timeout: Duration,
    acknowledge: Acknowledge,
}

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

impl RedisConfig {
    /// Reads a URL. A URL of a Cluster or of Sentinels names at most 64 hosts, because a few of them lead
    /// to the others.
    ///
    /// # Errors
    /// [`LinkError`] that names the problem of the URL and the remedy, without the password.
    pub fn from_url(url: &str) -> Result<Self, LinkError> {
        let (target, settings) = url::parse(url)?;
        let mut config = Self {
            target,
            prefix: "memory".to_owned(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            response_timeout: DEFAULT_RESPONSE_TIMEOUT,
            acknowledge: Acknowledge::Memory,
        };
        for (name, value) in &settings {
            config = config.with_setting(name, value)?;
        }
        Ok(config)
    }

    fn with_setting(self, name: &str, value: &str) -> Result<Self, LinkError> {
        let refuse =
            |remedy: &str| Err(LinkError::config(format!("the setting `{name}`: {remedy}")));
        match name {
            "prefix" => self.with_prefix(value),
            "connect_timeout" => Ok(self.with_connect_timeout(url::duration(name, value)?)),
            "response_timeout" => Ok(self.with_response_timeout(url::duration(name, value)?)),
            "replicas" => match value.parse() {
                Ok(0) => Ok(self.with_acknowledge(Acknowledge::Memory)),
                Ok(replicas) => Ok(self.with_acknowledge(Acknowledge::Replicas(replicas))),
                Err(_) => refuse("write how many replicas must confirm a write, such as 1"),
            },
            "fsync" if value == "always" => Ok(self.with_acknowledge(Acknowledge::Disk)),
            "fsync" => refuse("the only value is `always`"),
            // The name may be a part of a password, so the error does not show it.
            _ if name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') => {
                Err(LinkError::config(
                    "the query holds something else than settings; in a password write %3F for a \
                     question mark, %40 for an @, %2F for a slash",
                ))
            }
            _ => refuse(
                "there is no such setting; there are prefix, connect_timeout, response_timeout, \
                 replicas, fsync, and for Sentinel master, sentinel_user and sentinel_password",
            ),
        }
    }

    /// The prefix of all keys. Users of the same server under another prefix are not seen. Default:
    /// `memory`.
    ///
    /// # Errors
    /// [`LinkError`] for an empty prefix, or one with a brace, which would become the hash tag.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self, LinkError> {
        if prefix.is_empty() || prefix.contains(['{', '}']) {
            let problem = "the setting `prefix`: write at least one character, and no brace";
            return Err(LinkError::config(problem));
        }
        prefix.clone_into(&mut self.prefix);
        Ok(self)
    }

    /// The limit of connecting, including name lookup and authentication. In a Cluster it is the limit of
    /// the whole, and each node has a quarter of it. Default: 2 s.
    #[must_use]
    pub const fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The limit of waiting for an answer. A connection is replaced when several requests in a row got no
    /// answer, or when callers that gave up earlier have waited this long in total. Default: 2 s.
    #[must_use]
    pub const fn with_response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// The level that a write must have reached before it counts. Default: [`Acknowledge::Memory`].
    #[must_use]
    pub const fn with_acknowledge(mut self, acknowledge: Acknowledge) -> Self {
        self.acknowledge = acknowledge;
        self
    }

    /// The prefix of all keys.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// See [`Self::with_connect_timeout`].
    #[must_use]
    pub const fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// See [`Self::with_response_timeout`].
    #[must_use]
    pub const fn response_timeout(&self) -> Duration {
        self.response_timeout
    }

    /// See [`Self::with_acknowledge`].
    #[must_use]
    pub const fn acknowledge(&self) -> Acknowledge {
        self.acknowledge
    }

    /// The names of all keys and channels.
    #[must_use]
    pub fn keyspace(&self) -> Keyspace {
        Keyspace::new(&self.prefix)
    }

    /// Returns whether the URL names a Cluster.
    #[must_use]
    pub const fn is_cluster(&self) -> bool {
        matches!(self.target, Target::Cluster(_))
    }

    /// The domain of the leases of this configuration.
    #[must_use]
    pub fn domain(&self) -> LeaseDomain {
        LeaseDomain::new(format!("redis:{}/{}", self.target, self.prefix))
    }
}

impl fmt::Debug for RedisConfig {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path of a socket may contain text that the user meant as a password.
        let target = self.target.to_string();
        let target = match target.rsplit_once('@') {
            Some((_, rest)) => format!("***@{rest}"),
            None => target,
        };
        f.debug_struct("RedisConfig")
            .field("target", &format_args!("{target}"))
            .field("prefix", &self.prefix)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("acknowledge", &self.acknowledge)
            .finish_non_exhaustive()
    }
}
