//! The right to take an old pod's packets, which goes with the pod from node to node.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Made by the source of a migration; its destination hands it on when the pod moves further.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// A new one, of 244 random bits.
    pub fn random() -> Self {
        let half = || uuid::Uuid::new_v4().simple().to_string();
        Self(half() + &half())
    }

    /// One that a peer sent.
    pub fn received(text: String) -> Self {
        Self(text)
    }

    /// For a peer that may have it.
    pub fn reveal(&self) -> String {
        self.0.clone()
    }

    /// Whether a peer has it. Takes the same time for every wrong one.
    pub fn matches(&self, shown: &str) -> bool {
        !self.0.is_empty() && blake3::hash(self.0.as_bytes()) == blake3::hash(shown.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Token(..)")
    }
}
