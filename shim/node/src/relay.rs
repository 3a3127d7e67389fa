//! Packets of old connections between the two nodes.
