//! What a confined program can do, and what nobody gives it.

#[path = "security/common.rs"]
mod common;
#[path = "security/filter.rs"]
mod filter;
#[path = "security/namespaces.rs"]
mod namespaces;
#[path = "security/policy.rs"]
mod policy;
#[path = "security/privileges.rs"]
mod privileges;
