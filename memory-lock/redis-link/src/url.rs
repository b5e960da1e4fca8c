//! The servers and settings that a URL names.

use std::fmt;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};
use url::Url;

use crate::error::LinkError;

/// One server, or the entry points to several.
#[derive(Clone)]
pub(crate) enum Target {
    Server(Box<ConnectionInfo>),
    Cluster(Vec<ConnectionInfo>),
    Sentinel(Box<Sentinel>),
}

#[derive(Clone)]
pub(crate) struct Sentinel {
    pub(crate) master: String,
    pub(crate) nodes: Vec<ConnectionAddr>,
    /// The user and database at the servers. The address belongs to no server.
    pub(crate) server: ConnectionInfo,
    pub(crate) tls: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

/// The most hosts of one URL. Each is stored as a whole description of a server, about two thousand times
/// as large as the comma that adds it.
const MAX_HOSTS: usize = 64;

type Settings = Vec<(String, String)>;

const FORMS: &str = "write redis://HOST:PORT, rediss://, redis+unix:///PATH, \
                     redis+cluster://A:PORT,B:PORT or redis+sentinel://A:PORT,B:PORT/?master=NAME";

pub(crate) fn parse(text: &str) -> Result<(Target, Settings), LinkError> {
    let refuse = |problem: &str| LinkError::config(format!("the URL {problem}"));
    let (scheme, rest) = text.split_once("://").ok_or_else(|| refuse(FORMS))?;
    let (server_scheme, kind) = match scheme {
        "redis" | "valkey" => ("redis", Kind::Server),
        "rediss" | "valkeys" => ("rediss", Kind::Server),
        "redis+unix" | "valkey+unix" | "unix" => ("redis+unix", Kind::Server),
        "redis+cluster" | "valkey+cluster" => ("redis", Kind::Cluster),
        "rediss+cluster" | "valkeys+cluster" => ("rediss", Kind::Cluster),
        "redis+sentinel" | "valkey+sentinel" => ("redis", Kind::Sentinel),
        "rediss+sentinel" | "valkeys+sentinel" => ("rediss", Kind::Sentinel),
        _ => return Err(refuse(&format!("has an unknown scheme; {FORMS}"))),
    };
    let tail_at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(tail_at);
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    if kind == Kind::Server && hosts.contains(',') {
        return Err(refuse(
            "names several hosts; for these write redis+cluster:// or redis+sentinel://",
        ));
    }
    if hosts.split(',').nth(MAX_HOSTS).is_some() {
        return Err(refuse(&format!(
            "names more than {MAX_HOSTS} hosts; name a few, which know the others"
        )));
    }
    let mut settings = Settings::new();
    let mut nodes = Vec::new();
    for host in hosts.split(',') {
        let node = format!("{server_scheme}://{user}{host}{tail}");
        let mut url =
            Url::parse(&node).map_err(|error| refuse(&format!("is malformed ({error})")))?;
        let drivers: &[&str] =
            if server_scheme == "redis+unix" { &["db", "user", "pass"] } else { &[] };
        settings = take_settings(&mut url, drivers);
        let info = url.into_connection_info().map_err(|error| match tls_or(&error) {
            Some(remedy) => refuse(remedy),
            None => refuse(&format!("cannot be used ({error})")),
        })?;
        // RESP3 carries notifications on the same connection.
        let server = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        nodes.push(info.set_redis_settings(server));
    }
    let Some(first) = nodes.first().cloned() else { return Err(refuse("names no host")) };
    if kind == Kind::Cluster && first.redis_settings().db() != 0 {
        return Err(refuse("names a database, and a Cluster has only number 0; remove it"));
    }
    let target = match kind {
        Kind::Server => Target::Server(Box::new(first)),
        Kind::Cluster => Target::Cluster(nodes),
        Kind::Sentinel => {
            let mut take = |name: &str| {
                let at = settings.iter().position(|(key, _)| key == name)?;
                Some(settings.swap_remove(at).1)
            };
            let master = take("master").filter(|master| !master.is_empty());
            Target::Sentinel(Box::new(Sentinel {
                master: master.ok_or_else(|| refuse("names no master; add ?master=NAME"))?,
                nodes: nodes.iter().map(|node| node.addr().clone()).collect(),
                server: first,
                tls: server_scheme == "rediss",
                user: take("sentinel_user"),
                password: take("sentinel_password"),
            }))
        }
    };
    Ok((target, settings))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Server,
    Cluster,
    Sentinel,
}

/// Takes the query of a URL, except the settings of the driver.
fn take_settings(url: &mut Url, drivers: &[&str]) -> Settings {
    let all: Settings =
        url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    let (drivers, ours): (Settings, Settings) =
        all.into_iter().partition(|(name, _)| drivers.contains(&&**name));
    url.set_query(None);
    if !drivers.is_empty() {
        url.query_pairs_mut().extend_pairs(drivers);
    }
    ours
}

/// The remedy for a URL that requires TLS in a build without it.
fn tls_or(error: &redis::RedisError) -> Option<&'static str> {
    let asks_for_tls = !cfg!(feature = "tls") && error.to_string().contains("TLS");
    asks_for_tls.then_some("asks for TLS, which needs the feature `redis-tls`; enable it")
}

/// A duration such as `500ms` or `2s`.
pub(crate) fn duration(name: &str, text: &str) -> Result<Duration, LinkError> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    match (number, text.strip_prefix(digits)) {
        (Some(number), Some("ms")) => Ok(Duration::from_millis(number)),
        (Some(number), Some("s")) => Ok(Duration::from_secs(number)),
        _ => Err(LinkError::config(format!(
            "the setting `{name}`: write a duration above zero, such as 500ms or 2s"
        ))),
    }
}

impl fmt::Display for Target {
    /// The servers, without users and passwords; the same for each order of the nodes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |nodes: &mut dyn Iterator<Item = String>| {
            let mut nodes: Vec<_> = nodes.collect();
            nodes.sort_unstable();
            nodes.join(",")
        };
        match self {
            Self::Server(info) => write!(f, "{}/{}", info.addr(), info.redis_settings().db()),
            Self::Cluster(nodes) => {
                let nodes = list(&mut nodes.iter().map(|node| node.addr().to_string()));
                write!(f, "cluster {nodes}")
            }
            Self::Sentinel(sentinel) => {
                let nodes = list(&mut sentinel.nodes.iter().map(ToString::to_string));
                let db = sentinel.server.redis_settings().db();
                write!(f, "sentinel {nodes} {}/{db}", sentinel.master)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acknowledge::Acknowledge;
    use crate::config::RedisConfig;

    fn shown(url: &str) -> String {
        parse(url).unwrap().0.to_string()
    }

    #[test]
    fn each_form_names_its_servers() {
        assert_eq!(shown("redis://h"), "h:6379/0");
        assert_eq!(shown("redis://u:p@h:7000/3"), "h:7000/3");
        assert_eq!(shown("redis+unix:///run/r.sock?db=2&prefix=x"), "/run/r.sock/2");
        assert_eq!(shown("redis+cluster://u:p@b:2,a:1"), "cluster a:1,b:2");
        assert_eq!(shown("redis+sentinel://a:1,b/4?master=m"), "sentinel a:1,b:6379 m/4");
        let (Target::Server(info), _) = parse("redis://u%40x:p%2Fw@h").unwrap() else { panic!() };
        assert_eq!(info.redis_settings().username(), Some("u@x"));
        assert_eq!(info.redis_settings().password(), Some("p/w"));
    }

    #[test]
    fn scheme_selects_server_kind_and_tls() {
        let tls = |address: &ConnectionAddr| matches!(address, ConnectionAddr::TcpTls { .. });
        for (scheme, secured) in
            [("redis", false), ("valkey", false), ("rediss", true), ("valkeys", true)]
        {
            let parsed = |rest: &str| parse(&format!("{scheme}{rest}")).unwrap().0;
            let Target::Server(info) = parsed("://h") else { panic!("{scheme}") };
            assert_eq!(tls(info.addr()), secured, "{scheme}");
            assert_eq!(info.redis_settings().protocol(), ProtocolVersion::RESP3);
            let Target::Cluster(nodes) = parsed("+cluster://a,b") else { panic!("{scheme}") };
            assert_eq!(nodes.len(), 2);
            assert!(nodes.iter().all(|node| tls(node.addr()) == secured), "{scheme}");
            let Target::Sentinel(sentinel) = parsed("+sentinel://a,b?master=m") else {
                panic!("{scheme}")
            };
            assert_eq!((sentinel.nodes.len(), sentinel.tls), (2, secured), "{scheme}");
        }
        for scheme in ["redis+unix", "valkey+unix", "unix"] {
            assert_eq!(shown(&format!("{scheme}:///run/r.sock")), "/run/r.sock/0");
        }
    }

    #[test]
    fn server_and_sentinel_users_are_distinct() {
        let url =
            "redis+sentinel://u:p@a:1,b/4?sentinel_user=s&master=m&sentinel_password=t&prefix=x";
        let (Target::Sentinel(sentinel), settings) = parse(url).unwrap() else { panic!() };
        assert_eq!(sentinel.master, "m");
        assert_eq!(sentinel.server.redis_settings().username(), Some("u"));
        assert_eq!(sentinel.server.redis_settings().password(), Some("p"));
        assert_eq!(sentinel.user.as_deref(), Some("s"));
        assert_eq!(sentinel.password.as_deref(), Some("t"));
        assert_eq!(settings, [("prefix".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn only_sockets_take_credentials_from_the_query() {
        let url = "redis+unix:///run/r.sock?db=2&user=u&pass=p&prefix=x";
        let (Target::Server(info), settings) = parse(url).unwrap() else { panic!() };
        let server = info.redis_settings();
        assert_eq!((server.db(), server.username(), server.password()), (2, Some("u"), Some("p")));
        assert_eq!(settings, [("prefix".to_owned(), "x".to_owned())]);
        let (_, settings) = parse("redis://h?db=2").unwrap();
        assert_eq!(settings, [("db".to_owned(), "2".to_owned())], "refused as no setting of ours");
    }

    #[test]
    fn duration_is_positive_with_a_unit() {
        assert_eq!(duration("n", "1ms").unwrap(), Duration::from_millis(1));
        assert_eq!(duration("n", "2s").unwrap(), Duration::from_secs(2));
        for text in ["", "5", "s", "0ms", "0s", "-1s", "1.5s", "2m", "2 s", "2sec"] {
            let problem = duration("n", text).unwrap_err().to_string();
            assert!(problem.starts_with("the setting `n`: write a duration"), "{text}: {problem}");
        }
    }

    #[test]
    fn settings_are_read_from_the_query() {
        let config = RedisConfig::from_url(
            "redis://h/1?prefix=a&connect_timeout=250ms&response_timeout=3s&replicas=2",
        )
        .unwrap();
        assert_eq!(config.prefix(), "a");
        assert_eq!(config.connect_timeout(), Duration::from_millis(250));
        assert_eq!(config.response_timeout(), Duration::from_secs(3));
        assert_eq!(config.acknowledge(), Acknowledge::Replicas(2));
    }

    #[test]
    fn unusable_url_is_refused_with_the_remedy() {
        for (url, remedy) in [
            ("localhost:6379", "redis://HOST"),
            ("http://h", "redis://HOST"),
            ("redis://a,b", "redis+cluster://"),
            ("redis://", "cannot be used ("),
            ("redis://:s@c?ret@h", "%3F"),
            ("redis+sentinel://a:1", "?master=NAME"),
            ("redis+sentinel://a:1?master=", "?master=NAME"),
            ("redis+cluster://a:1/3", "only number 0"),
            ("redis://h/x", "the URL cannot be used"),
            ("redis://h?prefix=", "no brace"),
            ("redis://h?prefix=%7Bx%7D", "no brace"),
            ("redis://h?color=red", "there is no such setting"),
            ("redis://h?connect_timeout=2", "such as 500ms or 2s"),
            ("redis://h?connect_timeout=0s", "above zero"),
            ("redis://h?replicas=many", "how many replicas"),
            ("redis://h?fsync=never", "always"),
        ] {
            let error = RedisConfig::from_url(url).unwrap_err();
            assert!(error.to_string().contains(remedy), "{url}: {error}");
        }
    }

    #[test]
    fn url_names_at_most_64_hosts() {
        for scheme in ["redis+cluster", "redis+sentinel"] {
            let url = |hosts: usize| format!("{scheme}://{}?master=m", vec!["h"; hosts].join(","));
            assert!(parse(&url(64)).is_ok(), "{scheme}");
            let error = parse(&url(65)).err().unwrap().to_string();
            assert!(error.contains("names more than 64 hosts; name a few"), "{error}");
        }
    }

    #[test]
    fn errors_and_debug_hide_passwords() {
        let error = RedisConfig::from_url("redis://u:secret@h?prefix=%7B").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
        let config = RedisConfig::from_url("redis://u:secret@h").unwrap();
        assert!(!format!("{config:?} {:?}", config.domain()).contains("secret"));
    }
}
