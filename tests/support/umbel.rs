//! Runs the command.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The binary that cargo built for these tests.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_umbel");

/// A command line, run in a folder of its own with nothing of the caller's settings.
pub(crate) struct Umbel(Command);

impl Umbel {
    pub(crate) fn new(folder: &Path) -> Self {
        Self::wrapped(folder, Command::new(BINARY))
    }

    /// The same for a command that ends in running [`BINARY`].
    pub(crate) fn wrapped(folder: &Path, mut command: Command) -> Self {
        command.current_dir(folder).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("UMBEL_") {
                command.env_remove(name);
            }
        }
        Self(command)
    }

    pub(crate) fn args(mut self, args: &[impl AsRef<OsStr>]) -> Self {
        self.0.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn run(mut self) -> Outcome {
        Outcome::new(self.0.output().unwrap())
    }

    pub(crate) fn start(mut self) -> Running {
        let mut child = self
            .0
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let reader = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || reader.lines().try_for_each(|line| sender.send(line.unwrap())));
        Running {
            child,
            lines,
            seen: String::new(),
        }
    }
}

/// A command that has not been waited for.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Running {
    /// Waits until it prints a line with `text` on standard error; false if it ends without.
    pub(crate) fn wait_for(&mut self, text: &str) -> bool {
        while let Ok(line) = self.lines.recv() {
            self.seen += &format!("{line}\n");
            if line.contains(text) {
                return true;
            }
        }
        false
    }

    /// Sends it a signal by name, such as `INT`. Does nothing where it has ended.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let _ = Command::new("sh")
            .args(["-c", &kill])
            .stderr(Stdio::null())
            .status();
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Ends it with SIGKILL. Its outcome has an exit code only if it came to its end before.
    pub(crate) fn kill(mut self) -> Outcome {
        self.child.kill().unwrap();
        self.finish()
    }

    /// Lets it run for `patience` at most, then ends it with SIGKILL.
    pub(crate) fn kill_after(mut self, patience: Duration) -> Outcome {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline && self.child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_micros(200));
        }
        self.kill()
    }

    /// Waits until it ends.
    pub(crate) fn finish(mut self) -> Outcome {
        let mut output = self.child.wait_with_output().unwrap();
        self.lines
            .iter()
            .for_each(|line| self.seen += &format!("{line}\n"));
        output.stderr = self.seen.into_bytes();
        Outcome::new(output)
    }
}

/// What a command left behind. Output that is no UTF-8 fails the test.
pub(crate) struct Outcome {
    /// The exit code; none after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    fn new(output: Output) -> Self {
        let outcome = Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
        outcome
    }

    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// The only message of a failed command: one line that begins with `error: `, with nothing on standard output.
    #[track_caller]
    pub(crate) fn failure(&self, code: i32) -> &str {
        assert_eq!(
            self.code,
            Some(code),
            "stdout: {}\nstderr: {}",
            self.stdout,
            self.stderr
        );
        assert_eq!(self.stdout, "");
        let errors: Vec<_> = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "one message: {}", self.stderr);
        errors[0]
    }
}
