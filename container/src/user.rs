/// Who the program runs as, inside. `0`, `(1000, 1000)` and `"name"`, `"name:group"`
/// or `"1000:1000"` convert into it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum User {
    /// These ids, whether or not anything inside knows them.
    Ids {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// Looked up in the container's own `/etc/passwd` and `/etc/group`, when planned.
    Name(String),
}

impl From<u32> for User {
    fn from(id: u32) -> Self {
        Self::Ids { uid: id, gid: id }
    }
}

impl From<(u32, u32)> for User {
    fn from((uid, gid): (u32, u32)) -> Self {
        Self::Ids { uid, gid }
    }
}

impl From<&str> for User {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}
