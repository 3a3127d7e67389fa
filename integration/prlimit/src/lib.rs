//! Preloaded into CRIU on the nodes of a testbed whose machine withholds CAP_SYS_RESOURCE.
//!
//! CRIU reads the limits of each process with prlimit(2), called through libc's syscall(), which for a
//! process of another user needs that capability. `/proc/PID/limits` has the same numbers and needs only
//! what CRIU has anyway. Real nodes have the capability and never load this.

use std::fs;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{RLIM64_INFINITY, c_int, c_long, c_void, rlimit64};

/// libc's own syscall().
type Syscall =
    unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;

/// What [`libc_syscall`] found. Not a lock: waiting for one makes system calls.
static FOUND: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// syscall(2); where prlimit(2) refuses to read, it falls back to `/proc/PID/limits`.
///
/// libc's is variadic. A caller passes the same registers to this one, and what it does not pass is not
/// used by the call that it makes.
///
/// # Safety
/// As of the system call that is asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    first: c_long,
    second: c_long,
    third: c_long,
    fourth: c_long,
    fifth: c_long,
    sixth: c_long,
) -> c_long {
    let Some(next) = libc_syscall() else {
        return -1;
    };
    // SAFETY: the caller's arguments, passed on as they are.
    let result = unsafe { next(number, first, second, third, fourth, fifth, sixth) };
    let (pid, resource) = (first, second as c_int);
    let (new, old) = (third, fourth as *mut rlimit64);
    if number != libc::SYS_prlimit64 || result == 0 || new != 0 || old.is_null() {
        return result;
    }
    // SAFETY: errno belongs to this thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    if unsafe { *errno } != libc::EPERM {
        return result;
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    if let Some(found) = limit(&limits, resource) {
        // SAFETY: not null, so by prlimit(2) it points to an rlimit64 of the caller's.
        unsafe { *old = found };
        return 0;
    }
    // SAFETY: as above. Reading the file may have changed it.
    unsafe { *errno = libc::EPERM };
    result
}

fn libc_syscall() -> Option<Syscall> {
    let mut found = FOUND.load(Ordering::Relaxed);
    if found.is_null() {
        // SAFETY: looks a name up; the name is a C string.
        found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"syscall".as_ptr()) };
        FOUND.store(found, Ordering::Relaxed);
    }
    // SAFETY: null is None, and anything else is libc's function of this name, to which `Syscall` fits
    // as said above.
    unsafe { std::mem::transmute::<*mut c_void, Option<Syscall>>(found) }
}

/// The limit of one resource: after a line of titles, `/proc/PID/limits` has one line each in the order
/// of the resources' numbers, a name of 25 columns and the two values of 20 each (fs/proc/base.c).
fn limit(text: &str, resource: c_int) -> Option<rlimit64> {
    let line = text.lines().nth(usize::try_from(resource).ok()? + 1)?;
    let mut values = line.get(26..)?.split_ascii_whitespace().map(|word| {
        if word == "unlimited" {
            Some(RLIM64_INFINITY)
        } else {
            word.parse().ok()
        }
    });
    Some(rlimit64 {
        rlim_cur: values.next()??,
        rlim_max: values.next()??,
    })
}

#[cfg(test)]
mod tests;
