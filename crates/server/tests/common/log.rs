//! Reading what a store has recorded.

use holdfast_server::protocol::{DecodeLimits, Decoder};

/// Commands as a log holds them.
pub(crate) fn decode(bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut decoder = Decoder::new();
    let mut commands = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let step = decoder.decode(rest, &DecodeLimits::LOG).expect("effects are well-formed");
        let request = step.request.expect("effects are whole");
        commands.push(request.args_from(0).map(<[u8]>::to_vec).collect());
        rest = &rest[step.consumed..];
    }
    commands
}
