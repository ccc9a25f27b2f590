//! One type of each crate, as a package outside the workspace uses them.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let size = ireko::Size::mib(64);
    println!("{size}, a container of {} bytes", std::mem::size_of::<ireko::Container>());
    println!("{}", ireko_sys::Size::kib(1));
    println!("{} mounts", ireko_mounts::MountTable::of_caller()?.entries().len());
    println!("{}", ireko_namespaces::Namespaces::PID);
    println!("limits: {:?}", ireko_cgroups::Limits::new().pids_max(8));
    println!("{} rules", ireko_seccomp::Profile::standard().rules().count());
    println!("{:?}", ireko_capabilities::CapSet::all());
    Ok(())
}
