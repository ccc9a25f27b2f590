use crate::Result;
use ireko_sys::{Errno, Failure, Stdio};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// Our ends of a program's standard streams, where those are pipes.
#[derive(Debug, Default)]
pub struct Pipes {
    stdin: Mutex<Option<PipeWriter>>,
    stdout: Mutex<Option<PipeReader>>,
    stderr: Mutex<Option<PipeReader>>,
}

/// The program's ends: to be dropped when it has them, or a reader would never come to
/// the end.
#[derive(Debug)]
pub struct Streams([Stdio; 3]);

impl Streams {
    /// Where each comes from; `None`: the caller's own.
    #[must_use]
    pub fn fds(&self) -> [Option<RawFd>; 3] {
        std::array::from_fn(|index| match &self.0[index] {
            Stdio::Fd(fd) => Some(fd.as_raw_fd()),
            _ => None,
        })
    }
}

impl Pipes {
    /// Opens what was wanted, or else the default.
    ///
    /// # Errors
    /// `Exhausted` without a free descriptor.
    pub fn open(wanted: &[Option<Stdio>; 3], defaults: [Stdio; 3]) -> Result<(Self, Streams)> {
        let failed = |e: std::io::Error| Failure::kernel("open a standard stream", Errno::of(&e));
        let mut ours = Self::default();
        let mut streams = [Stdio::Inherit, Stdio::Inherit, Stdio::Inherit];
        for (index, default) in defaults.into_iter().enumerate() {
            streams[index] = match wanted[index].clone().unwrap_or(default) {
                Stdio::Null => std::fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open("/dev/null")
                    .map_err(failed)?
                    .into(),
                Stdio::Piped => {
                    let (reader, writer) = std::io::pipe().map_err(failed)?;
                    match index {
                        0 => {
                            ours.stdin = Mutex::new(Some(writer));
                            reader.into()
                        }
                        1 => {
                            ours.stdout = Mutex::new(Some(reader));
                            writer.into()
                        }
                        _ => {
                            ours.stderr = Mutex::new(Some(reader));
                            writer.into()
                        }
                    }
                }
                other => other,
            };
        }
        Ok((ours, Streams(streams)))
    }

    /// The pipe to its stdin, once.
    pub fn take_stdin(&self) -> Option<PipeWriter> {
        taken(&self.stdin)
    }

    /// The pipe from its stdout, once.
    pub fn take_stdout(&self) -> Option<PipeReader> {
        taken(&self.stdout)
    }

    /// The pipe from its stderr, once.
    pub fn take_stderr(&self) -> Option<PipeReader> {
        taken(&self.stderr)
    }
}

fn taken<T>(pipe: &Mutex<Option<T>>) -> Option<T> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner).take()
}
