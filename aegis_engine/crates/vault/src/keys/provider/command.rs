//! A key from an external program: the plugin protocol.
//!
//! The program is started once an open, without a shell. It gets one line on its standard input,
//! `{"aegis": 1, "ask": "key"}` and the end of file, and answers on its standard output with the key as a key file has
//! it: 32 raw bytes, or 64 hex digits and an optional newline. Exit status 0; anything else is a failure, and the first
//! line of its standard error is shown. It has `timeout` to answer; it may ask its user on the terminal.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::{KeyProvider, Kind, parse_key, refuse};
use crate::error::Result;
use crate::secret::Secret;

const REQUEST: &[u8] = b"{\"aegis\": 1, \"ask\": \"key\"}\n";

/// A program that prints the key.
#[derive(Debug, Clone)]
pub struct Command {
    argv: Vec<String>,
    timeout: Duration,
}

impl Command {
    /// The program and its arguments; 60 s to answer unless told otherwise.
    pub fn new(argv: Vec<String>, timeout: Option<Duration>) -> Result<Self> {
        if argv.is_empty() {
            return Err(refuse(
                "no command given; give the program and its arguments",
            ));
        }
        Ok(Self {
            argv,
            timeout: timeout.unwrap_or(Duration::from_mins(1)),
        })
    }

    fn failed(&self, what: &str) -> crate::error::VaultError {
        refuse(format!("key command {:?} {what}", self.argv[0]))
    }

    fn wait(&self, child: &mut Child) -> Result<std::process::ExitStatus> {
        let start = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if start.elapsed() < self.timeout => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(None) => {
                    // It is ours and it is late; nothing of it is needed any more.
                    let _ = child.kill();
                    let _ = child.wait();
                    let late = format!(
                        "gave no answer in {} s; correct it or allow it more time",
                        self.timeout.as_secs()
                    );
                    return Err(self.failed(&late));
                }
                Err(e) => return Err(self.failed(&format!("cannot be waited for: {e}"))),
            }
        }
    }
}

impl KeyProvider for Command {
    fn kind(&self) -> Kind {
        Kind::Key
    }

    fn key(&self, _params: &[u8]) -> Result<Secret<32>> {
        let mut child = std::process::Command::new(&self.argv[0])
            .args(&self.argv[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| self.failed(&format!("cannot be started: {e}; correct its path")))?;
        if let Some(mut input) = child.stdin.take() {
            // A program that does not read its input is free to.
            let _ = input.write_all(REQUEST);
        }
        // Both answers fit into a pipe's buffer, so the program cannot block on us before it ends.
        let status = self.wait(&mut child)?;
        let mut error = [0; 400];
        let mut error_len = 0;
        if let Some(mut stream) = child.stderr.take() {
            error_len = stream.read(&mut error).unwrap_or(0);
        }
        if !status.success() {
            let said = String::from_utf8_lossy(&error[..error_len]);
            let said = said.lines().next().unwrap_or("it said nothing").to_owned();
            return Err(self.failed(&format!("failed ({status}): {said}")));
        }
        let mut buffer = Zeroizing::new([0u8; 67]);
        let mut len = 0;
        if let Some(mut stream) = child.stdout.take() {
            while len < buffer.len() {
                match stream.read(&mut buffer[len..]) {
                    Ok(0) => break,
                    Ok(n) => len += n,
                    Err(e) => return Err(self.failed(&format!("cannot be read: {e}"))),
                }
            }
        }
        parse_key(
            &buffer[..len],
            len,
            &format!("key command {:?}", self.argv[0]),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VaultError;

    fn shell(script: &str, timeout: Duration) -> Command {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        Command::new(argv, Some(timeout)).unwrap()
    }

    #[test]
    fn a_command_gets_the_request_and_gives_a_hex_key() {
        let hex = "0a".repeat(32);
        let script = format!(
            "read line; [ \"$line\" = '{{\"aegis\": 1, \"ask\": \"key\"}}' ] && echo {hex}"
        );
        let key = shell(&script, Duration::from_secs(20)).key(&[]).unwrap();
        assert_eq!(*key.expose(), [10; 32]);
    }

    #[test]
    fn a_failure_shows_the_first_line_it_said() {
        let error = shell(
            "echo card is locked >&2; echo more >&2; exit 3",
            Duration::from_secs(20),
        )
        .key(&[])
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("card is locked") && !error.contains("more"),
            "{error}"
        );
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let error = shell("sleep 60", Duration::from_millis(100))
            .key(&[])
            .unwrap_err();
        assert!(error.to_string().contains("no answer"), "{error}");
    }

    #[test]
    fn no_program_and_a_short_answer_are_told_apart() {
        let none = Command::new(vec!["/nonexistent/program".into()], None).unwrap();
        assert!(
            none.key(&[])
                .unwrap_err()
                .to_string()
                .contains("cannot be started")
        );
        let short = shell("printf abc", Duration::from_secs(20)).key(&[]);
        assert!(matches!(
            short,
            Err(VaultError::WrongKeyLength { found: 3, .. })
        ));
    }
}
