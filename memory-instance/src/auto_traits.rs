//! Checks at compile time that programs with several threads can use the public types and spawn the futures.

use std::sync::Arc;

use memory_config::operation::Action;
use memory_core::{MemoryKey, Message, WindowOptions};

use crate::{
    ContextWindow, ExclusiveError, KeyContext, KeyTemplate, ManagerBuilder, MemoryError,
    MemoryInstance, MemoryManager, MemoryOperation, OperationContext, PreparedAppend, Session,
    ShutdownReport, SweepOptions, WatchFrom, Watcher,
};

const fn shared<T: Send + Sync + 'static>() {}
const fn spawned<T: Send>(_: &T) {}

const _: () = {
    shared::<MemoryManager>();
    shared::<ManagerBuilder>();
    shared::<MemoryInstance>();
    shared::<Session>();
    shared::<ContextWindow>();
    shared::<PreparedAppend>();
    shared::<Watcher>();
    shared::<KeyContext>();
    shared::<KeyTemplate>();
    shared::<ShutdownReport>();
    shared::<MemoryError>();
    shared::<ExclusiveError<()>>();
};

/// The body is compiled and never run.
const _: fn(&MemoryManager, &MemoryInstance, &Session, &PreparedAppend, &WindowOptions, Watcher) =
    |manager, memory, session, prepared, options, mut watch| {
        spawned(&memory.watch(WatchFrom::Start));
        spawned(&watch.next());
        spawned(&watch.into_stream());
        let message = || Message::user("");
        spawned(&memory.append(message()));
        spawned(&memory.append_all([message()]));
        spawned(&memory.send(prepared));
        spawned(&memory.messages());
        spawned(&memory.page(None, None));
        spawned(&memory.context(1));
        spawned(&memory.window(options));
        spawned(&memory.counters());
        spawned(&memory.perform_flush());
        spawned(&memory.flush_in_background());
        spawned(&memory.clear());
        spawned(&memory.health());
        spawned(&memory.leases());
        spawned(&memory.break_leases());
        spawned(&memory.ensure_system("agent", "prompt"));
        spawned(&memory.exclusive(|session| async move {
            session.append(Message::user("")).await?;
            session.context(1).await.map(Arc::new)
        }));
        spawned(&session.append(message()));
        spawned(&session.append_all([message()]));
        spawned(&session.window(options));
        spawned(&session.ensure_system("agent", "prompt"));
        spawned(&session.lost());
        spawned(&manager.keys(None::<&MemoryKey>, std::num::NonZeroUsize::MIN));
        let operation = MemoryOperation::new("m", Action::Delete);
        let context = OperationContext::new(KeyContext::new());
        spawned(&manager.run(&operation, context));
        spawned(&manager.sweep(SweepOptions::default()));
        spawned(&manager.shutdown(std::time::Duration::ZERO));
        spawned(&MemoryManager::builder().open("memory://"));
    };
