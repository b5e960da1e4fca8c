//! Messages and disconnections that the server pushes without a request.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use redis::aio::SendError;
use redis::{PushInfo, PushKind, Value};

/// A receiver of the server's pushes. It is called on a task of the driver, so it must not block.
pub trait PushListener: fmt::Debug + Send + Sync + 'static {
    /// A message arrived on a channel to which the link is subscribed.
    fn message(&self, channel: &[u8], payload: &[u8]);

    /// A connection broke. Messages may have been missed, and the subscriptions of the connection have
    /// ended.
    fn disconnected(&self);
}

/// The channels to which the connection is subscribed, kept for the connection's lifetime, and the
/// listeners.
#[derive(Debug, Default)]
pub(crate) struct Pushes {
    channels: Mutex<Channels>,
    listeners: Mutex<Arc<[Weak<dyn PushListener>]>>,
    /// The newest connection that broke, read by every request. The first connection has the number 1.
    broken: AtomicU64,
}

#[derive(Debug, Default)]
struct Channels {
    names: HashSet<String>,
    /// The connection that carries the subscriptions.
    connection: u64,
}

impl Pushes {
    fn channels(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Arc<[Weak<dyn PushListener>]>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_listener(&self, listener: Weak<dyn PushListener>) {
        let mut listeners = self.listeners();
        let living = listeners.iter().filter(|it| it.strong_count() > 0).cloned();
        *listeners = living.chain([listener]).collect();
    }

    fn for_each_listener(&self, tell: impl Fn(&dyn PushListener)) {
        // Called without the lock, so that a listener may call the link.
        let listeners = Arc::clone(&self.listeners());
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            tell(&*listener);
        }
    }

    /// The function that the driver calls with the server's pushes on this connection.
    pub(crate) fn receiver(
        self: &Arc<Self>,
        number: u64,
    ) -> impl Fn(PushInfo) -> Result<(), SendError> + Send + Sync + 'static {
        let pushes = Arc::clone(self);
        move |push| {
            match push.kind {
                PushKind::Message | PushKind::SMessage => {
                    if let [Value::BulkString(channel), Value::BulkString(payload), ..] =
                        push.data.as_slice()
                    {
                        pushes.for_each_listener(|listener| listener.message(channel, payload));
                    }
                }
                PushKind::Disconnection | PushKind::SUnsubscribe => pushes.disconnected(number),
                _ => {}
            }
            Ok(())
        }
    }

    /// Returns whether this connection is subscribed to the channel.
    pub(crate) fn is_subscribed(&self, channel: &str, number: u64) -> bool {
        let channels = self.channels();
        channels.connection == number && channels.names.contains(channel)
    }

    pub(crate) fn subscribed(&self, channel: String, number: u64) {
        let mut channels = self.channels();
        if channels.connection != number {
            channels.connection = number;
            channels.names.clear();
        }
        channels.names.insert(channel);
    }

    /// Returns whether this connection is known to have broken.
    pub(crate) fn is_broken(&self, number: u64) -> bool {
        self.broken.load(Ordering::Acquire) >= number
    }

    /// The connection ended, and its subscriptions with it.
    pub(crate) fn disconnected(&self, number: u64) {
        self.broken.fetch_max(number, Ordering::AcqRel);
        let mut channels = self.channels();
        if channels.connection == number {
            channels.names.clear();
        }
        drop(channels);
        // Called after the channels are removed, so that a listener that begins to wait now subscribes
        // again.
        self.for_each_listener(PushListener::disconnected);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Debug, Default)]
    struct Counts {
        messages: Mutex<Vec<String>>,
        disconnections: AtomicUsize,
    }

    impl PushListener for Counts {
        fn message(&self, channel: &[u8], payload: &[u8]) {
            let text = [channel, payload].map(String::from_utf8_lossy).join(" ");
            self.messages.lock().unwrap().push(text);
        }

        fn disconnected(&self) {
            self.disconnections.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn messages_reach_every_living_listener() {
        let pushes = Arc::new(Pushes::default());
        let listeners = [(); 3].map(|()| Arc::new(Counts::default()));
        for listener in &listeners {
            let listener: Weak<Counts> = Arc::downgrade(listener);
            pushes.add_listener(listener);
        }
        let [one, two, gone] = listeners;
        drop(gone);
        let data = vec![Value::BulkString(b"c".into()), Value::BulkString(b"text".into())];
        pushes.receiver(1)(PushInfo { kind: PushKind::SMessage, data }).unwrap();
        for listener in [&one, &two] {
            assert_eq!(*listener.messages.lock().unwrap(), ["c text"]);
        }
        pushes.add_listener(Weak::<Counts>::new());
        assert_eq!(pushes.listeners().len(), 3, "the dead one was dropped");
    }

    #[test]
    fn broken_connection_loses_its_channels() {
        let pushes = Arc::new(Pushes::default());
        let listener = Arc::new(Counts::default());
        let weak: Weak<Counts> = Arc::downgrade(&listener);
        pushes.add_listener(weak);
        pushes.subscribed("c".into(), 7);
        assert!(pushes.is_subscribed("c", 7) && !pushes.is_broken(7));
        assert!(!pushes.is_subscribed("c", 8));
        pushes.receiver(7)(PushInfo { kind: PushKind::Disconnection, data: vec![] }).unwrap();
        assert!(!pushes.is_subscribed("c", 7) && pushes.is_broken(7) && !pushes.is_broken(8));
        assert_eq!(listener.disconnections.load(Ordering::SeqCst), 1);
    }
}
