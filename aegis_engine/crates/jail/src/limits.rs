//! Limits: what a task may use at most.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// What a task may use. Beyond it, an allocation or a thread fails, or the kernel ends the task.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Seconds of CPU, of all threads together.
    pub cpu_seconds: u64,
    /// Bytes of address space.
    pub memory: u64,
    /// Threads of all tasks of this jail together.
    pub threads: u64,
    /// Bytes of the scratch folder, and of one file.
    pub scratch: u64,
    /// Open files.
    pub files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_seconds: 600,
            memory: 16 << 30,
            threads: 128,
            scratch: 64 << 20,
            files: 256,
        }
    }
}

impl Limits {
    pub(crate) fn apply(&self) -> io::Result<()> {
        for (resource, most) in [
            (Resource::Cpu, self.cpu_seconds),
            (Resource::As, self.memory),
            (Resource::Nproc, self.threads),
            (Resource::Fsize, self.scratch),
            (Resource::Nofile, self.files),
            (Resource::Core, 0),
            (Resource::Memlock, 0),
            (Resource::Msgqueue, 0),
        ] {
            setrlimit(
                resource,
                Rlimit {
                    current: Some(most),
                    maximum: Some(most),
                },
            )?;
        }
        Ok(())
    }
}
