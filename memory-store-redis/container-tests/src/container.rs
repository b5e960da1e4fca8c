use std::time::Duration;

use memory_redis_testkit::free_port;
use redis::{AsyncConnectionConfig, RedisResult};
use testcontainers::core::{IntoContainerPort as _, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};
use tokio::time::{Instant, sleep};

use crate::image::image;

/// A Redis server in a container, without persistence unless its arguments ask for it. Dropping it
/// removes the container.
#[derive(Debug)]
pub struct RedisContainer {
    container: ContainerAsync<GenericImage>,
    port: u16,
}

impl RedisContainer {
    /// Starts one on a port of the host that never changes. It answers when this returns.
    ///
    /// # Panics
    ///
    /// If Docker does not answer, the image is not available, or the server does not answer in time.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with more arguments for the server.
    ///
    /// # Panics
    ///
    /// Like [`start`](Self::start).
    pub async fn start_with(args: &[&str]) -> Self {
        let (name, tag) = image();
        let ours = ["--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""];
        let port = free_port();
        let container = GenericImage::new(&name, &tag)
            .with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"))
            .with_cmd(ours.iter().chain(args).copied())
            .with_mapped_port(port, 6379.tcp())
            .start()
            .await;
        let container = container.unwrap_or_else(|error| {
            panic!(
                "no container of {name}:{tag} (without a registry, run .ci/redis-image): {error}"
            )
        });
        let server = Self { container, port };
        server.wait_until_it_answers().await;
        server
    }

    /// `redis://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Freezes it: connections stay, nothing is answered.
    ///
    /// # Panics
    ///
    /// If Docker refuses.
    pub async fn pause(&self) {
        self.container.pause().await.expect("Docker pauses it");
    }

    /// Resumes it.
    ///
    /// # Panics
    ///
    /// If Docker refuses.
    pub async fn unpause(&self) {
        self.container.unpause().await.expect("Docker resumes it");
    }

    /// Kills it, without time to finish anything.
    ///
    /// # Panics
    ///
    /// If Docker refuses.
    pub async fn stop(&self) {
        self.container.stop_with_timeout(Some(0)).await.expect("Docker stops it");
    }

    /// Starts it again after [`stop`](Self::stop), with the same files and on the same port.
    ///
    /// # Panics
    ///
    /// If Docker refuses, or the server does not answer in time.
    pub async fn start_again(&self) {
        self.container.start().await.expect("Docker starts it again");
        self.wait_until_it_answers().await;
    }

    /// Sends one command over a separate connection, within a second.
    ///
    /// # Errors
    ///
    /// The error of the server, or a timeout if it does not answer.
    pub async fn command<T: redis::FromRedisValue>(&self, args: &[&str]) -> RedisResult<T> {
        let limit = Some(Duration::from_secs(1));
        let config = AsyncConnectionConfig::new();
        let config = config.set_connection_timeout(limit).set_response_timeout(limit);
        let client = redis::Client::open(self.url())?;
        let mut link = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut command = redis::Cmd::new();
        for arg in args {
            command.arg(*arg);
        }
        command.query_async(&mut link).await
    }

    async fn wait_until_it_answers(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = self.command::<String>(&["PING"]).await {
            assert!(Instant::now() < deadline, "{} does not answer: {error}", self.url());
            sleep(Duration::from_millis(10)).await;
        }
    }
}
