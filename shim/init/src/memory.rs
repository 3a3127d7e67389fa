//! What the compiler expects from a C library.

/// `memcpy`.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    for index in 0..length {
        // SAFETY: both are valid for `length` bytes, as the caller vouches.
        unsafe { *to.add(index) = *from.add(index) };
    }
    to
}

/// `memset`.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    for index in 0..length {
        // SAFETY: valid for `length` bytes, as the caller vouches.
        unsafe { *to.add(index) = byte as u8 };
    }
    to
}

/// Named by the compiled core library for unwinding, which does not happen here: a panic exits.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}
