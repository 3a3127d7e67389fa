//! What happens at DMTCP's events.

use crate::dmtcp::{self, Descriptor, event};
use crate::drain;
use crate::epoll::{self, Watch};
use crate::helper::{self, Plan};
use crate::hold;
use crate::sockets::Entry;
use crate::sys;
use crate::transport::Transport;
use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicU32, Ordering};
use mycedrive_dmtcp_wire::{HELPER_PATH, HELPER_VARIABLE, Token};
use std::ffi::CStr;
use std::vec::Vec;

/// How many checkpoints this process has been through. A system call that was interrupted while
/// this changed was interrupted by the checkpoint.
pub(crate) static CHECKPOINTS: AtomicU32 = AtomicU32::new(0);

/// How far a restarted process is: the first thread that is about to run waits for the helper, the
/// others wait for that thread.
static RESTARTED: AtomicU32 = AtomicU32::new(FREE);
const FREE: u32 = 0;
const MUST_ASK: u32 = 1;
const ASKING: u32 = 2;

/// Longest path of a unix socket, with its terminating zero (unix(7)).
const PATH: usize = 108;

struct State {
    path: [u8; PATH],
    path_length: usize,
    table: Vec<Entry>,
    watches: Vec<Watch>,
    token: Option<Token>,
    transport: Option<Transport>,
    /// Sockets may be in repair mode, or the helper counts on this process to wait.
    must_hold: bool,
}

struct Shared(UnsafeCell<State>);

// SAFETY: the cell is touched by one thread at a time: by the first thread of a program at INIT,
// by the checkpoint thread from PRECHECKPOINT to RESUME or RESTART, and then by the one thread
// that has changed RESTARTED from MUST_ASK to ASKING.
unsafe impl Sync for Shared {}

static STATE: Shared = Shared(UnsafeCell::new(State {
    path: [0; PATH],
    path_length: 0,
    table: Vec::new(),
    watches: Vec::new(),
    token: None,
    transport: None,
    must_hold: false,
}));

/// DMTCP looks for this function in every plugin; each calls the next one's.
#[unsafe(no_mangle)]
pub extern "C" fn dmtcp_initialize_plugin() {
    let name = c"dmtcp_initialize_plugin".as_ptr();
    // SAFETY: a handle and a string as dlsym(3) wants them.
    let next = unsafe { dmtcp::dmtcp_dlsym(dmtcp::NEXT, name) };
    if !next.is_null() {
        // SAFETY: the symbol is DMTCP's or another plugin's function of this name and type.
        let next: extern "C" fn() = unsafe { core::mem::transmute(next) };
        // The others register first: ours is the last before an image, the first after it.
        next();
    }
    let text = |text: &'static CStr| text.as_ptr();
    let descriptor = Descriptor {
        api_version: text(c"4"),
        dmtcp_version: text(c"4.1.1"),
        name: text(c"mycedrive"),
        author: text(c"MyceDrive"),
        author_email: text(c""),
        description: text(c"keeps open connections"),
        hook,
    };
    // SAFETY: the strings live forever, and so does the hook.
    unsafe { dmtcp::dmtcp_register_plugin(descriptor) };
}

extern "C" fn hook(event: c_int, _data: *mut c_void) {
    match event {
        event::THREAD_RESUME => return thread_resume(),
        event::PRESUSPEND => return drain::begin(),
        // DMTCP's own plugins were before ours.
        event::PRECHECKPOINT => drain::end(),
        _ => {}
    }
    let work: fn(&mut State) = match event {
        event::INIT => init,
        event::PRECHECKPOINT => precheckpoint,
        event::RESUME => resume,
        event::RESTART => restart,
        _ => return,
    };
    // SAFETY: see `Shared`: for these events DMTCP calls from one thread.
    work(unsafe { &mut *STATE.0.get() });
}

/// The environment is read now: later the program may have changed it.
fn init(state: &mut State) {
    let name: [u8; 32] = {
        let mut name = [0; 32];
        for (to, from) in name.iter_mut().zip(HELPER_VARIABLE.bytes()) {
            *to = from;
        }
        name
    };
    // SAFETY: the name ends with a zero; at INIT no other thread changes the environment.
    let value = unsafe { libc::getenv(name.as_ptr().cast::<c_char>()) };
    let path = if value.is_null() {
        HELPER_PATH.as_bytes()
    } else {
        // SAFETY: getenv returns a string with its terminating zero.
        unsafe { CStr::from_ptr(value) }.to_bytes()
    };
    // One byte stays zero. A path that is too long leads nowhere.
    state.path_length = 0;
    if let Some(to) = state.path.get_mut(..path.len()).filter(|p| p.len() < PATH) {
        to.copy_from_slice(path);
        state.path_length = path.len() + 1;
    }
}

impl State {
    fn path(&self) -> &[u8] {
        self.path.get(..self.path_length).unwrap_or_default()
    }
}

/// User threads are suspended; the image will be written next.
fn precheckpoint(state: &mut State) {
    CHECKPOINTS.fetch_add(1, Ordering::SeqCst);
    state.token = None;
    state.transport = None;
    state.must_hold = false;
    epoll::list(&mut state.watches);
    if helper::list(&mut state.table).is_err() {
        state.table.clear();
        return;
    }
    // Nobody there: the image is without connections, and the process goes on as it was.
    let Ok(transport) = Transport::connect(state.path()) else {
        return;
    };
    match helper::checkpoint(&transport, false, &mut state.table) {
        Err(_) | Ok(Plan::Nothing) => {}
        Ok(Plan::Save(token)) => {
            state.must_hold = true;
            if let Ok(token) = token {
                state.token = Some(token);
                state.transport = Some(transport);
            }
        }
    }
}

/// The images of all processes are complete, and this is not the one that comes from an image.
fn resume(state: &mut State) {
    let transport = state.transport.take();
    if state.must_hold {
        hold::hold(state.path(), transport, None);
    }
    state.must_hold = false;
}

/// The memory is back, the descriptors are not. DMTCP's own plugins restore theirs after this.
fn restart(state: &mut State) {
    dmtcp::no_delay();
    // In the image it was open; here its number means nothing.
    if let Some(stale) = state.transport.take() {
        core::mem::forget(stale);
    }
    let Some(token) = state.token else {
        // An image without connections.
        let _ = helper::lose_uncarried(&state.table);
        RESTARTED.store(FREE, Ordering::SeqCst);
        return;
    };
    hold::until_done(
        "restarted; waiting for the shim to give the sockets back",
        || {
            let transport = Transport::connect(state.path())?;
            helper::restart(transport, token, &state.table)
        },
    );
    RESTARTED.store(MUST_ASK, Ordering::SeqCst);
}

/// Everything is restored. No thread passes here before the helper has let the process go.
fn thread_resume() {
    let claimed = RESTARTED.compare_exchange(MUST_ASK, ASKING, Ordering::SeqCst, Ordering::SeqCst);
    if claimed.is_ok() {
        // SAFETY: see `Shared`: this thread has claimed the state.
        let state = unsafe { &mut *STATE.0.get() };
        epoll::correct(&state.watches);
        // A new connection: between RESTART and this DMTCP has put files at their numbers, over
        // whatever was there.
        hold::hold(state.path(), None, state.token);
        state.must_hold = false;
        RESTARTED.store(FREE, Ordering::SeqCst);
        sys::futex_wake_all(&RESTARTED);
    }
    while RESTARTED.load(Ordering::SeqCst) == ASKING {
        sys::futex_wait(&RESTARTED, ASKING);
    }
}
