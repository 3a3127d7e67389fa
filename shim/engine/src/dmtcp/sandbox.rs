//! What the coordinator may do on the node: next to nothing. Called between fork and exec.

use std::io;

use nix::errno::Errno;

/// The only place it can write to: a tmpfs in its own mount namespace.
pub(super) const WRITABLE: &str = "/tmp";
/// `nobody` and `nogroup`.
const NOBODY: libc::id_t = 65534;

/// Gives up rights and sight. Only system calls, no allocation.
pub(super) fn enter() -> io::Result<()> {
    private_mounts()?;
    // SAFETY: plain integers; an empty list of groups has no pointer to follow.
    unsafe {
        Errno::result(libc::setgroups(0, std::ptr::null()))?;
        Errno::result(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
        Errno::result(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
        Errno::result(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        // After the change of user, which clears it.
        Errno::result(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        // It must not die when a client went away while it was written to.
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        // Its log is bounded; what is beyond fails to be written.
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let limit = libc::rlimit {
            rlim_cur: 1 << 20,
            rlim_max: 1 << 20,
        };
        Errno::result(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit))?;
    }
    Ok(())
}

/// A mount namespace in which all is read-only but [`WRITABLE`].
fn private_mounts() -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the strings are C literals, the struct is valid for its size.
    unsafe {
        Errno::result(libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWIPC))?;
        Errno::result(libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        ))?;
        Errno::result(libc::mount(
            c"tmpfs".as_ptr(),
            c"/tmp".as_ptr(),
            c"tmpfs".as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            c"size=4m,mode=1777".as_ptr().cast(),
        ))?;
    }
    Ok(())
}
