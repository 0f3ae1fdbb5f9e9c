//! QEMU's monitor: where the CPUs of a guest stand that tells nothing itself.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

/// QEMU answers at once unless it hangs itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The host's end of a QMP connection (QEMU's docs/interop/qmp-spec.rst).
#[derive(Debug)]
pub(crate) struct Monitor {
    lines: BufReader<UnixStream>,
}

impl Monitor {
    /// Returns both ends; QEMU inherits the other one.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let lines = BufReader::new(ours);
        Ok((Self { lines }, theirs.into()))
    }

    /// Returns the arguments that have QEMU answer on `fd`.
    pub(crate) fn arguments(fd: &OwnedFd) -> [String; 4] {
        let fd: RawFd = fd.as_raw_fd();
        [
            "-chardev".into(),
            format!("socket,id=monitor,fd={fd}"),
            "-mon".into(),
            "chardev=monitor,mode=control".into(),
        ]
    }

    /// Returns the registers of every CPU as QEMU prints them, or why there are none.
    pub(crate) fn registers(&mut self) -> String {
        let asked = self.ask("qmp_capabilities", json!({})).and_then(|_| {
            let command = json!({ "command-line": "info registers -a" });
            self.ask("human-monitor-command", command)
        });
        match asked {
            Ok(answer) => answer.as_str().unwrap_or_default().replace("\r\n", "\n"),
            Err(error) => format!("QEMU's monitor does not answer either: {error}\n"),
        }
    }

    /// Returns what `command` returned. Greetings and events that come before are passed over.
    fn ask(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.lines.get_mut(), "{request}")?;
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut answer: Value = serde_json::from_str(&line)?;
            if let Some(answer) = answer.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(io::Error::other(error.to_string()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each request with the next of `answers`.
    fn answered(answers: &'static [&'static str]) -> String {
        let (mut monitor, theirs) = Monitor::pair().unwrap();
        let mut qemu = BufReader::new(UnixStream::from(theirs));
        let qemu = std::thread::spawn(move || {
            writeln!(qemu.get_mut(), r#"{{"QMP": {{}}}}"#).unwrap();
            for answer in answers {
                let mut request = String::new();
                qemu.read_line(&mut request).unwrap();
                assert!(request.contains("execute"), "{request}");
                writeln!(qemu.get_mut(), "{answer}").unwrap();
            }
        });
        let registers = monitor.registers();
        qemu.join().unwrap();
        registers
    }

    #[test]
    fn events_between_are_passed_over() {
        let text = answered(&[
            r#"{"return": {}}"#,
            "{\"event\": \"STOP\"}\n{\"return\": \"CPU#0\\r\\nRIP=1\\r\\n\"}",
        ]);
        assert_eq!(text, "CPU#0\nRIP=1\n");
    }

    #[test]
    fn an_error_or_the_end_is_said() {
        let text = answered(&[r#"{"error": {"desc": "no such command"}}"#]);
        assert!(text.contains("no such command"), "{text}");
        let text = answered(&[]);
        assert!(text.contains("does not answer"), "{text}");
    }
}
