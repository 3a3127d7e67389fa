use crate::cursor::{Reader, Writer};
use crate::{BATCH, Ids, Malformed, Packet, Token, VERSION};

/// What the plugin asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "without allocation; one exists at a time"
)]
pub enum Request {
    /// This process is being checkpointed; its user threads are suspended.
    Checkpoint {
        /// It already is held, and has lost the helper that held it.
        held: bool,
    },
    /// As many inet sockets of this process as descriptors come with the message.
    Sockets {
        /// Number of descriptors, 1 to [`BATCH`].
        count: u16,
    },
    /// There are no more sockets.
    Saved,
    /// Wait until the helper lets this process go.
    Held,
    /// This process comes from an image.
    Restart {
        /// What [`Reply::Token`](crate::Reply::Token) gave when the image was made.
        token: Token,
    },
    /// Give me these sockets.
    Want(Ids),
}

const CHECKPOINT: u8 = 1;
const SOCKETS: u8 = 2;
const SAVED: u8 = 3;
const HELD: u8 = 4;
const RESTART: u8 = 5;
const WANT: u8 = 6;

impl Request {
    /// As it is sent.
    pub fn encode(&self) -> Packet {
        match self {
            Request::Checkpoint { held } => Writer::new(CHECKPOINT)
                .bytes(&VERSION.to_le_bytes())
                .bytes(&[u8::from(*held)]),
            Request::Sockets { count } => Writer::new(SOCKETS).bytes(&count.to_le_bytes()),
            Request::Saved => Writer::new(SAVED),
            Request::Held => Writer::new(HELD),
            Request::Restart { token } => Writer::new(RESTART)
                .bytes(&VERSION.to_le_bytes())
                .bytes(token),
            Request::Want(ids) => Writer::new(WANT).ids(ids),
        }
        .done()
    }

    /// Read one packet.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it is not exactly one request of this version.
    pub fn decode(packet: &[u8]) -> Result<Request, Malformed> {
        let mut reader = Reader::new(packet)?;
        let request = match reader.byte()? {
            CHECKPOINT => {
                version(&mut reader)?;
                let held = match reader.byte()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Malformed),
                };
                Request::Checkpoint { held }
            }
            SOCKETS => match reader.short()? {
                count if (1..=BATCH).contains(&usize::from(count)) => Request::Sockets { count },
                _ => return Err(Malformed),
            },
            SAVED => Request::Saved,
            HELD => Request::Held,
            RESTART => {
                version(&mut reader)?;
                let token = reader.array()?;
                Request::Restart { token }
            }
            WANT => Request::Want(reader.ids()?),
            _ => return Err(Malformed),
        };
        reader.end(request)
    }
}

fn version(reader: &mut Reader) -> Result<(), Malformed> {
    if reader.short()? == VERSION {
        Ok(())
    } else {
        Err(Malformed)
    }
}
