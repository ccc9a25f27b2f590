//! Who a program runs as, and hostile files that say who that is.

use crate::common::{bare, printed, value};
use ireko::namespaces::IdMaps;
use ireko::{Builder, Container, ErrorKind, Stage};
use testkit::{Rootfs, need, rootfs};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    user:x:1000:1000:user:/home/user:/bin/sh\n\
    1000:x:0:0:a number as a name:/:\n\
    0007:x:0:0:another:/:\n\
    -1:x:0:0::/:\n\
    +5:x:0:0::/:\n\
    none:x:4294967295:0::/:\n\
    large:x:4294967296:0::/:\n\
    signed:x:-1:0::/:\n\
    spaced:x: 0:0::/:\n\
    short:x\n\
    :x:0:0:without a name:/:\n\
    web:x:33:7:web:/:\n\
    far:x:65535:65535:last of the range:/:\n\
    beyond:x:65536:0:not mapped:/:\n\
    web:x:0:0:the first one counts:/:\n\
    \u{0}nul:x:0:0::/:\n\
    crlf:x:0:0::/:\r\n";

const GROUP: &str = "root:x:0:\n\
    staff:x:50:user,web\n\
    audio:x:29:web\n\
    audio:x:0:web-not\n\
    60:x:0:\n\
    bad:x:y:user\n\
    none:x:4294967295:other\n\
    short\n";

fn ground() -> Rootfs {
    let root = rootfs();
    root.write("etc/passwd", PASSWD);
    root.write("etc/group", GROUP);
    root
}

fn inside(root: &Rootfs) -> Builder {
    Container::builder().rootfs(root.path()).command("/bin/payload").args(["report"])
}

/// User, group, further groups.
fn ids(builder: &Builder) -> [String; 3] {
    let got = printed(builder);
    for (real, others) in [("uid", ["euid", "suid"]), ("gid", ["egid", "sgid"])] {
        for other in others {
            assert_eq!(value(&got, real), value(&got, other));
        }
    }
    ["uid", "gid", "groups"].map(|key| value(&got, key).to_owned())
}

#[test]
fn root_r10_who_is_meant() {
    need!(root);
    let root = ground();
    for (user, expected) in [
        ("root", ["0", "0", ""]),
        ("user", ["1000", "1000", "50"]),
        ("user:root", ["1000", "0", "50"]),
        ("user:staff", ["1000", "50", "50"]),
        ("user:60", ["1000", "60", "50"]),
        // A number is a number, though somebody goes by that name.
        ("1000", ["1000", "1000", "50"]),
        ("0007", ["7", "0", ""]),
        ("1000:60", ["1000", "60", "50"]),
        ("4000", ["4000", "0", ""]),
        ("4000:4001", ["4000", "4001", ""]),
        // The first of two of one name.
        ("web", ["33", "7", "29,50"]),
        ("web:audio", ["33", "29", "29,50"]),
        ("far", ["65535", "65535", ""]),
    ] {
        assert_eq!(ids(&inside(&root).user(user)), expected, "{user}");
    }
    // Given ones replace what the files say, and are set though nobody is named.
    assert_eq!(ids(&inside(&root).user("user").groups([9, 3, 9])), ["1000", "1000", "3,9"]);
    assert_eq!(ids(&inside(&root).user("user").groups([])), ["1000", "1000", ""]);
    assert_eq!(ids(&inside(&root).user((12, 13))), ["12", "13", ""]);
    assert_eq!(ids(&inside(&root).user(12)), ["12", "12", ""]);
    assert_eq!(ids(&inside(&root)), ["0", "0", ""]);
    // Never the caller's groups.
    assert_eq!(ids(&bare(["report"]).user((1000, 1000))), ["1000", "1000", ""]);
    assert_eq!(ids(&bare(["report"]).user((1000, 1000)).groups([7])), ["1000", "1000", "7"]);
}

#[test]
fn root_r10_what_is_neither_an_id_nor_a_name() {
    need!(root);
    let root = ground();
    for bad in [
        "",
        ":",
        "user:",
        ":root",
        "user:root:x",
        "4294967295",
        "4294967296",
        "1000:4294967295",
        "99999999999999999999",
        "-1",
        "+5",
        " 0",
        "0 ",
        "0x0",
        "1e3",
        "ro/ot",
        "../etc",
        "a\nb",
        "\u{ff10}",
        "\u{663}",
        "0\u{0}",
        ".",
        "-",
        "root\n",
    ] {
        let error = inside(&root).user(bad).plan().unwrap_err();
        let got = (error.kind(), error.stage());
        assert_eq!(got, (ErrorKind::Invalid, Stage::Config), "{bad:?}: {error}");
    }
    for missing in [
        "nobody-here",
        "none",
        "large",
        "signed",
        "short",
        "spaced",
        "nul",
        "user:none",
        "user:bad",
        "Root",
    ] {
        let error = inside(&root).user(missing).plan().unwrap_err();
        let got = (error.kind(), error.stage());
        assert_eq!(got, (ErrorKind::NotFound, Stage::Config), "{missing:?}: {error}");
    }
    for (uid, gid) in [(u32::MAX, 0), (0, u32::MAX), (65_536, 0), (0, 65_536)] {
        let error = inside(&root).user((uid, gid)).plan().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{uid}:{gid}");
    }
    for builder in [inside(&root).groups([u32::MAX]), inside(&root).user("beyond")] {
        assert_eq!(builder.plan().unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn root_r10_files_that_are_not_what_they_seem() {
    need!(root);
    use std::os::unix::fs::symlink;
    let named = |root: &Rootfs| inside(root).user("user").plan();
    // A link leads to where it leads inside, not to the host's own file.
    let root = rootfs();
    std::fs::rename(root.join("etc/passwd"), root.join("srv/passwd")).unwrap();
    symlink("/srv/passwd", root.join("etc/passwd")).unwrap();
    assert_eq!(ids(&inside(&root).user("user"))[0], "1000");
    std::fs::remove_file(root.join("etc/passwd")).unwrap();
    symlink("../../../../../../../../etc/passwd", root.join("etc/passwd")).unwrap();
    assert!(named(&root).is_err());
    std::fs::remove_file(root.join("etc/passwd")).unwrap();
    symlink("/proc/self/root/etc/passwd", root.join("etc/passwd")).unwrap();
    assert!(named(&root).is_err());
    // Neither missing, nor a directory, nor one that nobody wants to read.
    std::fs::remove_file(root.join("etc/passwd")).unwrap();
    assert_eq!(named(&root).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(ids(&inside(&root).user("77"))[0], "77");
    root.mkdir("etc/passwd", 0o755);
    assert!(named(&root).is_err());
    std::fs::remove_dir(root.join("etc/passwd")).unwrap();
    root.write("etc/passwd", "#".repeat((1 << 20) + 1));
    assert_eq!(named(&root).unwrap_err().kind(), ErrorKind::Invalid);
    // One that would never end, or never begin.
    std::fs::remove_file(root.join("etc/passwd")).unwrap();
    let path = std::ffi::CString::new(root.join("etc/passwd").to_str().unwrap()).unwrap();
    // SAFETY: a string that ends in zero.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o644) }, 0);
    let plan = inside(&root).user("user");
    let error = testkit::within(crate::common::LONG, move || plan.plan().unwrap_err());
    assert_eq!(error.stage(), Stage::Config, "{error}");
}

#[test]
fn unpriv_r10_who_an_ordinary_user_can_be() {
    need!(unprivileged, userns);
    let root = ground();
    assert_eq!(ids(&inside(&root).user("root"))[..2], ["0", "0"]);
    let error = inside(&root).user("user").plan().unwrap_err();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::Invalid, Stage::Config));
    assert!(error.remedy().is_some_and(|text| text.contains("sub_ids")), "{error}");
    let error = inside(&root).groups([5]).plan().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    // As oneself.
    let own = inside(&root).id_maps(IdMaps::caller_as_self());
    // SAFETY: these take nothing and cannot fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    assert_eq!(ids(&own)[..2], [uid.to_string(), gid.to_string()]);
}
