use std::env;
use std::process::{Command, Stdio};

/// Built by `.ci/redis-image` if no registry is reachable.
const LOCAL: (&str, &str) = ("redis", "7-local");
const PUBLIC: (&str, &str) = ("redis", "7-alpine");

/// Name and tag of the image to test: that of `MEMORY_TEST_REDIS_IMAGE`, else `redis:7-local` if Docker
/// has it, else `redis:7-alpine`.
#[must_use]
pub fn image() -> (String, String) {
    let named = env::var("MEMORY_TEST_REDIS_IMAGE").ok().filter(|image| !image.is_empty());
    choose(named.as_deref(), || {
        let (name, tag) = LOCAL;
        let inspect = Command::new("docker")
            .args(["image", "inspect", &format!("{name}:{tag}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        inspect.is_ok_and(|status| status.success())
    })
}

fn choose(named: Option<&str>, has_local: impl FnOnce() -> bool) -> (String, String) {
    let (name, tag) = match named {
        // A colon may also belong to the port of a registry.
        Some(named) => match named.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (named, "latest"),
        },
        None if has_local() => LOCAL,
        None => PUBLIC,
    };
    (name.to_owned(), tag.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_is_chosen_by_name_or_availability() {
        let chosen = |named, has_local| {
            let (name, tag) = choose(named, || has_local);
            format!("{name} {tag}")
        };
        assert_eq!(chosen(None, true), "redis 7-local");
        assert_eq!(chosen(None, false), "redis 7-alpine");
        assert_eq!(chosen(Some("valkey/valkey:8"), true), "valkey/valkey 8");
        assert_eq!(chosen(Some("host:5000/redis"), false), "host:5000/redis latest");
    }
}
