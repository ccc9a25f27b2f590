use crate::encode::{Version, encode};
use crate::enforced::{Adjusted, unheld};
use crate::limits::Item;
use crate::parent::Place;
use crate::{Cgroup, Controllers, ErrorKind, Limits, Parent, Result, fs};
use ireko_sys::Failure;
use std::ffi::{CStr, CString};
use std::path::Path;
use std::sync::Arc;

/// Groups of one kind, prepared: which directories, which files, which bytes. Making
/// one is then a mkdir and an open per hierarchy and an open and a write per limit;
/// nothing is searched for or formatted. Cheap to clone.
///
/// A group has a directory only in the hierarchies that its limits need: on v1 each
/// costs a start some 75 µs.
#[derive(Clone, Debug)]
#[must_use]
pub struct Template {
    pub(crate) parent: Parent,
    pub(crate) limits: Arc<Limits>,
    /// Indices of the parent's places.
    pub(crate) slots: Vec<usize>,
    writes: Arc<[Write]>,
    skipped: Vec<Adjusted>,
    extra: Controllers,
    v2_dir: bool,
}

/// One value for one file.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) place: usize,
    pub(crate) file: CString,
    pub(crate) value: Vec<u8>,
}

impl Template {
    /// Groups with these limits.
    ///
    /// # Errors
    /// `Invalid` for values that no kernel should be asked for: less than 1 MiB, no
    /// process, less than 1 ms; `Unsupported` or `Conflict`, with the remedy, for a
    /// limit that nothing here can hold.
    pub fn new(parent: &Parent, limits: &Limits) -> Result<Self> {
        limits.check()?;
        let mut template = Self {
            parent: parent.clone(),
            limits: Arc::new(limits.clone()),
            slots: Vec::new(),
            writes: Arc::from([]),
            skipped: Vec::new(),
            extra: Controllers::empty(),
            v2_dir: false,
        };
        template.compile()?;
        Ok(template)
    }

    /// With those of these limits that can be held here and are not named yet; the
    /// others are in [`skipped`](Self::skipped).
    ///
    /// # Errors
    /// `Invalid`, as [`new`](Self::new).
    pub fn prefer(mut self, limits: &Limits) -> Result<Self> {
        limits.check()?;
        let wanted = (*self.limits).clone().or(limits);
        let mut held = (*self.limits).clone();
        for item in wanted.items() {
            let named = self.limits.items().iter().any(|known| known.name == item.name);
            if named {
                continue;
            }
            match writes_of(&self.parent, &item, &wanted) {
                Ok(_) => held = held.with(&item),
                Err(_) => self.skipped.push(unheld(&item)),
            }
        }
        for (file, value) in wanted.raw_files() {
            if raw_place(&self.parent, file).is_ok() {
                held = held.or(&Limits::new().raw(file, value));
            }
        }
        self.limits = Arc::new(held);
        self.compile()?;
        Ok(self)
    }

    /// With directories for these controllers too, without a limit: `CPUACCT` counts
    /// cpu time, `MEMORY` and `PIDS` count theirs, `FREEZER` stops.
    ///
    /// # Errors
    /// `Unsupported` or `Conflict`, with the remedy.
    pub fn also(mut self, controllers: Controllers) -> Result<Self> {
        self.extra |= controllers;
        self.compile()?;
        Ok(self)
    }

    /// On a hybrid host, with a directory in the v2 tree as well: kill and freeze
    /// need no loop there, a child can be started in it, and cpu time is counted.
    /// Off by default; elsewhere it changes nothing.
    pub fn v2_dir(mut self, wanted: bool) -> Self {
        self.v2_dir = wanted;
        self.choose_slots();
        self
    }

    /// Makes a group, with its limits in force. The name gets `ireko-` before it.
    ///
    /// # Errors
    /// `Conflict` when the name is taken; `Invalid` for an empty one, a slash, a
    /// newline, a leading dot, more than 249 bytes; `Denied`, `Exhausted`.
    #[doc(alias = "mkdir")]
    pub fn create(&self, name: &str) -> Result<Cgroup> {
        let group = Cgroup::make(self, name)?;
        for write in self.writes.iter() {
            let dir = group.dir_of(write.place).ok_or_else(|| {
                Failure::ours(ErrorKind::Unsupported, "set a limit", "its hierarchy is left out")
            })?;
            if let Err(errno) = fs::write(dir, &write.file, &write.value) {
                return Err(group.write_failed(write, errno).into());
            }
        }
        Ok(group)
    }

    /// The limits that groups will have.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Preferred limits that cannot be held here.
    #[must_use]
    pub fn skipped(&self) -> &[Adjusted] {
        &self.skipped
    }

    /// Where groups are made.
    #[must_use]
    pub fn parent(&self) -> &Parent {
        &self.parent
    }

    /// The directories below which a group will have one of its own.
    pub fn places(&self) -> impl Iterator<Item = &Path> {
        self.slots.iter().filter_map(|i| self.parent.0.places.get(*i)).map(|p| p.path.as_path())
    }

    /// What will be written: file and value, in order.
    pub fn writes(&self) -> impl Iterator<Item = (&CStr, &[u8])> {
        self.writes.iter().map(|write| (write.file.as_c_str(), write.value.as_slice()))
    }

    fn compile(&mut self) -> Result<()> {
        for (name, flag) in self.extra.v2_names() {
            if self.parent.place_of(flag).is_none() {
                return Err(self.parent.missing(format!("use {name}"), flag).into());
            }
        }
        self.writes = compile(&self.parent, &self.limits, self.extra)?.into();
        self.choose_slots();
        Ok(())
    }

    fn choose_slots(&mut self) {
        // A limit may be one that its version has without a file: its hierarchy counts.
        let needs = self.limits.items().into_iter().map(|item| item.controller);
        let needs = needs.chain(self.extra.iter());
        let mut slots: Vec<_> = needs.filter_map(|flag| self.parent.place_of(flag)).collect();
        slots.extend(self.writes.iter().map(|write| write.place));
        let v2 = self.parent.v2();
        // A group must be somewhere.
        let any = [Controllers::FREEZER, Controllers::PIDS, Controllers::MEMORY, Controllers::CPU];
        if self.v2_dir {
            slots.extend(v2);
        } else if slots.is_empty() {
            slots.extend(v2.or_else(|| any.iter().find_map(|c| self.parent.place_of(*c))));
        }
        slots.sort_unstable();
        slots.dedup();
        self.slots = slots;
    }
}

/// All writes for these limits, in order.
pub(crate) fn compile(parent: &Parent, limits: &Limits, extra: Controllers) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    for item in limits.items() {
        writes.extend(writes_of(parent, &item, limits)?);
    }
    for (file, value) in limits.raw_files() {
        let place = raw_place(parent, file)?;
        writes.push(write(place, file, value.clone().into_bytes())?);
    }
    // A v1 cpuset starts without a core or a memory node, and nothing can join it.
    for (index, place) in parent.0.places.iter().enumerate() {
        let v1 = place.version == Version::V1 && place.controllers.contains(Controllers::CPUSET);
        let used = extra.contains(Controllers::CPUSET) || writes.iter().any(|w| w.place == index);
        if !(v1 && used) {
            continue;
        }
        for (n, file) in [c"cpuset.cpus", c"cpuset.mems"].into_iter().enumerate() {
            let value = fs::read(place.dir(), file)
                .map_err(|errno| place.failed("read", Some(file), errno))?;
            let value = value.trim().as_bytes().to_vec();
            writes.insert(n, Write { place: index, file: file.to_owned(), value });
        }
    }
    Ok(writes)
}

fn write(place: usize, file: &str, value: Vec<u8>) -> Result<Write> {
    let file = CString::new(file).map_err(|_| {
        Failure::ours(ErrorKind::Invalid, "name a control file", "the name holds a NUL")
    })?;
    Ok(Write { place, file, value })
}

/// The writes of one limit, or why it cannot be had.
fn writes_of(parent: &Parent, item: &Item, all: &Limits) -> Result<Vec<Write>> {
    let index = parent
        .place_of(item.controller)
        .ok_or_else(|| parent.missing(format!("set {}", item.name), item.controller))?;
    let place = &parent.0.places[index];
    let settings =
        encode(item, place.version, all).map_err(|why| Parent::refused(item.name, why))?;
    let mut writes = Vec::new();
    for (file, value) in settings {
        let write = write(index, file, value.into_bytes())?;
        if !place.has(&write.file) {
            let why = match (item.name, place.version) {
                ("memory.swap.max", _) => {
                    ("the kernel does not count swap", Some("boot the host with swapaccount=1"))
                }
                _ => ("this kernel has no such limit", None),
            };
            return Err(Parent::refused(item.name, why).into());
        }
        writes.push(write);
    }
    Ok(writes)
}

/// A file is where a fresh group has it: what the parent has itself may not be passed on.
fn raw_place(parent: &Parent, file: &str) -> Result<usize> {
    let name = write(0, file, Vec::new())?.file;
    let has = |place: &Place| place.probe().is_ok_and(|files| files.contains(&name));
    parent.0.places.iter().position(has).ok_or_else(|| {
        let why = "no group made here has that file";
        Parent::refused(file, (why, Some("enable its controller: Parent::enable"))).into()
    })
}
