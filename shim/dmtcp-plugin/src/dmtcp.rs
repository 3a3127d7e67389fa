//! DMTCP's interface for plugins, as its public header `dmtcp.h` describes it (4.1.1 to 5.0).

use crate::sys;
use core::ffi::{c_char, c_int, c_void};

/// Events, by their number. Those that are not used here are left out.
pub(crate) mod event {
    use core::ffi::c_int;

    pub(crate) const INIT: c_int = 0;
    /// In the checkpoint thread, before the others are suspended.
    pub(crate) const PRESUSPEND: c_int = 15;
    pub(crate) const PRECHECKPOINT: c_int = 16;
    pub(crate) const RESUME: c_int = 17;
    pub(crate) const RESTART: c_int = 18;
    /// Of each thread of a restarted process, as the last step before its own code.
    pub(crate) const THREAD_RESUME: c_int = 20;
}

/// `DmtcpPluginDescriptor_t`. It is passed by value.
#[repr(C)]
pub(crate) struct Descriptor {
    pub(crate) api_version: *const c_char,
    pub(crate) dmtcp_version: *const c_char,
    pub(crate) name: *const c_char,
    pub(crate) author: *const c_char,
    pub(crate) author_email: *const c_char,
    pub(crate) description: *const c_char,
    pub(crate) hook: extern "C" fn(event: c_int, data: *mut c_void),
}

/// `RTLD_NEXT` of dlfcn.h.
pub(crate) const NEXT: *mut c_void = -1isize as *mut c_void;

// SAFETY: the declarations are those of DMTCP's dmtcp.h.
unsafe extern "C" {
    pub(crate) fn dmtcp_register_plugin(descriptor: Descriptor);
    pub(crate) fn dmtcp_dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    pub(crate) fn dmtcp_is_protected_fd(fd: c_int) -> c_int;
}

/// The connection to the coordinator (DMTCP's `protectedfds.h`).
const COORDINATOR: c_int = 821;

/// Sends what this process tells the coordinator at once. Between restart and run they wait for
/// each other several times, and each message is two writes, of which the second would wait 40 ms
/// for the first to be acknowledged.
pub(crate) fn no_delay() {
    let _ = sys::set_option(COORDINATOR, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
}

/// Whether `fd` belongs to DMTCP itself, such as its connection to the coordinator.
pub(crate) fn is_protected(fd: c_int) -> bool {
    // SAFETY: the function takes a number and only compares it.
    unsafe { dmtcp_is_protected_fd(fd) != 0 }
}
