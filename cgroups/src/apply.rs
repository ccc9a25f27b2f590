use crate::encode::decode;
use crate::enforced::compare;
use crate::limits::Item;
use crate::template::{Write, compile};
use crate::{Cgroup, Controllers, Enforced, ErrorKind, Limits, Result, fs, text};
use ireko_sys::{Errno, Failure};
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

impl Cgroup {
    /// Sets limits on the live group, all or none; what is not named stays as it is.
    ///
    /// # Errors
    /// As [`Template::new`](crate::Template::new); `Unsupported` where the group has no directory in the
    /// hierarchy of that controller; `Conflict` for memory below what is in use and
    /// cannot be reclaimed.
    pub fn apply(&self, limits: &Limits) -> Result<Enforced> {
        limits.check()?;
        // A v1 sum of memory and swap needs both.
        let mut held = self.limits();
        let all = limits.clone().or(&held);
        let mut named = limits.clone();
        if named.swap().is_some() || (named.memory().is_some() && all.swap().is_some()) {
            let memory = all.memory().map_or(Limits::new(), |m| Limits::new().memory_max(m));
            let swap = all.swap().map_or(Limits::new(), |s| Limits::new().swap_max(s));
            named = named.or(&memory).or(&swap);
        }
        let writes = compile(self.parent(), &named, Controllers::empty())?;
        let mut undo: Vec<(BorrowedFd<'_>, &CStr, String)> = Vec::new();
        let mut done = Ok(());
        for write in ordered(&writes, |w| self.read_write(w)) {
            done = self.set(write, &mut undo);
            if done.is_err() {
                break;
            }
        }
        if let Err(error) = done {
            for (dir, file, old) in undo.iter().rev() {
                let _ = fs::write(*dir, file, old.trim().as_bytes());
            }
            return Err(error);
        }
        *held = all;
        Ok(self.read_back(limits))
    }

    fn set<'a>(
        &'a self,
        write: &'a Write,
        undo: &mut Vec<(BorrowedFd<'a>, &'a CStr, String)>,
    ) -> Result<()> {
        let dir = self.dir_of(write.place).ok_or_else(|| {
            let file = write.file.to_string_lossy();
            let why = "the group was made without that hierarchy";
            Failure::ours(ErrorKind::Unsupported, format!("set {file}"), why)
                .remedy("name the controller when the group is made: Template::also")
        })?;
        let old = fs::read(dir, &write.file).map_err(|e| self.write_failed(write, e))?;
        self.make_room(dir, write)?;
        fs::write(dir, &write.file, &write.value).map_err(|e| self.write_failed(write, e))?;
        undo.push((dir, &write.file, old));
        Ok(())
    }

    /// v2 kills to get below a new limit; v1 refuses. So memory is asked back first.
    fn make_room(&self, dir: BorrowedFd<'_>, write: &Write) -> Result<()> {
        if write.file.as_c_str() != c"memory.max" {
            return Ok(());
        }
        let wanted = std::str::from_utf8(&write.value).ok().and_then(text::number);
        let used = || text::number(&fs::read(dir, c"memory.current").ok()?);
        let over = || Some(used()?.saturating_sub(wanted?)).filter(|over| *over > 0);
        for _ in 0..4 {
            let Some(over) = over() else { return Ok(()) };
            let _ = fs::write(dir, c"memory.reclaim", over.to_string().as_bytes());
        }
        match over() {
            None => Ok(()),
            Some(_) => Err(self.write_failed(write, Errno::from_raw(libc::EBUSY)).into()),
        }
    }

    /// What is in force of the limits that this group was given.
    ///
    /// # Errors
    /// `Kernel` where the group's directory cannot be read any more.
    pub fn enforced(&self) -> Result<Enforced> {
        for dir in self.dirs() {
            fs::read(dir, c"cgroup.procs").map_err(|e| self.failed("read", e))?;
        }
        let limits = self.limits().clone();
        Ok(self.read_back(&limits))
    }

    fn read_back(&self, limits: &Limits) -> Enforced {
        let read = |item: &Item| {
            let index = self.parent().place_of(item.controller)?;
            let (dir, version) = (self.dir_of(index)?, self.parent().0.places[index].version);
            decode(item, version, |file| fs::read(dir, &CString::new(file).ok()?).ok())
        };
        let items: Vec<_> = limits.items().into_iter().map(|i| (i, read(&i))).collect();
        compare(&items)
    }

    fn read_write(&self, write: &Write) -> Option<u64> {
        text::number(&fs::read(self.dir_of(write.place)?, &write.file).ok()?)
    }
}

/// Of a pair that must not cross (memory below memory and swap), what is raised is
/// written in the other order than what is lowered.
fn ordered(writes: &[Write], now: impl Fn(&Write) -> Option<u64>) -> Vec<&Write> {
    let mut order: Vec<&Write> = writes.iter().collect();
    let find = |file: &CStr| writes.iter().position(|w| w.file.as_c_str() == file);
    if let (Some(memory), Some(sum)) =
        (find(c"memory.limit_in_bytes"), find(c"memory.memsw.limit_in_bytes"))
    {
        let wanted = std::str::from_utf8(&writes[memory].value).ok().and_then(text::number);
        if wanted > now(&writes[sum]) {
            order.swap(memory, sum);
        }
    }
    order
}
