use crate::cursor::{Reader, Writer};
use crate::{Ids, Malformed, Packet, Token};

/// What the helper answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// This checkpoint does not carry sockets; nobody will be held.
    Nothing,
    /// Show me your sockets.
    Save,
    /// The sockets' numbers, in the order of the descriptors.
    Known(Ids),
    /// All sockets are saved; keep this in the image.
    Token(Token),
    /// Run.
    Go,
    /// The sockets are here.
    Welcome,
    /// The descriptors that come with the message are these sockets; of those that were asked for,
    /// the others are not there.
    Have(Ids),
    /// The request does not fit: wrong order, wrong token, or not expected. The connection ends.
    Refused,
}

const NOTHING: u8 = 1;
const SAVE: u8 = 2;
const KNOWN: u8 = 3;
const TOKEN: u8 = 4;
const GO: u8 = 5;
const WELCOME: u8 = 6;
const HAVE: u8 = 7;
const REFUSED: u8 = 8;

impl Reply {
    /// As it is sent.
    pub fn encode(&self) -> Packet {
        match self {
            Reply::Nothing => Writer::new(NOTHING),
            Reply::Save => Writer::new(SAVE),
            Reply::Known(ids) => Writer::new(KNOWN).ids(ids),
            Reply::Token(token) => Writer::new(TOKEN).bytes(token),
            Reply::Go => Writer::new(GO),
            Reply::Welcome => Writer::new(WELCOME),
            Reply::Have(ids) => Writer::new(HAVE).ids(ids),
            Reply::Refused => Writer::new(REFUSED),
        }
        .done()
    }

    /// Read one packet.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it is not exactly one reply.
    pub fn decode(packet: &[u8]) -> Result<Reply, Malformed> {
        let mut reader = Reader::new(packet)?;
        let reply = match reader.byte()? {
            NOTHING => Reply::Nothing,
            SAVE => Reply::Save,
            KNOWN => Reply::Known(reader.ids()?),
            TOKEN => Reply::Token(reader.array()?),
            GO => Reply::Go,
            WELCOME => Reply::Welcome,
            HAVE => Reply::Have(reader.ids()?),
            REFUSED => Reply::Refused,
            _ => return Err(Malformed),
        };
        reader.end(reply)
    }
}
