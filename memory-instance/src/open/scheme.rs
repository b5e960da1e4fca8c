//! Errors for URLs with a missing or unknown scheme, with the correct form.

/// The schemes that errors suggest.
const SCHEMES: [&str; 7] =
    ["memory", "sqlite", "redis", "rediss", "valkey", "redis+cluster", "redis+sentinel"];

/// SQLite's name of an in-memory database, which users write after any scheme.
pub(super) const IN_MEMORY: &str = "asks for SQLite's in-memory database, which connections cannot share; write memory:// \
     for memories of this process";

pub(super) fn without(url: &str) -> String {
    if url.ends_with(":memory:") {
        return IN_MEMORY.to_owned();
    }
    if url.trim().is_empty() {
        return "is empty; write memory://, sqlite://PATH or redis://HOST".to_owned();
    }
    let (before, after) = url.split_once(':').unwrap_or((url, ""));
    // A single slash begins an absolute path.
    let slashes =
        |scheme: &str| format!("has no `//` behind `{scheme}:`; write {scheme}://{after}");
    match before.to_ascii_lowercase().as_str() {
        "file" => "is a file URL; write sqlite:// and the path, such as sqlite://memory.db".to_owned(),
        // The rest may contain a password, so it is not repeated.
        scheme if SCHEMES.contains(&scheme) && after.contains('@') => {
            format!("has no `//` behind `{scheme}:`; write {scheme}:// and the rest")
        }
        scheme if SCHEMES.contains(&scheme) => slashes(scheme),
        _ if after.parse::<u16>().is_ok() => {
            format!("has no scheme; for a server write redis://{before}:{after}")
        }
        _ => "has no scheme; write memory://, sqlite://PATH or redis://HOST, such as sqlite://memory.db"
            .to_owned(),
    }
}

pub(super) fn unknown(scheme: &str) -> String {
    let lower = scheme.to_ascii_lowercase();
    let near = SCHEMES.into_iter().map(|known| (strsim::osa_distance(&lower, known), known)).min();
    match near {
        Some((distance, known)) if distance <= 1 && (distance > 0 || lower != scheme) => {
            format!("has the unknown scheme `{scheme}`; did you mean `{known}`?")
        }
        _ => "has an unknown scheme; write memory://, sqlite://PATH or redis://HOST".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_reason_and_the_right_form() {
        for (url, problem) in [
            ("sqlite::memory:", IN_MEMORY),
            (":memory:", IN_MEMORY),
            ("file::memory:", IN_MEMORY),
            ("sqlite:memory.db", "has no `//` behind `sqlite:`; write sqlite://memory.db"),
            ("sqlite:/var/x.db", "has no `//` behind `sqlite:`; write sqlite:///var/x.db"),
            ("memory:", "has no `//` behind `memory:`; write memory://"),
            ("redis:me:secret@host", "has no `//` behind `redis:`; write redis:// and the rest"),
            ("localhost:6379", "has no scheme; for a server write redis://localhost:6379"),
        ] {
            assert_eq!(without(url), problem, "{url}");
        }
        assert!(without("file:x.db").contains("sqlite:// and the path"));
        assert!(without("memory.db").contains("such as sqlite://memory.db"));
        assert!(without("").starts_with("is empty"));
        for (scheme, problem) in [
            ("sqllite", "has the unknown scheme `sqllite`; did you mean `sqlite`?"),
            ("REDIS", "has the unknown scheme `REDIS`; did you mean `redis`?"),
            ("mysql", "has an unknown scheme; write memory://, sqlite://PATH or redis://HOST"),
        ] {
            assert_eq!(unknown(scheme), problem, "{scheme}");
        }
    }
}
