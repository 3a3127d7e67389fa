//! The plugin that CRIU loads for containers with unix sockets whose other end is in another
//! container of the pod.
//!
//! Each container is dumped and restored by a CRIU of its own, which knows of such a socket only
//! that its other end is somewhere else. It asks plugins: at a dump, whether one answers for the
//! socket with this inode; at a restore, for a descriptor of it (the hooks `DUMP_UNIX_SK` and
//! `RESTORE_UNIX_SK`, criu-plugin.h of CRIU 2.0 and newer). This plugin answers for the inodes
//! that `MYCEDRIVE_UNIX_INODES` lists, and fetches descriptors from whoever listens at the abstract
//! address that `MYCEDRIVE_UNIX_ENDS` names, in the pod's network namespace: the shim, which made
//! both ends (`shim/connection/src/unix`).
//!
//! At a restore the hook runs in the process that is being made, which has the container's mounts
//! and has closed what CRIU had open; what it still has from before is the environment. A
//! descriptor that is not to be had ends that process, and with it the restore: CRIU would make
//! another connection instead, without what was in the old one.
//!
//! It is also where a CRIU that was started before the freeze waits for it: if `MYCEDRIVE_GATE` names
//! a pipe, a dump goes on only after a line came out of it, with the inodes in place of those of
//! `MYCEDRIVE_UNIX_INODES`. A pipe that ends without one, as of a shim that died, ends the dump, which
//! has touched nothing so far. `MYCEDRIVE_AT_GATE` names a pipe that is told when CRIU has come so far.
//!
//! It is compiled into the shim (`shim/engine/build.rs`) and asks for no version of any C library:
//! the few functions that it calls are those of the program that loads it.

#![no_std]

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::mem::{size_of, zeroed};

/// Version 0.2.0 of the interface, the oldest with descriptors like this.
const VERSION: c_uint = 2 << 8;
/// "Not mine", a hook's answer.
const ENOTSUP: c_int = 95;
/// Inodes of the sockets that are answered for, with commas between them.
const INODES: &CStr = c"MYCEDRIVE_UNIX_INODES";
/// Path of the pipe out of which the line comes.
const GATE: &CStr = c"MYCEDRIVE_GATE";
/// Path of the pipe into which a byte goes.
const AT_GATE: &CStr = c"MYCEDRIVE_AT_GATE";
/// CRIU's number for a dump (`CR_PLUGIN_STAGE__DUMP`).
const DUMP: c_int = 0;
/// The abstract address without its leading zero.
const ENDS: &CStr = c"MYCEDRIVE_UNIX_ENDS";

const AF_UNIX: c_int = 1;
const SOCK_SEQPACKET: c_int = 5;
const SOCK_CLOEXEC: c_int = 0o2_000_000;
const SOL_SOCKET: c_int = 1;
const SCM_RIGHTS: c_int = 1;
const MSG_NOSIGNAL: c_int = 0x4000;
const O_RDONLY: c_int = 0;
const O_WRONLY: c_int = 1;
const O_CLOEXEC: c_int = 0o2_000_000;
/// CRIU's number of the level of errors.
const LOG_ERROR: c_uint = 1;

/// `cr_plugin_desc_t`, with as many hooks as there are here.
#[repr(C)]
pub struct Descriptor {
    name: *const c_char,
    init: Option<extern "C" fn(stage: c_int) -> c_int>,
    exit: Option<extern "C" fn(stage: c_int, result: c_int)>,
    version: c_uint,
    hook_count: c_uint,
    dump_unix_sk: extern "C" fn(fd: c_int, inode: c_int) -> c_int,
    restore_unix_sk: extern "C" fn(inode: c_int) -> c_int,
}

// SAFETY: it is never changed.
unsafe impl Sync for Descriptor {}

/// What CRIU looks for.
#[unsafe(no_mangle)]
pub static CR_PLUGIN_DESC: Descriptor = Descriptor {
    name: c"mycedrive".as_ptr(),
    init: Some(init),
    exit: None,
    version: VERSION,
    hook_count: 2,
    dump_unix_sk,
    restore_unix_sk,
};

#[repr(C)]
struct Address {
    family: u16,
    path: [u8; 108],
}

#[repr(C)]
struct Piece {
    start: *mut u8,
    length: usize,
}

#[repr(C)]
struct Message {
    name: *mut c_void,
    name_length: u32,
    pieces: *mut Piece,
    piece_count: usize,
    control: *mut c_void,
    control_length: usize,
    flags: c_int,
}

/// A control message with one descriptor; `cmsg(3)`.
#[repr(C, align(8))]
struct Control {
    length: usize,
    level: c_int,
    kind: c_int,
    fd: c_int,
    padding: c_int,
}

// SAFETY: the declarations are those of the manual pages.
unsafe extern "C" {
    fn getenv(name: *const c_char) -> *const c_char;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn read(fd: c_int, bytes: *mut c_void, length: usize) -> isize;
    fn write(fd: c_int, bytes: *const c_void, length: usize) -> isize;
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn connect(fd: c_int, address: *const c_void, length: u32) -> c_int;
    fn send(fd: c_int, bytes: *const c_void, length: usize, flags: c_int) -> isize;
    fn recvmsg(fd: c_int, message: *mut Message, flags: c_int) -> isize;
    fn close(fd: c_int) -> c_int;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn _exit(code: c_int) -> !;
}

/// Longest line that may come out of the gate.
const LONGEST: usize = 1 << 16;

/// What came out of the gate.
struct Line {
    bytes: [u8; LONGEST],
    /// Without the end of the line; `None` before there is one.
    length: Option<usize>,
}

struct Shared(UnsafeCell<Line>);

// SAFETY: CRIU calls plugins from one thread.
unsafe impl Sync for Shared {}

static LINE: Shared = Shared(UnsafeCell::new(Line {
    bytes: [0; LONGEST],
    length: None,
}));

/// CRIU has loaded the plugin, and has not looked at any process yet.
extern "C" fn init(stage: c_int) -> c_int {
    let (Some(gate), Some(at_gate)) = (variable(GATE), variable(AT_GATE)) else {
        return 0;
    };
    if stage != DUMP {
        return 0;
    }
    // SAFETY: nothing else has a reference to it, see there.
    let line = unsafe { &mut *LINE.0.get() };
    match pass(gate, at_gate, line) {
        Ok(()) => 0,
        Err(problem) => {
            say(problem, 0);
            -1
        }
    }
}

fn pass(gate: &CStr, at_gate: &CStr, line: &mut Line) -> Result<(), &'static CStr> {
    // SAFETY: the path ends with a zero.
    let told = unsafe { open(at_gate.as_ptr(), O_WRONLY | O_CLOEXEC) };
    // SAFETY: one byte is written. A descriptor that is none is an error of these two.
    unsafe {
        write(told, c"1".as_ptr().cast(), 1);
        close(told);
    }
    // SAFETY: the path ends with a zero.
    let fd = unsafe { open(gate.as_ptr(), O_RDONLY | O_CLOEXEC) };
    if fd < 0 {
        return Err(c"Error (mycedrive): gate %u: the shim is gone\n");
    }
    let mut length = 0;
    let ended = loop {
        let Some(rest) = line.bytes.get_mut(length..).filter(|rest| !rest.is_empty()) else {
            break Err(c"Error (mycedrive): gate %u: the line is too long\n");
        };
        // SAFETY: that many bytes may be written there.
        let count = unsafe { read(fd, rest.as_mut_ptr().cast(), rest.len()) };
        if count <= 0 {
            break Err(c"Error (mycedrive): gate %u: it was not opened\n");
        }
        length += count as usize;
        if line.bytes.get(length - 1) == Some(&b'\n') {
            line.length = Some(length - 1);
            break Ok(());
        }
    };
    // SAFETY: opened above.
    unsafe { close(fd) };
    ended
}

/// The sockets that the shim answers for.
fn inodes() -> Option<&'static [u8]> {
    // SAFETY: `init`, which writes it, has returned.
    let line = unsafe { &*LINE.0.get() };
    match line.length {
        Some(length) => line.bytes.get(..length),
        None => variable(INODES).map(CStr::to_bytes),
    }
}

/// Whether the shim answers for this socket.
extern "C" fn dump_unix_sk(_fd: c_int, inode: c_int) -> c_int {
    match inodes() {
        Some(list) if lists(list, inode as u32) => 0,
        _ => -ENOTSUP,
    }
}

/// A descriptor of this socket.
extern "C" fn restore_unix_sk(inode: c_int) -> c_int {
    let fetched = match variable(ENDS) {
        Some(name) => fetch(name.to_bytes(), inode as u32),
        None => Err(c"Error (mycedrive): socket %u: MYCEDRIVE_UNIX_ENDS is not set\n"),
    };
    match fetched {
        Ok(fd) => fd,
        Err(problem) => {
            say(problem, inode as u32);
            // SAFETY: ends this process, which has nothing to tidy up.
            unsafe { _exit(1) }
        }
    }
}

fn fetch(name: &[u8], inode: u32) -> Result<c_int, &'static CStr> {
    let mut address = Address {
        family: AF_UNIX as u16,
        path: [0; 108],
    };
    let long = c"Error (mycedrive): socket %u: MYCEDRIVE_UNIX_ENDS is too long\n";
    // Behind the zero that makes it abstract.
    (address.path.get_mut(1..=name.len()))
        .ok_or(long)?
        .copy_from_slice(name);
    let length = (size_of::<u16>() + 1 + name.len()) as u32;
    // SAFETY: socket takes numbers.
    let connection = unsafe { socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0) };
    if connection < 0 {
        return Err(c"Error (mycedrive): socket %u: no socket to ask for it\n");
    }
    // SAFETY: the address lives, and has at least that length.
    let connected = unsafe { connect(connection, (&raw const address).cast(), length) };
    let fetched = if connected == 0 {
        ask(connection, inode)
    } else {
        Err(c"Error (mycedrive): socket %u: the shim does not answer\n")
    };
    // SAFETY: opened above.
    unsafe { close(connection) };
    fetched
}

fn ask(connection: c_int, inode: u32) -> Result<c_int, &'static CStr> {
    let question = inode.to_le_bytes();
    let mut answer = 0_u8;
    let mut piece = Piece {
        start: &raw mut answer,
        length: 1,
    };
    // SAFETY: all zeroes are values of both.
    let (mut control, mut message) = unsafe { (zeroed::<Control>(), zeroed::<Message>()) };
    message.pieces = &raw mut piece;
    message.piece_count = 1;
    message.control = (&raw mut control).cast();
    message.control_length = size_of::<Control>();
    // SAFETY: the question is 4 bytes long; the message refers to live values of the lengths given.
    let received = unsafe {
        send(connection, question.as_ptr().cast(), 4, MSG_NOSIGNAL) == 4
            && recvmsg(connection, &raw mut message, 0) == 1
    };
    let has_one = message.control_length >= size_of::<Control>() - size_of::<c_int>()
        && (control.level, control.kind) == (SOL_SOCKET, SCM_RIGHTS);
    if received && has_one {
        Ok(control.fd)
    } else {
        Err(c"Error (mycedrive): socket %u: the shim has none with this inode\n")
    }
}

/// The value of an environment variable.
fn variable(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: the name ends with a zero. Nobody changes the environment of a running CRIU.
    let value = unsafe { getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: a variable's value ends with a zero and stays where it is.
    Some(unsafe { CStr::from_ptr(value) })
}

/// Whether a number is in a list with commas.
fn lists(list: &[u8], wanted: u32) -> bool {
    list.split(|byte| *byte == b',').any(|word| {
        let mut value = 0_u32;
        for byte in word {
            if !byte.is_ascii_digit() {
                return false;
            }
            value = value.wrapping_mul(10).wrapping_add(u32::from(*byte - b'0'));
        }
        !word.is_empty() && value == wanted
    })
}

/// A line in CRIU's log, if this CRIU has the function that its own plugins use.
fn say(format: &CStr, inode: u32) {
    // SAFETY: looks a name up among all that is loaded.
    let function = unsafe { dlsym(core::ptr::null_mut(), c"print_on_level".as_ptr()) };
    if function.is_null() {
        return;
    }
    type Print = unsafe extern "C" fn(level: c_uint, format: *const c_char, ...);
    // SAFETY: criu/include/log.h declares the function with this type.
    let print: Print = unsafe { core::mem::transmute::<*mut c_void, Print>(function) };
    // SAFETY: the format has one %u, and a number is given.
    unsafe { print(LOG_ERROR, format.as_ptr(), inode) };
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // SAFETY: ends this process.
    unsafe { _exit(1) }
}

/// Named by the compiled core library for unwinding, which does not happen here: a panic exits.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}
