//! The fields of `INFO`.

use std::collections::HashMap;

use redis::{RedisResult, Value};

use crate::connect::Connection;
use crate::masters::of_all_masters;

/// The fields of `INFO`, by name.
pub(crate) struct Info(pub(crate) HashMap<String, String>);

impl Info {
    /// Standalone, cluster or sentinel. Valkey 8 has another name for the field.
    pub(crate) fn mode(&self) -> &str {
        match self.get("redis_mode") {
            "" => self.get("server_mode"),
            mode => mode,
        }
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> u32 {
        self.get(name).parse().unwrap_or_default()
    }

    /// Major and minor. Valkey reports the version of Redis that it is compatible with.
    pub(crate) fn version(&self) -> (u32, u32) {
        let mut parts = self.get("redis_version").split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

/// `INFO` of all masters.
pub(crate) async fn infos(connection: &mut Connection) -> RedisResult<Vec<Info>> {
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
