use crate::entry::escape;
use crate::{Errno, MountEntry, Result};
use ireko_sys::{Failure, ProcRoot};
use std::io::Read;
use std::path::Path;

/// The mounts of a mount namespace, as far as they are below the caller's root. See
/// [`proc_pid_mountinfo(5)`](https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html).
///
/// ```
/// use ireko_mounts::MountTable;
/// let table = MountTable::parse(
///     "29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
///      31 29 0:27 / /srv/my\\040data ro,nosuid master:7 - tmpfs none rw,size=4k\n",
/// )?;
/// let data = table.below("/srv").next().expect("listed above");
/// assert_eq!(data.mount_point(), std::path::Path::new("/srv/my data"));
/// assert_eq!(data.attributes().to_string(), "rdonly nosuid");
/// # Ok::<(), ireko_mounts::Error>(())
/// ```
#[doc(alias = "mountinfo")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountTable(Vec<MountEntry>);

impl MountTable {
    /// The mounts that the calling thread sees: threads can have their own namespaces.
    ///
    /// # Errors
    /// `Unsupported` where there is no `/proc`, and none can be made.
    pub fn of_caller() -> Result<Self> {
        let proc = ProcRoot::open()?;
        let me = proc.link("thread-self")?;
        let mut bytes = Vec::new();
        proc.read(&format!("{}/mountinfo", me.display()))?
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::kernel("read the mount table", Errno::of(&e)))?;
        Self::parse(&escape(&bytes))
    }

    /// Reads the text of a `mountinfo` file.
    ///
    /// # Errors
    /// `Invalid` with the line that is none.
    pub fn parse(text: &str) -> Result<Self> {
        text.split('\n')
            .filter(|line| !line.is_empty())
            .map(MountEntry::parse)
            .collect::<Result<_>>()
            .map(Self)
    }

    /// All of them, in the kernel's order. Those that others hide are listed too.
    #[must_use]
    pub fn entries(&self) -> &[MountEntry] {
        &self.0
    }

    /// Those mounted somewhere below a path, not those on it. The path is absolute
    /// and compared as it is, component by component.
    pub fn below(&self, path: impl AsRef<Path>) -> impl Iterator<Item = &MountEntry> {
        self.0.iter().filter(move |entry| {
            let point = entry.mount_point();
            point.starts_with(path.as_ref()) && point != path.as_ref()
        })
    }

    /// The one mounted on a path: the topmost where several are.
    pub fn at(&self, path: impl AsRef<Path>) -> Option<&MountEntry> {
        let here: Vec<&MountEntry> =
            self.0.iter().filter(|entry| entry.mount_point() == path.as_ref()).collect();
        here.iter()
            .rfind(|entry| {
                !here.iter().any(|above| above.parent() == entry.id() && above.id() != entry.id())
            })
            .copied()
    }

    /// Those on a mount, those on them, and so on: each before those on it.
    pub(crate) fn under(&self, id: u64) -> Vec<&MountEntry> {
        let mut found: Vec<&MountEntry> = Vec::new();
        let mut parent = id;
        for next in 0.. {
            found.extend(self.0.iter().filter(|e| e.parent() == parent && e.id() != parent));
            match found.get(next) {
                // A table that was made up can hold a loop.
                Some(entry) if found.len() <= self.0.len() => parent = entry.id(),
                _ => break,
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attributes, ErrorKind, Propagation};
    use std::ffi::OsStr;

    const TABLE: &str = r"22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
24 22 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:5 master:2 propagate_from:3 - proc proc rw
30 22 0:26 / /run rw,nosuid,nodev,size=3k master:9 - tmpfs none rw,size=1612,mode=755
31 30 0:4 net:[4026532] /run/netns/a\040b,c:d rw unbindable - nsfs nsfs rw
32 22 0:40 / /m ro,nosymfollow,idmapped unknown:7 - overlay overlay rw,lowerdir+=/a\054b,lowerdir+=/c\134d,upperdir=/x=y
33 32 0:41 / /m rw - fuse.sshfs user@host:/a\040b ro
34 22 0:42 / /mm rw -  none  rw
";

    fn table() -> MountTable {
        MountTable::parse(TABLE).unwrap()
    }

    fn points<'a>(entries: impl IntoIterator<Item = &'a MountEntry>) -> Vec<&'a str> {
        entries.into_iter().map(|e| e.mount_point().to_str().unwrap()).collect()
    }

    #[test]
    fn reads_every_field() {
        let table = table();
        let [root, proc, run, netns, overlay, ..] = table.entries() else { panic!("{table:?}") };
        assert_eq!((root.id(), root.parent(), root.device()), (22, 1, (259, 2)));
        assert_eq!(root.kind(), "ext4");
        assert_eq!(root.source(), Some(OsStr::new("/dev/nvme0n1p2")));
        assert_eq!(root.propagation(), Propagation::Shared);
        assert_eq!(
            (proc.shared(), proc.master(), proc.propagate_from()),
            (Some(5), Some(2), Some(3))
        );
        assert_eq!(proc.attributes(), Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC);
        assert_eq!(run.propagation(), Propagation::Slave);
        assert_eq!(run.source(), None);
        assert_eq!(run.options(), ["nodev", "nosuid", "rw", "size=3k"]);
        assert_eq!(netns.mount_point(), Path::new("/run/netns/a b,c:d"));
        assert_eq!(netns.root(), Path::new("net:[4026532]"));
        assert!(netns.is_unbindable() && !root.is_unbindable());
        assert!(overlay.is_idmapped() && !netns.is_idmapped());
        assert_eq!(overlay.attributes(), Attributes::RDONLY | Attributes::NOSYMFOLLOW);
        assert_eq!(overlay.propagation(), Propagation::Private);
    }

    #[test]
    fn repeated_options_stay_in_order() {
        let table = table();
        let overlay = table.entries().iter().find(|e| e.kind() == "overlay").unwrap();
        let options: Vec<_> = overlay
            .super_options()
            .map(|(k, v)| (k.to_str().unwrap(), v.map(|v| v.to_str().unwrap())))
            .collect();
        assert_eq!(
            options,
            [
                ("rw", None),
                ("lowerdir+", Some("/a,b")),
                ("lowerdir+", Some(r"/c\d")),
                ("upperdir", Some("/x=y")),
            ]
        );
    }

    #[test]
    fn below_is_by_component() {
        let table = table();
        assert_eq!(points(table.below("/run")), ["/run/netns/a b,c:d"]);
        assert_eq!(points(table.below("/m")), Vec::<&str>::new());
        assert_eq!(points(table.below("/run/netns/")), ["/run/netns/a b,c:d"]);
        assert_eq!(table.below("/").count(), 6);
    }

    #[test]
    fn the_topmost_is_at_a_path() {
        assert_eq!(table().at("/m").unwrap().id(), 33);
        assert_eq!(table().at("/").unwrap().id(), 22);
        assert!(table().at("/run/netns").is_none());
    }

    #[test]
    fn a_tree_is_listed_from_its_top() {
        let ids = |id| table().under(id).iter().map(|e| e.id()).collect::<Vec<_>>();
        assert_eq!(ids(30), [31]);
        assert_eq!(ids(22), [24, 30, 32, 34, 31, 33]);
        let line = "1 2 0:1 / / rw - a b rw\n2 1 0:1 / / rw - a b rw\n3 3 0:1 / / rw - a b rw";
        assert!(MountTable::parse(line).unwrap().under(1).len() < 9);
        assert!(MountTable::parse(line).unwrap().under(3).is_empty());
    }

    #[test]
    fn refuses_what_is_no_table() {
        for text in [
            "x",
            "22 1 259 / / rw - ext4 a rw",
            "22 1 259:x / / rw - ext4 a rw",
            "-1 1 259:2 / / rw - ext4 a rw",
            "22 1 259:2 / / rw shared:x - ext4 a rw",
            "22 1 259:2 / / rw shared:1",
            "22 1 259:2 / / rw - ext4",
        ] {
            let error = MountTable::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
            assert!(error.to_string().contains(text), "{error}");
        }
        assert_eq!(MountTable::parse("").unwrap().entries().len(), 0);
    }

    #[test]
    fn no_piece_of_a_table_panics() {
        for end in 0..TABLE.len() {
            let _ = MountTable::parse(&TABLE[..end]);
            let _ = MountTable::parse(&TABLE[end..]);
        }
    }

    #[test]
    fn reads_the_callers_own() {
        let table = MountTable::of_caller().unwrap();
        assert!(table.at("/").is_some(), "{table:?}");
    }
}
