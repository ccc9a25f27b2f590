/// How much a container is confined: each a table in the documentation.
///
/// What a preset brings, limits above all, is [`Preferred`](super::Policy::Preferred):
/// it starts without what the host lacks and says what was missing. The boundary
/// itself is not given up that way: without namespaces, capability sets,
/// no-new-privileges or the filter, `spawn()` is an error that names the exception.
///
/// There is no preset called privileged: exceptions are single calls, with names
/// that say what they give away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preset {
    /// What ordinary programs need: 7 capabilities, 1,024 processes.
    #[default]
    Standard,
}
