//! The C library's function behind one of ours.

use crate::dmtcp;
use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};
use std::ffi::CStr;

/// The function behind ours, looked up once.
pub(crate) struct Next {
    name: *const c_char,
    found: AtomicPtr<c_void>,
}

// SAFETY: the name is a constant string, the rest is atomic.
unsafe impl Sync for Next {}

impl Next {
    pub(crate) const fn named(name: &'static CStr) -> Self {
        Self {
            name: name.as_ptr(),
            found: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    pub(crate) fn get(&self) -> *mut c_void {
        let found = self.found.load(Ordering::Relaxed);
        if !found.is_null() {
            return found;
        }
        // SAFETY: a handle and a string as dlsym(3) wants them. Two threads find the same.
        let found = unsafe { dmtcp::dmtcp_dlsym(dmtcp::NEXT, self.name) };
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// Call the next function of this name and type.
macro_rules! next {
    ($name:literal, fn($($type:ty),*) -> $result:ty, $($argument:expr),*) => {{
        static NEXT: $crate::next::Next = $crate::next::Next::named($name);
        let next = NEXT.get();
        if next.is_null() {
            $crate::next::fail(libc::ENOSYS) as $result
        } else {
            // SAFETY: the C library's function of this name has this type (its manual page); the
            // caller has made the same call with the same arguments.
            unsafe {
                let next: unsafe extern "C" fn($($type),*) -> $result = core::mem::transmute(next);
                next($($argument),*)
            }
        }
    }};
}

/// What a call returns that failed so.
pub(crate) fn fail(errno: c_int) -> c_int {
    // SAFETY: the C library's errno of this thread.
    unsafe { *libc::__errno_location() = errno };
    -1
}

pub(crate) use next;
