//! A child process that never outlives its test.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Starts a watcher and becomes the server, which thereby has the id of the child that was started.
///
/// The watcher waits for the end of the pipe that this process holds. A line means a clean end. An end
/// without a line means that the process died before it could clean up; the watcher then kills the server.
const WATCHED: &str = r#"
exec 3<&0 </dev/null
{ read -r _ <&3 || kill -KILL $$; } >/dev/null 2>&1 &
exec 3<&-
exec "$@"
"#;

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    leash: ChildStdin,
}

impl Process {
    /// Starts it in `dir`; its output is appended to `log`.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &Path,
        args: impl IntoIterator<Item = A>,
        dir: &Path,
        log: &Path,
    ) -> Self {
        let log = File::options().create(true).append(true).open(log).expect("a log file");
        let errors = log.try_clone().expect("a log file twice");
        let mut child = Command::new("sh")
            .args(["-c", WATCHED, "sh"])
            .arg(program)
            .args(args)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("`sh` starts");
        let leash = child.stdin.take().expect("stdin is piped");
        Self { child, leash }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().expect("the process is our child");
        status.map(|status| status.to_string())
    }

    /// Sends it a signal by name. The id cannot have been reused, because the process has not been waited for
    /// yet.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("`sh` starts");
        assert!(status.success(), "`{kill}` failed: {status}");
    }
}

/// Kills it and waits, regardless of its state.
impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        // The watcher is stopped before the id can be reused.
        let _ = self.leash.write_all(b"\n");
        let _ = self.child.wait();
    }
}
